"""What all models share: outputs, losses, the divergence, the base class."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

LOG_2PI = math.log(2 * math.pi)
# Keeps exp(log_var) and its inverse finite in float32.
LOG_VAR_RANGE = (-12.0, 4.0)


class ModelOutput:
    """Base of the dataclasses that forward passes return; shows shapes instead of numbers."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the name of the class and, for each field, its shape or its value."""
        shown = []
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                value = f"Tensor(shape={tuple(value.shape)}, dtype={value.dtype})"
            else:
                value = repr(value)
            shown.append(f"{item.name}={value}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass
class LossResult:
    """A loss and what it is made of.

    Attributes
    ----------
    objective : Tensor, 0-d
        What to minimise.
    diagnostics : dict of str to Tensor, 0-d, detached
        Its terms in nats per row.
    players : dict of str to (Tensor, 0-d, or None)
        Losses of those parameters that minimise something else than the objective, by the names
        of the model's ``player_parameters``. None lets a player sit a step out.
    """

    objective: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    players: dict[str, Tensor | None] = field(default_factory=dict)


@dataclass
class StepContext:
    """Where in a training run a loss is asked for.

    Attributes
    ----------
    epoch, n_epochs : int
        The epoch, from 1, and how many there will be at most.
    step, n_steps : int
        The optimizer step, from 0, and how many there will be at most.
    n_rows : int
        Rows of the training data.
    beta : float
        Factor on the weight of the divergence: the warm-up's course.
    free_nats : float
        Divergence below which there is nothing to gain, in nats a row.
    generator : torch.Generator or None
        Source of randomness of models that take one; the others draw from torch's default
        generator, which the training loop seeds and restores.
    """

    epoch: int = 1
    n_epochs: int = 1
    step: int = 0
    n_steps: int = 1
    n_rows: int = 1
    beta: float = 1.0
    free_nats: float = 0.0
    generator: torch.Generator | None = None


def reparametrize(mu: Tensor, log_var: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``mu + sigma * eps`` with standard normal ``eps`` (Kingma and Welling 2014, eq. 10)."""
    noise = torch.randn(mu.shape, dtype=mu.dtype, device=mu.device, generator=generator)
    return torch.addcmul(mu, torch.exp(0.5 * log_var), noise)


def log_density_gaussian(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """Log density of each element under a Gaussian, in nats; the shapes are broadcast."""
    return -0.5 * ((z - mu).square() * torch.exp(-log_var) + log_var + LOG_2PI)


def kl_divergence_diag_gaussian(
    mu_q: Tensor,
    log_var_q: Tensor,
    mu_p: Tensor | None = None,
    log_var_p: Tensor | None = None,
    reduce_sum: bool = True,
) -> Tensor:
    """Kullback-Leibler divergence of two Gaussians with diagonal covariance, in nats.

    Parameters
    ----------
    mu_q, log_var_q : Tensor of shape (batch, latent_dim)
        Mean and log variance of q.
    mu_p, log_var_p : Tensor of shape (batch, latent_dim) or None
        Those of p; None stands for 0, so by default p is the standard normal
        (Kingma and Welling 2014, appendix B).
    reduce_sum : bool, default=True
        Whether to sum over the latent dimensions.

    Returns
    -------
    Tensor of shape (batch,) or (batch, latent_dim)

    Examples
    --------
    >>> import torch
    >>> from skvae.models import kl_divergence_diag_gaussian
    >>> kl_divergence_diag_gaussian(torch.ones(1, 3), torch.zeros(1, 3))
    tensor([1.5000])
    """
    delta = mu_q if mu_p is None else mu_q - mu_p
    if log_var_p is None:
        twice = torch.addcmul(log_var_q.exp() - log_var_q, delta, delta)
    else:
        ratio = log_var_q - log_var_p
        twice = delta.square() * torch.exp(-log_var_p) + ratio.exp() - ratio
    # The constant comes last: a pass less over each element.
    return 0.5 * (twice.sum(dim=-1) - twice.shape[-1]) if reduce_sum else 0.5 * (twice - 1.0)


class BaseAutoencoder(nn.Module, ABC):
    """Base of the models around an encoder and a decoder.

    ``_encode``, ``_decode`` and ``forward`` track gradients; ``encode`` and ``decode`` do not.
    None of them changes the train or eval mode.
    """

    # Its samples and scores are draws from, and bounds on, a density of the data.
    has_density = False
    # Name of the sampler (``skvae.samplers``) that is right for the model's latents.
    default_sampler = "gaussian_mixture"

    @abstractmethod
    def _encode(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return an output with the latent ``z`` of a batch."""

    @abstractmethod
    def _decode(self, z: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return an output with the reconstruction ``x_hat`` for a batch of latents."""

    @abstractmethod
    def compute_loss(self, x: Tensor, output: Any, *args: Any, **kwargs: Any) -> LossResult:
        """Return the loss of a batch, given what ``forward`` returned for it."""

    @torch.no_grad()
    def encode(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Encode without gradients; see ``_encode``."""
        return self._encode(x, *args, **kwargs)

    @torch.no_grad()
    def decode(self, z: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Decode without gradients; see ``_decode``."""
        return self._decode(z, *args, **kwargs)

    @torch.no_grad()
    def build(self, input_sample: Tensor) -> None:
        """Materialise lazy layers by a forward pass in eval mode.

        Parameters
        ----------
        input_sample : Tensor of shape (batch, ...)
            Rows as the model will see them. The train or eval mode of each part is restored.
        """
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            self._forward_lazy(input_sample)
        finally:
            for module, mode in modes.items():
                module.training = mode

    def _forward_lazy(self, x: Tensor) -> None:
        """Pass rows through all parts that may be lazy, also those that forward leaves out."""
        self(x)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the loss of a batch as the training loop asks for it.

        Parameters
        ----------
        batch : tuple of Tensor
            The rows; then their labels, for models that take them.
        context : StepContext
            Where in the training run this is.
        """
        x = batch[0]
        return self.compute_loss(x, self(x), context=context)

    def player_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters that minimise a loss of their own, by the name of the player."""
        return {}

    def embed(self, x: Tensor) -> Tensor:
        """Return one latent a row, of shape (batch, latent_dim), without randomness."""
        return self._encode(x).z

    def draw_latents(self, x: Tensor) -> Tensor:
        """Return latents for samplers to learn from, of shape (batch, latent_dim)."""
        return self.embed(x)

    def decode_mean(self, z: Tensor) -> Tensor:
        """Return the expected row, of shape (batch, ...), for latents of (batch, latent_dim)."""
        raise NotImplementedError

    def decode_draw(self, z: Tensor) -> Tensor:
        """Draw a row from p(x | z), of shape (batch, ...), for latents of (batch, latent_dim)."""
        raise NotImplementedError

    def interpolate_latents(self, z0: Tensor, z1: Tensor, t: float) -> Tensor:
        """Return the latents at time ``t`` in [0, 1] on the way from ``z0`` to ``z1``."""
        return torch.lerp(z0, z1, t)

    def finalize(self, x: Tensor) -> None:
        """Take stock of rows (batch, ...) after training; nothing by default."""

    def log_weights(self, x: Tensor, S: int) -> Tensor:
        """Return log p(x, z_s) - log q(z_s | x) of S latents a row, of shape (batch, S).

        The log of their mean exponential is a lower bound of log p(x) in expectation (Burda et
        al. 2016, eq. 8). Models without a density return log p(x | z) of their one latent.
        """
        raise NotImplementedError


@dataclass
class GaussianVAEOutput:
    """What a forward pass of a ``GaussianVAE`` returns.

    Attributes
    ----------
    params : object
        Parameters of the likelihood p(x | z), in the form that the model's likelihood takes.
    z : Tensor of shape (batch, latent_dim)
        The latents drawn.
    mu, log_var : Tensor of shape (batch, latent_dim)
        Mean and log variance of the posterior q(z | x).
    """

    params: Any
    z: Tensor
    mu: Tensor
    log_var: Tensor


class GaussianVAE(nn.Module, ABC):
    """A VAE with a diagonal Gaussian posterior and a standard normal prior.

    A subclass says how to get the posterior's parameters (``encode``), the likelihood's
    parameters (``decode``) and the log likelihood of a batch under them (``log_likelihood``).

    Parameters
    ----------
    latent_dim : int
        Size of the latent.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    @abstractmethod
    def encode(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), each of shape (batch, latent_dim)."""

    @abstractmethod
    def decode(self, z: Tensor, x: tuple[Tensor, ...]) -> Any:
        """Return the likelihood's parameters; ``x`` for decoders that see earlier columns."""

    @abstractmethod
    def log_likelihood(self, x: tuple[Tensor, ...], params: Any) -> Tensor:
        """Return log p(x | z), in nats, of shape (batch,)."""

    def forward(
        self, x: tuple[Tensor, ...], *, generator: torch.Generator | None = None
    ) -> GaussianVAEOutput:
        """Encode a batch, draw one latent a row, decode it."""
        mu, log_var = self.encode(x)
        z = reparametrize(mu, log_var, generator)
        return GaussianVAEOutput(self.decode(z, x), z, mu, log_var)

    def compute_loss(
        self,
        x: tuple[Tensor, ...],
        output: GaussianVAEOutput,
        *,
        beta: float = 1.0,
        free_nats: float = 0.0,
    ) -> LossResult:
        """Negative evidence lower bound with a floor under its rate.

        ``beta * max(kl_divergence, free_nats) - log_likelihood``: the bound of Kingma and Welling
        (2014, eq. 7) for ``beta=1`` and ``free_nats=0``, with the weight of Higgins et al. (2017,
        eq. 4) and the free bits of Kingma et al. (2016, eq. 15), taken over the whole latent.

        Parameters
        ----------
        x : tuple of Tensor
            The batch that ``forward`` saw.
        output : GaussianVAEOutput
            What ``forward`` returned.
        beta : float, default=1
            Weight of the divergence.
        free_nats : float, default=0
            The mean divergence of a batch below which there is nothing to gain, in nats a row.

        Returns
        -------
        LossResult
            With diagnostics ``log_likelihood`` (sum over features), ``kl_divergence`` and
            ``elbo``, means over the rows, in nats.
        """
        log_likelihood = self.log_likelihood(x, output.params)
        kl = kl_divergence_diag_gaussian(output.mu, output.log_var)
        return self._bound(log_likelihood, kl, beta, free_nats)

    def _bound(
        self, log_likelihood: Tensor, kl_divergence: Tensor, beta: float, free_nats: float
    ) -> LossResult:
        """Return the loss of rows, of shape (batch,), as ``compute_loss`` defines it."""
        log_px, kl = log_likelihood.mean(), kl_divergence.mean()
        objective = beta * (kl.clamp(min=free_nats) if free_nats else kl) - log_px
        log_px, kl = log_px.detach(), kl.detach()
        diagnostics = {"log_likelihood": log_px, "kl_divergence": kl, "elbo": log_px - kl}
        return LossResult(objective, diagnostics)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the loss of a batch as the training loop asks for it."""
        output = self(batch, generator=context.generator)
        return self.compute_loss(batch, output, beta=context.beta, free_nats=context.free_nats)
