"""Particles that look ahead: the same distribution with weights that differ less."""

import itertools

import numpy as np
import pytest
import torch

from skvae.models import AutoregressiveTVAE
from skvae.models.given import draw_given
from skvae.models.lookahead import Lookahead, Pilots
from skvae.models.particles import Evidence

SIZES = [2, 3, 2, 3]
N = 40_000


def make_model(**params):
    """Return a model with random weights, small enough to enumerate, whose latents matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoregressiveTVAE(
            SIZES,
            [None] * len(SIZES),
            [np.ones(n) for n in SIZES],
            latent_dim=2,
            hidden=(8, 8),
            column_hidden=(8, 8),
            embedding_dim=4,
            **params,
        )
        for parameter in model.parameters():
            parameter.data.normal_(std=0.6)
        if not model.any_order:
            model.causal.project_parameters()
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return make_model(first_columns=(2,))


@pytest.fixture(scope="module")
def joint(model):
    """p(x) of every row, with latents integrated by Monte Carlo."""
    z = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1))
    rows = torch.tensor(list(itertools.product(*map(range, SIZES))))
    prob = []
    with torch.no_grad():
        for row in rows:
            x = (row.expand(len(z), -1),)
            prob.append(model.log_likelihood(x, model.decode(z, x)).double().exp().mean())
    return rows, torch.stack(prob)


def make_pilots(model, n=20_000, *, with_latents=True):
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(n, 2, generator=generator)
    codes, _ = model.sample_columns(z, generator=generator)
    return Pilots(z if with_latents else None, codes)


def draw(model, evidence, pilots=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.full((len(evidence),), N)
    return draw_given(
        model,
        torch.randn(N * len(evidence), 2, generator=generator),
        sizes,
        evidence,
        sizes,
        generator=generator,
        lookahead=None if pilots is None else Lookahead(model, pilots, evidence),
    )


def distance(codes, joint, agrees):
    """Total variation of drawn rows from the conditional distribution."""
    rows, prob = joint
    expected = prob * agrees
    found = torch.stack([(codes == row).all(1).double().mean() for row in rows])
    return float((found - expected / expected.sum()).abs().sum() / 2)


def only(column, code):
    codes = torch.full((1, len(SIZES)), -1)
    codes[0, column] = code
    return Evidence(codes, torch.zeros(1, len(SIZES)))


class TestDistribution:
    @pytest.mark.parametrize("with_latents", [True, False])
    @pytest.mark.parametrize("code", [0, 1, 2])
    def test_it_is_the_conditional_one(self, model, joint, code, with_latents):
        pilots = make_pilots(model, with_latents=with_latents)
        draws = draw(model, only(3, code), pilots)
        assert distance(draws.codes, joint, joint[0][:, 3] == code) < 0.015

    def test_two_known_columns_and_an_interval(self, model, joint):
        evidence = only(3, 1)
        low = torch.tensor([[0.0, 0.5, 0.0]])
        evidence.intervals[1] = low, torch.tensor([[1.0, 0.5, 1.0]])  # not the middle code
        rows, _ = joint
        draws = draw(model, evidence, make_pilots(model))
        assert distance(draws.codes, joint, (rows[:, 3] == 1) & (rows[:, 1] != 1)) < 0.015

    def test_groups_of_other_evidence(self, model, joint):
        evidence = Evidence(torch.tensor([[-1, -1, -1, 0], [1, -1, -1, 2]]), torch.zeros(2, 4))
        draws = draw(model, evidence, make_pilots(model))
        rows, _ = joint
        assert distance(draws.codes[:N], joint, rows[:, 3] == 0) < 0.015
        agrees = (rows[:, 0] == 1) & (rows[:, 3] == 2)
        assert distance(draws.codes[N:], joint, agrees) < 0.015

    def test_pilots_that_mislead_are_weighed_out(self, model, joint):
        pilots = make_pilots(model, 500)
        pilots.codes[:, 0] = pilots.codes[torch.randperm(500), 0]
        pilots.codes[:, 1] = 0
        draws = draw(model, only(3, 2), pilots)
        assert distance(draws.codes, joint, joint[0][:, 3] == 2) < 0.02

    def test_without_a_pilot_that_agrees_they_are_blind(self, model, joint):
        pilots = make_pilots(model)
        keep = pilots.codes[:, 3] != 1
        pilots = Pilots(pilots.z[keep], pilots.codes[keep])
        draws = draw(model, only(3, 1), pilots)
        assert distance(draws.codes, joint, joint[0][:, 3] == 1) < 0.015


def test_a_model_of_any_order_draws_as_it_does_blindly():
    model = make_model(any_order=True)
    # The first group knows nothing of a column that the second does.
    evidence = Evidence(torch.tensor([[-1, -1, -1, 0], [1, -1, -1, 2]]), torch.zeros(2, 4))
    evidence.intervals[1] = torch.tensor([[0.0, 0.5, 0.0]]), torch.tensor([[1.0, 0.5, 0.4]])
    rows = torch.tensor(list(itertools.product(*map(range, SIZES))))
    pilots = make_pilots(model)
    blind, ahead = draw(model, evidence), draw(model, evidence, pilots)
    for group in range(2):
        own = slice(N * group, N * (group + 1))
        shares = [
            torch.stack([(draws.codes[own] == row).all(1).double().mean() for row in rows])
            for draws in (blind, ahead)
        ]
        assert (shares[0] - shares[1]).abs().sum() / 2 < 0.02
    assert (ahead.effective > blind.effective).all()


def test_more_particles_are_effective(model):
    pilots = make_pilots(model)
    for code in range(3):
        blind = draw(model, only(3, code)).effective / (4 * N)  # they double twice
        ahead = draw(model, only(3, code), pilots).effective / N
        assert ahead > 0.8
        assert ahead > blind + 0.05


def test_a_part_of_the_groups_looks_as_all_do(model):
    evidence = Evidence(torch.tensor([[-1, -1, -1, 0], [-1, -1, -1, 2]]), torch.zeros(2, 4))
    both = Lookahead(model, make_pilots(model), evidence)
    alone = Lookahead(model, make_pilots(model), evidence.take(slice(1, 2)))
    part = both.take(slice(1, 2))
    torch.testing.assert_close(part.odds_of(1), alone.odds_of(1))
    z, owner = torch.randn(5, 2), torch.zeros(5, dtype=torch.int64)
    torch.testing.assert_close(part.steer(z, owner), alone.steer(z, owner))
    assert part.n_agree == alone.n_agree
