"""Numbers beside one-hot codes."""

import numpy as np
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch.distributions import Categorical, Normal

from skvae import VAEEmbedder
from skvae.models.mixed import MixedLikelihood

BLOCKS = [1, 3, 1, 2]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def rows(n, seed=0):
    """Rows of the blocks 1, 3, 1, 2."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n, 2, generator=generator)
    eye3 = torch.eye(3)[torch.randint(3, (n,), generator=generator)]
    eye2 = torch.eye(2)[torch.randint(2, (n,), generator=generator)]
    return torch.cat([numbers[:, :1], eye3, numbers[:, 1:], eye2], 1)


def settled(x, x_hat, **params):
    """A likelihood whose variances are those of a batch."""
    likelihood = MixedLikelihood(BLOCKS, **params)
    likelihood.log_prob(x, x_hat)
    return likelihood.eval()


class TestLogProb:
    @pytest.mark.parametrize("variance", ["per_feature", "shared"])
    def test_is_the_sum_over_blocks(self, variance):
        x, x_hat = rows(6), 3 * torch.randn(6, 4, 7)
        likelihood = settled(x, x_hat, variance=variance)
        std = likelihood.scale.value.sqrt().expand(2)
        y = x.unsqueeze(1)
        expected = (
            Normal(x_hat[..., 0], std[0]).log_prob(y[..., 0])
            + Categorical(logits=x_hat[..., 1:4]).log_prob(y[..., 1:4].argmax(-1))
            + Normal(x_hat[..., 4], std[1]).log_prob(y[..., 4])
            + Categorical(logits=x_hat[..., 5:]).log_prob(y[..., 5:].argmax(-1))
        )
        torch.testing.assert_close(likelihood.log_prob(x, x_hat), expected)

    def test_sums_to_one_over_codes(self):
        likelihood = MixedLikelihood([3, 2, 4])
        x_hat = 2 * torch.randn(1, 1, 9)
        eyes = [torch.eye(k) for k in (3, 2, 4)]
        total = sum(
            float(likelihood.log_prob(torch.cat([a, b, c])[None], x_hat).exp())
            for a in eyes[0]
            for b in eyes[1]
            for c in eyes[2]
        )
        assert total == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize("variance", ["per_feature", "shared"])
    def test_variances_are_those_of_greatest_likelihood(self, variance):
        x, x_hat = rows(50), torch.randn(50, 2, 7)
        x_hat[..., 4] *= 5
        likelihood = settled(x, x_hat, variance=variance)
        best, found = likelihood.log_prob(x, x_hat).mean(), likelihood.scale.value.clone()
        torch.testing.assert_close(
            MixedLikelihood(BLOCKS, variance=variance).log_prob(x, x_hat).mean(), best
        )
        for index in np.ndindex(*found.shape):
            for factor in (0.8, 1.25):
                likelihood.scale.value.copy_(found)
                likelihood.scale.value[index] *= factor
                assert likelihood.log_prob(x, x_hat).mean() < best - 0.005

    def test_each_number_has_its_own_variance_unless_shared(self):
        x, x_hat = rows(400), torch.zeros(400, 1, 7)
        x[:, 4] *= 10
        each = settled(x, x_hat).scale.value
        torch.testing.assert_close(each, x[:, [0, 4]].square().mean(0))
        shared = settled(x, x_hat, variance="shared").scale.value
        torch.testing.assert_close(shared, each.mean())

    def test_logits_of_any_size_are_finite(self):
        likelihood = MixedLikelihood([3, 2])
        x = torch.tensor([[1.0, 0, 0, 0, 1]])
        x_hat = torch.tensor([[[500.0, 0, 0, -1e4, -2e4]]], requires_grad=True)
        log_prob = likelihood.log_prob(x, x_hat)
        log_prob.sum().backward()
        torch.testing.assert_close(log_prob, torch.tensor([[-1e4]]))
        torch.testing.assert_close(x_hat.grad, torch.tensor([[[0.0, 0, 0, -1, 1]]]))

    def test_has_second_derivatives(self):
        likelihood = MixedLikelihood(BLOCKS).double().eval()
        x = rows(2).double()
        x_hat = torch.randn(2, 2, 7, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda out: likelihood.log_prob(x, out), x_hat)

    @pytest.mark.parametrize("blocks", [[1, 1, 1], [4], [2, 2]])
    def test_rows_of_one_kind_alone(self, blocks):
        likelihood = MixedLikelihood(blocks)
        x = torch.eye(sum(blocks)) if blocks == [4] else torch.zeros(3, sum(blocks))
        if blocks == [2, 2]:
            x[:, [0, 3]] = 1
        x_hat = torch.randn(len(x), 2, sum(blocks))
        assert torch.isfinite(likelihood.log_prob(x, x_hat)).all()
        assert likelihood.sample(x_hat).shape == likelihood.mean(x_hat).shape == x_hat.shape


class TestMeanAndDraws:
    def test_the_mean_has_probabilities(self):
        x_hat = torch.randn(5, 7)
        mean = MixedLikelihood(BLOCKS).mean(x_hat)
        torch.testing.assert_close(mean[:, [0, 4]], x_hat[:, [0, 4]])
        torch.testing.assert_close(mean[:, 1:4], x_hat[:, 1:4].softmax(1))
        torch.testing.assert_close(mean[:, 5:], x_hat[:, 5:].softmax(1))

    def test_draws_are_one_hot_with_the_mean_and_the_variance(self):
        x_hat = torch.tensor([[1.0, 0.0, 1.0, -1.0, -2.0, 0.5, 0.0]])
        likelihood = MixedLikelihood(BLOCKS)
        likelihood.scale.value.copy_(torch.tensor([4.0, 0.25]))
        draws = likelihood.sample(x_hat.expand(20_000, 7))
        likelihood.check(draws)
        torch.testing.assert_close(draws.mean(0), likelihood.mean(x_hat)[0], atol=0.05, rtol=0)
        torch.testing.assert_close(
            draws[:, [0, 4]].var(0), torch.tensor([4.0, 0.25]), atol=0, rtol=0.04
        )

    def test_draws_keep_latents_apart(self):
        x_hat = torch.zeros(2, 3, 7)
        x_hat[0, 1, 2] = x_hat[1, 2, 3] = 1e3
        draws = MixedLikelihood(BLOCKS).sample(x_hat)
        assert draws.shape == (2, 3, 7)
        assert draws[0, 1, 2] == draws[1, 2, 3] == 1

    def test_a_start_of_the_frequencies(self):
        x = rows(200)
        likelihood = MixedLikelihood(BLOCKS)
        torch.testing.assert_close(
            likelihood.mean(likelihood.start(x)), x.mean(0), atol=0.01, rtol=0
        )

    def test_a_level_without_rows_starts_finite(self):
        x = torch.tensor([[1.0, 0.0]]).expand(10, 2)
        assert torch.isfinite(MixedLikelihood([2]).start(x)).all()

    def test_double_precision(self):
        x, x_hat = rows(3).double(), torch.randn(3, 1, 7, dtype=torch.float64)
        likelihood = MixedLikelihood(BLOCKS).double()
        for value in (
            likelihood.log_prob(x, x_hat),
            likelihood.mean(x_hat),
            likelihood.sample(x_hat),
        ):
            assert value.dtype == torch.float64


class TestChecks:
    @pytest.mark.parametrize(
        ("column", "value", "message"),
        [
            (2, 1.0, r"Columns 1 to 3 are the one-hot code blocks\[1\]=3, but row 4 holds"),
            (5, 0.3, r"Columns 5 to 6 are the one-hot code blocks\[3\]=2, but row 4 holds"),
            (6, torch.nan, r"Columns 5 to 6 .* expected a single 1. Encode with OneHotEncoder"),
        ],
    )
    def test_rows_that_are_not_one_hot_are_named(self, column, value, message):
        x = rows(8)
        x[4, 1:4] = torch.tensor([1.0, 0, 0])
        MixedLikelihood(BLOCKS).check(x)
        x[4, column] = value
        with pytest.raises(ValueError, match=message):
            MixedLikelihood(BLOCKS).check(x)

    def test_rows_without_a_level_are_refused(self):
        with pytest.raises(ValueError, match=r"row 0 holds \[0.0, 0.0\]"):
            MixedLikelihood([2]).check(torch.zeros(3, 2))

    @pytest.mark.parametrize("shape", [(4, 8), (4, 7, 1)])
    def test_rows_of_another_width_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"blocks=\[1, 3, 1, 2\] add up to 7 columns, found"):
            MixedLikelihood(BLOCKS).check(torch.zeros(shape))

    @pytest.mark.parametrize("blocks", [[], [1, 0], [2.5], [-1], ["a"]])
    def test_blocks_are_numbers_above_zero(self, blocks):
        with pytest.raises(ValueError, match="must be whole numbers above 0: 1 for a number"):
            MixedLikelihood(blocks)

    def test_the_kind_of_variance_is_known(self):
        with pytest.raises(ValueError, match="variance='each' is neither"):
            MixedLikelihood([1], variance="each")


def test_a_table_through_the_embedder():
    """Three clusters decide number and code: both come back from two latents, and samples agree."""
    rng = np.random.default_rng(0)
    which = rng.integers(3, size=1200)
    number = 100 * which + rng.normal(size=1200)
    level = np.array(list("abc"))[which]
    noise = rng.choice(["x", "y"], p=[0.8, 0.2], size=1200)
    table = np.array([number, level, noise], dtype=object).T
    encoder = make_column_transformer(
        (StandardScaler(), [0]), (OneHotEncoder(sparse_output=False), [1, 2])
    )
    X = encoder.fit_transform(table)
    embedder = VAEEmbedder(
        2, likelihood=MixedLikelihood([1, 3, 2]), max_epochs=30, random_state=0
    ).fit(X)
    back = embedder.reconstruct(X)
    np.testing.assert_allclose(back[:, 1:4].sum(1), 1, atol=1e-6)
    assert (back[:, 1:4].argmax(1) == which).mean() > 0.98
    assert np.mean((back[:, 0] - X[:, 0]) ** 2) < 0.02
    drawn = embedder.sample(2000, noise=True, random_state=0)
    embedder.model_.likelihood.check(torch.from_numpy(drawn))
    assert drawn[:, 4].mean() == pytest.approx(0.8, abs=0.04)
    assert (drawn[:, 1:4].mean(0) > 0.2).all()
    nearest = abs(drawn[:, :1] - [X[which == k, 0].mean() for k in range(3)])
    assert (nearest.argmin(1) == drawn[:, 1:4].argmax(1)).mean() > 0.75
    assert np.isfinite(embedder.score_samples(X[:50])).all()
