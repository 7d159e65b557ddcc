"""Labelings compared and brought to the same label ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

MIN_ROUNDS, MAX_ROUNDS = 2, 5


def pairwise_ari(labelings: np.ndarray, n_clusters: int) -> np.ndarray:
    """Return the adjusted Rand index of every pair of labelings.

    Parameters
    ----------
    labelings : int array of shape (n_labelings, n_spots)
        Labels from 0 to n_clusters - 1.
    n_clusters : int
        Clusters in a labeling.

    Returns
    -------
    array of shape (n_labelings, n_labelings)

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial.agreement import pairwise_ari
    >>> pairwise_ari(np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]]), 2).round(2)
    array([[ 1. ,  1. , -0.5],
           [ 1. ,  1. , -0.5],
           [-0.5, -0.5,  1. ]])
    """
    n_labelings, n_spots = labelings.shape
    members = labelings[:, None, :] == np.arange(n_clusters)[:, None]
    flat = members.reshape(n_labelings * n_clusters, n_spots).astype(np.float32)
    # All contingency tables in one product: counts below 2^24 are whole numbers in float32.
    tables = (flat @ flat.T).astype(np.float64)
    pairs = tables * (tables - 1) / 2
    shape = (n_labelings, n_clusters, n_labelings, n_clusters)
    together = pairs.reshape(shape).sum(axis=(1, 3))
    within = together.diagonal()
    expected = np.outer(within, within) / max(n_spots * (n_spots - 1) / 2, 1)
    best = (within[:, None] + within) / 2
    room = best - expected
    # No room: both labelings are one cluster, or both are all singletons.
    return np.where(room > 0, (together - expected) / np.where(room > 0, room, 1), 1.0)


def align(posteriors: Sequence[np.ndarray], reference: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Find the order of clusters in each of several posteriors that fits their mean best.

    Columns are assigned to those of the reference so that ``sum_i P_i' P_ref`` is largest
    (Hungarian algorithm); the mean of the aligned posteriors is the next reference, until its
    labels stay the same.

    Parameters
    ----------
    posteriors : sequence of arrays of shape (n_spots, n_clusters)
        One per member.
    reference : int
        Member whose order is taken first.

    Returns
    -------
    columns : list of int arrays of shape (n_clusters,)
        ``posteriors[m][:, columns[m]]`` are aligned.
    mean : array of shape (n_spots, n_clusters)
        Mean of the aligned posteriors.
    """
    target = posteriors[reference]
    labels = target.argmax(axis=1)
    for step in range(MAX_ROUNDS):
        columns = [linear_sum_assignment(target.T @ part, maximize=True)[1] for part in posteriors]
        target = sum(part[:, order] for part, order in zip(posteriors, columns, strict=True))
        target = target / len(posteriors)
        before, labels = labels, target.argmax(axis=1)
        if step + 1 >= MIN_ROUNDS and np.array_equal(before, labels):
            break
    return columns, target
