"""The factorised model's training step in one piece: that of its parts, and its gradient."""

import numpy as np
import pytest
import torch

from skvae.models import FactorizedTVAE, StepContext
from skvae.models.factorized_bound import factorized_bound
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


def gradients(loss, model):
    return torch.autograd.grad(
        loss.objective, list(model.parameters()), retain_graph=True, materialize_grads=True
    )


class TestFactorizedBound:
    @pytest.mark.parametrize(("beta", "free_nats"), [(0.5, 0.0), (0.7, 1.0), (1.0, 50.0)])
    def test_the_loss_and_its_gradient_are_those_of_the_parts(self, model, beta, free_nats):
        batch = batch_of(20)
        context = StepContext(
            beta=beta, free_nats=free_nats, generator=torch.Generator().manual_seed(1)
        )
        found = model.training_loss(batch, context)
        output = model(batch, generator=torch.Generator().manual_seed(1))
        expected = model.compute_loss(batch, output, beta=beta, free_nats=free_nats)
        torch.testing.assert_close(found.objective, expected.objective)
        assert found.diagnostics.keys() == expected.diagnostics.keys()
        for name, value in expected.diagnostics.items():
            torch.testing.assert_close(found.diagnostics[name], value)
        for a, b in zip(gradients(found, model), gradients(expected, model), strict=True):
            torch.testing.assert_close(a, b)

    def test_the_gradient_of_each_row_and_term_is_that_of_finite_differences(self, model):
        batch, noise = batch_of(4), torch.randn(4, 3, dtype=torch.float64)
        parameters = tuple(model.parameters())
        assert torch.autograd.gradcheck(
            lambda *_: factorized_bound(model, batch, noise), parameters
        )

    def test_a_second_backward_pass_gives_the_same(self, model):
        loss = model.training_loss(batch_of(9), StepContext())
        for a, b in zip(gradients(loss, model), gradients(loss, model), strict=True):
            assert torch.equal(a, b)

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
