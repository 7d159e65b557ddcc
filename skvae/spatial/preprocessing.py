"""``CountsPCA``: counts of genes in spots to principal components of their logarithms."""

from __future__ import annotations

import numbers

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import (
    _num_samples,
    check_array,
    check_is_fitted,
    check_non_negative,
    column_or_1d,
    validate_data,
)

# Above so many genes, "auto" keeps those that vary most.
_MANY_GENES, _TOP_GENES = 6_000, 3_000
# Up to so many genes their covariance matrix is cheaper than iterations.
_FEW_GENES = 500
# No gene need be seen in more than this share of the spots.
_LEAST_SHARE = 1 / 20


def looks_like_counts(X):
    """Tell whether a matrix holds counts: finite whole numbers, none of them negative.

    Parameters
    ----------
    X : array-like, DataFrame or sparse matrix of shape (n_spots, n_features)
        The matrix; it may be empty of anything but zeros, but not of type bool.

    Returns
    -------
    answer : bool

    Examples
    --------
    >>> from skvae.spatial.preprocessing import looks_like_counts
    >>> looks_like_counts([[0, 3], [1, 0]]), looks_like_counts([[0.5, 3.0]])
    (True, False)
    """
    values = X.tocsr().data if sparse.issparse(X) else np.asarray(X)
    if values.dtype.kind == "f":
        return bool(np.all((values >= 0) & (values < np.inf) & (values == np.floor(values))))
    return values.dtype.kind == "u" or (values.dtype.kind == "i" and bool(np.all(values >= 0)))


class CountsPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Principal components of log-normalised counts.

    A count :math:`x` of a spot whose counts sum to :math:`t` becomes
    :math:`\log(1 + x\, m / t)`, where :math:`m` is the median of the sums over the training spots.
    Genes seen in hardly any spot are left out, and genes are not scaled. A new slice is put
    through the same median, the same genes and the same components.

    Parameters
    ----------
    n_components : int, default=50
        Most components; fewer where there are fewer genes, or not more spots.
    min_spots : int, default=10
        Genes seen in fewer spots are left out. In less than 200 spots, a twentieth of them is
        enough.
    n_top_genes : int, "auto" or None, default="auto"
        How many of these genes to keep, those whose logarithms vary most. ``"auto"`` keeps 3,000
        if there are more than 6,000; None keeps all.
    subsample : int or None, default=50_000
        The components are found on at most so many spots, drawn at random but always the same.
        None takes all.

    Attributes
    ----------
    median_total_ : float
        The median :math:`m`, in counts.
    genes_ : ndarray of shape (n_genes,)
        Positions of the genes that are kept, ascending.
    mean_ : ndarray of shape (n_genes,)
        Mean of their logarithms, in nats.
    components_ : ndarray of shape (n_components, n_genes)
        The directions, of length 1. The largest entry of each is positive.
    explained_variance_ : ndarray of shape (n_components,)
        Variance along each.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        The same as a share of the variance of all genes that are kept.
    n_components_ : int
        Number of components.
    n_features_in_ : int
        Number of genes seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if all are strings.

    Notes
    -----
    A sparse matrix is never made dense: zeros stay zeros, and the mean is taken off in products
    only. Dense counts go the same way, and give the same numbers.

    If ``X`` holds only some of the genes that were measured, the sums over all of them are better:
    pass them as ``total``. With scikit-learn's metadata routing enabled, a pipeline hands ``total``
    on by itself.

    Examples
    --------
    >>> from skvae.datasets import make_spatial_domains
    >>> from skvae.spatial.preprocessing import CountsPCA
    >>> tissue = make_spatial_domains(400, random_state=0)
    >>> pca = CountsPCA(n_components=10).fit(tissue.counts)
    >>> pca.transform(tissue.counts).shape
    (400, 10)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(numbers.Integral, 1, None, closed="left")],
        "min_spots": [Interval(numbers.Integral, 0, None, closed="left")],
        "n_top_genes": [
            Interval(numbers.Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "subsample": [Interval(numbers.Integral, 2, None, closed="left"), None],
    }

    __metadata_request__fit = {"total": True}
    __metadata_request__transform = {"total": True}

    def __init__(self, n_components=50, *, min_spots=10, n_top_genes="auto", subsample=50_000):
        self.n_components = n_components
        self.min_spots = min_spots
        self.n_top_genes = n_top_genes
        self.subsample = subsample

    def fit(self, X, y=None, *, total=None):
        """Find the median, the genes and the components.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_spots, n_genes)
            Counts.
        y : None
            Ignored.
        total : array-like of shape (n_spots,), optional
            Sum of each spot's counts over all genes that were measured, by default over those in
            ``X``.

        Returns
        -------
        self : CountsPCA

        Raises
        ------
        ValueError
            The counts are negative, missing or all zero, or ``total`` does not fit them.
        """
        self._fit(X, total)
        return self

    def fit_transform(self, X, y=None, *, total=None):
        """Fit and return the components of the same spots; see ``fit`` and ``transform``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_spots, n_genes)
            Counts.
        y : None
            Ignored.
        total : array-like of shape (n_spots,), optional
            As for ``fit``.

        Returns
        -------
        Z : ndarray of shape (n_spots, n_components)
        """
        return self._project(self._fit(X, total))

    def transform(self, X, *, total=None):
        """Project spots on the components.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_spots, n_genes)
            Counts of the same genes as in fit.
        total : array-like of shape (n_spots,), optional
            As in fit: to be given if, and only if, fit had it.

        Returns
        -------
        Z : ndarray of shape (n_spots, n_components)
            Of float64. A spot without any counts is as one in which no gene is seen.
        """
        check_is_fitted(self)
        X = self._read(X, reset=False)
        if (total is not None) != self._has_total:
            raise ValueError(
                f"total is {'None' if total is None else 'given'}, and in fit it was "
                f"{'given' if self._has_total else 'None'}: sums over different genes do not "
                "compare. Give it both times, or not at all."
            )
        return self._project(
            _log_normalized(X, _totals(X, total), self.median_total_)[:, self.genes_]
        )

    def _fit(self, X, total):
        """Set the attributes and return the logarithms of the genes that are kept."""
        self._validate_params()
        X = self._read(X, reset=True)
        self._has_total = total is not None
        total = _totals(X, total)
        if not total.any():
            raise ValueError("X holds nothing but zeros: expected counts.")
        # A median of zero stands for spots most of which are empty.
        self.median_total_ = float(np.median(total) or np.median(total[total > 0]))
        logs = _log_normalized(X, total, self.median_total_)
        self.genes_ = self._select(logs)
        logs = logs[:, self.genes_]
        self._fit_components(logs)
        return logs

    def _read(self, X, *, reset):
        """Return counts as a sparse matrix of rows, which may share memory with the user's."""
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=np.float64,
            ensure_min_samples=2 if reset else 1,
            reset=reset,
        )
        check_non_negative(X, type(self).__name__)
        if not sparse.issparse(X) or X.has_canonical_format:
            return sparse.csr_array(X)
        X = sparse.csr_array(X, copy=True)
        X.sum_duplicates()
        return X

    def _select(self, logs):
        """Return the positions of the genes to keep."""
        n_spots, n_genes = logs.shape
        n_seen = np.bincount(logs.indices[logs.data > 0], minlength=n_genes)
        least = max(1, min(self.min_spots, int(n_spots * _LEAST_SHARE)))
        genes = np.flatnonzero(n_seen >= least)
        if not len(genes):
            raise ValueError(
                f"None of the {n_genes} genes is seen in {least} spots or more: lower min_spots="
                f"{self.min_spots}."
            )
        n_top = self.n_top_genes
        if n_top == "auto":
            n_top = _TOP_GENES if len(genes) > _MANY_GENES else None
        if n_top is None or n_top >= len(genes):
            return genes
        variances = mean_variance_axis(logs, axis=0)[1][genes]
        return np.sort(genes[np.argsort(-variances, kind="stable")[:n_top]])

    def _fit_components(self, logs):
        n_spots, n_genes = logs.shape
        if self.subsample is not None and n_spots > self.subsample:
            rows = np.random.RandomState(0).permutation(n_spots)[: self.subsample]
            logs = logs[np.sort(rows)]
        # Centred, n spots span n - 1 directions.
        n_components = min(self.n_components, logs.shape[0] - 1, n_genes)
        solver = "covariance_eigh" if n_genes <= _FEW_GENES else "arpack"
        # At this tolerance components are right to ten digits: its last steps change nothing.
        pca = PCA(n_components, svd_solver=solver, tol=1e-3, random_state=0).fit(logs)
        self.components_ = pca.components_
        self.mean_ = pca.mean_
        self.explained_variance_ = pca.explained_variance_
        self.explained_variance_ratio_ = pca.explained_variance_ratio_
        self.n_components_ = self._n_features_out = n_components

    def _project(self, logs):
        return logs @ self.components_.T - self.mean_ @ self.components_.T

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        return tags


def _totals(X, total):
    """Return the sum of each spot's counts, the user's own if given."""
    own = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    if total is None:
        return own
    total = check_array(column_or_1d(total), ensure_2d=False, dtype=np.float64, input_name="total")
    if len(total) != _num_samples(X):
        raise ValueError(
            f"total has {len(total)} entries, expected one for each of {_num_samples(X)} spots."
        )
    wrong = (total < 0) | ((total == 0) & (own > 0))
    if wrong.any():
        spot = int(np.argmax(wrong))
        raise ValueError(
            f"total is {total[spot]:g} in spot {spot}, whose counts in X sum to {own[spot]:g}: "
            "expected positive numbers."
        )
    return total


def _log_normalized(X, total, median):
    """Return log(1 + x * median / total), sparse where the counts are."""
    factors = np.divide(median, total, out=np.zeros_like(total), where=total > 0)
    values = np.log1p(X.data * np.repeat(factors, np.diff(X.indptr)))
    return sparse.csr_array((values, X.indices, X.indptr), shape=X.shape)
