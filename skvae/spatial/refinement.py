"""Labels made smooth: a vote among the nearest spots."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skvae.spatial.neighbourhoods import Neighbourhoods

VOTERS, VOTERS_SMALL = 18, 6


def n_voters(factor: float) -> int:
    """Return how many neighbours vote on a spot, where kernels were narrowed by this factor."""
    return VOTERS if factor == 1 else VOTERS_SMALL


def vote(posteriors: np.ndarray, near: sparse.csr_array) -> np.ndarray:
    """Let each spot and its neighbours vote on its cluster.

    Each divides one vote by its posteriors: on DLPFC and STARmap that does better than whole votes
    for the most probable cluster.

    Parameters
    ----------
    posteriors : array of shape (n_spots, n_clusters)
        p(k | spot).
    near : csr_array of shape (n_spots, n_spots)
        Ones at the neighbours of each spot, see ``Neighbourhoods.nearest_matrix``.

    Returns
    -------
    array of shape (n_spots, n_clusters)
        Shares of the votes.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial import Neighbourhoods, vote
    >>> near = Neighbourhoods(np.arange(6)[:, None] * [1.0, 0.0]).nearest_matrix(2)
    >>> vote(np.eye(2)[[0, 0, 1, 0, 0, 0]], near).argmax(axis=1).tolist()
    [0, 0, 0, 0, 0, 0]
    """
    votes = near @ posteriors + posteriors
    return votes / votes.sum(axis=1, keepdims=True)


def refine_labels(
    labels: np.ndarray, neighbourhoods: Neighbourhoods, n_neighbors: int = 18
) -> np.ndarray:
    """Return the label that most of a spot's nearest spots and the spot itself have.

    In a tie with others the spot keeps its own label; among others the smallest wins.

    Parameters
    ----------
    labels : array of shape (n_spots,)
        Any labels.
    neighbourhoods : Neighbourhoods
        Of the same spots.
    n_neighbors : int, default=18
        Voters.
    """
    names, codes = np.unique(labels, return_inverse=True)
    # Less than one vote more for its own, to settle ties.
    own = np.eye(len(names), dtype=np.float32)[codes]
    shares = neighbourhoods.nearest_matrix(n_neighbors) @ own + 1.5 * own
    return names[shares.argmax(axis=1)]
