"""Domains by any clusterer of the embedding, which also tells those of new spots."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator, clone
from sklearn.mixture import BayesianGaussianMixture

from skvae.spatial.consensus import VOTERS, VOTERS_SMALL
from skvae.spatial.leiden import Leiden
from skvae.spatial.neighbourhoods import Neighbourhoods
from skvae.spatial.refinement import vote

# Of AESTETIK's refinement: how many vote, and from which posterior on.
CONFIDENT_VOTERS = 10
CONFIDENT = 0.9


def make_clusterer(clusterer, n_clusters: int | None, rng: np.random.RandomState) -> BaseEstimator:
    """Return a clone with the number of clusters and seeds that it was not given.

    Parameters
    ----------
    clusterer : {"bgm", "leiden"} or clusterer
        ``"bgm"`` is the Bayesian mixture of AESTETIK.
    n_clusters : int or None
        Number of clusters, set where the clusterer has a parameter for it. None leaves its own.
    rng : RandomState
        Draws the seeds.
    """
    if clusterer == "leiden":
        clusterer = Leiden()
    elif clusterer == "bgm":
        clusterer = BayesianGaussianMixture(
            covariance_type="tied", init_params="random", max_iter=1000, n_init=10
        )
    clusterer = clone(clusterer)
    params = clusterer.get_params()
    changed = {
        name: int(rng.randint(2**31 - 1))
        for name, value in sorted(params.items())
        if name.split("__")[-1] == "random_state" and value is None
    }
    number = _number_parameter(clusterer)
    if n_clusters is not None and number is not None:
        changed[number] = n_clusters
    return clusterer.set_params(**changed)


def own_number(clusterer: BaseEstimator | str) -> int | None:
    """Return the number of clusters that a clusterer is set to, if any."""
    if isinstance(clusterer, str):
        return None
    number = _number_parameter(clusterer)
    return None if number is None else getattr(clusterer, number)


def _number_parameter(clusterer: BaseEstimator) -> str | None:
    params = clusterer.get_params()
    return next((name for name in ("n_clusters", "n_components") if name in params), None)


def labels_of(proba: np.ndarray) -> np.ndarray:
    """Return the most probable domain of each spot, -1 where all probabilities are 0."""
    return np.where(proba.any(axis=1), proba.argmax(axis=1), -1)


class EmbeddingDomains:
    """Domains that a clusterer finds in the embedding, with ids from 0 by their size.

    Parameters
    ----------
    clusterer : clusterer
        With ``predict_proba``, ``predict``, or else ``labels_`` after fit: then a spot is of the
        cluster of the nearest spot of the fit. Its spots below 0 are noise.
    refine : bool or "confident", default=False
        Whether neighbours vote: ``"confident"`` are the 10 nearest whose posterior is above .9.
    width_factor : float, default=1.0
        Below 1 fewer neighbours vote, as in ``SpatialConsensus``.

    Attributes
    ----------
    n_clusters : int
        Number of domains.
    """

    def __init__(self, clusterer, refine=False, width_factor: float = 1.0) -> None:
        self.clusterer, self.refine = clusterer, refine
        self.n_voters = VOTERS if width_factor == 1 else VOTERS_SMALL

    def fit(self, Z: np.ndarray, rows: np.ndarray, around: Neighbourhoods) -> np.ndarray:
        """Find the domains of spots, and return their probabilities.

        Parameters
        ----------
        Z : array of shape (n_spots, n_components)
            The embedding.
        rows : int array
            Spots that the clusterer is fitted on.
        around : Neighbourhoods
            Of all spots.
        """
        self.clusterer.fit(Z[rows])
        if not hasattr(self.clusterer, "predict"):
            self.known = Z[rows], np.asarray(self.clusterer.labels_)
        if hasattr(self.clusterer, "predict_proba"):
            self.names = np.arange(self.clusterer.predict_proba(Z[:1]).shape[1])
        else:
            found = np.unique(self._raw_labels(Z))
            self.names = found[found >= 0]
        self.n_clusters = len(self.names)
        if not self.n_clusters:
            raise ValueError(
                f"clusterer={self.clusterer} calls all {len(rows)} spots noise: change its "
                "parameters, such as eps, to the scale of embedding_, or take clusterer=None."
            )
        self.order = np.arange(self.n_clusters)
        sizes = (labels_of(self.proba(Z, around))[:, None] == self.order).sum(axis=0)
        self.order = np.argsort(-sizes, kind="stable")
        return self.proba(Z, around)

    def proba(self, Z: np.ndarray, around: Neighbourhoods) -> np.ndarray:
        """Return the probabilities of the domains, (n_spots, n_clusters); of noise all are 0."""
        if hasattr(self.clusterer, "predict_proba"):
            proba = self.clusterer.predict_proba(Z)[:, self.order]
        else:
            proba = (self._raw_labels(Z)[:, None] == self.names[self.order]).astype(np.float64)
        if not self.refine:
            return proba
        if self.refine == "confident":
            return _vote_of_confident(proba, around)
        near = around.nearest_matrix(self.n_voters)
        known = np.flatnonzero(proba.any(axis=1))
        proba[known] = vote(proba[known], near[known][:, known])
        return proba

    def _raw_labels(self, Z: np.ndarray) -> np.ndarray:
        """Return the clusterer's own labels."""
        if hasattr(self.clusterer, "predict"):
            return np.asarray(self.clusterer.predict(Z))
        rows, labels = self.known
        return labels[cKDTree(rows).query(Z)[1]]


def _vote_of_confident(proba: np.ndarray, around: Neighbourhoods) -> np.ndarray:
    """Return the shares of the domains among the nearest spots of a high posterior.

    A slide where they are all of one domain, or none, stays as it is.
    """
    shares = proba.copy()
    if around.indices.shape[1] == 1:  # no spot has a neighbour
        return shares
    labels, sure = labels_of(proba), proba.max(axis=1) > CONFIDENT
    for place in range(len(around.slide_names)):
        rows = np.flatnonzero(around.slides == place)
        voters = rows[sure[rows]]
        if len(np.unique(labels[voters])) < 2:
            continue
        tree = cKDTree(around.coordinates[voters])
        n_voters = min(CONFIDENT_VOTERS, len(voters))
        _, near = tree.query(around.coordinates[rows], k=n_voters)
        ballots = np.eye(proba.shape[1])[labels[voters]]
        shares[rows] = ballots[near].mean(axis=1)
    return shares
