"""Structural similarity of images as a likelihood."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from skvae.models.likelihoods import Likelihood, RunningScale

# Exponents of the scales, finest first (Wang et al. 2003, section 3.2).
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Standard deviation of the window in pixels, and the constants that stabilise the quotients, as
# shares of the range of the data (Wang et al. 2004, section III.C).
WINDOW_STD = 1.5
K1, K2 = 0.01, 0.03
# Similarities below this are bent so as to stay above 0.
MIN_SIMILARITY = 0.01
# Least mean energy.
MIN_ENERGY = 1e-4


class MSSSIMLikelihood(Likelihood):
    """Multi-scale structural similarity [1]_ as an energy: images that look alike are likely.

    ``log p(x | x_hat) = -weight * ((1 - pixel_share) * (1 - MS-SSIM) + pixel_share * L1)``, with
    the similarity of each image by itself and L1 its mean absolute error in units of the range of
    the data: structure decides as in [2]_, and absolute errors settle the brightness that it
    leaves open (Zhao et al. [3]_, eq. 16). The energy has no normalising constant: scores compare
    between models with this likelihood and one weight, with no other likelihood.

    Statistics are local means under a Gaussian window, which ends and is normalised at the border
    so that each pixel counts; channels are averaged. Images may be of any size: as many scales
    are taken, up to five, as leave the window room in the coarsest, and at least one.

    Parameters
    ----------
    image_shape : tuple of int
        Shape of a row: (channels, height, width) or (height, width).
    window_size : int, default=11
        Width of the window in pixels, odd. Its standard deviation is 1.5.
    data_range : "auto" or (float, float), default="auto"
        Least and greatest value that pixels may have. ``"auto"`` takes those of the rows seen in
        training, and (0, 1) before there are any.
    weight : "optimal" or float, default="optimal"
        Nats that a loss of all similarity costs. ``"optimal"`` treats the energy e of an image of
        d numbers as a mean of squares, which one minus a similarity is but for its local scale
        [4]_, under a Gaussian of the batch's own mean energy: d / 2 * (e / mean + log mean), as
        the optimal variance does for ``GaussianLikelihood``.
    pixel_share : float, default=0.16
        Share of the absolute errors, in [0, 1].

    References
    ----------
    .. [1] Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality
       assessment", Asilomar 2003.
    .. [2] Snell et al., "Learning to generate images with perceptual similarity metrics",
       ICIP 2017.
    .. [3] Zhao, Gallo, Frosio, Kautz, "Loss functions for image restoration with neural
       networks", IEEE Transactions on Computational Imaging 2017.
    .. [4] Brunet, Vrscay, Wang, "On the mathematical properties of the structural similarity
       index", IEEE Transactions on Image Processing 2012.

    Examples
    --------
    >>> import torch
    >>> from skvae.models.ms_ssim import MSSSIMLikelihood
    >>> likelihood = MSSSIMLikelihood((1, 8, 8), data_range=(0, 1), weight=64.0)
    >>> x = torch.rand(2, 1, 8, 8)
    >>> likelihood.log_prob(x, x.unsqueeze(1)).abs() < 1e-4
    tensor([[True],
            [True]])
    """

    low: Tensor
    high: Tensor
    n_updates: Tensor

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        window_size: int = 11,
        data_range: tuple[float, float] | Literal["auto"] = "auto",
        weight: float | Literal["optimal"] = "optimal",
        pixel_share: float = 0.16,
    ) -> None:
        super().__init__()
        _check(image_shape, window_size, data_range, weight, pixel_share)
        self.weight = 0.0 if isinstance(weight, str) else weight
        self.scale = RunningScale(MIN_ENERGY) if isinstance(weight, str) else None
        self.pixel_share = pixel_share
        self.learns_range = data_range == "auto"
        low, high = (0.0, 1.0) if isinstance(data_range, str) else data_range
        self.register_buffer("low", torch.tensor(float(low)))
        self.register_buffer("high", torch.tensor(float(high)))
        self.register_buffer("n_updates", torch.zeros(()))
        height, width = image_shape[-2:]
        room = min(height, width) / window_size
        n_scales = 1 + max(0, math.floor(math.log2(room)))
        weights = SCALE_WEIGHTS[:n_scales]
        self.scale_weights = [w / sum(weights) for w in weights]
        for scale in range(len(weights)):
            self.register_buffer(f"rows_{scale}", _window(height, window_size), persistent=False)
            self.register_buffer(f"columns_{scale}", _window(width, window_size), persistent=False)
            height, width = math.ceil(height / 2), math.ceil(width / 2)

    def log_prob(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return log p(x | x_hat) up to a constant, of shape (batch, S)."""
        if self.training and self.learns_range:
            self._see(x.detach())
        energy = (1 - self.pixel_share) * (1 - self.similarity(x, x_hat))
        if self.pixel_share:
            errors = (x_hat - x.unsqueeze(1)).abs().flatten(2).mean(2)
            energy = energy + self.pixel_share * errors / (self.high - self.low)
        if self.scale is None:
            return -self.weight * energy
        mean = self.scale(energy.mean())
        return -0.5 * x[0].numel() * (energy / mean + mean.log())

    def similarity(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return the MS-SSIM of each image and its reconstructions, of shape (batch, S).

        Parameters
        ----------
        x : Tensor of shape (batch, ..., height, width)
            Images.
        x_hat : Tensor of shape (batch, S, ..., height, width)
            Reconstructions.

        Returns
        -------
        Tensor of shape (batch, S)
            The mean over channels: 1 for equal images. The usual powers of negative similarities
            do not exist; here similarities below 0.01 go to 0 as they go to minus infinity.
        """
        extent = self.high - self.low
        x, x_hat = (x.unsqueeze(1) - self.low) / extent, (x_hat - self.low) / extent
        log_similarity = x_hat.new_zeros(())
        last = len(self.scale_weights) - 1
        for scale, weight in enumerate(self.scale_weights):
            if scale:
                x, x_hat = _halve(x), _halve(x_hat)
            luminance, structure = self._compare(x, x_hat, scale)
            local = _above_zero(luminance) * structure if scale == last else structure
            log_similarity = log_similarity + weight * _above_zero(local.mean((-2, -1))).log()
        similarity = torch.exp(log_similarity)
        return similarity.flatten(2).mean(2) if similarity.ndim > 2 else similarity

    def _compare(self, x: Tensor, y: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """Return the maps of luminance, and of contrast and structure (Wang et al., eq. 1-3)."""
        rows, columns = self.get_buffer(f"rows_{scale}"), self.get_buffer(f"columns_{scale}")

        def local_mean(images: Tensor) -> Tensor:
            return (images @ columns).mT @ rows  # transposed, which no mean over pixels sees

        mean_x, mean_y = local_mean(x), local_mean(y)
        square_x, square_y = mean_x.square(), mean_y.square()
        # Rounding alone takes variances below 0.
        variance_x = (local_mean(x.square()) - square_x).clamp(min=0)
        variance_y = (local_mean(y.square()) - square_y).clamp(min=0)
        product = mean_x * mean_y
        covariance = local_mean(x * y) - product
        luminance = (2 * product + K1**2) / (square_x + square_y + K1**2)
        return luminance, (2 * covariance + K2**2) / (variance_x + variance_y + K2**2)

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the image of greatest likelihood: the output itself."""
        return x_hat

    def sample(self, x_hat: Tensor) -> Tensor:
        """Return the output itself: the energy says nothing of noise."""
        return x_hat

    @torch.no_grad()
    def _see(self, x: Tensor) -> None:
        """Widen the range of the data to that of a batch; the first replaces what was assumed."""
        low, high = x.amin(), x.amax()
        # A batch gone wrong is skipped by the training loop; one of one colour has no range.
        useful = torch.isfinite(high - low) & ((self.n_updates > 0) | (high > low))
        first = self.n_updates == 0
        low = torch.where(first, low, torch.minimum(low, self.low))
        high = torch.where(first, high, torch.maximum(high, self.high))
        self.low.copy_(torch.where(useful, low, self.low))
        self.high.copy_(torch.where(useful, high, self.high))
        self.n_updates += useful

    def forget_scale(self) -> None:
        """Let the next batches in training mode alone decide the range of the data."""
        if self.learns_range:
            self.n_updates.zero_()
        if self.scale is not None:
            self.scale.n_updates.zero_()


def _check(
    image_shape: tuple[int, ...],
    window_size: int,
    data_range: tuple[float, float] | str,
    weight: float | str,
    pixel_share: float,
) -> None:
    """Raise ValueError for a parameter out of its range."""
    if len(image_shape) not in (2, 3) or min(image_shape) < 1:
        raise ValueError(
            f"likelihood='ms_ssim' compares images, found rows of shape {tuple(image_shape)}: give "
            "image_shape, (height, width) or (channels, height, width), or take "
            "likelihood='gaussian'."
        )
    if window_size < 1 or window_size % 2 == 0:
        raise ValueError(f"window_size={window_size!r} must be an odd number of pixels above 0.")
    if isinstance(data_range, str):
        if data_range != "auto":
            raise ValueError(f"data_range={data_range!r} is neither 'auto' nor (least, greatest).")
    elif not (len(data_range) == 2 and data_range[0] < data_range[1]):
        raise ValueError(f"data_range={data_range!r} must be two numbers, the lesser first.")
    if weight != "optimal" and (isinstance(weight, str) or not weight > 0):
        raise ValueError(f"weight={weight!r} is neither 'optimal' nor a number above 0.")
    if not 0 <= pixel_share <= 1:
        raise ValueError(f"pixel_share={pixel_share!r} must lie in [0, 1].")


def _window(size: int, window_size: int) -> Tensor:
    """Return the matrix that takes local means along an axis from the right, (size, size)."""
    distance = torch.arange(size)[:, None] - torch.arange(size)
    bell = torch.exp(-0.5 * (distance.double() / WINDOW_STD).square())
    bell = torch.where(distance.abs() <= window_size // 2, bell, 0.0)
    return (bell / bell.sum(1, keepdim=True)).T.to(torch.get_default_dtype())


def _halve(images: Tensor) -> Tensor:
    """Average squares of two by two pixels; a lone last row or column stands for itself."""
    pooled = F.avg_pool2d(images.flatten(0, -3), 2, ceil_mode=True)
    return pooled.unflatten(0, images.shape[:-2])


def _above_zero(similarity: Tensor) -> Tensor:
    """Bend what lies below ``MIN_SIMILARITY`` so as to stay above 0.

    There the similarity s becomes m**2 / (2 m - s), with the same value and slope at s = m. A
    rectified one would be deaf: opposite structure at one scale would take the gradient from all.
    """
    bent = MIN_SIMILARITY**2 / (2 * MIN_SIMILARITY - similarity.clamp(max=MIN_SIMILARITY))
    return torch.where(similarity > MIN_SIMILARITY, similarity, bent)
