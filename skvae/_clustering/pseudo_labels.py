"""Labels for the network to learn from: by a consensus, or by a clusterer of each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from skvae._clustering.embedding_domains import (
    EmbeddingDomains,
    labels_of,
    make_clusterer,
    own_number,
)
from skvae._clustering.spots import Spots
from skvae.spatial.autocorrelation import GATE, range_ratio
from skvae.spatial.checks import check_morphology
from skvae.spatial.consensus import SpatialConsensus
from skvae.spatial.consensus_members import width_factor


class PlainFeatures:
    """Centred features, where there is no consensus that chooses and centres them.

    Parameters
    ----------
    X : array of shape (n_spots, n_features)
        Features of the spots of the fit.
    morphology : array of shape (n_spots, n_image_features) or None
        Their image features, where they are used.
    width_factor : float
        By which kernels are narrowed.
    """

    def __init__(self, X: np.ndarray, morphology: np.ndarray | None, width_factor: float) -> None:
        self.n_leading_, self.width_factor_ = X.shape[1], width_factor
        self.n_morphology_features_ = 0 if morphology is None else morphology.shape[1]
        self.mean_ = self._joined(X, morphology).mean(axis=0, dtype=np.float64)

    def features(self, X: np.ndarray, morphology: np.ndarray | None) -> np.ndarray:
        """Return the features of spots, float32 of shape (n_spots, n_all_features)."""
        return np.subtract(self._joined(X, morphology), self.mean_).astype(np.float32)

    def _joined(self, X: np.ndarray, morphology: np.ndarray | None) -> np.ndarray:
        if not self.n_morphology_features_:
            return X
        return np.hstack([X, check_morphology(morphology, len(X), self.n_morphology_features_)])


class PseudoLabels(NamedTuple):
    """What the network learns from.

    Attributes
    ----------
    labels : int64 ndarray of shape (n_spots,) or (n_spots, n_modalities)
        Labels of both modalities, or of each.
    source : SpatialConsensus or PlainFeatures
        What makes features of spots.
    """

    labels: np.ndarray
    source: SpatialConsensus | PlainFeatures


def find_pseudo_labels(
    spots: Spots, rows: np.ndarray, params: Mapping[str, Any], seed: int
) -> PseudoLabels:
    """Return labels for the network to learn from.

    Parameters
    ----------
    spots : Spots
        The spots.
    rows : int array
        Spots that a clusterer is fitted on.
    params : dict
        Parameters of ``AEStetikClusterer``.
    seed : int
        For the labels.
    """
    names = ("n_clusters", "clusterer", "use_morphology")
    n_clusters, clusterer, use_morphology = (params[name] for name in names)
    if params["pseudo_labels"] == "clusterer":
        return _by_clusterer(spots, rows, n_clusters, clusterer, use_morphology, seed)
    if n_clusters is None and clusterer is not None:
        n_clusters = own_number(clusterer)
    consensus = SpatialConsensus(
        n_clusters,
        refine=bool(params["refine"]),
        use_morphology=use_morphology,
        n_repeats=params["n_repeats"],
        random_state=seed,
    )
    consensus.fit(spots.X, morphology=spots.morphology, neighbourhoods=spots.around)
    return PseudoLabels(consensus.labels_, consensus)


def _by_clusterer(
    spots: Spots,
    rows: np.ndarray,
    n_clusters: int | None,
    clusterer: BaseEstimator | str,
    use_morphology: bool | str,
    seed: int,
) -> PseudoLabels:
    """Return labels of each modality by itself, without regard to space."""
    X, image, around = spots
    if image is not None and use_morphology == "auto":
        # NaN, of an image without any range, is no reason to use it.
        image = image if range_ratio(X, image, around) >= GATE else None
    labels = []
    for part in [X] if image is None else [X, image]:
        rng = np.random.RandomState(seed)
        domains = EmbeddingDomains(make_clusterer(clusterer, n_clusters, rng))
        proba = domains.fit(np.asarray(part, dtype=np.float64), rows, around)
        labels.append(labels_of(proba))
    factor = width_factor(around.slide_size, n_clusters or domains.n_clusters)
    return PseudoLabels(np.column_stack(labels), PlainFeatures(X, image, factor))


def check_pseudo_label_params(params: Mapping[str, Any]) -> None:
    """Raise ValueError for parameters that need a clusterer, where there is none."""
    if params["clusterer"] is not None:
        return
    if params["pseudo_labels"] == "clusterer":
        raise ValueError(
            "pseudo_labels='clusterer' needs a clusterer, and clusterer is None: take 'bgm', or "
            "pseudo_labels='consensus'."
        )
    if params["refine"] == "confident":
        raise ValueError(
            "refine='confident' needs a clusterer with posteriors, and clusterer is None: take "
            "'bgm', or refine=True."
        )
