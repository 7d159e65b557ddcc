"""Players that learn against each other: what each minimises, and what comes of it."""

import math
import pickle

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn import functional as F

from skvae.models import (
    VAEGAN,
    AdversarialAE,
    BernoulliLikelihood,
    GaussianLikelihood,
    MLPDecoder,
    MLPDiscriminator,
    MLPEncoder,
    StepContext,
)
from skvae.training import TrainingConfig, train

N_FEATURES = 6


def make(cls, latent_dim=2, built=True, **params):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(N_FEATURES, 8), nn.Tanh())
    model = cls(encoder, nn.Linear(latent_dim, N_FEATURES), latent_dim, **params)
    if built:
        model.build(torch.zeros(2, N_FEATURES))
    return model


@pytest.fixture
def x():
    return 3 * torch.randn(9, N_FEATURES, generator=torch.Generator().manual_seed(1))


def touched(loss, model):
    """Names of the parts of a model that a loss has a gradient in."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {
        name.split(".")[0]
        for name, gradient in zip(names, found, strict=True)
        if gradient is not None and gradient.abs().sum() > 0
    }


def cross_entropy(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


class TestAdversarialAE:
    def test_a_row_has_one_latent_or_a_gaussian(self, x):
        model = make(AdversarialAE)
        z = model(x, S=2).z
        assert torch.equal(z[:, 0], z[:, 1])
        assert torch.equal(z[:, 0], model.embed(x))
        assert torch.equal(model.draw_latents(x), model.embed(x))
        model = make(AdversarialAE, posterior="gaussian")
        z = model(x, S=2).z
        assert not torch.equal(z[:, 0], z[:, 1])

    def test_who_minimises_what(self, x):
        model = make(AdversarialAE, weight=5.0, gradient_penalty=0.0)
        output = model(x)
        torch.manual_seed(3)
        loss = model.compute_loss(x, output)
        torch.manual_seed(3)
        prior, _ = model.discriminator(torch.randn(9, 2))
        latent, _ = model.discriminator(output.z[:, 0])
        expected = 5 * cross_entropy(latent, 1.0) - model.log_px(x, output).mean()
        torch.testing.assert_close(loss.objective, expected)
        expected = 0.5 * (cross_entropy(prior, 1.0) + cross_entropy(latent, 0.0))
        torch.testing.assert_close(loss.players["adversary"], expected)

    def test_the_warm_up_weighs_the_deception(self, x):
        model = make(AdversarialAE, weight=5.0)
        loss = model.compute_loss(x, model(x), context=StepContext(beta=0.0))
        expected = -loss.diagnostics["log_likelihood"]
        torch.testing.assert_close(loss.objective.detach(), expected)

    def test_the_decoder_has_no_part_in_the_deception(self, x):
        model = make(AdversarialAE)
        loss = model.training_loss((x,), StepContext())
        assert touched(loss.players["adversary"], model) >= {"discriminator"}
        assert "decoder" not in touched(loss.players["adversary"], model)
        own = {id(p) for p in model.player_parameters()["adversary"]}
        assert own == {id(p) for p in model.discriminator.parameters()}

    def test_the_latents_take_the_priors_shape(self):
        generator = torch.Generator().manual_seed(0)
        factors = torch.rand(1000, 2, generator=generator)
        mixing = torch.randn(2, N_FEATURES, generator=generator)
        noise = 0.1 * torch.randn(1000, N_FEATURES, generator=generator)
        rows = torch.tanh(factors @ mixing) + noise
        torch.manual_seed(0)
        model = AdversarialAE(
            MLPEncoder((N_FEATURES,), (32,)),
            MLPDecoder(2, (N_FEATURES,), (32,)),
            2,
            weight=100.0,
            discriminator_hidden=(64, 64),
            likelihood=GaussianLikelihood("optimal"),
        )
        model.build(rows[:2])

        @torch.no_grad()
        def distance():
            z = model.embed(rows)
            return (z.T @ z / len(z) - torch.eye(2)).abs().max().item()

        assert distance() > 0.8
        config = TrainingConfig(n_epochs=60, batch_size=100, learning_rate=1e-2, warmup_steps=0)
        train(model, (rows,), config, generator=torch.Generator().manual_seed(0))
        assert distance() < 0.4

    @pytest.mark.parametrize("params", [{"posterior": "flat"}, {"weight": -1.0}])
    def test_parameters_out_of_range_are_refused(self, params):
        with pytest.raises(ValueError, match=f"{next(iter(params))}="):
            make(AdversarialAE, **params)


class Conv(nn.Module):
    """A discriminator of images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.LazyConv2d(3, 2)
        self.logit = nn.LazyLinear(1)

    def forward(self, x):
        features = torch.tanh(self.conv(x)).flatten(1)
        return self.logit(features)[:, 0], features


class TestVAEGAN:
    def test_who_minimises_what(self, x):
        discriminator = MLPDiscriminator((4,))
        model = make(
            VAEGAN,
            gamma=0.3,
            gradient_penalty=0.0,
            margin=math.inf,
            discriminator=discriminator,
        )
        output = model(x)
        torch.manual_seed(3)
        loss = model.compute_loss(x, output)
        torch.manual_seed(3)
        drawn = model.decoder(torch.randn(9, 2))
        real, target = discriminator(x)
        fake, features = discriminator(output.x_hat[:, 0])
        prior, _ = discriminator(drawn)
        fakes = torch.cat([fake, prior])
        variance = (target - features).square().mean()
        log_features = -2 * (1 + torch.log(2 * math.pi * variance.detach()))
        kl = model.divergence(output).mean()
        torch.testing.assert_close(
            loss.diagnostics["feature_log_likelihood"], log_features.detach()
        )
        torch.testing.assert_close(loss.players["encoder"].detach(), (kl - log_features).detach())
        expected = -0.3 * log_features + cross_entropy(fakes, 1.0)
        torch.testing.assert_close(loss.objective, expected)
        expected = 0.5 * (cross_entropy(real, 1.0) + cross_entropy(fakes, 0.0))
        torch.testing.assert_close(loss.players["adversary"], expected)

    def test_many_features_count_as_many_as_the_numbers_of_a_row(self, x):
        torch.manual_seed(0)
        discriminator = MLPDiscriminator((60,))
        model = make(VAEGAN, discriminator=discriminator)
        output = model(x)
        terms = model.compute_loss(x, output).diagnostics
        errors = discriminator(x)[1] - discriminator(output.x_hat[:, 0])[1]
        variance = errors.square().mean().detach()
        expected = -0.5 * N_FEATURES * (1 + torch.log(2 * math.pi * variance))
        torch.testing.assert_close(terms["feature_log_likelihood"], expected)

    def test_each_parameter_has_the_player_that_minimises_in_it(self, x):
        model = make(VAEGAN)
        loss = model.training_loss((x,), StepContext())
        players = model.player_parameters()
        owned = {name: {id(p) for p in parameters} for name, parameters in players.items()}
        rest = {id(p) for p in model.parameters()} - owned["encoder"] - owned["adversary"]
        assert rest == {id(p) for p in model.decoder.parameters()}
        assert {"encoder", "sampling_layer"} <= touched(loss.players["encoder"], model)
        assert "decoder" in touched(loss.objective, model)
        assert "discriminator" in touched(loss.players["adversary"], model)

    def test_the_stronger_player_waits(self, x):
        strong = make(VAEGAN, equilibrium=9.0, margin=0.1)
        loss = strong.compute_loss(x, strong(x))
        terms = loss.diagnostics
        assert loss.players["adversary"] is None
        expected = terms["deception"] - 0.1 * terms["feature_log_likelihood"]
        torch.testing.assert_close(loss.objective.detach(), expected)
        weak = make(VAEGAN, equilibrium=0.0, margin=0.0)
        loss = weak.compute_loss(x, weak(x))
        assert loss.players["adversary"] is not None
        expected = -0.1 * loss.diagnostics["feature_log_likelihood"]
        torch.testing.assert_close(loss.objective.detach(), expected)

    def test_nobody_waits_out_of_balance_both_ways_or_in_evaluation(self, x):
        low, high = torch.tensor(0.01), torch.tensor(3.0)
        assert make(VAEGAN)._gates(low, high) == (True, True)
        model = make(VAEGAN, equilibrium=9.0, margin=0.1)
        model.eval()
        with torch.no_grad():
            assert model.training_loss((x,), StepContext()).players["adversary"] is not None

    def test_a_discriminator_of_ones_own_is_built_with_the_model(self):
        images = torch.rand(5, 1, 4, 4)
        decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))
        model = VAEGAN(nn.Flatten(), decoder, 2, discriminator=Conv())
        model.build(images)
        assert not any(nn.parameter.is_lazy(p) for p in model.parameters())
        loss = model.training_loss((images,), StepContext())
        assert torch.isfinite(loss.players["encoder"])

    def test_the_discriminator_sees_probabilities_not_logits(self, x):
        rows = torch.sigmoid(x)
        model = make(VAEGAN, likelihood=BernoulliLikelihood(), margin=math.inf)
        output = model(rows)
        seen = []
        model.discriminator.register_forward_hook(lambda module, args, out: seen.append(args[0]))
        model.compute_loss(rows, output)
        torch.testing.assert_close(seen[0][9:18], torch.sigmoid(output.x_hat[:, 0]))

    def test_the_likelihoods_own_scale_is_learned_and_moves_no_network(self, x):
        likelihood = GaussianLikelihood("learned", feature_shape=(N_FEATURES,))
        model = make(VAEGAN, likelihood=likelihood)
        torch.manual_seed(1)
        loss = model.training_loss((x,), StepContext())
        learned = torch.autograd.grad(loss.objective, likelihood.log_variance, retain_graph=True)
        assert learned[0].abs().sum() > 0
        found = torch.autograd.grad(loss.objective, model.decoder.weight)[0]
        plain = make(VAEGAN)
        torch.manual_seed(1)
        loss = plain.training_loss((x,), StepContext())
        expected = torch.autograd.grad(loss.objective, plain.decoder.weight)[0]
        torch.testing.assert_close(found, expected)

    def test_reconstructed_digits_are_recognised(self):
        rows, digits = load_digits(return_X_y=True)
        x = torch.tensor(rows / 16, dtype=torch.float32)
        torch.manual_seed(0)
        model = VAEGAN(MLPEncoder((64,)), MLPDecoder(10, (64,)), 10)
        model.build(x[:2])
        config = TrainingConfig(n_epochs=8, batch_size=64, learning_rate=3e-3, warmup_steps=0)
        train(model, (x,), config, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            reconstructed = model.decode_mean(model.embed(x))
        judge = KNeighborsClassifier(5).fit(rows / 16, digits)
        assert judge.score(reconstructed.numpy(), digits) > 0.9


@pytest.mark.parametrize("cls", [AdversarialAE, VAEGAN])
class TestBoth:
    @pytest.mark.parametrize("latent_dim", [1, 3])
    @pytest.mark.parametrize("n_rows", [1, 9])
    def test_pickled_and_in_double_precision(self, cls, latent_dim, n_rows, x):
        model = pickle.loads(pickle.dumps(make(cls, latent_dim).double()))
        loss = model.training_loss((x[:n_rows].double(),), StepContext())
        for value in (loss.objective, *loss.players.values()):
            assert value.dtype == torch.float64
            assert torch.isfinite(value)

    def test_build_is_all_that_a_state_needs(self, cls, x):
        model, other = make(cls), make(cls, built=False)
        other.build(torch.zeros_like(x))
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.embed(x), model.embed(x))

    def test_there_is_no_density_but_a_score_of_the_reconstruction(self, cls, x):
        model = make(cls)
        assert not cls.has_density
        weights = model.log_weights(x, 5)
        torch.testing.assert_close(weights, model.log_px(x, model(x, sample=False)))
        assert weights.shape == (9, 1)

    def test_a_loss_may_be_asked_for_without_gradients(self, cls, x):
        model = make(cls).eval()
        with torch.no_grad():
            loss = model.training_loss((x,), StepContext())
        assert not loss.objective.requires_grad
