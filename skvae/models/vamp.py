"""The variational autoencoder whose prior is a mixture of its own posteriors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skvae.models.checks import check_count
from skvae.models.core import log_density_gaussian
from skvae.models.likelihoods import Likelihood
from skvae.models.vae import VAE, log_mean_exp

# Standard deviation, in those of the data, of what tells repeated pseudo-inputs apart.
NOISE = 0.1


class VAMP(VAE):
    """The VAE with the variational mixture of posteriors of Tomczak and Welling [1]_ as its prior.

    The prior is the mean of the posteriors at K learned pseudo-inputs (eq. 9), rows in the space
    of the data. Its divergence has no closed form: it is estimated from the latents drawn. Call
    ``build`` with rows of the data before training: the pseudo-inputs start from them.

    Parameters
    ----------
    encoder, decoder, latent_dim, likelihood
        As for ``VAE``.
    n_pseudo_inputs : int, default=50
        Components K of the prior, for each of which every step encodes a row. The paper takes 500.

    Attributes
    ----------
    pseudo_inputs : Parameter of shape (n_pseudo_inputs, ...) or None
        None before ``build``. Not held to the range of the data.

    References
    ----------
    .. [1] Tomczak, Welling, "VAE with a VampPrior", AISTATS 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import VAMP
    >>> model = VAMP(nn.Linear(8, 16), nn.Linear(2, 8), latent_dim=2, n_pseudo_inputs=10)
    >>> x = torch.randn(20, 8)
    >>> model.build(x)
    >>> mu, log_var = model.prior_components()
    >>> mu.shape
    torch.Size([10, 2])
    >>> model.compute_loss(x, model(x)).objective.shape
    torch.Size([])
    """

    default_sampler = "vamp"
    pseudo_inputs: nn.Parameter | None

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        n_pseudo_inputs: int = 50,
        likelihood: Likelihood | None = None,
    ) -> None:
        check_count("n_pseudo_inputs", n_pseudo_inputs)
        super().__init__(encoder, decoder, latent_dim, likelihood=likelihood)
        self.n_pseudo_inputs = n_pseudo_inputs
        self.register_parameter("pseudo_inputs", None)

    @torch.no_grad()
    def build(self, input_sample: Tensor) -> None:
        """Materialise lazy layers, and start the pseudo-inputs from rows of the sample.

        Parameters
        ----------
        input_sample : Tensor of shape (batch, ...)
            Rows as the model will see them, evenly picked from; where they are fewer than the
            pseudo-inputs they are repeated with some noise. Pseudo-inputs that exist are kept.
        """
        super().build(input_sample)
        if self.pseudo_inputs is not None:
            return
        n_rows, n_inputs = len(input_sample), self.n_pseudo_inputs
        picked = torch.linspace(0, n_rows - 1, n_inputs, device=input_sample.device).round().long()
        rows = input_sample[picked]
        if n_rows < n_inputs:
            # Equal pseudo-inputs would stay equal: they have the same gradient.
            scale = NOISE * input_sample.std(correction=0).clamp(min=NOISE)
            rows = rows + scale * torch.randn_like(rows)
        self.pseudo_inputs = nn.Parameter(rows)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Make room for the pseudo-inputs of a state, as lazy layers do for theirs."""
        found = state_dict.get(prefix + "pseudo_inputs")
        if self.pseudo_inputs is None and found is not None:
            self.pseudo_inputs = nn.Parameter(torch.empty_like(found))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def prior_components(self) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the prior's components, each (K, latent_dim)."""
        if self.pseudo_inputs is None:
            raise RuntimeError(
                "The prior of VAMP has no pseudo-inputs yet: call model.build(x) with rows of the "
                "data before training."
            )
        encoded = self._encode(self.pseudo_inputs, sample=False)
        return encoded.mu, encoded.log_var

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z), of shape (...), for latents (..., latent_dim).

        The mean of K posteriors' densities (Tomczak and Welling 2018, eq. 9).
        """
        mu, log_var = self.prior_components()
        log_densities = log_density_gaussian(z.unsqueeze(-2), mu, log_var).sum(-1)
        return log_mean_exp(log_densities, dim=log_densities.ndim - 1)

    def divergence(self, output: Any) -> Tensor:
        """Return the estimate of KL(q(z | x) || p(z)) from each row's latents, of shape (batch,).

        Unbiased, and so at times negative, for latents that were drawn.
        """
        return (self.log_posterior(output) - self.log_prior(output.z)).mean(1)
