"""Models that match their latents to the prior by the maximum mean discrepancy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from skvae.models.autoencoder import AE
from skvae.models.checks import check_number
from skvae.models.core import LossResult, StepContext
from skvae.models.likelihoods import Likelihood, LikelihoodType
from skvae.models.vae import VAE

Kernel = Literal["imq", "rbf"]
# Those of Tolstikhin et al. (2018), in their code.
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def maximum_mean_discrepancy(
    a: Tensor,
    b: Tensor,
    kernel: Kernel = "imq",
    *,
    bandwidth: float = 1.0,
    scales: Sequence[float] = SCALES,
) -> Tensor:
    """Squared maximum mean discrepancy of two distributions, estimated from draws of each.

    The unbiased U-statistic of Gretton et al. (2012, eq. 3), which is zero on average for equal
    distributions and so can be negative.

    Parameters
    ----------
    a : Tensor of shape (n, dim)
        Draws of one distribution.
    b : Tensor of shape (m, dim)
        Draws of the other one.
    kernel : {"imq", "rbf"}, default="imq"
        Inverse multiquadrics ``C / (C + d^2)`` of the distance d (Tolstikhin et al. 2018,
        section 4), or Gaussians ``exp(-d^2 / C)``.
    bandwidth : float, default=1
        Standard deviation for which ``C = 2 dim bandwidth^2`` is the expected ``d^2`` of two
        draws from a Gaussian.
    scales : sequence of float
        The kernel is the sum over these multiples of C.

    Returns
    -------
    Tensor, 0-d
        Zero if there is but one draw of either: one says nothing of a distribution's spread.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import maximum_mean_discrepancy
    >>> _ = torch.manual_seed(0)
    >>> a, b = torch.randn(500, 2), torch.randn(500, 2)
    >>> bool(maximum_mean_discrepancy(a, b).abs() < 0.01)
    True
    >>> bool(maximum_mean_discrepancy(a, b + 1) > 0.5)
    True
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}, expected (n, dim) and (m, dim)."
        )
    if kernel not in ("imq", "rbf"):
        raise ValueError(f"kernel={kernel!r}, expected 'imq' or 'rbf'.")
    if not bandwidth > 0:
        raise ValueError(f"bandwidth={bandwidth!r}, expected a number above 0.")
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return a.new_zeros(())
    widths = [2 * a.shape[1] * bandwidth**2 * scale for scale in scales]
    of_a, of_b = _kernel_matrix(a, a, kernel, widths), _kernel_matrix(b, b, kernel, widths)
    between = _kernel_matrix(a, b, kernel, widths).mean()
    within_a = (of_a.sum() - of_a.trace()) / (n * (n - 1))
    within_b = (of_b.sum() - of_b.trace()) / (m * (m - 1))
    return within_a + within_b - 2 * between


def _kernel_matrix(a: Tensor, b: Tensor, kernel: Kernel, widths: Sequence[float]) -> Tensor:
    """Kernel of each row of a with each row of b, (n, m), summed over the widths C."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * (a @ b.T)
    squares = squares.clamp(min=0.0)
    if kernel == "imq":
        return sum((width / (width + squares) for width in widths), torch.zeros_like(squares))
    return sum((torch.exp(squares / -width) for width in widths), torch.zeros_like(squares))


class InfoVAE(VAE):
    """The information maximising VAE of Zhao et al. [1]_, with the maximum mean discrepancy.

    Minimises ``-E[log p(x|z)] + (1 - alpha) KL(q(z|x) || p(z)) + (alpha + lambd - 1) MMD`` (eq. 6),
    where MMD is between the latents of the batch and as many draws from the prior: all the rows'
    latents together are held to the prior, and less so those of each row.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    alpha : float, default=0
        Preference for information between x and z, at most 1: with 1 there is no divergence of
        single rows left, and the model is a Wasserstein autoencoder with a random encoder.
    lambd : float, default=5
        Weight of the prior; with ``alpha=0, lambd=1`` the model is a VAE. The weight of the
        discrepancy, ``alpha + lambd - 1``, may not be negative, which would drive latents away
        from the prior. The authors take up to 1000; on data of a few dozen features a hundred
        already leaves little in the latents.
    kernel : {"imq", "rbf"}, default="imq"
        See ``maximum_mean_discrepancy``.
    bandwidth : float, default=1
        See ``maximum_mean_discrepancy``.

    References
    ----------
    .. [1] Zhao, Song, Ermon, "InfoVAE: Balancing Learning and Inference in Variational
       Autoencoders", AAAI 2019.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import InfoVAE
    >>> model = InfoVAE(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2)
    >>> x = torch.randn(5, 8)
    >>> sorted(model.compute_loss(x, model(x)).diagnostics)
    ['elbo', 'kl_divergence', 'log_likelihood', 'mmd']
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        alpha: float = 0.0,
        lambd: float = 5.0,
        kernel: Kernel = "imq",
        bandwidth: float = 1.0,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("alpha", alpha, minimum=-math.inf, maximum=1.0)
        check_number("lambd", lambd)
        if alpha + lambd < 1:
            raise ValueError(
                f"alpha={alpha} and lambd={lambd} give the discrepancy the weight "
                f"alpha + lambd - 1 = {alpha + lambd - 1:g}, expected 0 or more: a negative one "
                "rewards latents far from the prior. Take a larger lambd."
            )
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.alpha, self.lambd = alpha, lambd
        self.kernel: Kernel = kernel
        self.bandwidth = bandwidth

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        beta: float = 1.0,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Negative log likelihood, divergence and discrepancy (Zhao et al. 2019, eq. 6).

        Parameters
        ----------
        x, likelihood, context
            As for ``VAE.compute_loss``.
        output : VAEOutput
            What ``forward`` returned; the discrepancy is that of the first latent of each row.
        beta : float, default=1
            Factor on both regularising terms.

        Returns
        -------
        LossResult
            With ``elbo``, ``log_likelihood``, ``kl_divergence`` and ``mmd``.
        """
        result = super().compute_loss(
            x, output, beta * (1 - self.alpha), likelihood, context=context
        )
        mmd = _discrepancy_to_normal(output.z[:, 0], self.kernel, self.bandwidth)
        weight = beta if context is None else beta * context.beta
        result.objective = result.objective + weight * (self.alpha + self.lambd - 1) * mmd
        terms = result.diagnostics
        terms["elbo"] = terms["log_likelihood"] - terms["kl_divergence"]
        terms["mmd"] = mmd.detach()
        return result


class WAE(AE):
    """The Wasserstein autoencoder of Tolstikhin et al. [1]_, with the discrepancy as its penalty.

    Minimises the reconstruction's loss plus ``reg_weight`` times the maximum mean discrepancy
    between the latents of a batch and draws from a standard normal (algorithm 2), with a
    deterministic encoder.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to latents (batch, latent_dim).
    decoder : Module
        From latents to rows (batch, ...): means or logits.
    reg_weight : float, default=100
        Weight of the discrepancy, in nats a row. The paper takes 10 (digits) and 100 (faces), both
        with squared errors, each of them ``1 / (2 variance)`` nats here. More of it makes better
        samples and worse reconstructions.
    kernel : {"imq", "rbf"}, default="imq"
        See ``maximum_mean_discrepancy``.
    bandwidth : float, default=1
        See ``maximum_mean_discrepancy``.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant.

    References
    ----------
    .. [1] Tolstikhin, Bousquet, Gelly, Schölkopf, "Wasserstein Auto-Encoders", ICLR 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import WAE
    >>> model = WAE(nn.Linear(8, 2), nn.Linear(2, 8))
    >>> x = torch.randn(5, 8)
    >>> sorted(model.compute_loss(x, model(x)).diagnostics)
    ['log_likelihood', 'mmd']
    """

    default_sampler = "normal"

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        reg_weight: float = 100.0,
        kernel: Kernel = "imq",
        bandwidth: float = 1.0,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_number("reg_weight", reg_weight)
        super().__init__(encoder, decoder, likelihood=likelihood)
        self.reg_weight = reg_weight
        self.kernel: Kernel = kernel
        self.bandwidth = bandwidth

    def compute_loss(
        self,
        x: Tensor,
        output: Any,
        likelihood: str | LikelihoodType | None = None,
        *,
        context: StepContext | None = None,
    ) -> LossResult:
        """Negative log likelihood and discrepancy (Tolstikhin et al. 2018, algorithm 2).

        Parameters
        ----------
        x, output, likelihood, context
            As for ``AE.compute_loss``.

        Returns
        -------
        LossResult
            With ``log_likelihood`` and ``mmd``.
        """
        result = super().compute_loss(x, output, likelihood, context=context)
        mmd = _discrepancy_to_normal(output.z.flatten(1), self.kernel, self.bandwidth)
        weight = self.reg_weight if context is None else self.reg_weight * context.beta
        result.objective = result.objective + weight * mmd
        result.diagnostics["mmd"] = mmd.detach()
        return result


def _discrepancy_to_normal(z: Tensor, kernel: Kernel, bandwidth: float) -> Tensor:
    """Discrepancy of latents (batch, dim) to as many draws from the standard normal."""
    return maximum_mean_discrepancy(z, torch.randn_like(z), kernel, bandwidth=bandwidth)
