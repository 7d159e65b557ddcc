"""The factorised model's training step by hand: the loss of its parts, and its gradient."""

import copy

import numpy as np
import pytest
import torch

from skvae.models import FactorizedTVAE, StepContext
from skvae.models.core import kl_divergence_diag_gaussian
from skvae.models.factorized_bound import SHORT_CODES, FactorizedBound
from skvae.training import TrainingConfig, train

CARDINALITIES = [4, 11, 2, 10]
SHAPES = [
    {"hidden": (7, 5), "place_columns": [1, 3], "mode_widths": [np.ones(10), np.ones(10)]},
    {"hidden": (6,), "place_columns": [3], "mode_widths": [np.ones(10)]},
    {"hidden": (5, 6, 7)},
]


@pytest.fixture(autouse=True)
def _leave_the_global_seed_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(params=SHAPES, ids=["two hidden layers", "one hidden layer", "no places"])
def model(request):
    counts = [np.arange(n) + 1 for n in CARDINALITIES]
    model = FactorizedTVAE(CARDINALITIES, counts, latent_dim=3, **request.param)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.uniform_(0.1, 0.9) if name == "sigma" else parameter.normal_(std=0.5)
    return model.double()


def batch_of(n_rows):
    codes = torch.stack([torch.randint(n, (n_rows,)) for n in CARDINALITIES], dim=1)
    codes[:2, 1] = 10  # missing cells, which have no place
    return codes, torch.rand(n_rows, len(CARDINALITIES), dtype=torch.float64) * 2 - 1


def of_parts(model, batch, noise):
    """Log likelihood and divergence of each row, by the model's parts and in autograd's hands."""
    mu, log_var = model.encode(batch)
    params = model.decode(mu + (0.5 * log_var).exp() * noise)
    return model.log_likelihood(batch, params), kl_divergence_diag_gaussian(mu, log_var)


def autograd_of(objective, model):
    return torch.autograd.grad(objective, list(model.parameters()), materialize_grads=True)


def set_by_hand(model):
    gradients = [p.grad for p in model.parameters()]
    return [
        torch.zeros_like(p) if grad is None else grad
        for p, grad in zip(model.parameters(), gradients, strict=True)
    ]


class ByAutograd(FactorizedTVAE):
    """The same model, whose gradient is left to torch."""

    training_gradient = None


class TestFactorizedBound:
    def test_a_layer_that_was_replaced_is_the_one_that_is_trained(self):
        counts = [np.ones(n) for n in CARDINALITIES]
        model = FactorizedTVAE(CARDINALITIES, counts, latent_dim=3, hidden=(5, 6)).double()
        model.encoder[0] = torch.nn.Linear(5, 6).double()
        model.decoder[2] = torch.nn.Linear(6, 5).double()
        before = [model.encoder[0].weight.clone(), model.decoder[2].weight.clone()]
        train(model, batch_of(20), TrainingConfig(n_epochs=2, batch_size=10))
        assert not torch.equal(model.encoder[0].weight, before[0])
        assert not torch.equal(model.decoder[2].weight, before[1])

    @pytest.mark.parametrize(
        ("place", "layer"),
        [(1, torch.nn.Tanh()), (0, torch.nn.Linear(5, 6, bias=False)), (1, torch.nn.Dropout(0.0))],
    )
    def test_layers_of_another_kind_are_trained_as_they_are(self, place, layer):
        counts = [np.ones(n) for n in CARDINALITIES]
        model = FactorizedTVAE(CARDINALITIES, counts, latent_dim=3, hidden=(5, 6))
        model.encoder[place] = copy.deepcopy(layer)
        autograd = ByAutograd(CARDINALITIES, counts, latent_dim=3, hidden=(5, 6))
        autograd.encoder[place] = layer
        autograd.load_state_dict(model.state_dict())
        batch = batch_of(20)
        for each in (model, autograd):
            train(each.double(), batch, TrainingConfig(n_epochs=2, batch_size=10))
        for found, expected in zip(model.parameters(), autograd.parameters(), strict=True):
            torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize(("beta", "free_nats"), [(0.5, 0.0), (0.7, 1.0), (1.0, 50.0)])
    def test_the_loss_and_its_gradient_are_those_of_the_parts(self, model, beta, free_nats):
        batch = batch_of(20)
        found, expected = (
            step(
                batch,
                StepContext(
                    beta=beta, free_nats=free_nats, generator=torch.Generator().manual_seed(1)
                ),
            )
            for step in (model.training_gradient, model.training_loss)
        )
        torch.testing.assert_close(found.objective, expected.objective.detach())
        assert found.diagnostics.keys() == expected.diagnostics.keys()
        for name, value in expected.diagnostics.items():
            torch.testing.assert_close(found.diagnostics[name], value)
        for a, b in zip(set_by_hand(model), autograd_of(expected.objective, model), strict=True):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("n_rows", [1, 9])
    def test_each_row_and_term_has_the_value_and_the_gradient_of_the_parts(self, model, n_rows):
        batch, noise = batch_of(n_rows), torch.randn(n_rows, 3, dtype=torch.float64)
        weights = torch.randn(2, n_rows, dtype=torch.float64)
        bound = FactorizedBound(model, batch, noise)
        expected = of_parts(model, batch, noise)
        torch.testing.assert_close(bound.log_likelihood, expected[0])
        torch.testing.assert_close(bound.kl_divergence, expected[1])
        bound.backward(*weights)
        objective = (weights * torch.stack(expected)).sum()
        for a, b in zip(set_by_hand(model), autograd_of(objective, model), strict=True):
            torch.testing.assert_close(a, b)

    def test_the_gradient_is_that_of_finite_differences(self, model):
        batch, noise = batch_of(4), torch.randn(4, 3, dtype=torch.float64)
        weights = torch.randn(2, 4, dtype=torch.float64)
        FactorizedBound(model, batch, noise).backward(*weights)
        by_hand = set_by_hand(model)

        def objective():
            bound = FactorizedBound(model, batch, noise)
            return weights[0] @ bound.log_likelihood + weights[1] @ bound.kl_divergence

        for parameter, gradient in zip(model.parameters(), by_hand, strict=True):
            direction, step = torch.randn_like(parameter), 1e-6
            with torch.no_grad():
                parameter += step * direction
                above = objective()
                parameter -= 2 * step * direction
                below = objective()
                parameter += step * direction
            slope = (above - below) / (2 * step)
            torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-5, atol=1e-6)

    def test_a_second_backward_pass_gives_the_same(self, model):
        bound = FactorizedBound(model, batch_of(9), torch.randn(9, 3, dtype=torch.float64))
        weights = torch.randn(2, 9, dtype=torch.float64)
        bound.backward(*weights)
        first = set_by_hand(model)
        bound.backward(*weights)
        for a, b in zip(first, set_by_hand(model), strict=True):
            assert torch.equal(a, b)

    def test_more_codes_than_short_integers_count_have_the_same_gradient(self):
        sizes = [SHORT_CODES, 5]
        model = FactorizedTVAE(sizes, [np.ones(n) for n in sizes], latent_dim=2, hidden=(3,))
        codes = torch.stack([torch.randint(n, (40,)) for n in sizes], dim=1)
        batch, noise = (codes, torch.zeros(40, 2)), torch.randn(40, 2)
        FactorizedBound(model, batch, noise).backward(torch.ones(40), torch.zeros(40))
        expected = autograd_of(of_parts(model, batch, noise)[0].sum(), model)
        for a, b in zip(set_by_hand(model), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    def test_a_fit_by_hand_ends_where_one_by_autograd_does(self):
        batch = batch_of(64)
        counts = [np.ones(n) for n in CARDINALITIES]
        ends = []
        for kind in (FactorizedTVAE, ByAutograd):
            torch.manual_seed(0)
            model = kind(CARDINALITIES, counts, latent_dim=3, **SHAPES[0]).double()
            config = TrainingConfig(n_epochs=20, batch_size=16, free_nats=0.5, learning_rate=1e-2)
            generator = torch.Generator().manual_seed(0)
            loss = train(model, batch, config, generator=generator).history[-1]["loss"]
            ends.append([torch.tensor(loss), *model.state_dict().values()])
        for a, b in zip(*ends, strict=True):
            torch.testing.assert_close(a, b)

    def test_the_parts_take_over_in_short_floats(self, model):
        model = model.float()
        codes, places = batch_of(64)
        batch = codes, places.float()

        def fit(precision):
            config = TrainingConfig(n_epochs=3, batch_size=16, precision=precision)
            generator = torch.Generator().manual_seed(0)
            return train(model, batch, config, generator=generator).history[0]["loss"]

        start = {name: value.clone() for name, value in model.state_dict().items()}
        short = fit("bfloat16")
        model.load_state_dict(start)
        assert short == pytest.approx(fit("float32"), rel=0.02)
