"""Linear projections of features that vary slowly over the tissue.

All work on two small matrices: the covariance S of the features and their covariance T with the
mean of their neighbours. Without labels, and without the number of spots in their cost.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse


def spatial_moments(X: np.ndarray, lag: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return S = X'X/N and T, the symmetric part of X'AX/N.

    Parameters
    ----------
    X : array of shape (n_spots, n_features)
        Centred features, not smoothed.
    lag : csr_array of shape (n_spots, n_spots)
        The lag matrix A, rows summing to 1 (or 0), see ``Neighbourhoods.lag_matrix``.

    Returns
    -------
    S, T : float64 arrays of shape (n_features, n_features)
    """
    rows = np.asarray(X, dtype=np.float64)
    n_spots = max(len(rows), 1)
    crossed = rows.T @ (lag @ X) / n_spots
    return rows.T @ rows / n_spots, (crossed + crossed.T) / 2


def maf_directions(covariance: np.ndarray, lagged: np.ndarray, n_directions: int) -> np.ndarray:
    """Return the minimum/maximum autocorrelation factors [1]_.

    The directions of largest autocorrelation: T v = ρ S v, V'SV = Id, in order of ρ.

    Parameters
    ----------
    covariance, lagged : arrays of shape (n_features, n_features)
        S and T of ``spatial_moments``.
    n_directions : int
        Directions wanted; at most ``n_features`` are returned.

    Returns
    -------
    array of shape (n_features, n_directions)
        Signed so that the largest entry of a direction is positive.

    References
    ----------
    .. [1] Switzer, Green, "Min/max autocorrelation factors for multivariate spatial imagery",
       Computer Science and Statistics, 1984.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial.projections import maf_directions
    >>> maf_directions(np.diag([4.0, 1.0]), np.diag([1.0, 0.9]), 1).round(3)
    array([[0.],
           [1.]])
    """
    size = len(covariance)
    # A small ridge: constant features have no autocorrelation.
    ridge = 1e-6 * np.trace(covariance) / size or 1.0
    _, vectors = linalg.eigh(lagged, covariance + ridge * np.eye(size))
    return _signed(vectors[:, ::-1][:, :n_directions])


def multispati_directions(lagged: np.ndarray, n_directions: int) -> np.ndarray:
    """Return the directions of MULTISPATI-PCA [1]_: T v = λ v, in order of the signed λ.

    Variance times autocorrelation, where MAF takes autocorrelation alone.

    References
    ----------
    .. [1] Dray, Saïd, Débias, "Spatial ordination of vegetation data using a generalization of
       Wartenberg's multivariate spatial correlation", Journal of Vegetation Science 19, 2008.
    """
    _, vectors = linalg.eigh(lagged)
    return _signed(vectors[:, ::-1][:, :n_directions])


def leading_directions(n_features: int, n_directions: int) -> np.ndarray:
    """Return the first columns of the identity: features are principal components already."""
    return np.eye(n_features)[:, :n_directions]


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Turn each column so that its entry of largest size is positive."""
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return vectors * signs
