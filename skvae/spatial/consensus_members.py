"""Members of the consensus: one mixture on one projection of features smoothed at one width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from skvae.spatial.mixture import TiedMixture, fit_tied_mixture
from skvae.spatial.neighbourhoods import Neighbourhoods
from skvae.spatial.projections import (
    leading_directions,
    maf_directions,
    multispati_directions,
    spatial_moments,
)

# Rows for which posteriors are made at a time.
CHUNK = 65_536
MAX_FEATURES = 50


def width_factor(slide_size: float, n_clusters: int) -> float:
    """Return what kernels are narrowed by, so that they are no wider than the mean domain.

    ``sqrt(N/K) / 16``, at least 0.4 and at most 1, for N spots on a slide. It is 1 for sections of
    more than 256 spots a domain.
    """
    return float(np.clip(np.sqrt(slide_size / n_clusters) / 16, 0.4, 1.0))


def n_leading(n_features: int, n_spots: int) -> int:
    """Return how many leading features a set of so many spots carries."""
    return min(MAX_FEATURES, n_features, max(10, n_spots // 20))


class Member:
    """One mixture, and the way from centred features to what it clusters.

    Parameters
    ----------
    width : float
        Width of the kernel that features are smoothed with, in spacings.
    directions : array of shape (n_features, n_directions)
        Projection of the smoothed features.
    centre : array of shape (n_directions,)
        Mean of the projected training spots.
    mixture : TiedMixture
        Fitted to the projected and centred training spots.

    Attributes
    ----------
    columns : int array of shape (n_clusters,)
        ``posteriors[:, columns]`` has the clusters in the order of the consensus.
    """

    def __init__(
        self, width: float, directions: np.ndarray, centre: np.ndarray, mixture: TiedMixture
    ) -> None:
        self.width, self.directions, self.centre = width, directions, centre
        self.mixture = mixture
        self.columns = np.arange(len(mixture.weights))

    def posteriors(self, smoothed: np.ndarray) -> np.ndarray:
        """Return p(k | spot), (n_spots, n_clusters), from features smoothed at this width."""
        projected = smoothed @ self.directions - self.centre
        return self.mixture.posteriors(projected)[:, self.columns]


def smooth(
    X: np.ndarray, neighbourhoods: Neighbourhoods, widths: Sequence[float]
) -> dict[float, np.ndarray]:
    """Return the features smoothed by a Gaussian kernel of each width, in spacings."""
    # One kernel at a time: for a million spots each takes 300 MB.
    return {width: neighbourhoods.gaussian_kernel(width) @ X for width in widths}


def find_directions(
    X: np.ndarray, lag: sparse.csr_array, projections: Sequence[tuple[str, int]]
) -> list[np.ndarray]:
    """Return the directions of each projection, named by its kind and number of directions.

    Kinds are "maf", "multispati" and "pca". Without any neighbours all are "pca".
    """
    covariance, lagged = spatial_moments(X, lag)
    found = []
    for kind, size in projections:
        if kind == "pca" or lag.nnz == 0:
            found.append(leading_directions(len(covariance), size))
        elif kind == "maf":
            found.append(maf_directions(covariance, lagged, size))
        else:
            found.append(multispati_directions(lagged, size))
    return found


def fit_member(
    smoothed: np.ndarray,
    width: float,
    directions: np.ndarray,
    n_clusters: int,
    rng: np.random.RandomState,
    n_starts: int,
) -> Member:
    """Fit a mixture to a projection of smoothed features."""
    directions = directions.astype(smoothed.dtype)
    projected = smoothed @ directions
    centre = projected.mean(axis=0)
    mixture = fit_tied_mixture(projected - centre, n_clusters, rng, n_starts=n_starts)
    return Member(width, directions, centre, mixture)


def mean_posteriors(members: Sequence[Member], smoothed: Mapping[float, np.ndarray]) -> np.ndarray:
    """Return the mean over members of p(k | spot), (n_spots, n_clusters)."""
    n_spots = len(next(iter(smoothed.values())))
    mean = np.empty((n_spots, len(members[0].columns)))
    for start in range(0, n_spots, CHUNK):
        rows = slice(start, start + CHUNK)
        parts = (member.posteriors(smoothed[member.width][rows]) for member in members)
        mean[rows] = sum(parts) / len(members)
    return mean
