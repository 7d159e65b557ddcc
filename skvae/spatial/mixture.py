"""Gaussian mixtures with one covariance for all clusters, fitted by em-EM."""

from __future__ import annotations

import functools
import warnings

import numpy as np
from scipy import linalg
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

# Every start takes this many steps; then only the best go on.
SHORT_STEPS = 15
N_FINALISTS = 3
MAX_STEPS = 300
# Least gain in mean log-likelihood, in nats a spot, for which EM goes on.
TOLERANCE = 1e-4
KMEANS_STEPS = 10


class TiedMixture:
    """A mixture of K Gaussians with one common covariance Σ.

    Parameters
    ----------
    weights : array of shape (n_clusters,)
        Shares of the clusters.
    means : array of shape (n_clusters, n_features)
        Their means.
    whitening : array of shape (n_features, n_features)
        L⁻ᵀ for Σ = L Lᵀ: ``Z @ whitening`` has unit covariance within clusters.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial import fit_tied_mixture
    >>> rng = np.random.RandomState(0)
    >>> Z = np.repeat([[0.0, 0.0], [5.0, 5.0]], 100, axis=0) + rng.normal(size=(200, 2))
    >>> mixture = fit_tied_mixture(Z, 2, rng)
    >>> mixture.posteriors(Z).argmax(axis=1).reshape(2, 100).std(axis=1).tolist()
    [0.0, 0.0]
    """

    def __init__(self, weights: np.ndarray, means: np.ndarray, whitening: np.ndarray) -> None:
        self.weights = weights
        self.means = means
        self.whitening = whitening

    def _scores(self, Z: np.ndarray) -> np.ndarray:
        """Return log p(z, k) short of what all clusters share, shape (n_clusters, n_spots)."""
        slopes, offsets = _discriminants(self.weights, self.means, self.whitening)
        return slopes @ np.asarray(Z, dtype=np.float64).T + offsets[:, None]

    def posteriors(self, Z: np.ndarray) -> np.ndarray:
        """Return p(k | z), shape (n_spots, n_clusters)."""
        scores = self._scores(Z)
        _softmax(scores)
        return scores.T

    def score_samples(self, Z: np.ndarray) -> np.ndarray:
        """Return log p(z) in nats, shape (n_spots,)."""
        white = np.asarray(Z, dtype=np.float64) @ self.whitening
        scores = self._scores(Z)
        shared = _log_volume(self.whitening) - np.square(white).sum(axis=1) / 2
        return _softmax(scores) + shared


@functools.cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def _one_blas_thread(function):
    """Run a function with one thread for the products of numpy and scipy.

    Those of EM are thin and each waits for the one before: with two threads, which spin meanwhile,
    a fit of 20,000 spots took 7 times as long. scikit-learn does the same in k-means.
    """

    @functools.wraps(function)
    def limited(*args, **kwargs):
        with _threads().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


@_one_blas_thread
def fit_tied_mixture(
    Z: np.ndarray, n_clusters: int, rng: np.random.RandomState, *, n_starts: int = 6
) -> TiedMixture:
    """Fit a mixture by em-EM [1]_: short runs from many starts, long ones from the best.

    Starts are, in turn, k-means, k-means on standardised features and the nearest of K random
    spots. Each takes 15 EM steps; the 3 of best likelihood go on until a step gains less than
    1e-4 nats a spot (at most 300 steps); the best is returned.

    Parameters
    ----------
    Z : array of shape (n_spots, n_features)
        Features; computed with in float64.
    n_clusters : int
        Clusters; some stay empty if there are fewer distinct rows.
    rng : RandomState
        Seeds the starts.
    n_starts : int, default=6
        Starts.

    Returns
    -------
    TiedMixture

    Notes
    -----
    With responsibilities R (equations 9.24 to 9.26 of [2]_, Σ shared):
    ``μ_k = (R'Z)_k / n_k`` and ``Σ = (Z'Z - Σ_k n_k μ_k μ_k') / N + 1e-6 tr(Z'Z/N)/d Id``. Z'Z is
    made once. ``log p(z, k) = z' Σ⁻¹μ_k - ½ μ_k' Σ⁻¹ μ_k + log(n_k/N)`` up to a term that is the
    same for all k, whose sum over the spots is ``-½ tr(Σ⁻¹ Z'Z)``: so a step takes one product of
    (N, d) by (d, K) and one of (K, N) by (N, d).

    References
    ----------
    .. [1] Biernacki, Celeux, Govaert, "Choosing starting values for the EM algorithm for getting
       the highest likelihood in multivariate Gaussian mixture models", CSDA 41, 2003.
    .. [2] Bishop, "Pattern Recognition and Machine Learning", Springer, 2006.
    """
    rows = np.ascontiguousarray(Z, dtype=np.float64)
    centre = rows.mean(axis=0)
    fit = _Run(rows - centre, n_clusters)
    runs = []
    for start in range(n_starts):
        state = fit.from_labels(_start_labels(fit.rows, n_clusters, start, rng))
        runs.append(fit.climb(state, SHORT_STEPS, tolerance=None))
    runs.sort(key=lambda state: -state.log_likelihood)
    finalists = [fit.climb(state, MAX_STEPS, TOLERANCE) for state in runs[:N_FINALISTS]]
    return _mixture(max(finalists, key=lambda state: state.log_likelihood), centre)


@_one_blas_thread
def fit_from_labels(Z: np.ndarray, labels: np.ndarray, n_clusters: int) -> TiedMixture:
    """Fit a mixture by EM from a labelling of the spots, whose ids its clusters keep."""
    rows = np.ascontiguousarray(Z, dtype=np.float64)
    centre = rows.mean(axis=0)
    fit = _Run(rows - centre, n_clusters)
    return _mixture(fit.climb(fit.from_labels(labels), MAX_STEPS, TOLERANCE), centre)


def _mixture(state: _State, centre: np.ndarray) -> TiedMixture:
    return TiedMixture(state.weights, state.means + centre, state.whitening)


class _State:
    """Parameters of a mixture, and responsibilities (n_clusters, n_spots) under them."""

    def __init__(self, weights, means, whitening, responsibilities, log_likelihood) -> None:
        self.weights, self.means, self.whitening = weights, means, whitening
        self.responsibilities = responsibilities
        self.log_likelihood = log_likelihood


class _Run:
    """EM on one set of centred rows."""

    def __init__(self, rows: np.ndarray, n_clusters: int) -> None:
        self.rows, self.n_clusters = rows, n_clusters
        self.columns = np.ascontiguousarray(rows.T)
        self.gram = self.columns @ rows
        n_spots, size = rows.shape
        floor = 1e-6 * np.trace(self.gram) / (n_spots * size)
        # Rows that are all the same have no scale of their own.
        self.floor = np.eye(size) * (floor if floor > 0 else 1.0)

    def from_labels(self, labels: np.ndarray) -> _State:
        """Return the state that follows from hard labels."""
        one_hot = (labels == np.arange(self.n_clusters)[:, None]).astype(np.float64)
        return self._step(one_hot)

    def climb(self, state: _State, n_steps: int, tolerance: float | None) -> _State:
        """Take EM steps, until one gains less than the tolerance if there is one."""
        for _ in range(n_steps):
            before, state = state, self._step(state.responsibilities)
            if tolerance is not None and (state.log_likelihood - before.log_likelihood < tolerance):
                break
        return state

    def _step(self, responsibilities: np.ndarray) -> _State:
        n_spots, size = self.rows.shape
        counts = responsibilities.sum(axis=1) + 10 * np.finfo(float).eps
        means = responsibilities @ self.rows / counts[:, None]
        covariance = (self.gram - (means.T * counts) @ means) / n_spots + self.floor
        lower = linalg.cholesky(covariance, lower=True, check_finite=False)
        whitening = linalg.solve_triangular(lower, np.eye(size), lower=True, check_finite=False).T
        weights = counts / counts.sum()
        slopes, offsets = _discriminants(weights, means, whitening)
        scores = slopes @ self.columns
        scores += offsets[:, None]
        shared = _log_volume(whitening) - np.sum(whitening * (self.gram @ whitening)) / 2 / n_spots
        log_likelihood = _softmax(scores).mean() + shared
        return _State(weights, means, whitening, scores, log_likelihood)


def _discriminants(weights, means, whitening) -> tuple[np.ndarray, np.ndarray]:
    """Return Σ⁻¹μ_k, shape (n_clusters, n_features), and what is added to z'Σ⁻¹μ_k."""
    white = means @ whitening
    return white @ whitening.T, np.log(weights) - np.square(white).sum(axis=1) / 2


def _log_volume(whitening: np.ndarray) -> float:
    """Return -½ log det(2πΣ)."""
    return float(np.log(whitening.diagonal()).sum() - len(whitening) / 2 * np.log(2 * np.pi))


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Normalise exp(scores) over the first axis in place; return the log of what it summed to."""
    top = scores.max(axis=0)
    scores -= top
    np.exp(scores, out=scores)
    total = scores.sum(axis=0)
    scores /= total
    return top + np.log(total)


def _start_labels(
    Z: np.ndarray, n_clusters: int, start: int, rng: np.random.RandomState
) -> np.ndarray:
    kind = start % 3
    if kind == 2:
        centres = Z[rng.choice(len(Z), min(n_clusters, len(Z)), replace=False)]
        return (Z @ centres.T - np.square(centres).sum(axis=1) / 2).argmax(axis=1)
    if kind == 1:
        scale = Z.std(axis=0)
        Z = Z / np.where(scale > 0, scale, 1)
    seed = rng.randint(np.iinfo(np.int32).max)
    means = KMeans(min(n_clusters, len(Z)), n_init=1, max_iter=KMEANS_STEPS, random_state=seed)
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters: some clusters stay empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return means.fit(Z).labels_
