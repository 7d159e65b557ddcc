"""Triplets of rows by their labels, drawn inside a batch that is encoded once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def draw_triplets(
    labels: Tensor, *, every_label: bool = False, n_repeats: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw for each row another one of its label, and one of another label.

    Rows are lined up by label, so that a draw is the first place of a label plus a random number
    below its count. The positive is any other row of the anchor's label; the negative is any row
    of a label drawn from those that the batch has beside the anchor's.

    Parameters
    ----------
    labels : Tensor of int, of shape (batch,)
        Below 0: no label, the row is in no triplet.
    every_label : bool, default=False
        Whether an anchor has a negative of each other label, and as many positives, in place of
        one of each: the multi-triplets of AESTETIK [1]_.
    n_repeats : int, default=1
        How many triplets there are in place of one.

    Returns
    -------
    anchors, positives, negatives : Tensor of int, of shape (n_triplets,)
        Rows. One that is alone with its label is no anchor; where a batch has a single label there
        are no triplets.

    References
    ----------
    .. [1] Nonchev et al., "Representation learning for multi-modal spatially resolved
       transcriptomics data", medRxiv 2024.06.04.24308256.

    Examples
    --------
    >>> import torch
    >>> from skvae.models import draw_triplets
    >>> draw_triplets(torch.tensor([0, 0, 1, -1]))
    (tensor([0, 1]), tensor([1, 0]), tensor([2, 2]))
    """
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(
            f"Labels of shape {tuple(labels.shape)} and {labels.dtype} were found, expected whole "
            "numbers, one a row; convert names with numpy.unique(labels, return_inverse=True)."
        )
    order = labels.argsort(stable=True)
    order = order[labels[order] >= 0]
    _, group, counts = labels[order].unique_consecutive(return_inverse=True, return_counts=True)
    starts = counts.cumsum(0) - counts
    places = torch.nonzero(counts[group] > 1).squeeze(1)
    n_others = max(0, len(counts) - 1)
    if not n_others:
        places = places[:0]
    own = group[places].unsqueeze(1)
    if every_label:
        others = torch.arange(n_others, device=labels.device).repeat(n_repeats)
        others = others.expand(len(places), -1)
    else:
        others = _draw_below(own.new_full((len(places), n_repeats), n_others))
    others = others + (others >= own)
    negatives = starts[others] + _draw_below(counts[others])
    # One step or more around the circle of the label's rows, but not as far as the anchor.
    size = counts[own].expand_as(others)
    steps = 1 + _draw_below(size - 1)
    positives = starts[own] + (places.unsqueeze(1) - starts[own] + steps) % size
    anchors = places.unsqueeze(1).expand_as(others)
    return order[anchors.flatten()], order[positives.flatten()], order[negatives.flatten()]


def _draw_below(limits: Tensor) -> Tensor:
    """Draw whole numbers from 0 to below each limit; integers, so that none rounds up to it."""
    return torch.randint(2**62, limits.shape, device=limits.device) % limits


def triplet_loss(
    z: Tensor, triplets: tuple[Tensor, Tensor, Tensor], *, margin: float = 1.0
) -> Tensor:
    """Mean over triplets of ``relu(|z_a - z_p| - |z_a - z_n| + margin)``, 0 if there are none.

    Parameters
    ----------
    z : Tensor of shape (batch, latent_dim)
        Latents of the batch.
    triplets : tuple of three Tensors of int, of shape (n_triplets,)
        Anchors, positives and negatives, as ``draw_triplets`` gives them.
    margin : float, default=1
        How much farther than the positive, by Euclidean distance, a negative has to be.
    """
    anchor, positive, negative = (z.index_select(0, rows) for rows in triplets)
    total = F.triplet_margin_loss(anchor, positive, negative, margin=margin, reduction="sum")
    return total / max(1, len(anchor))
