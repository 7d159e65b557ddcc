"""The faults found in pythae (benchmark_VAE), each as a test that it is not one here.

The numbers in comments are those of the list of faults in this project's study of pythae.
"""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skvae import VAEEmbedder
from skvae.models import (
    CIWAE,
    HVAE,
    IWAE,
    MIWAE,
    PIWAE,
    RAE_L2,
    RHVAE,
    VAE,
    VAMP,
    VQVAE,
    WAE,
    BetaTCVAE,
    FactorVAE,
    InfoVAE,
    SphericalVAE,
    StepContext,
)
from skvae.samplers import SAMPLERS, CodesSampler, ManifoldSampler, VampSampler
from skvae.training import TrainingConfig, evaluate, train

ONE_STEP = TrainingConfig(n_epochs=1, warmup_steps=0, schedule="constant")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def x():
    return 2 * torch.randn(12, 6) + 1


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:300] / 16


def make(cls, latent_dim=3, **params):
    """A model with the same weights whatever the class."""
    torch.manual_seed(0)
    if issubclass(cls, (RAE_L2, WAE)):
        model = cls(nn.Linear(6, latent_dim), nn.Linear(latent_dim, 6), **params)
    else:
        encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        model = cls(encoder, nn.Linear(latent_dim, 6), latent_dim, **params)
    model.build(torch.randn(4, 6))
    return model


def loss(model, x, seed=1):
    torch.manual_seed(seed)
    return model.training_loss((x,), StepContext(n_rows=len(x)))


def log_weights(model, x, S, seed=1):
    torch.manual_seed(seed)
    return model.log_weights(x, S).detach()


def seeded(cls):
    """A class that draws the same noise in each loss, also within the training loop."""

    class Seeded(cls):
        def training_loss(self, batch, context):
            torch.manual_seed(1)
            return super().training_loss(batch, context)

    return Seeded


def own_parameters(model):
    """Parameters of the encoder, with the posterior's, and of the decoder."""
    encoder = [*model.encoder.parameters()]
    encoder += model.sampling_layer.parameters() if hasattr(model, "sampling_layer") else []
    return encoder, list(model.decoder.parameters())


def gradients_applied(model, x):
    """Gradients with which one step of the training loop moves encoder and decoder."""
    applied = []

    def keep(log):
        applied.extend([p.grad.clone() for p in group] for group in own_parameters(model))

    train(model, [(x,)], ONE_STEP, callbacks=[keep])
    return applied


def embedder(model, **params):
    return VAEEmbedder(
        **{
            "n_components": 3,
            "model": model,
            "max_epochs": 2,
            "hidden_layer_sizes": (16,),
            "random_state": 0,
        }
        | params
    )


# Fault 1.
@pytest.mark.parametrize("cls", [MIWAE, PIWAE])
def test_estimates_and_latents_are_not_swapped(cls, x):
    def bound(n_estimates, n_samples):
        result = loss(make(cls, n_estimates=n_estimates, n_samples=n_samples), x)
        return result.players["encoder"] if cls is PIWAE else result.objective

    torch.testing.assert_close(bound(1, 10), loss(make(IWAE, n_samples=10), x).objective)
    elbo = log_weights(make(VAE), x, 10).mean()
    torch.testing.assert_close(-bound(10, 1), elbo)
    assert bound(1, 10) < bound(10, 1) - 0.1


# Fault 2.
@pytest.mark.parametrize("cls", [IWAE, MIWAE, CIWAE, PIWAE])
def test_the_bound_reported_is_the_log_of_the_mean_weight(cls, x):
    model = make(cls)
    weights = log_weights(model, x, model.n_draws)
    bound = (weights.logsumexp(1) - math.log(model.n_draws)).mean()
    # What pythae reports instead is above it: the weights' mean with the weights themselves.
    assert (weights.softmax(1) * weights).sum(1).mean() > bound + 0.1
    if cls is MIWAE:
        parts = weights.unflatten(1, (model.n_estimates, model.n_samples))
        bound = (parts.logsumexp(2) - math.log(model.n_samples)).mean()
    result = loss(model, x)
    torch.testing.assert_close(result.diagnostics["iw_bound"], bound)
    if cls is CIWAE:
        bound = model.beta * result.diagnostics["elbo"] + (1 - model.beta) * bound
    torch.testing.assert_close(-result.objective.detach(), bound)


# Fault 3.
def test_infovae_by_default_holds_latents_to_the_prior_instead_of_driving_them_away(x):
    model = make(InfoVAE)
    with torch.no_grad():
        model.sampling_layer.mu.bias.fill_(4.0)
    result = loss(model, x)
    extra = float(result.objective.detach() + result.diagnostics["elbo"])
    assert result.diagnostics["mmd"] > 0.5
    assert extra == pytest.approx(4 * float(result.diagnostics["mmd"]), rel=1e-4)


# Fault 4, first half.
def test_factorvae_embeds_all_rows_in_their_order(digits):
    estimator = embedder("factor").fit(digits)
    Z = estimator.transform(digits)
    assert Z.shape == (300, 3)
    np.testing.assert_allclose(estimator.transform(digits[:7]), Z[:7], atol=1e-9)


# Fault 4, second half.
def test_the_adversarys_loss_does_not_reach_the_encoder(x):
    model = make(seeded(FactorVAE))
    encoder, decoder = own_parameters(model)
    expected = torch.autograd.grad(loss(model, x).objective, encoder + decoder)
    applied = gradients_applied(model, x)
    torch.testing.assert_close(applied[0] + applied[1], list(expected))


# Fault 5.
def test_an_encoder_with_a_loss_of_its_own_gets_the_gradient_of_that_alone(x):
    model = make(seeded(PIWAE), n_estimates=2, n_samples=3)
    encoder, decoder = own_parameters(model)
    result = loss(model, x)
    own = torch.autograd.grad(result.players["encoder"], encoder, retain_graph=True)
    shared = torch.autograd.grad(result.objective, encoder + decoder)
    applied = gradients_applied(model, x)
    torch.testing.assert_close(applied[0], list(own))
    torch.testing.assert_close(applied[1], list(shared[len(encoder) :]))
    # Not their sum either, which is what two backward passes leave.
    assert (applied[0][0] - own[0] - shared[0]).norm() > 0.1 * own[0].norm()


# Fault 5.
def test_the_gradient_of_a_regularised_autoencoders_encoder_is_not_doubled(x):
    model = make(RAE_L2)
    encoder, _ = own_parameters(model)
    expected = torch.autograd.grad(loss(model, x).objective, encoder)
    torch.testing.assert_close(gradients_applied(model, x)[0], list(expected))


# Fault 6.
def test_tempering_moves_the_latents_of_the_hamiltonian_vae_and_keeps_the_density(x):
    ends, densities = [], []
    for beta_zero in (0.2, 1.0):
        model = make(HVAE, n_leapfrog=2, step_size=0.4, beta_zero=beta_zero).eval()
        torch.manual_seed(1)
        ends.append(model.draw_latents(x).detach())
        densities.append(log_weights(model, x[:2], 50_000).logsumexp(1) - math.log(50_000))
    assert (ends[0] - ends[1]).abs().mean() > 0.05
    torch.testing.assert_close(densities[0], densities[1], atol=0.25, rtol=0)


# Fault 6, last part.
def test_images_that_are_not_28_by_28_are_scored():
    X = np.random.default_rng(0).random((20, 5, 7))
    for model in ("hvae", "vae", "iwae"):
        assert np.isfinite(embedder(model).fit(X).score_samples(X, n_draws=4)).all()


# Fault 7.
@pytest.mark.parametrize("name", ["vae", "rae_l2", "hvae"])
def test_unknown_parameters_are_refused(name, digits):
    with pytest.raises(ValueError, match=r"model_params has 'latnet_dim', which .* does not take"):
        embedder(name, model_params={"latnet_dim": 4}).fit(digits)
    with pytest.raises(TypeError, match="latnet_dim"):
        VAEEmbedder(latnet_dim=4)


# Fault 7.
def test_the_penalty_on_the_decoders_weights_is_on_by_default(digits):
    def squares(**params):
        estimator = embedder("rae_l2", max_epochs=10, model_params=params).fit(digits)
        return sum(float(p.detach().square().sum()) for p in estimator.model_.decoder.parameters())

    assert squares() < 0.97 * squares(reg_weight=0.0)
    assert squares(reg_weight=1.0) < 0.9 * squares()


# Fault 8.
@pytest.mark.parametrize("name", ["vae", "iwae", "vamp", "hvae", "spherical", "iaf"])
def test_embeddings_are_not_drawn(name, digits):
    estimator = embedder(name).fit(digits)
    np.testing.assert_array_equal(estimator.transform(digits), estimator.transform(digits))
    rows = torch.as_tensor(digits, dtype=torch.float32)
    model = estimator.model_.train()
    with torch.no_grad():
        assert torch.equal(model.embed(rows), model.embed(rows))


# Fault 9.
def test_the_vamp_sampler_draws_random_components_with_their_own_variance():
    model = make(VAMP, latent_dim=2, n_pseudo_inputs=3)
    with torch.no_grad():
        # Two features tell the pseudo-inputs apart: means 100 apart, log variances -6, 0 and 3.
        model.encoder = nn.Identity()
        head = model.sampling_layer
        head.mu, head.log_var = nn.Linear(6, 2), nn.Linear(6, 2)
        for layer, column in ((head.mu, 0), (head.log_var, 1)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.weight[:, column] = 1
        model.pseudo_inputs.zero_()
        model.pseudo_inputs[:, 0] = torch.tensor([-100.0, 0.0, 100.0])
        model.pseudo_inputs[:, 1] = torch.tensor([-6.0, 0.0, 3.0])
    sampler = VampSampler().fit(np.zeros((4, 2)), model=model)
    single = [int(np.rint(sampler.sample(random_state=s)[0, 0] / 100)) for s in range(40)]
    assert set(single) == {-1, 0, 1}
    drawn = sampler.sample(9000, random_state=0)
    component = np.rint(drawn[:, 0] / 100)
    for place, log_variance in ((-1, -6.0), (0, 0.0), (1, 3.0)):
        spread = drawn[component == place].std(0)
        np.testing.assert_allclose(spread, math.exp(log_variance / 2), rtol=0.06)


# Fault 10.
@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_codes_are_drawn_for_any_number_of_rows_and_either_codebook(codebook):
    model = VQVAE(nn.Linear(6, 4), nn.Linear(4, 6), 4, n_codes=5, n_groups=2, codebook=codebook)
    x = torch.randn(130, 6)
    model.training_loss((x,), StepContext())
    model.eval()
    sampler = CodesSampler(max_steps=5, random_state=0).fit(
        model.draw_latents(x).detach().numpy(), model=model
    )
    for n_samples in (1, 129, 10_003):
        drawn = torch.from_numpy(sampler.sample(n_samples, random_state=0))
        assert drawn.shape == (n_samples, 4)
        torch.testing.assert_close(model.look_up(model.quantize(drawn)).detach(), drawn)


# Fault 11.
@pytest.mark.parametrize("name", ["wae_mmd", "info_mmd", "beta_tc", "factor"])
def test_a_last_batch_of_one_row_is_no_accident(name, digits):
    estimator = embedder(name, batch_size=64, max_epochs=1).fit(digits[:65])
    assert np.isfinite(estimator.loss_curve_).all()


# Fault 11.
@pytest.mark.parametrize("cls", [WAE, InfoVAE, BetaTCVAE, FactorVAE])
def test_the_loss_of_one_row_is_finite(cls, x):
    result = loss(make(cls), x[:1])
    assert torch.isfinite(result.objective)
    result.objective.backward()


# Fault 12.
@pytest.mark.parametrize("name", ["maf", "iaf"])
def test_flows_of_one_latent_learn_where_it_is(name):
    pytest.importorskip("zuko")
    Z = 3 * np.random.default_rng(0).normal(size=(1000, 1)) - 70
    drawn = SAMPLERS[name](max_steps=200, random_state=0).fit(Z).sample(2000, random_state=0)
    assert drawn.shape == (2000, 1)
    assert drawn.mean() == pytest.approx(-70, abs=1.5)
    assert drawn.std() == pytest.approx(3, rel=0.4)


# Fault 12.
@pytest.mark.parametrize("name", ["maf", "iaf"])
def test_the_loss_of_a_flow_is_a_mean_so_that_no_learning_rate_goes_with_one_batch_size(name):
    pytest.importorskip("zuko")
    network = SAMPLERS[name]()._make_network(1)
    Z = torch.randn(50, 1)
    once, twice = (network.training_loss((z,), StepContext()) for z in (Z, torch.cat([Z, Z])))
    torch.testing.assert_close(once.objective, twice.objective)


# Fault 13.
@pytest.mark.parametrize("low", [-3.0, 0.05])
@pytest.mark.parametrize("name", ["gaussian_mixture", "kde", "two_stage", "maf", "iaf"])
def test_samplers_take_latents_and_data_of_any_range(name, low, digits):
    """Neither negative latents, nor rows that stay below one, are refused."""
    if name in ("maf", "iaf"):
        pytest.importorskip("zuko")
    X = low + digits * 0.5
    params = {"max_steps": 5} if name in ("two_stage", "maf", "iaf") else {}
    estimator = embedder("vae", sampler=SAMPLERS[name](**params)).fit(X)
    assert estimator.transform(X).min() < 0
    assert np.isfinite(estimator.sample(5, random_state=0)).all()


# Fault 14.
def test_the_spherical_vae_is_scored_with_the_concentration_it_was_trained_with(x):
    model = make(SphericalVAE)
    with torch.no_grad():
        # The smallest concentrations, where one more or less weighs most.
        model.sampling_layer.kappa.bias.fill_(-3.0)
    n_draws = 20_000
    torch.manual_seed(1)
    elbo = model.train().compute_loss(x, model(x, S=n_draws)).diagnostics["elbo"]
    model.eval()
    scored = log_weights(model, x, n_draws).mean()
    torch.testing.assert_close(scored, elbo, atol=0.01, rtol=0)


# Fault 15.
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_chains_on_the_manifold_accept_moves_whatever_the_volume(scale):
    """Fifty dimensions: the volume is e to the power of +-690, beyond any float."""
    model = RHVAE(nn.Linear(6, 8), nn.Linear(50, 6), 50, n_centroids=2, temperature=1.5)
    model.build(torch.zeros(2, 6))
    model.centroids[:] = torch.randn(2, 50)
    model.factors[:] = scale * torch.eye(50)
    sampler = ManifoldSampler().fit(np.zeros((2, 50)), model=model)
    drawn = sampler.sample(200, random_state=0)
    assert np.isfinite(drawn).all()
    assert sampler.acceptance_rate_ > 0.5
    distance = np.linalg.norm(drawn[:, None] - model.centroids.numpy(), axis=2).min(1)
    assert (distance < 2 * 1.5 + 1e-4).all()
    assert distance.std() > 0.01


# Fault 16.
@pytest.mark.parametrize("scale", [1.0, 1e7])
def test_the_best_weights_are_in_the_users_own_model(scale, x):
    """Also where the loss never goes below 1e10."""
    model = make(VAE)
    held_out = scale * torch.randn(12, 6)
    config = TrainingConfig(
        n_epochs=40, n_iter_no_change=5, learning_rate=0.05, warmup_steps=0, schedule="constant"
    )
    result = train(model, (scale * x,), config, validation_data=(held_out,))
    losses = [log["validation_loss"] for log in result.history]
    best = evaluate(model, (held_out,))
    assert best == pytest.approx(min(losses), rel=1e-6)
    assert losses[result.best_epoch - 1] == min(losses)
    if scale > 1:
        assert best > 1e10


# Fault 17.
def test_the_seed_decides_the_first_weights_too(digits):
    def start(seed):
        estimator = embedder("vae", max_epochs=1, learning_rate=1e-12, random_state=seed)
        model = estimator.fit(digits).model_
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(1)
    one = start(0)
    torch.manual_seed(2)
    assert torch.equal(one, start(0))
    assert (one - start(1)).abs().mean() > 0.01


class OutOfMemory(VAE):
    """Has room for training alone."""

    n_calls = 0

    def training_loss(self, batch, context):
        self.n_calls += 1
        if not self.training:
            raise RuntimeError("out of memory")
        return super().training_loss(batch, context)


# Fault 18.
def test_errors_in_evaluation_come_out_and_nothing_is_tried_twice(x):
    model = make(OutOfMemory)
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(model, (x,))
    assert model.n_calls == 1
    model.train()
    with pytest.raises(RuntimeError, match="out of memory"):
        train(model, (x,), ONE_STEP, validation_data=(x,))
    assert model.n_calls == 3  # a step, and the validation that fails


# Fault 18.
def test_evaluation_has_no_gradients(x):
    class Watching(VAE):
        def training_loss(self, batch, context):
            assert not torch.is_grad_enabled()
            return super().training_loss(batch, context)

    evaluate(make(Watching), (x,))
