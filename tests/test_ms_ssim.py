"""Structural similarity as a likelihood, against a plain computation pixel by pixel."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skvae import VAEEmbedder
from skvae.models.ms_ssim import SCALE_WEIGHTS, MSSSIMLikelihood

WEIGHTS = np.array(SCALE_WEIGHTS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def windowed(image, row, column, radius):
    """Weights of the window around a pixel, cut off at the border."""
    rows, columns = np.indices(image.shape)
    down, right = rows - row, columns - column
    bell = np.exp(-(down**2 + right**2) / (2 * 1.5**2))
    bell[(abs(down) > radius) | (abs(right) > radius)] = 0
    return bell / bell.sum()


def maps(x, y, window_size=11):
    """Luminance and contrast-structure of each pixel (Wang et al. 2004, eq. 6, 9 and 10)."""
    luminance, structure = np.empty(x.shape), np.empty(x.shape)
    for pixel in np.ndindex(*x.shape):
        w = windowed(x, *pixel, window_size // 2)
        mx, my = (w * x).sum(), (w * y).sum()
        vx, vy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum()
        covariance = (w * (x - mx) * (y - my)).sum()
        luminance[pixel] = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        structure[pixel] = (2 * covariance + 9e-4) / (vx + vy + 9e-4)
    return luminance, structure


def halved(image):
    height, width = (2 * (size // 2) for size in image.shape)
    return image[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))


def noisy_pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random(shape)
    return x, 0.8 * x + 0.1 + 0.1 * rng.normal(size=shape)


def similarity(likelihood, x, y):
    x, y = (torch.as_tensor(image)[None] for image in (x, y))
    return float(likelihood.double().similarity(x, y[:, None]))


class TestSimilarity:
    @pytest.mark.parametrize("window_size", [3, 11])
    def test_of_one_scale_is_the_mean_over_pixels(self, window_size):
        x, y = noisy_pair((9, 12))
        luminance, structure = maps(x, y, window_size)
        likelihood = MSSSIMLikelihood((9, 12), window_size=window_size, data_range=(0, 1))
        if window_size == 11:
            assert len(likelihood.scale_weights) == 1
            expected = (luminance * structure).mean()
        else:
            assert len(likelihood.scale_weights) == 2
            coarse = np.multiply(*maps(halved(x[:8]), halved(y[:8]), 3))
            # The ninth row is a row of the coarser scale by itself.
            x5, y5 = (np.vstack([halved(i[:8]), i[8:].reshape(1, 6, 2).mean(2)]) for i in (x, y))
            coarse = np.multiply(*maps(x5, y5, 3)).mean()
            share = WEIGHTS[:2] / WEIGHTS[:2].sum()
            expected = structure.mean() ** share[0] * coarse ** share[1]
        assert similarity(likelihood, x, y) == pytest.approx(expected, abs=1e-6)

    def test_of_several_takes_luminance_at_the_coarsest_alone(self):
        x, y = noisy_pair((24, 28))
        likelihood = MSSSIMLikelihood((24, 28), window_size=5, data_range=(0, 1))
        expected = 1.0
        share = WEIGHTS[:3] / WEIGHTS[:3].sum()
        for scale in range(3):
            luminance, structure = maps(x, y, 5)
            pooled = (structure * luminance if scale == 2 else structure).mean()
            expected *= pooled ** share[scale]
            x, y = halved(x), halved(y)
        x, y = noisy_pair((24, 28))
        assert similarity(likelihood, x, y) == pytest.approx(expected, abs=1e-6)

    def test_of_channels_is_their_mean(self):
        x, y = noisy_pair((3, 16, 16))
        both = similarity(MSSSIMLikelihood((3, 16, 16), data_range=(0, 1)), x, y)
        each = MSSSIMLikelihood((16, 16), data_range=(0, 1))
        assert both == pytest.approx(
            np.mean([similarity(each, *pair) for pair in zip(x, y, strict=True)])
        )

    @pytest.mark.parametrize(
        ("shape", "n_scales"),
        [
            ((1, 8, 8), 1),
            ((1, 28, 28), 2),
            ((3, 64, 50), 3),
            ((1, 176, 176), 5),
            ((1, 900, 900), 5),
            ((2, 1, 1), 1),
            ((1, 3, 40), 1),
        ],
    )
    def test_takes_as_many_scales_as_leave_the_window_room(self, shape, n_scales):
        likelihood = MSSSIMLikelihood(shape)
        assert len(likelihood.scale_weights) == n_scales
        assert sum(likelihood.scale_weights) == pytest.approx(1)

    @pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 13, 30), (2, 1, 1), (1, 1, 25)])
    def test_of_equal_images_is_one(self, shape):
        x = torch.rand(4, *shape)
        likelihood = MSSSIMLikelihood(shape)
        torch.testing.assert_close(likelihood.similarity(x, x[:, None]), torch.ones(4, 1))

    def test_is_of_each_image_by_itself(self):
        x, x_hat = torch.rand(5, 1, 8, 8), torch.rand(5, 3, 1, 8, 8)
        likelihood = MSSSIMLikelihood((1, 8, 8)).eval()
        together = likelihood.log_prob(x, x_hat)
        assert together.shape == (5, 3)
        alone = likelihood.log_prob(x[2:3], x_hat[2:3, 1:2])
        torch.testing.assert_close(together[2:3, 1:2], alone)

    def test_opposite_images_are_worse_than_unrelated_ones_and_neither_is_nan(self):
        x = torch.rand(20, 1, 8, 8)
        likelihood = MSSSIMLikelihood((1, 8, 8), data_range=(0, 1))
        unrelated = likelihood.similarity(x, torch.rand(20, 1, 1, 8, 8))
        negative = likelihood.similarity(x, 1 - x[:, None])
        inverted = likelihood.similarity(x, -x[:, None])
        assert unrelated.mean() > 0.02
        assert (negative > 0).all() and (negative < 0.01).all()
        # Both luminance and structure are negative here: their product must not be a likeness.
        assert (inverted > 0).all() and (inverted < 0.01).all()


class TestGradient:
    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 24, 30)])
    @pytest.mark.parametrize("kind", ["flat", "negative", "equal", "far"])
    def test_is_finite_and_leads_towards_the_image(self, shape, kind):
        x = torch.rand(6, *shape)
        start = {"flat": 0 * x + 0.5, "negative": 1 - x, "equal": x, "far": 1e3 * x}[kind]
        x_hat = start.unsqueeze(1).clone().requires_grad_()
        likelihood = MSSSIMLikelihood(shape, data_range=(0, 1))
        likelihood.log_prob(x, x_hat).sum().backward()
        assert torch.isfinite(x_hat.grad).all()
        if kind != "equal":
            assert ((x - start) * x_hat.grad[:, 0]).flatten(1).sum(1).min() > 0

    def test_is_that_of_differences(self):
        likelihood = MSSSIMLikelihood((2, 8, 6), window_size=3).double().eval()
        x = torch.rand(2, 2, 8, 6, dtype=torch.float64)
        x_hat = torch.rand(2, 2, 2, 8, 6, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda out: likelihood.log_prob(x, out), x_hat)


class TestEnergy:
    def test_weighs_similarity_and_absolute_errors(self):
        likelihood = MSSSIMLikelihood((8, 8), weight=50.0, pixel_share=0.3, data_range=(-1, 3))
        x, x_hat = torch.rand(4, 8, 8), torch.rand(4, 1, 8, 8)
        errors = (x_hat[:, 0] - x).abs().mean((1, 2)) / 4
        expected = -50 * (0.7 * (1 - likelihood.similarity(x, x_hat)[:, 0]) + 0.3 * errors)
        torch.testing.assert_close(likelihood.log_prob(x, x_hat)[:, 0], expected)

    def test_the_optimal_weight_is_that_of_greatest_likelihood(self):
        x, x_hat = torch.rand(40, 1, 8, 8), torch.rand(40, 1, 1, 8, 8)
        likelihood = MSSSIMLikelihood((1, 8, 8), data_range=(0, 1))
        best = likelihood.log_prob(x, x_hat).mean()
        scale = float(likelihood.scale.value)
        likelihood.eval()
        torch.testing.assert_close(likelihood.log_prob(x, x_hat).mean(), best)
        for factor in (0.9, 1.1):
            likelihood.scale.value.fill_(scale * factor)
            assert likelihood.log_prob(x, x_hat).mean() < best - 0.1

    def test_a_perfect_reconstruction_is_finite(self):
        x = torch.rand(3, 1, 8, 8)
        x_hat = x.unsqueeze(1).clone().requires_grad_()
        log_prob = MSSSIMLikelihood((1, 8, 8)).log_prob(x, x_hat)
        log_prob.sum().backward()
        assert torch.isfinite(log_prob).all()
        assert torch.isfinite(x_hat.grad).all()

    def test_means_and_draws_are_the_output(self):
        likelihood, x_hat = MSSSIMLikelihood((8, 8)), torch.rand(3, 8, 8)
        assert torch.equal(likelihood.mean(x_hat), x_hat)
        assert torch.equal(likelihood.sample(x_hat), x_hat)


class TestRange:
    def test_is_that_of_the_rows_seen_in_training(self):
        likelihood = MSSSIMLikelihood((8, 8))
        x = 16 * torch.rand(40, 8, 8) - 3
        for part in x.split(10):
            likelihood.log_prob(part, part.unsqueeze(1))
        assert float(likelihood.low) == x.min()
        assert float(likelihood.high) == x.max()
        likelihood.eval()
        likelihood.log_prob(100 * x, x.unsqueeze(1))
        assert float(likelihood.high) == x.max()

    def test_units_and_zero_do_not_matter(self):
        x, x_hat = torch.rand(9, 8, 8), torch.rand(9, 1, 8, 8)
        one, other = MSSSIMLikelihood((8, 8)).double(), MSSSIMLikelihood((8, 8)).double()
        x, x_hat = x.double(), x_hat.double()
        torch.testing.assert_close(
            one.log_prob(x, x_hat), other.log_prob(40 * x - 7, 40 * x_hat - 7)
        )

    @pytest.mark.parametrize("value", [torch.inf, torch.nan])
    def test_a_batch_gone_wrong_leaves_it_alone(self, value):
        likelihood = MSSSIMLikelihood((8, 8))
        x = 5 * torch.rand(10, 8, 8)
        likelihood.log_prob(x, x.unsqueeze(1))
        wrong = x.clone()
        wrong[3, 2, 1] = value
        likelihood.log_prob(wrong, x.unsqueeze(1))
        assert float(likelihood.high) == x.max()
        assert torch.isfinite(likelihood.scale.value)

    def test_is_learnt_anew_once_forgotten(self):
        likelihood = MSSSIMLikelihood((8, 8))
        x = torch.rand(10, 8, 8)
        likelihood.log_prob(5 * x, x.unsqueeze(1))
        likelihood.forget_scale()
        likelihood.log_prob(x, x.unsqueeze(1))
        assert float(likelihood.high) == x.max()

    def test_one_colour_alone_has_none(self):
        likelihood = MSSSIMLikelihood((8, 8))
        x = torch.full((2, 8, 8), 0.7)
        assert torch.isfinite(likelihood.log_prob(x, torch.rand(2, 1, 8, 8))).all()
        assert (float(likelihood.low), float(likelihood.high)) == (0, 1)

    def test_one_that_is_given_stays(self):
        likelihood = MSSSIMLikelihood((8, 8), data_range=(0, 255))
        x = torch.rand(2, 8, 8)
        likelihood.log_prob(x, x.unsqueeze(1))
        assert float(likelihood.high) == 255


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_shape": (64,)}, "compares images, found rows of shape .64,.: give image_shape"),
        ({"window_size": 4}, "window_size=4 must be an odd number"),
        ({"data_range": (1, 0)}, r"data_range=\(1, 0\) must be two numbers, the lesser first"),
        ({"data_range": "unit"}, "data_range='unit' is neither 'auto' nor"),
        ({"weight": 0.0}, "weight=0.0 is neither 'optimal' nor a number above 0"),
        ({"weight": "best"}, "weight='best' is neither 'optimal' nor a number above 0"),
        ({"pixel_share": 1.5}, r"pixel_share=1.5 must lie in \[0, 1\]"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        MSSSIMLikelihood(**{"image_shape": (8, 8), **params})


def test_flat_rows_are_told_to_give_their_shape():
    with pytest.raises(ValueError, match="give image_shape"):
        VAEEmbedder(2, likelihood="ms_ssim", max_epochs=1).fit(np.zeros((20, 64)))


def test_digits_come_back_legible():
    """The same model with a Gaussian reaches .0096; the mean digit is at .073."""
    X = load_digits().images / 16
    embedder = VAEEmbedder(
        10, network="mlp", likelihood="ms_ssim", max_epochs=15, random_state=0
    ).fit(X)
    assert np.mean((embedder.reconstruct(X) - X) ** 2) < 0.014
    assert embedder.history_["kl_divergence"].iloc[-1] > 8
    samples = embedder.sample(100, random_state=0)
    assert np.mean((samples.mean(0) - X.mean(0)) ** 2) < 0.01
