"""The parts of the divergence, against quadrature and against a VAE."""

import itertools
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skvae.models import VAE, BetaTCVAE, FactorVAE, StepContext, VAEOutput
from skvae.models import total_correlation as module
from skvae.models.core import kl_divergence_diag_gaussian
from skvae.models.total_correlation import aggregate_log_density, permute_elements
from skvae.training import TrainingConfig, train

N_FEATURES = 6


def make(cls, latent_dim=3, **params):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(N_FEATURES, 8), nn.Tanh())
    model = cls(encoder, nn.Linear(latent_dim, N_FEATURES), latent_dim, **params)
    model.build(torch.zeros(2, N_FEATURES))
    return model


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def x():
    return 3 * torch.randn(9, N_FEATURES, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mixture():
    """Five Gaussians in a row along the diagonal: means and log variances."""
    mu = torch.tensor([[-2.0, -1.8], [-1.0, -1.1], [0.0, 0.2], [1.1, 0.9], [2.0, 2.1]]).double()
    log_var = torch.tensor([[-2.0, -1.5], [-1.0, -2.0], [-1.5, -1.5], [-2.0, -1.0], [-1.2, -1.8]])
    return mu, log_var.double()


def total_correlation_by_quadrature(mu, log_var):
    grid = torch.linspace(-8, 8, 1201, dtype=torch.float64)
    step = (grid[1] - grid[0]).item()
    normal = torch.distributions.Normal(mu, torch.exp(0.5 * log_var))
    # (nodes, components, elements)
    density = normal.log_prob(grid[:, None, None]).exp()
    joint = torch.einsum("ic,jc->ij", density[..., 0], density[..., 1]) / len(mu)
    first, second = joint.sum(1) * step, joint.sum(0) * step
    product = first[:, None] * second
    ratio = torch.where(joint > 0, torch.log(joint.clamp(min=1e-300) / product), 0)
    return (joint * ratio).sum().item() * step**2


class TestAggregateDensity:
    def draws(self, mu, log_var, n):
        noise = torch.randn(len(mu), n, mu.shape[1], dtype=mu.dtype)
        return mu.unsqueeze(1) + torch.exp(0.5 * log_var).unsqueeze(1) * noise

    def test_of_all_rows_has_the_total_correlation_of_the_mixture(self, mixture):
        expected = total_correlation_by_quadrature(*mixture)
        z = self.draws(*mixture, 8000)
        joint, marginals = aggregate_log_density(z, *mixture, n_rows=5)
        # The standard error of 40,000 draws is under 0.003.
        assert expected > 0.5
        assert (joint - marginals).mean().item() == pytest.approx(expected, abs=0.015)

    def test_of_all_rows_is_the_even_mixture(self, mixture):
        mu, log_var = mixture
        z = self.draws(mu, log_var, 3)
        components = torch.distributions.Normal(mu, torch.exp(0.5 * log_var))
        logs = components.log_prob(z.unsqueeze(2))
        joint, marginals = aggregate_log_density(z, mu, log_var, n_rows=5)
        expected = logs.sum(-1).logsumexp(-1) - math.log(5)
        torch.testing.assert_close(joint, expected)
        expected = (logs.logsumexp(2) - math.log(5)).sum(-1)
        torch.testing.assert_close(marginals, expected)

    def test_of_a_stratified_batch_is_unbiased(self, mixture):
        mu, log_var = mixture
        z = self.draws(mu, log_var, 4)
        exact = aggregate_log_density(z, mu, log_var, n_rows=5)[0][0].exp()
        batches = [[0, *rest] for rest in itertools.combinations(range(1, 5), 2)]
        estimates = [
            aggregate_log_density(z[rows], mu[rows], log_var[rows], n_rows=5)[0][0].exp()
            for rows in batches
        ]
        torch.testing.assert_close(torch.stack(estimates).mean(0), exact)

    def test_of_a_weighted_batch(self, mixture):
        mu, log_var = mixture
        z = self.draws(mu, log_var, 3)
        even, _ = aggregate_log_density(z, mu, log_var, n_rows=5)
        weighted, _ = aggregate_log_density(z, mu, log_var, n_rows=40, stratified=False)
        # 1 / (5 * 40) for each, in place of 1 / 5.
        torch.testing.assert_close(weighted, even - math.log(40))

    def test_in_pieces_is_the_same(self, mixture, monkeypatch):
        z = self.draws(*mixture, 3)
        whole = aggregate_log_density(z, *mixture, n_rows=20)
        monkeypatch.setattr(module, "MAX_PAIR_ELEMENTS", 64)
        for one, other in zip(aggregate_log_density(z, *mixture, n_rows=20), whole, strict=True):
            torch.testing.assert_close(one, other)


class TestBetaTCVAE:
    def test_of_weights_one_is_a_vae(self, x):
        vae, model = make(VAE), make(BetaTCVAE, alpha=1.0, beta=1.0, gamma=1.0)
        output = vae(x)
        found, expected = model.compute_loss(x, output), vae.compute_loss(x, output)
        torch.testing.assert_close(found.objective, expected.objective)
        assert found.diagnostics["elbo"] == expected.diagnostics["elbo"]

    @pytest.mark.parametrize("stratified", [True, False])
    def test_the_parts_sum_to_the_divergence_in_expectation(self, mixture, stratified):
        mu, log_var = mixture
        model = make(BetaTCVAE, latent_dim=2, stratified=stratified).double()
        z = model.sampling_layer.reparametrize(mu, log_var, S=8000)
        output = VAEOutput(torch.zeros(5, 8000, N_FEATURES), z, mu, log_var)
        kl = kl_divergence_diag_gaussian(mu, log_var).mean()
        _, parts = model.penalty(output, kl, StepContext(n_rows=50))
        # The standard error of 40,000 draws is about 0.005.
        assert sum(parts.values()).item() == pytest.approx(kl.item(), abs=0.04)

    def test_each_part_has_its_weight(self, x):
        models = {
            name: make(BetaTCVAE, **{"alpha": 1.0, "beta": 1.0, "gamma": 1.0, name: 4.0})
            for name in ("alpha", "beta", "gamma")
        }
        output = make(VAE)(x)
        parts = {"alpha": "mutual_information", "beta": "total_correlation"}
        parts["gamma"] = "dimension_wise_kl"
        for name, model in models.items():
            loss = model.compute_loss(x, output, context=StepContext(n_rows=100))
            terms = loss.diagnostics
            expected = -terms["elbo"] + 3 * terms[parts[name]]
            torch.testing.assert_close(loss.objective.detach(), expected)

    def test_one_latent_has_no_total_correlation(self, x):
        model = make(BetaTCVAE, latent_dim=1)
        terms = model.training_loss((x,), StepContext(n_rows=30)).diagnostics
        assert terms["total_correlation"].item() == pytest.approx(0, abs=1e-5)

    @pytest.mark.parametrize("stratified", [True, False])
    @pytest.mark.parametrize("n_rows", [1, 50])
    def test_a_single_row(self, x, stratified, n_rows):
        model = make(BetaTCVAE, stratified=stratified)
        loss = model.training_loss((x[:1],), StepContext(n_rows=n_rows))
        for gradient in torch.autograd.grad(loss.objective, list(model.parameters())):
            assert torch.isfinite(gradient).all()
        if stratified:
            assert loss.diagnostics["total_correlation"] == 0


class TestFactorVAE:
    def test_without_weight_is_a_vae(self, x):
        vae, model = make(VAE), make(FactorVAE, gamma=0.0)
        output = vae(x)
        found, expected = model.compute_loss(x, output), vae.compute_loss(x, output)
        torch.testing.assert_close(found.objective, expected.objective)

    def test_the_logit_of_the_latents_is_penalised(self, x):
        model = make(FactorVAE, gamma=7.0)
        output = model(x)
        loss = model.compute_loss(x, output)
        logits, _ = model.discriminator(output.z[:, 0])
        torch.testing.assert_close(loss.diagnostics["total_correlation"], logits.mean().detach())
        expected = -loss.diagnostics["elbo"] + 7 * logits.mean()
        torch.testing.assert_close(loss.objective, expected)

    def test_the_adversary_tells_latents_from_shuffled_ones_of_the_other_half(self, x, monkeypatch):
        model = make(FactorVAE)
        seen = []

        def remember(z):
            seen.append(z)
            return z + 100

        monkeypatch.setattr(module, "permute_elements", remember)
        output = model(x)
        loss = model.compute_loss(x, output)
        torch.testing.assert_close(seen[0], output.z[4:, 0].detach())
        real, _ = model.discriminator(output.z[:4, 0])
        fake, _ = model.discriminator(output.z[4:, 0] + 100)
        expected = 0.5 * (
            F.binary_cross_entropy_with_logits(real, torch.ones(4))
            + F.binary_cross_entropy_with_logits(fake, torch.zeros(5))
        )
        torch.testing.assert_close(loss.players["adversary"], expected)

    def test_its_estimate_is_the_total_correlation_of_gaussian_latents(self):
        model = make(FactorVAE, latent_dim=2)
        correlation = 0.8
        factor = torch.linalg.cholesky(torch.tensor([[1.0, correlation], [correlation, 1.0]]))
        optimizer = torch.optim.Adam(model.discriminator.parameters(), lr=5e-3)

        def loss_of(n_rows):
            z = (torch.randn(n_rows, 2) @ factor.T).unsqueeze(1)
            zeros = torch.zeros(n_rows, 2)
            output = VAEOutput(torch.zeros(n_rows, 1, N_FEATURES), z, zeros, zeros)
            return model.compute_loss(torch.zeros(n_rows, N_FEATURES), output)

        for _ in range(150):
            optimizer.zero_grad()
            loss_of(512).players["adversary"].backward()
            optimizer.step()
        found = loss_of(20_000).diagnostics["total_correlation"].item()
        # 0.51; of the wrong sign, or without shuffling, it is far away.
        assert found == pytest.approx(-0.5 * math.log(1 - correlation**2), abs=0.12)

    @pytest.mark.parametrize("n_rows", [1, 2])
    def test_the_adversary_sits_out_where_there_is_nothing_to_shuffle(self, x, n_rows):
        model = make(FactorVAE)
        loss = model.training_loss((x[:n_rows],), StepContext())
        assert loss.players == {"adversary": None}
        assert torch.isfinite(loss.objective)

    def test_embeddings_keep_all_rows_in_order(self, x):
        model = make(FactorVAE)
        whole = model.embed(x)
        assert len(whole) == len(x)
        rows = torch.cat([model.embed(row.unsqueeze(0)) for row in x])
        torch.testing.assert_close(whole, rows)

    def test_the_adversarys_loss_does_not_move_the_encoder(self, x):
        model = make(FactorVAE)
        adversary = model.training_loss((x,), StepContext()).players["adversary"]
        others = [*model.encoder.parameters(), *model.sampling_layer.parameters()]
        found = torch.autograd.grad(adversary, others, allow_unused=True, retain_graph=True)
        assert found == (None,) * len(others)
        own = torch.autograd.grad(adversary, model.player_parameters()["adversary"])
        assert all(gradient.abs().sum() > 0 for gradient in own)

    def test_in_training_encoder_and_adversary_mind_their_own_losses(self, x):
        def trained(factor):
            class Louder(FactorVAE):
                def training_loss(self, batch, context):
                    loss = super().training_loss(batch, context)
                    loss.players["adversary"] = factor * loss.players["adversary"]
                    return loss

            model = make(Louder)
            config = TrainingConfig(n_epochs=5, batch_size=9, warmup_steps=0)
            train(model, (x,), config, generator=torch.Generator().manual_seed(0))
            return model.state_dict()

        quiet, loud = trained(0.0), trained(1.0)
        moved = {name for name in quiet if not torch.equal(quiet[name], loud[name])}
        start = make(FactorVAE).state_dict()
        kept = {name for name in quiet if torch.equal(quiet[name], start[name])}
        discriminator = {name for name in quiet if name.startswith("discriminator")}
        # Nothing of the objective reaches a discriminator whose own loss is silent.
        assert discriminator == kept
        assert discriminator <= moved


def test_elements_are_shuffled_apart():
    z = torch.arange(3000.0).view(1000, 3)
    shuffled = permute_elements(z)
    assert torch.equal(shuffled.sort(0).values, z)
    rows = shuffled - shuffled[:, :1]
    assert (rows[:, 1] == 1).float().mean() < 0.02


@pytest.mark.parametrize("cls", [BetaTCVAE, FactorVAE])
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_pickled_and_in_double_precision(cls, latent_dim, x):
    model = pickle.loads(pickle.dumps(make(cls, latent_dim).double()))
    loss = model.training_loss((x.double(),), StepContext(n_rows=20))
    assert loss.objective.dtype == torch.float64
    assert torch.isfinite(loss.objective)
