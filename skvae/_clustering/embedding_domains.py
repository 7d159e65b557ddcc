"""Domains by any clusterer of the embedding, which also tells those of new spots."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.mixture import BayesianGaussianMixture
from sklearn.pipeline import Pipeline

from skvae.spatial.leiden import Leiden
from skvae.spatial.neighbourhoods import Neighbourhoods
from skvae.spatial.refinement import n_voters, vote

# Of AESTETIK's refinement: how many vote, and from which posterior on.
CONFIDENT_VOTERS = 10
CONFIDENT = 0.9
# Times at most that domains are ordered by their sizes.
MAX_ORDERS = 5


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
    if is_classifier(clusterer) or is_regressor(clusterer):
        raise ValueError(
            f"clusterer={clusterer} learns from labels, and there are none: take a clusterer or a "
            "mixture, such as KMeans()."
        )
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
    return None if number is None else clusterer.get_params()[number]


def _number_parameter(clusterer: BaseEstimator) -> str | None:
    """Return the name of the parameter, in a pipeline that of its last step."""
    prefix = f"{clusterer.steps[-1][0]}__" if isinstance(clusterer, Pipeline) else ""
    names = (prefix + name for name in ("n_clusters", "n_components"))
    params = clusterer.get_params()
    return next((name for name in names if name in params), None)


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
        self.n_voters = n_voters(width_factor)

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
            labels = np.asarray(getattr(self.clusterer, "labels_", ()))
            if labels.shape != rows.shape:
                raise ValueError(
                    f"clusterer={self.clusterer} has neither predict nor a label of each spot in "
                    "labels_: take a clusterer or a mixture, such as KMeans()."
                )
            self.known = Z[rows], labels
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
        proba = self.proba(Z, around)
        # A tied vote goes to the first domain, so that another order may change the sizes.
        for _ in range(MAX_ORDERS):
            sizes = (labels_of(proba)[:, None] == np.arange(self.n_clusters)).sum(axis=0)
            by_size = np.argsort(-sizes, kind="stable")
            if (np.diff(by_size) > 0).all():
                break
            self.order = self.order[by_size]
            proba = self.proba(Z, around)
        return proba

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
