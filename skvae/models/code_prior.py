"""An autoregressive distribution of codes that stand for vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.code_tables import PADDING_LOGIT, draw_codes
from skvae.models.core import LossResult, StepContext
from skvae.models.table_networks import ColumnBlock

# Mixture components of each code's distribution.
N_COMPONENTS = 4
DROPOUT = 0.3
# Least standard deviation by which vectors are divided.
MIN_SCALE = 1e-9


class CodePrior(nn.Module):
    """p(codes), one code after the other, from where the codes' vectors lie.

    Each position has a small network of its own, which sees the sum of the vectors so far. A
    component of its mixture multiplies the codes' frequencies by the exponential of a quadratic
    function of their vectors, as a Gaussian would: codes of like vectors are as likely, and a few
    hundred rows are enough to learn from where one-hot codes ask for many times more.

    Parameters
    ----------
    vectors : Tensor of shape (length, n_codes, latent_dim)
        What each code adds to a latent.
    counts : Tensor of shape (length, n_codes)
        How often each code was seen; those that never were are never drawn.
    hidden : int, default=64
        Width of a position's network.
    """

    vectors: Tensor
    features: Tensor
    log_share: Tensor

    def __init__(self, vectors: Tensor, counts: Tensor, hidden: int = 64) -> None:
        super().__init__()
        length, _, latent_dim = vectors.shape
        share = (counts / counts.sum(1, keepdim=True)).to(vectors)
        vectors = vectors - (share.unsqueeze(2) * vectors).sum(1, keepdim=True)
        deviation = (share.unsqueeze(2) * vectors.square()).sum((0, 1)).sqrt()
        vectors = vectors / deviation.clamp(min=MIN_SCALE)
        self.register_buffer("vectors", vectors)
        self.register_buffer("features", _quadratic_features(vectors))
        seen = share.clamp(min=torch.finfo(share.dtype).tiny).log()
        self.register_buffer("log_share", torch.where(counts > 0, seen, PADDING_LOGIT))
        n_outputs = N_COMPONENTS * (1 + self.features.shape[2])
        self.inner = nn.Parameter(torch.randn(length, latent_dim, hidden) * latent_dim**-0.5)
        self.inner_bias = nn.Parameter(torch.zeros(length, 1, hidden))
        self.block = ColumnBlock(length, hidden)
        self.outer = nn.Parameter(torch.randn(length, hidden, n_outputs) * 0.1 * hidden**-0.5)
        # Components begin apart.
        self.outer_bias = nn.Parameter(0.3 * torch.randn(length, 1, n_outputs))

    def _mixture(self, before: Tensor, part: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mixture at some positions, given the sums of the vectors before them.

        Parameters
        ----------
        before : Tensor of shape (n_positions, batch, latent_dim)
            In the scale of ``vectors``.
        part : slice, default=slice(None)
            The positions.

        Returns
        -------
        log_weights : Tensor of shape (n_positions, batch, N_COMPONENTS)
        tilts : Tensor of shape (n_positions, batch, N_COMPONENTS, n_features)
            Coefficients of the quadratic functions.
        scores : Tensor of shape (n_positions, batch, N_COMPONENTS, n_codes)
            Unnormalised log probabilities of the codes.
        """
        h = F.silu(torch.baddbmm(self.inner_bias[part], before, self.inner[part]))
        h = h + F.silu(torch.baddbmm(self.block.bias[part], h, self.block.weight[part]))
        h = F.dropout(h, DROPOUT, self.training)
        out = torch.baddbmm(self.outer_bias[part], h, self.outer[part])
        out = out.unflatten(2, (N_COMPONENTS, -1))
        weights, tilts = out[..., 0], out[..., 1:]
        flat = tilts.flatten(1, 2)
        share = self.log_share[part].unsqueeze(1)
        scores = torch.baddbmm(share, flat, self.features[part].transpose(1, 2))
        return weights.log_softmax(2), tilts, scores.unflatten(1, tilts.shape[1:3])

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log p(codes) of each row, of shape (batch,), for codes of (batch, length)."""
        positions = torch.arange(codes.shape[1], device=codes.device)
        parts = self.vectors[positions, codes]
        before = (parts.cumsum(1) - parts).transpose(0, 1)
        log_weights, tilts, scores = self._mixture(before)
        # The scores of the row's own codes anew: cheaper than to normalise those of all codes.
        features = self.features[positions, codes].transpose(0, 1)
        own = (tilts * features.unsqueeze(2)).sum(3)
        own = own + self.log_share[positions, codes].T.unsqueeze(2)
        return (log_weights + own - scores.logsumexp(3)).logsumexp(2).sum(0)

    def training_loss(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        """Return the mean negative log probability of a batch of codes."""
        log_prob = self.log_prob(batch[0]).mean()
        return LossResult(-log_prob, {"log_likelihood": log_prob.detach()})

    @torch.no_grad()
    def sample(self, n_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw codes, int64 of shape (n_rows, length)."""
        length, _, latent_dim = self.vectors.shape
        before = self.vectors.new_zeros(1, n_rows, latent_dim)
        codes = []
        for position in range(length):
            log_weights, _, scores = self._mixture(before, slice(position, position + 1))
            component = draw_codes(log_weights[0], generator)
            chosen = scores[0, torch.arange(n_rows, device=scores.device), component]
            codes.append(draw_codes(chosen, generator))
            before = before + self.vectors[position, codes[-1]]
        return torch.stack(codes, 1)


def _quadratic_features(vectors: Tensor) -> Tensor:
    """Return the numbers of each code's vector and their squares, on a scale of one.

    Numbers that are zero for all codes of a position are left out.
    """
    is_used = (vectors != 0).any(1)
    n_used = max(1, int(is_used.sum(1).max()))
    places = (~is_used).long().argsort(dim=1, stable=True)[:, :n_used]
    own = vectors.gather(2, places.unsqueeze(1).expand(-1, vectors.shape[1], -1))
    own = own / own.square().mean((1, 2), keepdim=True).sqrt().clamp(min=MIN_SCALE)
    return torch.cat([own, own.square()], dim=2)
