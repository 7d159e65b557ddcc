"""The network of AESTETIK: its windows, its size, its ensembles and its loss."""

import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skvae.models import WINDOW_TRAINING, StepContext, WindowAutoencoder, triplet_loss
from skvae.models import spatial_base as module
from skvae.training import TrainingConfig, train

SIDE, N_FEATURES = 6, 3
CELLS = [(row, 2 * column + row % 2) for row in range(SIDE) for column in range(SIDE)]
N = len(CELLS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def indices(window, cells=CELLS):
    """Look each cell of each window up in a plain loop."""
    reach, place = window // 2, {cell: spot for spot, cell in enumerate(cells)}
    return torch.tensor(
        [
            [
                place.get((row + down, column + right), -1)
                for down in range(-reach, reach + 1)
                for right in range(-reach, reach + 1)
            ]
            for row, column in cells
        ]
    )


def make(n_features=N_FEATURES, latent_dim=4, *, paper=False, **params):
    params = {"hidden_channels": 5, "window": 5, **params}
    maker = WindowAutoencoder
    if paper:
        model = maker.from_preset("paper", n_features, latent_dim=latent_dim, **params)
    else:
        model = maker(n_features, latent_dim, **params)
    model.hold(torch.rand(N, sum(model.blocks)))
    return model


@pytest.mark.parametrize("window", [3, 5, 7])
def test_windows_hold_the_features_of_their_cells_and_medians_where_there_is_no_spot(window):
    model = make(paper=True, window=window)
    features, reach = model.held_rows().numpy(), window // 2
    x, present = model.gather(indices(window))
    for spot, (row, column) in enumerate(CELLS):
        expected = np.full((N_FEATURES, window, window), np.nan)
        for down in range(window):
            for right in range(window):
                cell = (row + down - reach, column + right - reach)
                if cell in CELLS:
                    expected[:, down, right] = features[CELLS.index(cell)]
        np.testing.assert_array_equal(present[spot, 0].numpy(), ~np.isnan(expected[0]))
        medians = np.nanmedian(expected, axis=(1, 2))
        filled = np.where(np.isnan(expected), medians[:, None, None], expected)
        np.testing.assert_allclose(x[spot].numpy(), filled, rtol=1e-6)


def test_masked_cells_are_zero_and_change_nothing_but_by_their_channel():
    model = make()
    windows = indices(5)
    x, present = model.gather(windows)
    assert not present.all()
    assert (x[~present.expand_as(x)] == 0).all()
    assert model.encoder.layers[0].in_channels == N_FEATURES + 1
    # The last row stands in for -1 in no lookup.
    before = model.eval().embed(windows)
    model.held_rows()[0] += 100
    untouched = ~(windows == 0).any(1)
    assert torch.equal(model.embed(windows)[untouched], before[untouched])


def test_the_paper_network_has_as_many_parameters_as_theirs():
    def n_of(*args, **kwargs):
        model = WindowAutoencoder.from_preset("paper", *args, **kwargs)
        return sum(parameter.numel() for parameter in model.parameters())

    def theirs(channels, latent=16, hidden=64, kernel=3, pooled=1):
        encoder = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel),
            nn.BatchNorm2d(hidden),
            nn.Linear(pooled * pooled * hidden, latent),
        )
        decoder = nn.Sequential(
            nn.Linear(latent, pooled * pooled * hidden),
            nn.ConvTranspose2d(hidden, channels, kernel),
            nn.BatchNorm2d(channels),
        )
        return [sum(p.numel() for p in net.parameters()) for net in (encoder, decoder)]

    assert n_of(15, n_morphology_features=15) == 3 * sum(theirs(30)) == 110_910
    assert n_of(15) == 3 * sum(theirs(15))
    encoder, decoder = theirs(8, latent=5, hidden=7, pooled=2)
    settings = {"latent_dim": 5, "hidden_channels": 7, "window": 9}
    assert n_of(8, n_encoders=2, n_decoders=1, **settings) == 2 * encoder + decoder


def one_by_one(model, x):
    """Compute latents and reconstructions with each member as a network of its own."""
    conv, norm, _, _, pool, linear = model.encoder.layers[:6]
    hidden, latents = conv.out_channels // model.encoder.n_members, []
    for e in range(model.encoder.n_members):
        part = slice(e * hidden, (e + 1) * hidden)
        own = slice(e * model.latent_dim, (e + 1) * model.latent_dim)
        h = nn.functional.conv2d(x, conv.weight[part], conv.bias[part])
        h = normalised(h, norm, part).relu()
        h = nn.functional.max_pool2d(h, pool.kernel_size, 3).flatten(1)
        latents.append(h @ linear.weight[own].flatten(1).T + linear.bias[own])
    z = torch.stack(latents).median(0).values
    linear, _, _, up, _, conv, norm = model.decoder.layers
    n_all, windows = sum(model.blocks), []
    n_members = model.decoder.n_members
    for d in range(n_members):
        size = linear.out_features // n_members
        part = slice(d * size, (d + 1) * size)
        h = (z @ linear.weight[part].T + linear.bias[part]).relu()
        side = math.isqrt(size // (conv.in_channels // n_members))
        h = nn.functional.interpolate(h.unflatten(1, (-1, side, side)), size=up.size)
        part = slice(d * h.shape[1], (d + 1) * h.shape[1])
        own = slice(d * n_all, (d + 1) * n_all)
        h = nn.functional.conv_transpose2d(h, conv.weight[part], conv.bias[own])
        windows.append(normalised(h, norm, own).sigmoid())
    return z, torch.stack(windows).median(0).values


def normalised(h, norm, part):
    weight, bias = norm.weight[part], norm.bias[part]
    return nn.functional.batch_norm(
        h, norm.running_mean[part], norm.running_var[part], weight, bias, eps=norm.eps
    )


def moved(model):
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor is not model.rows:
                tensor.add_(0.3 * torch.rand_like(tensor))
    return model


@pytest.mark.parametrize("window", [3, 7, 9])
@pytest.mark.parametrize("n_members", [1, 2, 3, 4, 5])
def test_ensembles_are_the_medians_of_networks_of_their_own(n_members, window):
    model = make(paper=True, n_encoders=n_members, n_decoders=n_members, window=window)
    moved(model).double().eval()
    windows = indices(window)[:5]
    x, _ = model.gather(windows)
    z, x_hat = one_by_one(model, x)
    output = model(windows)
    torch.testing.assert_close(output.z, z)
    torch.testing.assert_close(output.x_hat, x_hat)


def test_only_the_median_member_of_a_latent_gets_its_gradient():
    model = moved(make())
    model.embed(indices(5)[:1])[0, 0].backward()
    of_latents = model.encoder.layers[5].bias.grad.view(3, 4)
    assert of_latents[:, 0].count_nonzero() == 1
    assert (of_latents[:, 1:] == 0).all()


def watch(monkeypatch):
    drawn, draw_triplets = [], module.draw_triplets

    def draw(labels, **kwargs):
        drawn.append(draw_triplets(labels, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(module, "draw_triplets", draw)
    return drawn


@pytest.mark.parametrize("reconstruction", ["l1", "mse"])
@pytest.mark.parametrize("missing", ["median", "mask"])
def test_the_loss_is_the_weighted_sum_of_its_terms_computed_plainly(
    missing, reconstruction, monkeypatch
):
    model = moved(
        make(
            2,
            n_morphology_features=3,
            missing=missing,
            reconstruction=reconstruction,
            total_weight=3.0,
            morphology_weight=1.2,
            reconstruction_weight=0.8,
            triplet_weight=0.6,
        )
    ).eval()
    drawn = watch(monkeypatch)
    labels = torch.stack([torch.arange(N) % 4, torch.arange(N) // 7], dim=1)
    windows = indices(5)
    loss = model.training_loss((windows, labels), StepContext())
    x, present = model.gather(windows)
    output = model(windows)
    expected, total = {}, 0.0
    for name, weight, part, triplets in (
        ("expression", 1.8, slice(0, 2), drawn[0]),
        ("morphology", 1.2, slice(2, 5), drawn[1]),
    ):
        errors = (x - output.x_hat)[:, part].abs() ** (1 if reconstruction == "l1" else 2)
        kept = errors[present.expand_as(errors)] if missing == "mask" else errors
        expected[f"reconstruction_{name}"] = kept.mean()
        expected[f"triplet_{name}"] = triplet_loss(output.z, triplets)
        total += weight * 0.8 * expected[f"reconstruction_{name}"]
        total += weight * 0.6 * expected[f"triplet_{name}"]
    assert len(drawn[0][0]) == N * 3
    assert set(labels[drawn[1][0], 1].tolist()) == set(range(5))
    torch.testing.assert_close(loss.objective, total)
    torch.testing.assert_close(
        loss.diagnostics, {name: term.detach() for name, term in expected.items()}
    )


@pytest.mark.parametrize(("weight", "left"), [(0.0, "expression"), (3.0, "morphology")])
def test_a_modality_of_weight_zero_is_out_of_the_loss(weight, left):
    model = make(2, n_morphology_features=1, morphology_weight=weight)
    labels = torch.stack([torch.arange(N) % 2, torch.arange(N) % 3], dim=1)
    terms = model.training_loss((indices(5), labels), StepContext()).diagnostics
    assert set(terms) == {f"reconstruction_{left}", f"triplet_{left}"}


def test_without_morphology_expression_has_the_whole_weight():
    loss = make().eval().training_loss((indices(5),), StepContext())
    torch.testing.assert_close(
        loss.objective.detach(), 3 * loss.diagnostics["reconstruction_expression"]
    )


def test_the_paper_settings_make_one_step_an_epoch_and_lower_the_loss():
    model = make(paper=True)
    config = TrainingConfig(**WINDOW_TRAINING["paper"])
    assert config.amsgrad
    result = train(
        model,
        (indices(5), torch.arange(N) % 3),
        config,
        generator=torch.Generator().manual_seed(0),
    )
    assert result.n_steps == 100
    assert result.history[-1]["learning_rate"] == 1e-3
    assert result.history[-1]["loss"] < 0.9 * result.history[0]["loss"]


def test_the_embedding_does_not_depend_on_the_batch_and_leaves_the_model_as_it_was():
    model = moved(make()).eval()
    windows = indices(5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole = model.embed(windows)
    assert torch.equal(whole, model.embed(windows))
    torch.testing.assert_close(whole[7:8], model.embed(windows[7:8]))
    model.embed(windows, n_dropout_passes=2)
    assert torch.equal(whole, model.embed(windows))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_dropout_passes_are_random_and_average_out():
    model = moved(make(hidden_channels=16)).eval()
    windows = indices(5)
    with torch.no_grad():
        one, other = (model.embed(windows, n_dropout_passes=1) for _ in range(2))
        few, many = (model.embed(windows, n_dropout_passes=200) for _ in range(2))
    assert (one - other).std() > 8 * (few - many).std() > 0
    # In eval mode, a share of channels is left out, not all or none.
    silent = make(dropout=0.0).eval()
    torch.testing.assert_close(silent.embed(windows, 2), silent.embed(windows))


def test_new_slices_come_in_by_other_rows():
    model = make().eval()
    windows = indices(5)
    first = model.embed(windows)
    table = model.held_rows()
    order = torch.randperm(N)
    model.hold(table[order])
    place = order.argsort()
    renamed = torch.where(windows >= 0, place[windows.clamp(min=0)], -1)
    torch.testing.assert_close(model.embed(renamed), first)


@pytest.mark.parametrize("paper", [False, True])
def test_a_single_window_with_a_single_label_has_a_finite_loss_and_gradient(paper):
    model = make(paper=paper, latent_dim=1, window=3)
    loss = model.training_loss((indices(3)[:1], torch.tensor([2])), StepContext())
    loss.objective.backward()
    assert torch.isfinite(loss.objective)
    assert loss.diagnostics["triplet_expression"] == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_the_sigmoid_comes_with_bounded_features_only():
    z = 100 * torch.randn(50, 4)
    model = moved(make(paper=True)).eval()
    low, high = model.offset.view(-1, 1, 1), (model.offset + model.scale).view(-1, 1, 1)
    bounded = model.decode_mean(z)
    assert (low - 1e-6 <= bounded).all()
    assert (bounded <= high + 1e-6).all()
    free = moved(make()).eval()
    assert (free.decode_mean(z) > (free.offset + free.scale).view(-1, 1, 1)).any()


@pytest.mark.parametrize("paper", [False, True])
def test_after_a_start_features_of_any_unit_give_the_same_latents(paper):
    rows = torch.randn(N, 5).double()
    rows[:, 4] = 2.0  # constant
    scale = torch.tensor([3.0, 3.0, 0.1, 0.1, 0.1]).double()
    models = []
    for table in (rows, rows * scale - 7):
        torch.manual_seed(0)
        model = make(2, n_morphology_features=3, paper=paper).double().eval()
        model.start(table)
        model.hold(table)
        models.append(model)
    first, second = models
    windows = indices(5)
    torch.testing.assert_close(first.embed(windows), second.embed(windows))
    x, present = first.gather(windows)
    cells = x.permute(0, 2, 3, 1)[present[:, 0]]
    if paper:
        assert (cells.amin(0) == 0).all()
        torch.testing.assert_close(cells.amax(0), torch.tensor([1.0, 1, 1, 1, 0]).double())
    else:
        expected = (rows - rows.mean(0)) / first.scale
        torch.testing.assert_close(x[:, :, 2, 2], expected)
        means = expected.square().split([2, 3], dim=1)
        torch.testing.assert_close(
            torch.stack([part.mean() for part in means]), torch.ones(2).double()
        )
    # Reconstructions are in the units that came in.
    z, varying = first.embed(windows), slice(4)
    torch.testing.assert_close(
        (second.decode_mean(z) + 7)[:, varying],
        (first.decode_mean(z) * scale.view(-1, 1, 1))[:, varying],
    )


def test_float64_and_pickle_leave_the_embedding_as_it_is():
    model = moved(make()).eval()
    windows, table = indices(5), model.held_rows()
    twin = pickle.loads(pickle.dumps(model))
    assert twin.rows is None
    twin.hold(table)
    assert torch.equal(twin.embed(windows), model.embed(windows))
    assert twin.double().embed(windows).dtype == torch.float64


def test_a_kernel_as_wide_as_the_window_gives_way_as_in_the_paper():
    assert make(window=3, kernel_size=3).encoder.layers[0].kernel_size == (2, 2)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"window": 4}, "window=4, expected an odd number"),
        ({"window": 1}, "window=1"),
        ({"window": 5, "kernel_size": 4}, "at most 3"),
        ({"morphology_weight": 4.0}, "morphology_weight=4.0.*at most 3"),
        ({"total_weight": 0.0}, "total_weight=0.0"),
        ({"missing": "zero"}, "missing='zero', expected 'mask' or 'median'"),
        ({"reconstruction": "l2"}, "reconstruction='l2', expected 'l1' or 'mse'"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"n_encoders": 0}, "n_encoders=0"),
    ],
)
def test_impossible_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        make(**params)


def test_an_unknown_preset_and_rows_or_windows_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="preset 'old' is unknown"):
        WindowAutoencoder.from_preset("old", 3)
    model = make()
    with pytest.raises(ValueError, match=r"expected \(batch, 25\)"):
        model.embed(indices(3))
    model.hold(torch.rand(N, 2))
    with pytest.raises(ValueError, match=r"expected \(n_spots, 3\)"):
        model.embed(indices(5))
    model.hold(None)
    with pytest.raises(ValueError, match="call hold"):
        model.embed(indices(5))
