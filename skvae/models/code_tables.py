"""Many categorical variables at once: their layout, embeddings and softmax heads.

Columns have anything from two to thousands of codes. Columns of like size share a *bucket*, padded
to its widest, so that one batched product serves all columns of a bucket and no step loops over
columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from skvae.models.precision import at_least_float32, full_precision

LOG2_E = 1 / math.log(2)
# Logit of the padding: its probability is 0 in float32.
PADDING_LOGIT = -1e4
# Columns of at most this many codes are drawn with the rows along the processor's vectors.
NARROW = 32
# A bucket may be padded by this share of its own size.
MAX_PADDING = 0.3


@dataclass
class Bucket:
    """Columns of like cardinality.

    Attributes
    ----------
    columns : tuple of int
        Positions of the columns in the table, ascending.
    width : int
        Codes in the widest of them.
    start : int
        Where the bucket's first code stands in the flat layout.
    """

    columns: tuple[int, ...]
    width: int
    start: int


class CodeLayout:
    """Where the codes of each column stand once columns are sorted into buckets.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column.

    Attributes
    ----------
    buckets : list of Bucket
    order : list of int
        The columns, bucket by bucket.
    offsets : int64 array of shape (n_columns,)
        Place of each column's first code in the flat layout.
    size : int
        Length of the flat layout, padding included.
    """

    def __init__(self, cardinalities: Sequence[int]) -> None:
        self.cardinalities = [int(cardinality) for cardinality in cardinalities]
        self.offsets = np.zeros(len(self.cardinalities), np.int64)
        self.buckets: list[Bucket] = []
        self.size = 0
        by_width = sorted(range(len(self.cardinalities)), key=self.cardinalities.__getitem__)
        group: list[int] = []
        filled = 0
        for column in by_width:
            width = self.cardinalities[column]
            if group and width * (len(group) + 1) > (1 + MAX_PADDING) * (filled + width):
                self._close(group)
                group, filled = [], 0
            group.append(column)
            filled += width
        self._close(group)
        self.order = [column for bucket in self.buckets for column in bucket.columns]

    def _close(self, group: list[int]) -> None:
        columns = tuple(sorted(group))
        width = max(self.cardinalities[column] for column in columns)
        self.buckets.append(Bucket(columns, width, self.size))
        for rank, column in enumerate(columns):
            self.offsets[column] = self.size + rank * width
        self.size += len(columns) * width

    def scatter(self, values: Sequence[np.ndarray], fill: float) -> list[Tensor]:
        """Lay one array for each column out in buckets, padding with ``fill``.

        Each array has shape (cardinality, ...); the tensors have shape (columns, width, ...).
        """
        out = []
        for bucket in self.buckets:
            shape = (len(bucket.columns), bucket.width, *values[bucket.columns[0]].shape[1:])
            block = np.full(shape, fill, np.float32)
            for rank, column in enumerate(bucket.columns):
                block[rank, : self.cardinalities[column]] = values[column]
            out.append(torch.from_numpy(block))
        return out


def ordinal_basis(scores: np.ndarray | None, n_codes: int, size: int) -> np.ndarray:
    """Smooth functions of the rank of a code, of shape (n_codes, size).

    The normal quantile and cosines of the rank, so that a table spanned by them changes little
    from one code to the next. Zero for nominal columns (``scores`` None).
    """
    basis = np.zeros((n_codes, size), np.float32)
    if scores is None:
        return basis
    scores = np.asarray(scores, np.float64)
    used = min(size, n_codes)
    basis[:, 0] = torch.special.ndtri(torch.from_numpy(scores)).numpy() / 1.5
    frequencies = np.arange(1, used)
    basis[:, 1:used] = 1.2 * np.cos(math.pi * scores[:, None] * frequencies)
    return basis


class CodeTable(nn.Module):
    """One learnt vector for each code of each column.

    A nominal column's vectors are free. Those of a column with an order are free vectors that
    start at zero, plus a smooth function of the code's rank with learnt coefficients: neighbouring
    bins begin alike and part only as far as the data asks.

    Parameters
    ----------
    layout : CodeLayout
        The codes.
    width : int
        Size of a vector.
    scores : sequence of (ndarray of shape (n_codes,) or None)
        Rank in (0, 1) of the codes of each column; None for nominal ones.
    basis_size : int
        Number of smooth functions.
    free_std, smooth_std : float
        Standard deviation of nominal vectors, and of the coefficients, at the start.
    """

    def __init__(
        self,
        layout: CodeLayout,
        width: int,
        scores: Sequence[np.ndarray | None],
        *,
        basis_size: int,
        free_std: float,
        smooth_std: float,
    ) -> None:
        super().__init__()
        self.width = width
        bases = layout.scatter(
            [
                ordinal_basis(score, n_codes, basis_size)
                for score, n_codes in zip(scores, layout.cardinalities, strict=True)
            ],
            fill=0.0,
        )
        self.free = nn.ParameterList()
        self.smooth = nn.ParameterList()
        self._smooth_index: list[int | None] = []
        for rank, (bucket, basis) in enumerate(zip(layout.buckets, bases, strict=True)):
            free = torch.randn(len(bucket.columns), bucket.width, width) * free_std
            is_ordinal = torch.tensor([scores[column] is not None for column in bucket.columns])
            free[is_ordinal] = 0.0
            self.free.append(nn.Parameter(free))
            if is_ordinal.any():
                self._smooth_index.append(len(self.smooth))
                coefficients = torch.randn(len(bucket.columns), basis_size, width) * smooth_std
                self.smooth.append(nn.Parameter(coefficients))
                self.register_buffer(f"basis_{rank}", basis)
            else:
                self._smooth_index.append(None)

    def blocks(self) -> list[Tensor]:
        """Return the table of each bucket, of shape (columns, codes, width)."""
        out = []
        for rank, (free, index) in enumerate(zip(self.free, self._smooth_index, strict=True)):
            if index is None:
                out.append(free)
            else:
                basis = self.get_buffer(f"basis_{rank}")
                out.append(torch.baddbmm(free, basis, self.smooth[index]))
        return out

    def forward(self) -> Tensor:
        """Return the flat table, of shape (layout.size, width)."""
        return torch.cat([block.reshape(-1, self.width) for block in self.blocks()])


class CategoricalHeads(nn.Module):
    """Biases and bookkeeping of one softmax for each column.

    Parameters
    ----------
    layout : CodeLayout
        The codes.
    counts : sequence of ndarray of shape (n_codes,)
        Training rows behind each code: the biases start at the log frequencies.
    """

    def __init__(self, layout: CodeLayout, counts: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.layout = layout
        logs = [np.log((count + 0.5) / (count + 0.5).sum()) for count in counts]
        # A code without training rows is given likelihood in scoring, but is never drawn.
        blocked = [np.where(count > 0, 0.0, PADDING_LOGIT) for count in counts]
        if any(not (count > 0).any() for count in counts):
            raise ValueError("Each column needs a code that some training row holds.")
        padding = [np.zeros(len(count)) for count in counts]
        for rank, (log, pad, block) in enumerate(
            zip(
                layout.scatter(logs, fill=0.0),
                layout.scatter(padding, fill=PADDING_LOGIT),
                layout.scatter(blocked, fill=PADDING_LOGIT),
                strict=True,
            )
        ):
            self.register_parameter(f"block{rank}_bias", nn.Parameter(log))
            self.register_buffer(f"padding_{rank}", pad)
            self.register_buffer(f"blocked_{rank}", block)
            columns = torch.tensor(layout.buckets[rank].columns)
            self.register_buffer(f"columns_{rank}", columns, persistent=False)

    def logits(self, hidden: Tensor, tables: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of each bucket, of shape (columns, codes, batch).

        With the batch last, columns of few codes take softmaxes and products as well as wide ones.

        Parameters
        ----------
        hidden : Tensor of shape (n_columns, batch, width)
            Features of each column, in the order of the buckets (``CodeLayout.order``).
        tables : sequence of Tensor of shape (columns, codes, width)
            One vector for each code, by bucket.
        """
        sizes = [len(bucket.columns) for bucket in self.layout.buckets]
        out = []
        for rank, features in enumerate(hidden.split(sizes)):
            bias = self.get_parameter(f"block{rank}_bias") + self.get_buffer(f"padding_{rank}")
            out.append(torch.baddbmm(bias[:, :, None], tables[rank], features.transpose(1, 2)))
        return out

    def log_prob(self, codes: Tensor, logits: Sequence[Tensor]) -> Tensor:
        """Return log p(codes), summed over columns, of shape (batch,)."""
        total = None
        for rank, scores in enumerate(logits):
            targets = codes[:, self.get_buffer(f"columns_{rank}")].T
            loss = F.cross_entropy(scores, targets, reduction="none")
            total = -loss.sum(0) if total is None else total - loss.sum(0)
        assert total is not None
        return total

    def column_bias(self, column: int) -> Tensor:
        """Return bias plus block of one column, for drawing, of shape (n_codes,)."""
        for rank, bucket in enumerate(self.layout.buckets):
            if column in bucket.columns:
                row = bucket.columns.index(column)
                bias = self.get_parameter(f"block{rank}_bias")[row]
                bias = bias + self.get_buffer(f"blocked_{rank}")[row]
                return bias[: self.layout.cardinalities[column]]
        raise IndexError(column)


class SegmentedSoftmax(nn.Module):
    """One softmax for each column over its segment of a flat row of logits.

    For logits that come out of a single product: nothing is padded or copied.

    Parameters
    ----------
    counts : sequence of ndarray of shape (n_codes,)
        Training rows behind each code of each column.
    """

    column: Tensor
    membership: Tensor
    blocked: Tensor

    def __init__(self, counts: Sequence[np.ndarray]) -> None:
        super().__init__()
        sizes = [len(count) for count in counts]
        column = torch.repeat_interleave(torch.tensor(sizes))
        self.register_buffer("column", column, persistent=False)
        membership = F.one_hot(column, len(sizes)).T.float().contiguous()
        self.register_buffer("membership", membership, persistent=False)
        # A code without training rows is given likelihood in scoring, but is never drawn.
        blocked = torch.from_numpy(np.concatenate(counts) == 0) * PADDING_LOGIT
        self.register_buffer("blocked", blocked, persistent=False)

    def log_prob(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the log probability of one code of each column, summed, of shape (batch,).

        Parameters
        ----------
        scores : Tensor of shape (batch, sum of sizes)
            Logits, column after column.
        targets : int64 Tensor of shape (batch, n_columns)
            Positions of the codes in the flat row.
        """
        scores = at_least_float32(scores).T
        return _SegmentedLogProb.apply(scores, targets.T, self.column, self.membership)


class _SegmentedLogProb(torch.autograd.Function):
    """``segmented_log_prob``, differentiable in the scores."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, targets: Tensor, column: Tensor, membership: Tensor
    ) -> Tensor:
        with full_precision(scores):
            log_prob, *kept = segmented_log_prob(scores.contiguous(), targets, column, membership)
        ctx.save_for_backward(*kept, targets, column)
        return log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return segmented_gradient(grad, *ctx.saved_tensors), None, None, None


def segmented_log_prob(
    scores: Tensor, targets: Tensor, column: Tensor, membership: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log softmax of segments at one code each, summed: ``sum_j s[t_j] - log sum_k exp s[k]``.

    With the batch last, the greatest and the sum of a segment are taken over whole rows.

    Parameters
    ----------
    scores : Tensor of shape (n_codes, batch)
        Logits.
    targets : int64 Tensor of shape (n_columns, batch)
        Positions of the codes.
    column : int64 Tensor of shape (n_codes,)
        The column that each code belongs to.
    membership : Tensor of shape (n_columns, n_codes)
        One where it does, zero elsewhere.

    Returns
    -------
    log_prob : Tensor of shape (batch,)
    weights : Tensor of shape (n_codes, batch)
        Exponentials of the scores, the greatest of a column being 1.
    totals : Tensor of shape (n_columns, batch)
        Their sums.
    """
    shift = scores.new_full(targets.shape, -math.inf)
    shift.scatter_reduce_(0, column[:, None].expand_as(scores), scores, "amax")
    chosen = scores.gather(0, targets)
    # A power of 2 takes less than half the time of an exponential.
    weights = (-LOG2_E * shift).index_select(0, column).add_(scores, alpha=LOG2_E).exp2_()
    totals = membership @ weights
    return (chosen - shift).sub_(totals.log()).sum(0), weights, totals


def segmented_gradient(
    grad: Tensor, weights: Tensor, totals: Tensor, targets: Tensor, column: Tensor
) -> Tensor:
    """Return the gradient of ``segmented_log_prob``: ``grad * (1[k = t_j] - softmax(s)[k])``."""
    out = (-grad / totals).index_select(0, column).mul_(weights)
    return out.scatter_add_(0, targets, grad.expand_as(targets))


def draw_codes(logits: Tensor, generator: torch.Generator | None, argmax: bool = False) -> Tensor:
    """Draw one code a row from softmax(logits) by the inverse distribution function.

    Parameters
    ----------
    logits : Tensor of shape (batch, n_codes)
        Unnormalised log probabilities; may be overwritten.
    generator : torch.Generator or None
        Source of the uniform numbers.
    argmax : bool, default=False
        Whether to take the most probable code instead.

    Returns
    -------
    Tensor of int64 of shape (batch,)
    """
    return logits.argmax(dim=1) if argmax else draw_tilted(logits, None, generator)[0]


def draw_tilted(
    logits: Tensor, odds: Tensor | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Draw one code a row in proportion to odds * softmax(logits).

    Parameters
    ----------
    logits : Tensor of shape (batch, n_codes)
        Unnormalised log probabilities; may be overwritten.
    odds : Tensor of shape (1 or batch, n_codes) or None
        None for 1.
    generator : torch.Generator or None
        Source of the uniform numbers.

    Returns
    -------
    codes : int64 Tensor of shape (batch,)
    mean_odds : Tensor of shape (batch,)
        Mean of the odds under softmax(logits).
    """
    # 1 - u lies in (0, 1], so that a leading code of probability 0 is never drawn.
    uniform = 1.0 - torch.rand(len(logits), device=logits.device, generator=generator)
    if logits.shape[1] <= NARROW:
        # Along the rows: a processor's vectors are wider than the codes.
        weight = logits.T.softmax(dim=0)
        cumulative = (weight if odds is None else weight.mul_(odds.T)).cumsum_(dim=0)
        total = cumulative[-1]
        codes = (cumulative < uniform * total).sum(dim=0)
    else:
        weight = torch.softmax(logits, dim=1, out=logits)
        cumulative = (weight if odds is None else weight.mul_(odds)).cumsum_(dim=1)
        total = cumulative[:, -1].clone()  # the caller may reuse the memory of the logits
        codes = torch.searchsorted(cumulative, (uniform * total)[:, None]).squeeze(1)
    return codes.clamp_(max=logits.shape[1] - 1), total
