"""Noise before the encoder, and penalties on the decoder, against hand computations."""

import math
import pickle

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skvae.models import (
    AE,
    RAE_GP,
    RAE_L2,
    DenoisingAE,
    GaussianLikelihood,
    MLPDecoder,
    MLPEncoder,
    StepContext,
)
from skvae.training import TrainingConfig, train

X = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def make(cls, decoder=None, **params):
    torch.manual_seed(0)
    decoder = decoder or nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))
    return cls(nn.Linear(6, 2), decoder, **params).double()


class Recorder(nn.Module):
    """An encoder that keeps what it saw."""

    def forward(self, x):
        self.seen = x
        return x


def corrupted(x, **params):
    model = DenoisingAE(Recorder(), nn.Identity(), **params)
    torch.manual_seed(0)
    model(x)
    return model.encoder.seen


class TestDenoising:
    def test_normal_noise_has_the_scale_asked_for(self):
        noise = corrupted(torch.full((200, 300), 7.0), noise_scale=0.3) - 7
        assert noise.std() == pytest.approx(0.3, rel=0.02)
        assert abs(noise.mean()) < 0.01

    def test_masking_blanks_that_share_of_the_elements_and_leaves_the_others(self):
        x = torch.rand(200, 300) + 1
        seen = corrupted(x, noise="masking", noise_scale=0.25)
        blank = seen == 0
        assert blank.float().mean() == pytest.approx(0.25, abs=0.01)
        assert torch.equal(seen[~blank], x[~blank])
        # Elements by themselves, not whole rows or columns.
        assert blank.float().mean(0).std() < 0.05
        assert blank.float().mean(1).std() < 0.05

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_masking_nothing_and_everything(self, share):
        x = torch.rand(30, 40) + 1
        seen = corrupted(x, noise="masking", noise_scale=share)
        assert torch.equal(seen, (1 - share) * x)

    def test_the_loss_is_against_the_rows_without_noise(self):
        model = make(DenoisingAE, noise_scale=5.0)
        torch.manual_seed(3)
        result = model.training_loss((X,), StepContext())
        torch.manual_seed(3)
        noisy = X + 5 * torch.randn_like(X)
        expected = 0.5 * (model.decoder(model.encoder(noisy)) - X).square().sum(1).mean()
        torch.testing.assert_close(result.objective, expected)

    def test_there_is_none_in_evaluation_nor_in_embeddings(self):
        model, plain = make(DenoisingAE, noise_scale=5.0), make(AE)
        assert not torch.allclose(model(X).z, plain(X).z)
        assert torch.equal(model.embed(X), plain.embed(X))
        model.eval()
        assert torch.equal(model(X).x_hat, plain(X).x_hat)
        assert torch.equal(model.log_weights(X, 1), plain.log_weights(X, 1))

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"noise": "salt"}, "noise='salt'"),
            ({"noise_scale": -0.1}, r"noise_scale=-0\.1"),
            ({"noise": "masking", "noise_scale": 1.2}, r"noise_scale=1\.2.*at most 1"),
        ],
    )
    def test_bad_parameters_are_named(self, params, message):
        with pytest.raises(ValueError, match=message):
            make(DenoisingAE, **params)


class TestL2:
    def test_the_objective_has_three_terms(self):
        model = make(RAE_L2, embedding_weight=0.3, reg_weight=0.2)
        result = model.compute_loss(X, model(X))
        z = model.encoder(X)
        error = 0.5 * (model.decoder(z) - X).square().sum(1).mean()
        norm = 0.5 * z.square().sum(1).mean()
        squares = sum(p.square().sum() for p in model.decoder.parameters())
        torch.testing.assert_close(result.objective, error + 0.3 * norm + 0.2 * squares)
        torch.testing.assert_close(result.diagnostics["embedding_norm"], norm.detach())
        torch.testing.assert_close(result.diagnostics["decoder_penalty"], squares.detach())

    def test_without_weights_is_the_autoencoder(self):
        model, plain = make(RAE_L2, embedding_weight=0.0, reg_weight=0.0), make(AE)
        found = model.compute_loss(X, model(X)).objective
        torch.testing.assert_close(found, plain.compute_loss(X, plain(X)).objective)

    def test_the_encoder_is_not_shrunk(self):
        light, heavy = (make(RAE_L2, reg_weight=weight) for weight in (0.0, 10.0))
        grads = []
        for model in (light, heavy):
            model.compute_loss(X, model(X)).objective.backward()
            grads.append([p.grad for p in model.parameters()])
        n_encoder = len(list(light.encoder.parameters()))
        for a, b in zip(*(g[:n_encoder] for g in grads), strict=True):
            torch.testing.assert_close(a, b)
        for p, a, b in zip(
            light.decoder.parameters(), *(g[n_encoder:] for g in grads), strict=True
        ):
            torch.testing.assert_close(b - a, 2 * 10.0 * p)

    def test_warm_up_weighs_both_penalties(self):
        model = make(RAE_L2, embedding_weight=0.3, reg_weight=0.2)
        losses = [
            model.compute_loss(X, model(X), context=StepContext(beta=beta)).objective
            for beta in (0.0, 0.5, 1.0)
        ]
        torch.testing.assert_close(losses[1], 0.5 * (losses[0] + losses[2]))
        torch.testing.assert_close(losses[0], make(AE).compute_loss(X, make(AE)(X)).objective)

    def test_a_decoder_without_parameters_has_no_penalty(self):
        model = RAE_L2(nn.Linear(6, 6).double(), nn.Identity())
        assert model.compute_loss(X, model(X)).diagnostics["decoder_penalty"] == 0


class TestGradientPenalty:
    def penalty(self, model, x, seed=0):
        torch.manual_seed(seed)
        return model.compute_loss(x, model(x)).diagnostics["decoder_penalty"]

    def jacobian_norm(self, model, x):
        total = 0.0
        for z in model.encoder(x).detach():
            total += torch.autograd.functional.jacobian(model.decoder, z).square().sum()
        return total / len(x)

    def test_is_on_average_the_sum_of_squares_of_the_decoder_s_jacobian(self):
        model = make(RAE_GP)
        draws = torch.stack([self.penalty(model, X, seed) for seed in range(300)])
        error = draws.std() / math.sqrt(300)
        expected = self.jacobian_norm(model, X)
        assert (draws.mean() - expected).abs() < 4 * error
        assert error < 0.02 * expected

    def test_is_exact_for_one_output(self):
        decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        model, x = make(RAE_GP, decoder), X[:, :1]
        model.encoder = nn.Linear(1, 2).double()
        torch.testing.assert_close(self.penalty(model, x), self.jacobian_norm(model, x))

    def test_does_not_see_the_encoder_s_own_slope(self):
        # The gradient in x, not in z, would be 100 times as steep.
        decoder = nn.Linear(2, 6)
        one, other = make(RAE_GP, decoder), make(RAE_GP, decoder)
        with torch.no_grad():
            other.encoder.weight.mul_(10)
        assert self.penalty(one, X) == self.penalty(other, X)

    @pytest.mark.parametrize("training", [True, False])
    def test_is_the_same_without_gradients(self, training):
        model = make(RAE_GP).train(training)
        tracked = self.penalty(model, X)
        with torch.no_grad():
            loss = self.penalty(model, X)
            assert not model.compute_loss(X, model(X)).objective.requires_grad
        torch.testing.assert_close(loss, tracked)

    @pytest.mark.parametrize("frozen", [False, True])
    def test_trains_the_decoder_to_be_flatter(self, frozen):
        model = make(RAE_GP, reg_weight=1e6)
        model.encoder.requires_grad_(not frozen)
        before = self.jacobian_norm(model, X)
        objective = model.compute_loss(X, model(X)).objective
        parameters = list(model.decoder.parameters())
        grads = torch.autograd.grad(objective, parameters, allow_unused=True)
        norm = math.sqrt(sum(float(g.square().sum()) for g in grads if g is not None))
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    parameter -= 0.01 / norm * grad
        assert self.jacobian_norm(model, X) < before - 0.005

    def test_decoders_of_images_and_batches_of_one_row(self):
        decoder = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4)))
        model = RAE_GP(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), decoder)
        x = torch.randn(1, 1, 4, 4)
        result = model.compute_loss(x, model(x))
        result.objective.backward()
        assert result.objective.isfinite()
        assert result.diagnostics["decoder_penalty"] > 0


@pytest.mark.parametrize("cls", [RAE_L2, RAE_GP])
@pytest.mark.parametrize("name", ["embedding_weight", "reg_weight"])
def test_negative_weights_are_refused(cls, name):
    with pytest.raises(ValueError, match=rf"{name}=-1"):
        make(cls, **{name: -1})


@pytest.mark.parametrize("cls", [DenoisingAE, RAE_L2, RAE_GP])
def test_training_on_digits_with_validation(cls):
    digits = torch.tensor(load_digits().data[:400], dtype=torch.float32)
    digits = (digits - digits.mean(0)) / digits.std()
    torch.manual_seed(0)
    networks = MLPEncoder((64,), (64,), 6), MLPDecoder(6, (64,), (64,))
    model = cls(*networks, likelihood=GaussianLikelihood())
    config = TrainingConfig(n_epochs=25, batch_size=100, learning_rate=5e-3, warmup_steps=0)
    generator = torch.Generator().manual_seed(0)
    data, validation = (digits[:300],), (digits[300:],)
    result = train(model, data, config, generator=generator, validation_data=validation)
    for name in ("loss", "validation_loss"):
        losses = [entry[name] for entry in result.history]
        assert all(math.isfinite(value) for value in losses)
        assert losses[-1] < losses[0] - 10
    copy = pickle.loads(pickle.dumps(model))
    assert torch.equal(copy.embed(digits), model.embed(digits))
