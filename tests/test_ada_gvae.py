"""Pairs of rows that share factors: which latents are averaged, and how pairs are found."""

import math
import pickle

import pytest
import torch
from torch import nn

from skvae.models import VAE, AdaGVAE, BetaVAE, StepContext
from skvae.models.ada_gvae import same_label_partners
from skvae.training import TrainingConfig, train

N_FEATURES = 6


def make(latent_dim=3, cls=VAE, **params):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(N_FEATURES, 8), nn.Tanh())
    model = AdaGVAE(cls(encoder, nn.Linear(latent_dim, N_FEATURES), latent_dim, **params))
    model.build(torch.zeros(2, N_FEATURES))
    return model


@pytest.fixture
def x():
    return 3 * torch.randn(8, N_FEATURES, generator=torch.Generator().manual_seed(1))


class FixedLayer(nn.Module):
    """Gives the rows of a table as the posterior's parameters: mean, then log variance."""

    def get_params(self, x):
        return x[:, :3], x[:, 3:]

    def reparametrize(self, mu, log_var, S=1):
        return mu.unsqueeze(1).expand(-1, S, -1)


class TestGrouping:
    def encode(self, first, second):
        model = AdaGVAE(VAE(nn.Identity(), nn.Identity(), 3))
        model.vae.sampling_layer = FixedLayer()
        return model._encode_pair(torch.tensor([first]), torch.tensor([second]))

    def test_latents_nearer_than_halfway_share_mean_and_variance(self):
        first, second = self.encode(
            # Divergences of 0.02, 2 and 0.5 nats; halfway is 1.01.
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.2, 2.0, 1.0, 0.0, 0.0, 0.0],
        )
        torch.testing.assert_close(first.mu, torch.tensor([[0.1, 0.0, 0.5]]))
        torch.testing.assert_close(second.mu, torch.tensor([[0.1, 2.0, 0.5]]))

    def test_variances_are_averaged_not_their_logarithms(self):
        log_var = 2.0
        first, second = self.encode(
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 50.0, 0.0, log_var, 0.0, 0.0]
        )
        expected = torch.tensor(math.log(0.5 * (1 + math.exp(log_var))))
        for encoded in (first, second):
            torch.testing.assert_close(encoded.log_var[0, 0], expected)
            assert encoded.log_var[0, 1] == 0

    def test_equal_rows_share_nothing_that_differs(self, x):
        model = make()
        first, second = model._encode_pair(x, x)
        own = model.vae._encode(x)
        for encoded in (first, second):
            torch.testing.assert_close(encoded.mu, own.mu)
            torch.testing.assert_close(encoded.log_var, own.log_var)

    def test_in_evaluation_each_row_has_its_own_posterior(self, x):
        model = make()
        pair = x, x.flip(0)
        own = model.vae._encode(x).mu
        assert not torch.equal(model(pair).output1.mu, own)
        assert torch.equal(model.eval()(pair).output1.mu, own)


class TestPartners:
    def test_are_the_next_of_the_label_around_a_circle(self):
        y = torch.tensor([2, 0, 2, 1, 0, 2])
        assert same_label_partners(y).tolist() == [2, 4, 5, 3, 1, 0]

    def test_of_any_labels(self):
        y = torch.randint(0, 7, (200,), generator=torch.Generator().manual_seed(0))
        partners = same_label_partners(y)
        assert torch.equal(y[partners], y)
        assert torch.equal(partners.sort().values, torch.arange(200))
        assert (partners != torch.arange(200)).all()

    def test_labels_must_be_one_a_row(self, x):
        with pytest.raises(ValueError, match=r"\(8, 2\)"):
            make().training_loss((x, torch.zeros(8, 2)), StepContext())


class TestTrainingLoss:
    def pairs_of(self, model, batch, monkeypatch):
        seen = []
        forward = model.forward
        monkeypatch.setattr(model, "forward", lambda pair: seen.append(pair) or forward(pair))
        model.training_loss(batch, StepContext())
        return seen[0]

    def test_pairs_that_are_given(self, x, monkeypatch):
        second = x + 1
        first, found = self.pairs_of(make(), (x, second), monkeypatch)
        assert first is x
        assert found is second

    def test_pairs_of_one_label(self, x, monkeypatch):
        y = torch.tensor([0, 1, 0, 1, 2, 0, 1, 0])
        _, found = self.pairs_of(make(), (x, y), monkeypatch)
        assert torch.equal(found, x[[2, 3, 5, 6, 4, 7, 1, 0]])

    def test_pairs_of_neighbours(self, x, monkeypatch):
        _, found = self.pairs_of(make(), (x,), monkeypatch)
        assert torch.equal(found, torch.cat([x[1:], x[:1]]))

    def test_is_in_nats_a_row(self, x):
        model = make().eval()
        pair = x, x.flip(0)
        torch.manual_seed(3)
        whole = model.compute_loss(pair, model(pair))
        torch.manual_seed(3)
        loss = model.training_loss(pair, StepContext())
        torch.testing.assert_close(loss.objective, 0.5 * whole.objective)
        terms = loss.diagnostics
        torch.testing.assert_close(terms["elbo"], -loss.objective.detach())
        bound = terms["log_likelihood"] - terms["kl_divergence"]
        torch.testing.assert_close(bound, terms["elbo"])

    def test_warm_up_reaches_the_vae(self, x):
        model = make()
        loss = model.training_loss((x,), StepContext(beta=0.0))
        expected = -loss.diagnostics["log_likelihood"]
        torch.testing.assert_close(loss.objective.detach(), expected)

    def test_labels_go_through_the_training_loop(self, x):
        model = make()
        y = torch.tensor([0, 1, 0, 1, 2, 0, 1, 0])
        config = TrainingConfig(n_epochs=30, batch_size=4, warmup_steps=0)
        history = train(model, (x, y), config, generator=torch.Generator().manual_seed(0)).history
        assert history[-1]["loss"] < history[0]["loss"]

    def test_the_weight_of_the_wrapped_model_counts(self, x):
        model = make(cls=BetaVAE, beta=0.0)
        loss = model.training_loss((x,), StepContext())
        expected = -loss.diagnostics["log_likelihood"]
        torch.testing.assert_close(loss.objective.detach(), expected)


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_a_single_row_in_double_precision(latent_dim, x):
    model = pickle.loads(pickle.dumps(make(latent_dim).double()))
    loss = model.training_loss((x[:1].double(),), StepContext())
    gradients = torch.autograd.grad(loss.objective, list(model.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_what_an_embedder_asks_for_is_the_vaes(x):
    model, z = make(), torch.zeros(4, 3)
    assert torch.equal(model.embed(x), model.vae.embed(x))
    assert torch.equal(model.decode_mean(z), model.vae.decode_mean(z))
    assert torch.equal(model.interpolate_latents(z, z + 1, 0.5), z + 0.5)
    assert model.draw_latents(x).shape == (8, 3)
    assert model.decode_draw(z).shape == (4, N_FEATURES)
    assert model.log_weights(x, 5).shape == (8, 5)
    assert model.has_density
    assert model.default_sampler == "normal"
    assert model.latent_dim == 3
    assert model.likelihood is model.vae.likelihood
