"""``Leiden``: communities in a graph of nearest neighbours, by python-igraph."""

from __future__ import annotations

import random
from numbers import Integral, Real

import numpy as np
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import validate_data

from skvae._random import private_random_state

# Halvings of the range of resolutions, and doublings that open it.
MAX_HALVINGS = 30
MAX_DOUBLINGS = 12


class Leiden(ClusterMixin, BaseEstimator):
    """Cluster rows by the Leiden algorithm [1]_ on the graph of their nearest neighbours.

    Needs python-igraph: ``pip install 'skvae[leiden]'``.

    Parameters
    ----------
    n_clusters : int or None, default=None
        Number of communities, for which the resolution is searched; where none gives exactly
        so many, the nearest number found is taken. None: the number that ``resolution`` gives.
    n_neighbors : int, default=50
        Neighbours of a row that it is linked with.
    resolution : float, default=1.0
        Of modularity: more gives more communities. Where the search begins, with ``n_clusters``.
    random_state : int, RandomState instance or None, default=None
        Seeds the order in which rows are moved.

    Attributes
    ----------
    labels_ : int64 ndarray of shape (n_samples,)
        Community of each row, from 0.
    resolution_ : float
        The resolution they were found at.
    n_features_in_ : int
        Number of features.

    References
    ----------
    .. [1] Traag, Waltman, van Eck, "From Louvain to Leiden: guaranteeing well-connected
       communities", Scientific Reports 9, 2019.
    """

    _parameter_constraints: dict = {
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "resolution": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_clusters=None, *, n_neighbors=50, resolution=1.0, random_state=None):
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.resolution = resolution
        self.random_state = random_state

    def fit(self, X, y=None):
        """Find the communities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.

        Returns
        -------
        self : Leiden

        Raises
        ------
        ImportError
            python-igraph is not installed.
        """
        self._validate_params()
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        igraph = _import_igraph()
        graph = _neighbour_graph(igraph, X, self.n_neighbors)
        seed = int(private_random_state(self.random_state).randint(2**31 - 1))

        def communities(resolution):
            igraph.set_random_number_generator(random.Random(seed))
            found = graph.community_leiden("modularity", resolution=resolution, n_iterations=-1)
            return np.asarray(found.membership, dtype=np.int64)

        try:
            self.resolution_, self.labels_ = _search(communities, self.resolution, self.n_clusters)
        finally:
            igraph.set_random_number_generator(random)  # igraph's own default
        return self


def _import_igraph():
    try:
        import igraph
    except ImportError:
        raise ImportError(
            "clusterer='leiden' needs python-igraph: pip install 'skvae[leiden]', or take another "
            "clusterer."
        ) from None
    return igraph


def _neighbour_graph(igraph, X: np.ndarray, n_neighbors: int):
    """Link each row with its nearest ones; a link both ways counts once."""
    n_neighbors = min(n_neighbors, len(X) - 1)
    _, near = cKDTree(X).query(X, k=n_neighbors + 1)
    links = np.column_stack([np.repeat(np.arange(len(X)), n_neighbors + 1), near.ravel()])
    links = np.unique(np.sort(links[links[:, 0] != links[:, 1]], axis=1), axis=0)
    return igraph.Graph(n=len(X), edges=links.tolist())


def _search(communities, start: float, n_clusters: int | None) -> tuple[float, np.ndarray]:
    """Return a resolution with its communities, as many as asked for or nearly so."""
    labels = communities(start)
    if n_clusters is None:
        return start, labels
    best = (start, labels)
    low, high = 0.0, None
    resolution = start
    for _ in range(MAX_DOUBLINGS + MAX_HALVINGS):
        number = labels.max() + 1
        if abs(number - n_clusters) < abs(best[1].max() + 1 - n_clusters):
            best = (resolution, labels)
        if number == n_clusters or (high is not None and high - low < 1e-6 * high):
            break
        if number < n_clusters:
            low = resolution
        else:
            high = resolution
        resolution = 2 * low if high is None else (low + high) / 2
        labels = communities(resolution)
    return best
