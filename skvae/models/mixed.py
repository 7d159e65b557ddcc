"""Rows of numbers beside one-hot codes, as a likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from skvae.models.code_tables import draw_codes
from skvae.models.core import LOG_2PI
from skvae.models.likelihoods import MIN_VARIANCE, Likelihood, RunningScale


class MixedLikelihood(Likelihood):
    """Gaussians for numbers and categorical distributions for one-hot codes, side by side.

    For rows as ``ColumnTransformer`` puts them together from scaled numbers and ``OneHotEncoder``.
    The decoder's output is the mean of a number, and the logits of a code's levels; so a decoder
    should end in a linear layer, as the built-in ones do.

    The variances of greatest likelihood take care of units, but not networks: standardise the
    numbers (``StandardScaler``), as ``VAEEmbedder`` leaves rows as they are for this likelihood.
    One-hot blocks need a level for each row: take neither ``OneHotEncoder(drop=...)`` nor
    ``handle_unknown="ignore"``.

    Parameters
    ----------
    blocks : sequence of int
        Widths of the blocks that make up a row, in their order: 1 for a number, k > 1 for a
        one-hot code of k levels.
    variance : {"per_feature", "shared"}, default="per_feature"
        Whether the variances of the numbers, each the mean squared error of a batch, are of each
        number or of all. One for all weighs numbers by their variance.

    Examples
    --------
    >>> import torch
    >>> from skvae.models.mixed import MixedLikelihood
    >>> likelihood = MixedLikelihood([1, 3]).eval()
    >>> output = torch.tensor([[2.0, 0.0, 200.0, 0.0]])
    >>> likelihood.mean(output)
    tensor([[2., 0., 1., 0.]])
    >>> likelihood.log_prob(torch.tensor([[2.0, 0.0, 1.0, 0.0]]), output.unsqueeze(1))
    tensor([[-0.9189]])
    """

    numbers: Tensor
    codes: Tensor
    block_of: Tensor

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        variance: Literal["per_feature", "shared"] = "per_feature",
    ) -> None:
        super().__init__()
        valid = all(isinstance(width, Integral) and width > 0 for width in blocks)
        if not (valid and len(blocks)):
            raise ValueError(
                f"blocks={blocks!r} must be whole numbers above 0: 1 for a number, k for a one-hot "
                "code of k levels."
            )
        if variance not in ("per_feature", "shared"):
            raise ValueError(f"variance={variance!r} is neither 'per_feature' nor 'shared'.")
        self.blocks = [int(width) for width in blocks]
        owner = torch.repeat_interleave(torch.tensor(self.blocks))
        is_code = torch.tensor(self.blocks)[owner] > 1
        block_of = torch.unique(owner[is_code], return_inverse=True)[1]
        self.code_widths = [width for width in self.blocks if width > 1]
        # Columns of numbers, columns of codes, and for each of these which code it belongs to.
        for name, index in (
            ("numbers", torch.nonzero(~is_code)[:, 0]),
            ("codes", torch.nonzero(is_code)[:, 0]),
            ("block_of", block_of),
        ):
            self.register_buffer(name, index, persistent=False)
        n_scales = (len(self.numbers),) if variance == "per_feature" else ()
        self.scale = RunningScale(MIN_VARIANCE, n_scales)

    def log_prob(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return log p(x | x_hat), of shape (batch, S)."""
        total = x_hat.new_zeros(x_hat.shape[:2])
        x = x.unsqueeze(1)
        if len(self.numbers):
            squares = (x_hat[..., self.numbers] - x[..., self.numbers]).square()
            mean = squares.mean((0, 1))
            variance = self.scale(mean if self.scale.value.ndim else mean.mean())
            terms = squares / variance + variance.log() + LOG_2PI
            total = total - 0.5 * terms.sum(-1)
        if len(self.codes):
            total = total + (x[..., self.codes] * self._log_probabilities(x_hat)).sum(-1)
        return total

    def _log_probabilities(self, x_hat: Tensor) -> Tensor:
        """Return the log probabilities of all levels, block after block."""
        logits = x_hat[..., self.codes]
        block_of = self.block_of.expand_as(logits)
        shape = (*logits.shape[:-1], len(self.code_widths))
        # ``SegmentedSoftmax`` has no second derivative, which models with a gradient in their
        # forward pass need.
        shift = logits.new_full(shape, -torch.inf)
        shift = shift.scatter_reduce(-1, block_of, logits.detach(), "amax")
        logits = logits - shift.gather(-1, block_of)
        totals = logits.new_zeros(shape).scatter_add(-1, block_of, logits.exp())
        return logits - totals.log().gather(-1, block_of)

    def mean(self, x_hat: Tensor) -> Tensor:
        """Return the expected data: means of numbers, and probabilities of levels."""
        return x_hat.index_copy(-1, self.codes, self._log_probabilities(x_hat).exp())

    def sample(self, x_hat: Tensor) -> Tensor:
        """Draw numbers around their means, and one level of each code."""
        numbers = x_hat[..., self.numbers]
        noise = self.scale.value.sqrt() * torch.randn_like(numbers)
        drawn = x_hat.index_copy(-1, self.numbers, numbers + noise)
        logits = x_hat.detach()[..., self.codes].flatten(0, -2)
        codes = torch.zeros_like(logits)
        start = 0
        for part in logits.split(self.code_widths, dim=-1):
            levels = draw_codes(part.clone(), None)
            codes[torch.arange(len(codes), device=codes.device), start + levels] = 1
            start += part.shape[-1]
        return drawn.index_copy(-1, self.codes, codes.view(*x_hat.shape[:-1], -1))

    def check(self, x: Tensor) -> None:
        """Raise ValueError for rows of another width, or with a block that is not one-hot."""
        expected = sum(self.blocks)
        if x.ndim != 2 or x.shape[1] != expected:
            raise ValueError(
                f"blocks={self.blocks} add up to {expected} columns, found rows of shape "
                f"{tuple(x.shape[1:])}."
            )
        start = 0
        for position, width in enumerate(self.blocks):
            block = x[:, start : start + width]
            wrong = (((block != 0) & (block != 1)).any(1) | (block.sum(1) != 1)).nonzero()
            if width > 1 and len(wrong):
                row = int(wrong[0])
                raise ValueError(
                    f"Columns {start} to {start + width - 1} are the one-hot code "
                    f"blocks[{position}]={width}, but row {row} holds {block[row].tolist()} there: "
                    "expected a single 1. Encode with OneHotEncoder(drop=None) and leave codes "
                    "unscaled (scale=None)."
                )
            start += width

    def start(self, x: Tensor) -> Tensor:
        """Return the means of numbers, and the log frequencies of levels."""
        frequencies = (x[:, self.codes].sum(0) + 0.5) / (len(x) + 0.5)
        return x.mean(0).index_copy(0, self.codes, frequencies.log())

    def forget_scale(self) -> None:
        """Let the next batches in training mode alone decide the variances."""
        self.scale.n_updates.zero_()
