"""The VAE whose latents move by Hamiltonian dynamics towards their posterior [1]_.

A latent drawn from the encoder's posterior gets a random momentum; together they follow a few
leapfrog steps on U(z) = -log p(x, z). The steps keep volume and tempering shrinks it by a constant,
so the density at the end is known, and with it an unbiased estimate of p(x).

.. [1] Caterini, Doucet, Sejdinovic, "Hamiltonian Variational Auto-Encoder", NeurIPS 2018.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skvae.models.checks import check_count, check_number
from skvae.models.core import LOG_VAR_RANGE, ModelOutput
from skvae.models.likelihoods import Likelihood
from skvae.models.precision import at_least_float32, full_precision
from skvae.models.vae import VAE, FullyFactorizedGaussian

# Learned step sizes stay below this share of the posterior's standard deviation; leapfrog steps on
# a Gaussian posterior are stable up to 2.
MAX_STEP_SIZE = 0.5
MIN_STEP_SIZE = 1e-4
MIN_BETA_ZERO = 1e-2
# Size at which a force saturates, in multiples of its size at the posterior: a force there is
# standard normal when measured in the posterior's standard deviations.
MAX_FORCE = 10.0


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode within the block, and each of its parts back after."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@dataclass(slots=True, repr=False)
class HVAEOutput(ModelOutput):
    """What ``HVAE.forward`` returns.

    Attributes
    ----------
    x_hat : Tensor of shape (batch, S, ...)
        Parameters of the likelihood of x.
    z : Tensor of shape (batch, S, latent_dim)
        Latents at the end of the dynamics.
    mu, log_var : Tensor of shape (batch, latent_dim)
        Mean and log variance of q(z_0 | x), where the dynamics start.
    rate : Tensor of shape (batch, S)
        log q(z, rho | x) - log p(z, rho) of latent and momentum at the end of the dynamics;
        without dynamics, the divergence of q(z_0 | x) from the prior.
    """

    x_hat: Tensor
    z: Tensor
    mu: Tensor
    log_var: Tensor
    rate: Tensor


class BoundedGaussian(FullyFactorizedGaussian):
    """Features to a Gaussian whose variances stay within bounds, as the steps measured in them."""

    def get_params(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each (batch, latent_dim), for features (batch, width)."""
        with full_precision(x):
            mu, log_var = super().get_params(at_least_float32(x))
        return mu, log_var.clamp(*LOG_VAR_RANGE)


class HVAE(VAE):
    """The Hamiltonian VAE of Caterini, Doucet and Sejdinovic [1]_.

    With z_0 ~ q(z | x) and rho_0 ~ N(0, I / beta_0), K leapfrog steps on -log p(x, z), each
    followed by the quadratic tempering of the momentum (section 3.2), give (z_K, rho_K) and

        log p(x, z_K) + log N(rho_K) - log q(z_0 | x) - log N(rho_0; 0, I / beta_0)
        + (latent_dim / 2) log beta_0,

    whose mean is the bound that is maximised (algorithm 1), and whose exponential is p(x) in
    expectation.

    Steps are measured in standard deviations of q(z | x), dimension by dimension, where the paper
    measures them in units of the latent space: a sharp likelihood makes U steep and the posterior
    narrow alike, so that one step size is right throughout the training. Forces saturate far from
    the posterior. Both keep volume, so the bound stays exact, and the dynamics cannot blow up.

    ``embed`` is the encoder's mean, without dynamics; ``draw_latents`` gives ends of the dynamics.

    Parameters
    ----------
    encoder : Module
        From rows (batch, ...) to features (batch, width).
    decoder : Module
        From latents (n, latent_dim) to rows (n, ...): means or logits. Evaluated, and
        differentiated by z, ``n_leapfrog + 1`` times more than in a VAE.
    latent_dim : int
        Size of the latent.
    likelihood : Likelihood, optional
        What the decoder's output says of the data; by default a Gaussian of variance one, without
        its constant. Along the dynamics its scale is that of evaluation.
    n_leapfrog : int, default=3
        Leapfrog steps K; with 0 this is the VAE.
    step_size : float, default=0.1
        Size of a step in standard deviations of q(z | x), between 0 and 0.5; the start if it is
        learned.
    beta_zero : float, default=0.3
        Inverse temperature at the start, between 0.01 and 1. It rises to 1 over the steps. Take 1
        for no tempering: where the encoder's posterior is close already, heat leads away from it.
    learn_step_size : bool, default=True
        Whether to learn the step size of each dimension, below 0.5, with the networks.

    References
    ----------
    .. [1] Caterini, Doucet, Sejdinovic, "Hamiltonian Variational Auto-Encoder", NeurIPS 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import HVAE
    >>> encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    >>> model = HVAE(encoder, nn.Linear(2, 8), latent_dim=2, n_leapfrog=2)
    >>> x = torch.randn(5, 8)
    >>> output = model(x, S=3)
    >>> output.rate.shape
    torch.Size([5, 3])
    >>> sorted(model.compute_loss(x, output).diagnostics)
    ['elbo', 'kl_divergence', 'log_likelihood']
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        likelihood: Likelihood | None = None,
        n_leapfrog: int = 3,
        step_size: float = 0.1,
        beta_zero: float = 0.3,
        learn_step_size: bool = True,
    ) -> None:
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        check_count("n_leapfrog", n_leapfrog, minimum=0)
        check_number("beta_zero", beta_zero, MIN_BETA_ZERO, 1.0)
        check_number("step_size", step_size, MIN_STEP_SIZE, 0.99 * MAX_STEP_SIZE)
        self.n_leapfrog = n_leapfrog
        self.beta_zero = beta_zero
        share = step_size / MAX_STEP_SIZE
        logits = torch.full((latent_dim,), math.log(share / (1 - share)))
        self.step_logits = nn.Parameter(logits, requires_grad=learn_step_size)

    def _make_sampling_layer(self) -> nn.Module:
        return BoundedGaussian(self.latent_dim)

    def step_sizes(self) -> Tensor:
        """Return the step size of each dimension, of shape (latent_dim,)."""
        return MAX_STEP_SIZE * torch.sigmoid(self.step_logits)

    def forward(self, x: Tensor, S: int = 1, sample: bool = True) -> HVAEOutput:
        """Encode rows, draw S latents each and let them move, decode where they end.

        Without ``sample``, decode the posterior's mean instead: nothing moves.
        """
        encoded = self._encode(x, S=S, sample=sample)
        z = encoded.z
        if sample and self.n_leapfrog:
            # Errors of short floats would add up over the steps.
            with full_precision(z):
                z, momentum = self._simulate(x, encoded)
            rate = self.log_posterior(encoded) - self.log_prior(z) + momentum
        else:
            rate = super().divergence(encoded).unsqueeze(1).expand(z.shape[:2])
        return HVAEOutput(self._decode(z).x_hat, z, encoded.mu, encoded.log_var, rate)

    def divergence(self, output: Any) -> Tensor:
        """Return an estimate of the divergence of (z_K, rho_K) from the prior, (batch,)."""
        return output.rate.mean(1)

    def draw_latents(self, x: Tensor) -> Tensor:
        """Draw one latent a row and let it move; of shape (batch, latent_dim)."""
        encoded = self._encode(x)
        z = self._simulate(x, encoded)[0] if self.n_leapfrog else encoded.z
        return z[:, 0]

    def log_weights(self, x: Tensor, S: int) -> Tensor:
        """Return the logs of S unbiased estimates of p(x) a row, of shape (batch, S)."""
        if not self.n_leapfrog:
            return super().log_weights(x, S)
        output = self(x, S=S)
        return self.log_px(x, output) - output.rate

    def _simulate(self, x: Tensor, encoded: Any) -> tuple[Tensor, Tensor]:
        """Let the latents of ``_encode`` move.

        Returns
        -------
        z : Tensor of shape (batch, S, latent_dim)
            The latents at the end.
        momentum : Tensor of shape (batch, S)
            log N(rho_0; 0, I / beta_0) - log N(rho_K; 0, I), less the log of the volume's factor.
        """
        noise = torch.randn_like(encoded.z)
        z, rho = self._leapfrog(x, encoded.z, noise / math.sqrt(self.beta_zero), encoded.log_var)
        return z, 0.5 * (rho.square() - noise.square()).sum(-1)

    def _leapfrog(
        self, x: Tensor, z: Tensor, rho: Tensor, log_var: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return latents and momenta, each (batch, S, latent_dim), after the tempered steps."""
        scale = torch.exp(0.5 * log_var).unsqueeze(1)
        step = self.step_sizes() * scale
        force = self._potential_gradient(x, z, scale)
        for cooling in self._cooling():
            rho = rho - 0.5 * step * force
            z = z + step * rho
            force = self._potential_gradient(x, z, scale)
            rho = cooling * (rho - 0.5 * step * force)
        return z, rho

    def _cooling(self) -> list[float]:
        """Return sqrt(beta_{k-1} / beta_k) of each step, for the quadratic scheme."""
        hottest = 1 / math.sqrt(self.beta_zero)
        shares = [(k / self.n_leapfrog) ** 2 for k in range(self.n_leapfrog + 1)]
        inverse_roots = [(1 - hottest) * share + hottest for share in shares]
        return [after / before for before, after in itertools.pairwise(inverse_roots)]

    def _potential_gradient(self, x: Tensor, z: Tensor, scale: Tensor) -> Tensor:
        """Return the gradient of U by z, saturated far from the posterior.

        It depends on x and z alone, as volume-preserving steps want it: the likelihood's scale is
        that of evaluation, as a batch's own would tie its rows together.
        """
        tracked = torch.is_grad_enabled()
        with torch.enable_grad(), eval_mode(self.likelihood):
            at = z if z.requires_grad else z.detach().requires_grad_()
            log_joint = self.likelihood.log_prob(x, self._decode(at).x_hat) + self.log_prior(at)
            (gradient,) = torch.autograd.grad(-log_joint.sum(), at, create_graph=tracked)
        return saturated(gradient, (scale * gradient).square().sum(-1))


def saturated(vectors: Tensor, squares: Tensor) -> Tensor:
    """Scale vectors (..., latent_dim) down to where their squared norms are within bounds.

    Parameters
    ----------
    vectors : Tensor of shape (..., latent_dim)
        Forces or momenta.
    squares : Tensor of shape (...)
        Squares of the norms that matter; a standard normal vector's is latent_dim on average.
    """
    limit = MAX_FORCE**2 * vectors.shape[-1]
    return vectors * (limit / squares.clamp(min=limit)).sqrt().unsqueeze(-1)
