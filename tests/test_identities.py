"""What all densities of the zoo owe each other, and an autoencoder in disguise."""

import itertools

import pytest
import torch
from torch import nn

from skvae.models import AE, MODELS, VQVAE, make_model
from skvae.models.zoo import is_conditional

DENSITIES = sorted(name for name, cls in MODELS.items() if cls.has_density)
# The losses of the others are of rows with their labels, and of pairs of rows.
WITH_LOSS_OF_ROWS = [
    name for name in DENSITIES if not is_conditional(MODELS[name]) and name != "ada_gvae"
]


@pytest.fixture(params=DENSITIES)
def name(request):
    return request.param


def built(name):
    torch.manual_seed(0)
    model = make_model(name, (6,), 3, hidden_layer_sizes=(8,), n_classes=2)
    x = 2 * torch.randn(5, 6) + 1
    model.build(x)
    with torch.no_grad():
        # Away from the start, where posteriors may be all but the prior.
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.finalize(x)
    return model.eval(), x


@torch.no_grad()
def weights(model, x, S, seed=1):
    torch.manual_seed(seed)
    return model.log_weights(x, S)


@pytest.mark.parametrize("name", WITH_LOSS_OF_ROWS)
def test_the_bound_reported_is_the_mean_of_the_log_weights(name):
    model, x = built(name)
    n_draws = 2000
    scored = weights(model, x, n_draws)
    torch.manual_seed(2)
    with torch.no_grad():
        reported = model.compute_loss(x, model(x, S=n_draws)).diagnostics["elbo"]
    error = float((2 * scored.var(1) / n_draws).mean() ** 0.5) / len(x) ** 0.5
    assert error < 0.2
    assert float(reported) == pytest.approx(float(scored.mean()), abs=5 * error)


def test_more_latents_tighten_the_bound_towards_one_density(name):
    """Means of the log of the mean of S weights rise with S (Burda et al. 2016, theorem 1)."""
    model, x = built(name)
    log_weights = weights(model, x, 4096).double()
    bounds = []
    for S in (1, 8, 64, 512):
        parts = log_weights.unflatten(1, (-1, S))
        bounds.append(float((parts.logsumexp(2) - torch.tensor(float(S)).log()).mean()))
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(bounds))
    assert bounds[3] > bounds[0] + 1e-3


def test_weights_are_of_each_row_by_itself(name):
    """A row's density does not depend on its company: means over many draws agree."""
    model, x = built(name)
    together, alone = weights(model, x, 4000)[2], weights(model, x[2:3], 4000, seed=3)[0]
    error = float((together.var() + alone.var()).sqrt()) / 4000**0.5
    assert abs(float(together.mean() - alone.mean())) < 5 * error


def test_codes_for_every_row_make_an_autoencoder():
    """A codebook with the code of each row in it replaces latents by themselves."""
    torch.manual_seed(0)
    x = torch.randn(16, 6)
    encoder, decoder = nn.Linear(6, 3), nn.Linear(3, 6)
    model = VQVAE(encoder, decoder, 3, n_codes=16, n_groups=1)
    model(x)  # the codes start at the rows of the first batch
    model.eval()
    plain = AE(encoder, decoder)
    torch.testing.assert_close(model(x).x_hat, plain(x).x_hat)
    torch.testing.assert_close(model.embed(x), plain.embed(x))
    terms, expected = (m.compute_loss(x, m(x)).diagnostics for m in (model, plain))
    torch.testing.assert_close(terms["log_likelihood"], expected["log_likelihood"])
