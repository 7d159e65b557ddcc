"""What the network learns from: labels by a consensus, or by a clusterer of each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from skvae.spatial.consensus import SpatialConsensus
from skvae.spatial.domains import EmbeddingDomains, labels_of, make_clusterer, own_number
from skvae.spatial.gate import GATE, range_ratio
from skvae.spatial.inputs import Spots
from skvae.spatial.members import width_factor
from skvae.spatial.student import PlainFeatures


class Lesson(NamedTuple):
    """What the network learns.

    Attributes
    ----------
    labels : int64 ndarray of shape (n_spots,) or (n_spots, n_modalities)
        Labels of both modalities, or of each.
    source : SpatialConsensus or PlainFeatures
        What makes features of spots.
    """

    labels: np.ndarray
    source: SpatialConsensus | PlainFeatures


def teach(spots: Spots, rows: np.ndarray, params: Mapping[str, Any], seed: int) -> Lesson:
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
    return Lesson(consensus.labels_, consensus)


def _by_clusterer(
    spots: Spots,
    rows: np.ndarray,
    n_clusters: int | None,
    clusterer: BaseEstimator | str,
    use_morphology: bool | str,
    seed: int,
) -> Lesson:
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
    return Lesson(np.column_stack(labels), PlainFeatures(X, image, factor))


def check_teaching_params(params: Mapping[str, Any]) -> None:
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
