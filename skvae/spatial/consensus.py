"""``SpatialConsensus``: tissue domains by many small mixtures that are brought to agree."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skvae._random import private_random_state
from skvae.spatial.agreement import align, pairwise_ari
from skvae.spatial.autocorrelation import GATE, range_ratio
from skvae.spatial.checks import check_morphology
from skvae.spatial.consensus_members import (
    Member,
    find_directions,
    fit_member,
    mean_posteriors,
    n_leading,
    smooth,
    width_factor,
)
from skvae.spatial.neighbourhoods import Neighbourhoods
from skvae.spatial.number_of_clusters import choose_n_clusters
from skvae.spatial.refinement import n_voters, vote

WIDTHS = (1.0, 1.25, 1.6)
# Of modalities joined only directions that do not depend on their scales: these.
JOINT_PROJECTIONS = tuple(("maf", size) for size in (8, 10, 12, 14, 16, 18, 20))
PROJECTIONS = (
    *JOINT_PROJECTIONS,
    *(("multispati", size) for size in (10, 12, 15, 20, 25)),
    *(("pca", size) for size in (15, 20, 30)),
)
# Mixtures on each projection, and how many where spots are few.
REPEATS, REPEATS_SMALL, SMALL = 1, 3, 1_000
# Share of the members that is kept.
KEPT_SHARE = 0.6


class SpatialConsensus(ClusterMixin, BaseEstimator):
    """Cluster spots by the consensus of Gaussian mixtures on spatially smoothed projections.

    Principal components are smoothed by Gaussian kernels of three widths and projected in fifteen
    ways: on the 8 to 20 directions of largest spatial autocorrelation (MAF), on the 10 to 25 of
    MULTISPATI, on the first 15 to 30 components. On each of the 45 a mixture of K Gaussians with a
    common covariance is fitted. The three fifths whose labelings agree best with all others are
    aligned and their posteriors averaged; then neighbours vote.

    Parameters
    ----------
    n_clusters : int or None, default=7
        Number of domains K. None: the one that ``choose_n_clusters`` hints at.
    refine : bool, default=True
        Whether neighbours vote: the 18 nearest, 6 where kernels were narrowed.
    use_morphology : {"auto"} or bool, default="auto"
        Whether image features passed to fit are joined to the others. "auto": if the range of
        their autocorrelation is at least .85 of that of the expression (``range_ratio``). With
        them all members are of MAF, to which the scale of a modality means nothing.
    n_repeats : int or None, default=None
        Mixtures fitted on each projection. None: 1, and 3 below 1,000 spots: there local optima
        differ most, and more mixtures make the consensus the same from seed to seed.
    n_starts : int, default=6
        Starts of each mixture.
    max_fit_spots : int, default=40_000
        Above it the mixtures are fitted on so many spots, spread evenly over the slides and
        smoothed among all; then all spots take one E-step.
    random_state : int, RandomState instance or None, default=None
        Seeds the mixtures and the choice of spots.

    Attributes
    ----------
    n_clusters_ : int
        Number of domains.
    selection_ : NumberOfClusters or None
        The numbers that were tried and how stable each was, with ``n_clusters=None``.
    labels_ : int64 array of shape (n_spots,)
        Domain of each spot, from 0, in the order of their sizes.
    proba_ : array of shape (n_spots, n_clusters)
        Shares of the vote, or the mean posteriors with ``refine=False``.
    agreement_ : float
        Mean adjusted Rand index between all members: .65 to .95 where the domains are clear. A
        sign of quality that needs no labels.
    member_agreement_ : array of shape (n_members,)
        The same for each member fitted.
    members_ : list of Member
        Those kept, aligned.
    mean_ : array of shape (n_features,)
        Mean of the training spots.
    width_factor_ : float
        By which kernels were narrowed; 1 but for small slides.
    uses_morphology_ : bool
        Whether the image features were joined.
    range_ratio_ : float or None
        What decided it.
    n_features_in_, n_morphology_features_ : int
        Columns of the features and of the image features in fit.

    See Also
    --------
    choose_n_clusters : a hint at the number of domains.

    Notes
    -----
    A million cells took 31 CPU seconds with the search for neighbours; from counts of 166 genes and
    with the network of ``AEStetikClusterer``, 51 CPU seconds and 3.8 GB in all.

    References
    ----------
    .. [1] Switzer, Green, "Min/max autocorrelation factors for multivariate spatial imagery",
       Computer Science and Statistics, 1984.
    .. [2] Dray, Saïd, Débias, "Spatial ordination of vegetation data using a generalization of
       Wartenberg's multivariate spatial correlation", Journal of Vegetation Science 19, 2008.

    Examples
    --------
    Two layers, seen through noise twice as large as their difference:

    >>> import numpy as np
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from skvae.spatial import SpatialConsensus
    >>> row, column = np.divmod(np.arange(900), 30)
    >>> layer = (row > 14).astype(int)
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(900, 10)) + 0.5 * layer[:, None] * (np.arange(10) < 4)
    >>> places = np.column_stack([column, row])
    >>> consensus = SpatialConsensus(n_clusters=2, random_state=0)
    >>> labels = consensus.fit(X, coordinates=places).labels_
    >>> adjusted_rand_score(layer, labels) > 0.8
    True
    >>> bool(np.all(consensus.predict(X, coordinates=places) == labels))
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "refine": ["boolean"],
        "use_morphology": ["boolean", StrOptions({"auto"})],
        "n_repeats": [Interval(Integral, 1, None, closed="left"), None],
        "n_starts": [Interval(Integral, 1, None, closed="left")],
        "max_fit_spots": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters=7,
        *,
        refine=True,
        use_morphology="auto",
        n_repeats=None,
        n_starts=6,
        max_fit_spots=40_000,
        random_state=None,
    ):
        self.n_clusters = n_clusters
        self.refine = refine
        self.use_morphology = use_morphology
        self.n_repeats = n_repeats
        self.n_starts = n_starts
        self.max_fit_spots = max_fit_spots
        self.random_state = random_state

    def fit(
        self, X, y=None, *, coordinates=None, slide=None, morphology=None, neighbourhoods=None
    ) -> SpatialConsensus:
        """Find the domains.

        Parameters
        ----------
        X : array-like of shape (n_spots, n_features)
            Principal components of the expression, in order of their variance and not scaled.
            At most 50, and a twentieth of the number of spots, are used.
        y : None
            Ignored.
        coordinates : array-like of shape (n_spots, 2) or (n_spots, 3), or None
            Where the spots lie. None: spots have no neighbours.
        slide : array-like of shape (n_spots,) or None
            Slide of each spot.
        morphology : array-like of shape (n_spots, n_image_features) or None
            Image features, such as principal components of a descriptor, not scaled.
        neighbourhoods : Neighbourhoods or None
            Instead of ``coordinates`` and ``slide``, where they have been searched already.

        Returns
        -------
        self
        """
        self._validate_params()
        X = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        if len(X) < (self.n_clusters or 2):
            raise ValueError(
                f"n_samples={len(X)} should be >= n_clusters={self.n_clusters or 2}: lower "
                "n_clusters, or pass more spots"
            )
        around = _neighbourhoods(len(X), coordinates, slide, neighbourhoods)
        rng = private_random_state(self.random_state)
        self.n_features_in_ = X.shape[1]
        features = self._fit_features(X, morphology, around)
        self.n_clusters_, self.selection_ = self.n_clusters, None
        if self.n_clusters is None:
            image = features[:, self.n_leading_ :] if self.uses_morphology_ else None
            self.selection_ = choose_n_clusters(X, around, rng, morphology=image)
            self.n_clusters_ = self.selection_.n_clusters
        self.width_factor_ = width_factor(around.slide_size, self.n_clusters_)
        smoothed = smooth(features, around, self._widths())
        rows = around.spread_sample(self.max_fit_spots, rng)
        members = self._fit_members(features, smoothed, around, rows, rng)
        self._agree(members, smoothed, rows)
        mean = self._by_size(mean_posteriors(self.members_, smoothed), around)
        self.proba_ = self._vote(mean, around)
        self.labels_ = self.proba_.argmax(axis=1)
        return self

    def fit_predict(
        self, X, y=None, *, coordinates=None, slide=None, morphology=None, neighbourhoods=None
    ) -> np.ndarray:
        """Find the domains and return ``labels_``; parameters are those of ``fit``."""
        return self.fit(
            X,
            coordinates=coordinates,
            slide=slide,
            morphology=morphology,
            neighbourhoods=neighbourhoods,
        ).labels_

    def predict_proba(
        self, X, *, coordinates=None, slide=None, morphology=None, neighbourhoods=None
    ) -> np.ndarray:
        """Return the probabilities of the same domains for spots on any slides.

        Parameters are those of ``fit``; X has the same components and ``morphology`` the same
        features. Every slide is smoothed by its own spacing; nothing is fitted.

        Returns
        -------
        array of shape (n_spots, n_clusters)
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but SpatialConsensus is expecting "
                f"{self.n_features_in_} features as input"
            )
        around = _neighbourhoods(len(X), coordinates, slide, neighbourhoods)
        smoothed = smooth(self.features(X, morphology), around, self._widths())
        return self._vote(mean_posteriors(self.members_, smoothed), around)

    def predict(
        self, X, *, coordinates=None, slide=None, morphology=None, neighbourhoods=None
    ) -> np.ndarray:
        """Return the domains of spots on any slides; parameters as in ``predict_proba``."""
        return self.predict_proba(
            X,
            coordinates=coordinates,
            slide=slide,
            morphology=morphology,
            neighbourhoods=neighbourhoods,
        ).argmax(axis=1)

    def _widths(self) -> list[float]:
        return [width * self.width_factor_ for width in WIDTHS]

    def _fit_features(self, X: np.ndarray, morphology, around: Neighbourhoods) -> np.ndarray:
        """Decide which features are used, learn their means, and return them."""
        self.n_leading_ = n_leading(X.shape[1], len(X))
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        self.uses_morphology_, self.range_ratio_ = False, None
        self.n_morphology_features_ = 0
        if morphology is not None:
            image = check_morphology(morphology, len(X))
            self.n_morphology_features_ = image.shape[1]
            self.morphology_mean_ = image.mean(axis=0)
            # As large as the expression: in sums over both neither is lost to rounding.
            leading = X[:, : self.n_leading_]
            spreads = [np.sqrt(part.var(axis=0).sum()) for part in (leading, image)]
            self._morphology_scale = spreads[0] / spreads[1] if all(spreads) else 1.0
            self.range_ratio_ = range_ratio(X, image, around)
            if self.use_morphology == "auto":
                self.uses_morphology_ = self.range_ratio_ >= GATE
            else:
                self.uses_morphology_ = self.use_morphology
        return self.features(X, morphology)

    def features(self, X: np.ndarray, morphology) -> np.ndarray:
        """Return the centred features that members are projections of, modalities of one size."""
        size = self.n_leading_
        centred = np.subtract(X[:, :size], self.mean_[:size]).astype(np.float32)
        if not self.uses_morphology_:
            return centred
        image = check_morphology(morphology, len(X), self.n_morphology_features_)
        scaled = (image - self.morphology_mean_) * self._morphology_scale
        return np.hstack([centred, scaled.astype(np.float32)])

    def _fit_members(
        self,
        features: np.ndarray,
        smoothed: dict[float, np.ndarray],
        around: Neighbourhoods,
        rows: np.ndarray,
        rng: np.random.RandomState,
    ) -> list[Member]:
        projections = JOINT_PROJECTIONS if self.uses_morphology_ else PROJECTIONS
        directions = find_directions(features, around.lag_matrix(), projections)
        n_repeats = self.n_repeats or (REPEATS_SMALL if len(features) < SMALL else REPEATS)
        members = []
        for width, values in smoothed.items():
            sampled = values if len(rows) == len(values) else values[rows]
            for matrix in directions * n_repeats:
                seed = np.random.RandomState(rng.randint(np.iinfo(np.int32).max))
                members.append(
                    fit_member(sampled, width, matrix, self.n_clusters_, seed, self.n_starts)
                )
        return members

    def _agree(
        self, members: Sequence[Member], smoothed: dict[float, np.ndarray], rows: np.ndarray
    ) -> None:
        """Keep the members that agree best, and give them the same label ids."""
        posteriors = [member.posteriors(smoothed[member.width][rows]) for member in members]
        labelings = np.array([part.argmax(axis=1) for part in posteriors])
        self.member_agreement_ = pairwise_ari(labelings, self.n_clusters_).mean(axis=1)
        self.agreement_ = float(self.member_agreement_.mean())
        ranking = np.argsort(-self.member_agreement_, kind="stable")
        kept = ranking[: int(np.ceil(KEPT_SHARE * len(members)))]
        columns, _ = align([posteriors[place] for place in kept], reference=0)
        self.members_ = [members[place] for place in kept]
        for member, order in zip(self.members_, columns, strict=True):
            member.columns = order

    def _by_size(self, mean: np.ndarray, around: Neighbourhoods) -> np.ndarray:
        """Put the domains in the order of their sizes after the vote; return the means so."""
        labels = self._vote(mean, around).argmax(axis=1)
        order = np.argsort(-np.bincount(labels, minlength=self.n_clusters_), kind="stable")
        for member in self.members_:
            member.columns = member.columns[order]
        return mean[:, order]

    def _vote(self, posteriors: np.ndarray, around: Neighbourhoods) -> np.ndarray:
        if not self.refine:
            return posteriors
        return vote(posteriors, around.nearest_matrix(n_voters(self.width_factor_)))


def _neighbourhoods(
    n_spots: int, coordinates, slide, neighbourhoods: Neighbourhoods | None
) -> Neighbourhoods:
    """Return the neighbourhoods given, or those of the coordinates."""
    if neighbourhoods is None and coordinates is None:
        return Neighbourhoods.isolated(n_spots)
    around = Neighbourhoods(coordinates, slide) if neighbourhoods is None else neighbourhoods
    if around.n_spots != n_spots:
        raise ValueError(
            f"coordinates has {around.n_spots} rows, but X has {n_spots}: give one row per spot, "
            "in the order of X"
        )
    return around
