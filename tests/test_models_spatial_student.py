"""The student: its linear start, its loss, and what it learns from labels."""

import copy
import pickle

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch.nn import functional as F

from skvae.models import STUDENT_TRAINING, SpatialStudent, StepContext, triplet_loss
from skvae.models import spatial_base as module
from skvae.training import TrainingConfig, train

N, N_FEATURES = 60, 6
KINDS = ["mse", "l1", "gaussian"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def rows(n=N, n_features=N_FEATURES, n_rings=3):
    return 3 * torch.randn(n, 2 + n_rings, n_features) + 0.5


def moved(model):
    """Move all weights, so that nothing is zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_at_the_start_z_is_the_linear_map_of_the_smoothed_features_with_unit_scores():
    x, directions = rows(), torch.randn(N_FEATURES, 3)
    model = moved(SpatialStudent(N_FEATURES, 3))
    model.start(x, directions)
    scores = x[:, 1] @ directions
    torch.testing.assert_close(model.embed(x), scores / scores.std(0, correction=0))


def test_at_the_start_the_decoder_is_the_best_linear_one():
    x, directions = rows().double(), torch.randn(N_FEATURES, 3).double()
    model = moved(SpatialStudent(N_FEATURES, 3).double())
    model.start(x, directions)
    design = torch.cat([x[:, 1] @ directions, torch.ones(N, 1).double()], dim=1)
    target = torch.cat([x[:, :1], x[:, 2:]], dim=1)
    best = design @ torch.linalg.lstsq(design, target.flatten(1)).solution
    torch.testing.assert_close(model(x).x_hat, best.view_as(target), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.decode_mean(model.embed(x)), best.view_as(target))


def test_the_start_holds_for_constant_features_and_a_direction_without_spread():
    x = rows()
    x[..., 2] = 0
    model = SpatialStudent(N_FEATURES, 4)
    model.start(x, torch.eye(N_FEATURES)[:, :4])
    assert torch.isfinite(model(x).x_hat).all()
    assert (model.embed(x)[:, 2] == 0).all()


def test_the_latent_looks_at_all_but_the_own_features():
    x = rows(1).requires_grad_()
    moved(SpatialStudent(N_FEATURES, 3)).embed(x).sum().backward()
    assert (x.grad[0, 0] == 0).all()
    assert (x.grad[0, 1:] != 0).all()


def test_the_target_leaves_the_smoothed_features_out():
    x = rows(2)
    expected = torch.stack([x[:, 0], x[:, 2], x[:, 3], x[:, 4]], dim=1)
    assert torch.equal(SpatialStudent(N_FEATURES).targets(x), expected)


def test_a_start_at_data_of_another_unit_gives_the_same_latents_and_losses():
    x, directions = rows(), torch.randn(N_FEATURES, 3)
    losses = []
    for unit in (1.0, 1000.0):
        model = SpatialStudent(N_FEATURES, 3)
        model.start(unit * x, directions)
        losses.append(model.training_loss((unit * x,), StepContext()).objective)
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_weighted_sum_of_its_terms_computed_plainly(kind, monkeypatch):
    x = rows(8, 5)
    labels = torch.tensor([[0, 0, 1, 1, 2, 2, 0, 1], [1, 1, 1, 1, 0, 0, -1, 0]]).T
    model = SpatialStudent(
        3,
        2,
        n_morphology_features=2,
        reconstruction=kind,
        reconstruction_weights=(2.0, 0.5),
        triplet_weights=(0.7, 0.2),
        margin=1.5,
    )
    model.start(x, torch.randn(5, 2))
    moved(model)
    drawn = []

    def draw(column, **kwargs):
        drawn.append(draw_triplets(column, **kwargs))
        return drawn[-1]

    draw_triplets = module.draw_triplets
    monkeypatch.setattr(module, "draw_triplets", draw)
    loss = model.training_loss((x, labels), StepContext())
    output = model(x)
    expected, total = {}, 0.0
    target = torch.stack([x[:, 0], x[:, 2], x[:, 3], x[:, 4]], dim=1)
    for name, weight, part in (
        ("expression", 2.0, slice(0, 3)),
        ("morphology", 0.5, slice(3, 5)),
    ):
        error = (target - output.x_hat)[..., part] / x[:, 0, part].square().mean().sqrt()
        expected[f"reconstruction_{name}"] = {
            "mse": error.square().mean(),
            "l1": error.abs().mean(),
            "gaussian": -torch.distributions.Normal(0, error.square().mean().sqrt())
            .log_prob(error)
            .mean(),
        }[kind]
        total += weight * expected[f"reconstruction_{name}"]
    for name, weight, triplets in zip(("expression", "morphology"), (0.7, 0.2), drawn, strict=True):
        expected[f"triplet_{name}"] = triplet_loss(output.z, triplets, margin=1.5)
        total += weight * expected[f"triplet_{name}"]
    torch.testing.assert_close(loss.diagnostics, expected)
    torch.testing.assert_close(loss.objective, total)


def test_each_column_of_labels_draws_its_own_triplets():
    # Labels of the second column alone pull its rows together.
    x, z = rows(4), torch.tensor([[0.0], [4.0], [0.0], [4.0]])
    model = SpatialStudent(N_FEATURES, 1)
    labels = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    output = model(x)
    output.z = z
    terms = model.compute_loss(x, output, labels).diagnostics
    assert terms["triplet_expression"] == 0
    assert terms["triplet_morphology"] >= 1


def test_a_weight_of_zero_leaves_the_term_out():
    labels = torch.zeros(8, 2, dtype=torch.int64)
    model = SpatialStudent(N_FEATURES, triplet_weights=(0.3, 0.0))
    terms = model.training_loss((rows(8), labels), StepContext()).diagnostics
    assert set(terms) == {"reconstruction_expression", "triplet_expression"}


def test_contrast_is_that_of_a_plain_loop_and_counts_rows_with_a_neighbour_only():
    table = rows(20)
    model = moved(SpatialStudent(N_FEATURES, 3, contrast_weight=0.5, temperature=0.3))
    model.hold(table)
    neighbors = torch.tensor([[-1, 7, -1], [3, 3, 3], [-1, -1, -1], [9, -1, 9]])
    loss = model.training_loss(
        (table[:4], torch.full((4,), -1), neighbors), StepContext()
    ).diagnostics["contrast"]
    z, near = model.embed(table[:4])[[0, 1, 3]], model.embed(table[[7, 3, 9]])
    cosines = torch.stack([F.cosine_similarity(z[i : i + 1], near) for i in range(3)]) / 0.3
    expected = -cosines.log_softmax(1).diagonal().mean()
    torch.testing.assert_close(loss, expected.detach())


def test_neighbours_are_drawn_anew_among_those_there_are():
    table = rows(4)
    model = moved(SpatialStudent(N_FEATURES, 3, contrast_weight=1.0))
    model.hold(table)
    seen = set()
    original = model._encode
    model._encode = lambda x: seen.update(x[:, 0, 0].tolist()) or original(x)
    for _ in range(40):
        model._contrast(torch.randn(1, 3), torch.tensor([[1, -1, 3]]))
    assert seen == set(table[[1, 3], 0, 0].tolist())


def test_contrast_without_neighbours_or_rows_says_what_is_missing():
    model = SpatialStudent(N_FEATURES, contrast_weight=0.1)
    with pytest.raises(ValueError, match=r"train on \(x, labels, neighbors\)"):
        model.training_loss((rows(),), StepContext())
    with pytest.raises(ValueError, match="call hold"):
        neighbors = torch.zeros(N, 1, dtype=torch.int64)
        model.training_loss((rows(), torch.zeros(N, dtype=torch.int64), neighbors), StepContext())


def blobs(n=450, n_features=10, n_labels=3, seed=0):
    """Rows of labels told apart by directions of small variance, beside two of large variance."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % n_labels
    x = torch.randn(n, 5, n_features, generator=generator)
    x[:, 1:] *= 0.5
    x[..., :2] *= 6
    x[..., 2 : 2 + n_labels] += 1.2 * F.one_hot(labels, n_labels).unsqueeze(1)
    return x - x.mean(0), labels


def cluster_score(z, labels):
    found = KMeans(3, n_init=3, random_state=0).fit_predict(z.detach().numpy())
    return adjusted_rand_score(labels.numpy(), found)


def test_training_separates_blobs_that_its_start_and_fresh_rows_hide():
    x, labels = blobs()
    model = SpatialStudent(10, 6)
    model.start(x, 0.5 * torch.eye(10)[:, :6] + 0.5 * torch.eye(10).roll(1, 1)[:, :6])
    before = cluster_score(model.embed(x), labels)
    config = TrainingConfig(**STUDENT_TRAINING)
    result = train(model, (x, labels), config, generator=torch.Generator().manual_seed(0))
    fresh, fresh_labels = blobs(seed=1)
    assert result.n_steps == 300
    assert before < 0.6
    assert cluster_score(model.embed(x), labels) > 0.9
    assert cluster_score(model.embed(fresh), fresh_labels) > 0.8
    assert result.history[-1]["reconstruction_expression"] < 1.0


def test_the_schedule_rises_to_two_thousandths_as_one_cycle_would():
    config = TrainingConfig(**STUDENT_TRAINING)
    rates = [config.learning_rate_at(step, step / 300) for step in range(300)]
    assert max(rates) == pytest.approx(2e-3, rel=0.02)
    assert rates.index(max(rates)) == pytest.approx(90, abs=2)
    assert rates[-1] < 1e-5


def test_every_parameter_gets_a_gradient_once_the_start_is_left():
    model = moved(SpatialStudent(N_FEATURES, 3))
    labels = torch.arange(N) % 3
    model.training_loss((rows(), labels), StepContext()).objective.backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences_in_float64(kind):
    model = moved(
        SpatialStudent(2, 2, n_rings=1, hidden_layer_sizes=(3,), reconstruction=kind).double()
    )
    x = rows(5, 2, 1).double()
    weight = model.skip.weight
    # A given scale, as the best one depends on the weights and takes no gradient.
    model.eval()

    def objective(value):
        output = torch.func.functional_call(model, {"skip.weight": value}, (x,))
        return model.compute_loss(x, output).objective

    assert objective(weight).dtype == torch.float64
    assert torch.autograd.gradcheck(objective, (weight,))


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_any_size_with_a_single_label_has_a_finite_loss(batch, kind):
    model = SpatialStudent(N_FEATURES, 1, reconstruction=kind)
    labels = torch.full((batch,), 4)
    loss = model.training_loss((rows(batch), labels), StepContext())
    loss.objective.backward()
    assert torch.isfinite(loss.objective)
    assert loss.diagnostics["triplet_expression"] == 0


def test_embedding_is_deterministic_and_row_by_row():
    x, model = rows(), moved(SpatialStudent(N_FEATURES, 3))
    whole = model.embed(x)
    assert torch.equal(whole, model.embed(x))
    torch.testing.assert_close(whole[5:6], model.embed(x[5:6]))


def test_pickles_and_copies_embed_alike_and_leave_the_held_rows_behind():
    x, model = rows(2000), moved(SpatialStudent(N_FEATURES, 3))
    model.start(x, torch.randn(N_FEATURES, 3))
    model.hold(x)
    stored = pickle.dumps(model)
    assert len(stored) < 60_000
    for twin in (pickle.loads(stored), copy.deepcopy(model)):
        assert torch.equal(twin.embed(x), model.embed(x))
        assert twin.rows is None
    assert model.rows is not None


def test_held_rows_follow_the_type_of_the_model_and_stay_out_of_its_state():
    model = SpatialStudent(N_FEATURES, 3)
    model.hold(rows().double())
    assert model.held_rows().dtype == torch.float32
    model.double()
    assert model.held_rows().dtype == torch.float64
    assert "rows" not in model.state_dict()
    model.hold(None)
    with pytest.raises(ValueError, match="call hold"):
        model.held_rows()


def test_same_seed_same_weights():
    x, labels = blobs()
    embeddings = []
    for _ in range(2):
        torch.manual_seed(3)
        model = SpatialStudent(10, 2)
        config = TrainingConfig(**{**STUDENT_TRAINING, "max_steps": 8})
        train(model, (x, labels), config, generator=torch.Generator().manual_seed(5))
        embeddings.append(model.embed(x))
    assert torch.equal(*embeddings)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_features": 0}, "n_features=0"),
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"n_rings": -1}, "n_rings=-1"),
        ({"reconstruction": "huber"}, "reconstruction='huber', expected 'mse', 'l1' or"),
        ({"triplet_weights": 0.3}, "triplet_weights=0.3, expected two numbers"),
        ({"reconstruction_weights": (1.0, -1.0)}, "reconstruction_weights=-1.0"),
        ({"temperature": 0.0}, "temperature=0.0"),
    ],
)
def test_impossible_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        SpatialStudent(**{"n_features": 3, **params})


def test_rows_directions_and_labels_of_other_shapes_are_refused():
    model = SpatialStudent(N_FEATURES, 3)
    with pytest.raises(ValueError, match=r"expected \(batch, 5, 6\)"):
        model.embed(torch.zeros(4, 4, N_FEATURES))
    with pytest.raises(ValueError, match="Lower latent_dim"):
        model.start(rows(), torch.eye(N_FEATURES)[:, :2])
    with pytest.raises(ValueError, match=r"expected \(batch,\), or \(batch, 2\)"):
        model.training_loss((rows(4), torch.zeros(4, 3, dtype=torch.int64)), StepContext())
