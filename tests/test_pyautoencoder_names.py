"""A script written for pyautoencoder 2.1.0 runs with its import changed to skvae.models.

Names, signatures, shapes, the kinds of errors and the names in state_dict; the numbers are
computed here by hand.
"""

import inspect
import math

import pytest
import torch
from torch import nn

from skvae.models import (
    AE,
    VAE,
    AdaGVAE,
    AdaGVAEOutput,
    AEDecodeOutput,
    AEEncodeOutput,
    AEOutput,
    FullyFactorizedGaussian,
    LikelihoodType,
    LossResult,
    VAEDecodeOutput,
    VAEEncodeOutput,
    VAEOutput,
    kl_divergence_diag_gaussian,
    log_likelihood,
)
from skvae.models.core import BaseAutoencoder, ModelOutput

SHAPE = (1, 4, 4)
LATENT = 3


def networks():
    encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.Tanh())
    decoder = nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.Linear(6, 16), nn.Unflatten(1, SHAPE))
    return encoder, decoder


def make_vae(built=True):
    model = VAE(*networks(), latent_dim=LATENT)
    if built:
        model.build(input_sample=torch.zeros(2, *SHAPE))
    return model


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def x():
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1))


class TestSignatures:
    @pytest.mark.parametrize(
        ("function", "names"),
        [
            (AE, ["encoder", "decoder"]),
            (AE.forward, ["self", "x"]),
            (AE.compute_loss, ["self", "x", "output", "likelihood"]),
            (VAE, ["encoder", "decoder", "latent_dim"]),
            (VAE.build, ["self", "input_sample"]),
            (VAE.forward, ["self", "x", "S", "sample"]),
            (VAE.encode, ["self", "x", "S", "sample"]),
            (VAE._encode, ["self", "x", "S", "sample"]),
            (VAE.decode, ["self", "z"]),
            (VAE.compute_loss, ["self", "x", "output", "beta", "likelihood"]),
            (AdaGVAE, ["vae"]),
            (AdaGVAE.build, ["self", "input_sample"]),
            (AdaGVAE.forward, ["self", "x", "S"]),
            (AdaGVAE._encode_pair, ["self", "x1", "x2", "S"]),
            (AdaGVAE.compute_loss, ["self", "x", "output", "beta", "likelihood"]),
            (FullyFactorizedGaussian, ["latent_dim"]),
            (FullyFactorizedGaussian.forward, ["self", "x", "S", "sample"]),
            (FullyFactorizedGaussian.reparametrize, ["self", "mu", "log_var", "S"]),
            (log_likelihood, ["x", "x_hat", "likelihood"]),
            (
                kl_divergence_diag_gaussian,
                ["mu_q", "log_var_q", "mu_p", "log_var_p", "reduce_sum"],
            ),
        ],
    )
    def test_positional_parameters(self, function, names):
        parameters = list(inspect.signature(function).parameters.values())
        accepted = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        # ``decode`` of the base takes what subclasses add.
        assert [name for name in accepted if name not in ("args", "kwargs")] == names

    @pytest.mark.parametrize(
        ("output", "names"),
        [
            (AEEncodeOutput, ["z"]),
            (AEDecodeOutput, ["x_hat"]),
            (AEOutput, ["x_hat", "z"]),
            (VAEEncodeOutput, ["z", "mu", "log_var"]),
            (VAEDecodeOutput, ["x_hat"]),
            (VAEOutput, ["x_hat", "z", "mu", "log_var"]),
            (AdaGVAEOutput, ["output1", "output2"]),
        ],
    )
    def test_outputs_are_slotted_dataclasses_that_show_shapes(self, output, names):
        values = {name: torch.zeros(2, 3) for name in names}
        made = output(**values)
        assert not hasattr(made, "__dict__")
        assert isinstance(made, ModelOutput)
        inside = ", ".join(f"{n}=Tensor(shape=(2, 3), dtype=torch.float32)" for n in names)
        assert repr(made) == f"{output.__name__}({inside})"


class TestAE:
    def test_script(self, x):
        model = AE(*networks())
        model.build(x)
        output = model(x)
        assert isinstance(output, AEOutput)
        assert output.x_hat.shape == x.shape
        assert output.z.shape == (5, 6)
        loss = model.compute_loss(x, output, likelihood="gaussian")
        assert isinstance(loss, LossResult)
        expected = 0.5 * (x - output.x_hat).square().flatten(1).sum(1).mean()
        torch.testing.assert_close(loss.objective, expected)
        assert list(loss.diagnostics) == ["log_likelihood"]
        torch.testing.assert_close(loss.diagnostics["log_likelihood"], -expected.detach())
        loss.objective.backward()
        encoded = model.encode(x)
        decoded = model.decode(encoded.z)
        assert isinstance(encoded, AEEncodeOutput)
        assert isinstance(decoded, AEDecodeOutput)
        assert not decoded.x_hat.requires_grad
        assert not decoded.x_hat.is_inference()

    def test_a_decoder_of_another_shape_is_refused(self, x):
        model = AE(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), nn.Linear(2, 16))
        with pytest.raises(ValueError, match="shape"):
            model.compute_loss(x, model(x))


class TestVAE:
    @pytest.mark.parametrize("mode", [True, False])
    def test_shapes_keep_the_dimension_of_draws(self, x, mode):
        model = make_vae().train(mode)
        for n_draws in (1, 4):
            output = model(x, S=n_draws)
            assert output.x_hat.shape == (5, n_draws, *SHAPE)
            assert output.z.shape == (5, n_draws, LATENT)
            assert output.mu.shape == output.log_var.shape == (5, LATENT)
        # Draws do not depend on the mode.
        assert not torch.equal(model(x).z, model(x).z)
        encoded = model.encode(x)
        assert torch.equal(encoded.z[:, 0], encoded.mu)
        assert model.encode(x, S=3, sample=True).z.shape == (5, 3, LATENT)
        assert model.decode(encoded.z).x_hat.shape == (5, 1, *SHAPE)
        assert torch.equal(model(x, sample=False).z, encoded.z)
        assert model.training is mode

    @pytest.mark.parametrize("likelihood", ["Bernoulli", LikelihoodType.BERNOULLI])
    def test_script(self, x, likelihood):
        model = make_vae()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            output = model(x, S=2)
            loss = model.compute_loss(x, output, beta=0.5, likelihood=likelihood)
            loss.objective.backward()
            optimizer.step()
            losses.append(loss.objective.item())
        assert losses[-1] < losses[0]
        targets = x.unsqueeze(1).expand_as(output.x_hat)
        entropy = nn.functional.binary_cross_entropy_with_logits(
            output.x_hat, targets, reduction="none"
        )
        terms = loss.diagnostics
        kl = kl_divergence_diag_gaussian(output.mu, output.log_var).mean()
        torch.testing.assert_close(terms["log_likelihood"], -entropy.sum((2, 3, 4)).mean())
        torch.testing.assert_close(terms["kl_divergence"], kl.detach())
        torch.testing.assert_close(terms["elbo"], terms["log_likelihood"] - 0.5 * kl.detach())
        torch.testing.assert_close(loss.objective.detach(), -terms["elbo"])
        assert not any(term.requires_grad for term in terms.values())

    def test_the_gaussian_has_variance_one_and_no_constant(self, x):
        model = make_vae()
        output = model(x, S=3)
        expected = -0.5 * (x.unsqueeze(1) - output.x_hat).square().sum((2, 3, 4)).mean()
        found = model.compute_loss(x, output).diagnostics["log_likelihood"]
        torch.testing.assert_close(found, expected.detach())

    def test_state_dict_names(self):
        assert list(make_vae().state_dict()) == [
            "encoder.1.weight",
            "encoder.1.bias",
            "decoder.0.weight",
            "decoder.0.bias",
            "decoder.2.weight",
            "decoder.2.bias",
            "sampling_layer.mu.weight",
            "sampling_layer.mu.bias",
            "sampling_layer.log_var.weight",
            "sampling_layer.log_var.bias",
        ]
        wrapped = AdaGVAE(make_vae()).state_dict()
        assert list(wrapped) == [f"vae.{name}" for name in make_vae().state_dict()]

    def test_an_unbuilt_model_takes_a_state_dict(self, x):
        trained, fresh = make_vae(), make_vae(built=False)
        fresh.load_state_dict(trained.state_dict())
        assert torch.equal(fresh.encode(x).mu, trained.encode(x).mu)

    def test_an_optimizer_made_before_build_trains_the_model(self, x):
        model = make_vae(built=False)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        model.build(x)
        before = model.sampling_layer.mu.weight.detach().clone()
        model.compute_loss(x, model(x)).objective.backward()
        optimizer.step()
        assert not torch.equal(model.sampling_layer.mu.weight, before)

    def test_build_leaves_modes_and_running_statistics_alone(self, x):
        encoder = nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d(), nn.LazyLinear(6))
        model = VAE(encoder, networks()[1], LATENT)
        model.decoder.eval()
        model.build(x + 7)
        assert torch.equal(model.encoder[1].running_mean, torch.zeros(16))
        assert model.encoder[1].training
        assert not model.decoder.training


class TestGuards:
    @pytest.mark.parametrize("n_draws", [0, -1])
    def test_at_least_one_draw(self, x, n_draws):
        model = make_vae()
        for call in (model, model._encode, lambda x, S: AdaGVAE(model)((x, x), S=S)):
            with pytest.raises(ValueError, match="S="):
                call(x, S=n_draws)

    def test_the_mean_is_one_latent(self, x):
        for call in (make_vae(), make_vae().encode):
            with pytest.raises(ValueError, match="sample=False"):
                call(x, S=2, sample=False)

    @pytest.mark.parametrize("shape", [(5, LATENT), (5, 1, LATENT + 1), (LATENT,)])
    def test_latents_have_three_dimensions(self, shape):
        with pytest.raises(ValueError, match=r"z\.unsqueeze\(1\)"):
            make_vae().decode(torch.zeros(shape))

    def test_features_are_flat(self, x):
        model = VAE(nn.Conv2d(1, 2, 3), nn.Linear(2, 16), latent_dim=2)
        with pytest.raises(ValueError, match="Flatten"):
            model(x)

    @pytest.mark.parametrize("shape", [(5, *SHAPE), (5, 1, 16), (4, 1, *SHAPE), (5, 0, *SHAPE)])
    def test_a_reconstruction_of_another_shape_is_refused(self, x, shape):
        output = make_vae()(x)
        output.x_hat = torch.zeros(shape)
        with pytest.raises(ValueError, match="x_hat has shape"):
            make_vae().compute_loss(x, output)

    @pytest.mark.parametrize("name", ["mu", "log_var"])
    def test_a_posterior_of_another_shape_is_refused(self, x, name):
        output = make_vae()(x)
        setattr(output, name, torch.zeros(5, LATENT + 1))
        with pytest.raises(ValueError, match="mu has shape"):
            make_vae().compute_loss(x, output)

    def test_unknown_likelihood(self, x):
        for model in (make_vae(), AE(*networks())):
            with pytest.raises(ValueError, match="poisson"):
                model.compute_loss(x, model(x), likelihood="poisson")

    def test_nothing_is_broadcast(self):
        with pytest.raises(ValueError, match="shape"):
            log_likelihood(torch.zeros(3, 2), torch.zeros(3, 1))

    def test_latents_and_parameters_of_the_sampling_layer(self):
        layer = FullyFactorizedGaussian(LATENT)
        with pytest.raises(ValueError, match="log_var"):
            layer.reparametrize(torch.zeros(5, 3), torch.zeros(5, 1))


class TestAdaGVAE:
    def test_script(self, x):
        model = AdaGVAE(vae=make_vae(built=False))
        model.build(x)
        pair = x, x.flip(0)
        output = model(pair, S=2)
        assert isinstance(output, AdaGVAEOutput)
        for out in (output.output1, output.output2):
            assert isinstance(out, VAEOutput)
            assert out.x_hat.shape == (5, 2, *SHAPE)
        loss = model.compute_loss(pair, output, beta=2.0, likelihood="bernoulli")
        alone = [
            model.vae.compute_loss(rows, out, beta=2.0, likelihood="bernoulli")
            for rows, out in zip(pair, (output.output1, output.output2), strict=True)
        ]
        torch.testing.assert_close(loss.objective, alone[0].objective + alone[1].objective)
        torch.testing.assert_close(loss.diagnostics["elbo"], -loss.objective.detach())
        assert sorted(loss.diagnostics) == [
            "elbo",
            "kl_divergence_x1",
            "kl_divergence_x2",
            "log_likelihood_x1",
            "log_likelihood_x2",
        ]
        loss.objective.backward()
        assert model.vae.encode(x).z.shape == (5, 1, LATENT)
        assert not isinstance(model, BaseAutoencoder)
        assert not hasattr(model, "encode")


def test_divergences_and_likelihoods_elementwise():
    zeros, ones = torch.zeros(2, 3), torch.ones(2, 3)
    torch.testing.assert_close(log_likelihood(ones, zeros), torch.full((2, 3), -0.5))
    torch.testing.assert_close(
        log_likelihood(ones, zeros, "bernoulli"), torch.full((2, 3), -math.log(2))
    )
    torch.testing.assert_close(
        kl_divergence_diag_gaussian(ones, zeros, reduce_sum=False), torch.full((2, 3), 0.5)
    )
    torch.testing.assert_close(
        kl_divergence_diag_gaussian(ones, zeros, ones, ones), torch.full((2,), 1.5 * math.exp(-1))
    )
    assert LikelihoodType("gaussian") is LikelihoodType.GAUSSIAN
