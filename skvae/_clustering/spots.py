"""Spots in and out: arrays, columns of a table or an AnnData, and features that are reduced."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted, validate_data

from skvae._clustering.embedding_domains import labels_of
from skvae.spatial.annotated import annotate, is_annotated, order_genes, read_annotated, read_totals
from skvae.spatial.checks import check_coordinates, check_morphology
from skvae.spatial.neighbourhoods import Neighbourhoods
from skvae.spatial.preprocessing import CountsPCA, looks_like_counts

# Components that features are reduced to, where there are more.
MAX_COMPONENTS = 50
# Up to so many features their covariance matrix is cheaper than iterations.
FEW_FEATURES = 500


class GivenSpots(NamedTuple):
    """Spots as they were given, before any check.

    Attributes
    ----------
    X : array-like or sparse matrix of shape (n_spots, n_columns)
        Features, maybe with columns of coordinates and image features among them.
    coordinates, morphology, slide : array-like or None
        What came beside them.
    gene_names : ndarray of shape (n_columns,) or None
        Names of the columns of X, where they are the genes of an AnnData.
    total : ndarray of shape (n_spots,) or None
        Sums of all counts of each spot, where X holds some only.
    """

    X: Any
    coordinates: Any = None
    morphology: Any = None
    slide: Any = None
    gene_names: np.ndarray | None = None
    total: np.ndarray | None = None


class Spots(NamedTuple):
    """Spots as clusterings take them.

    Attributes
    ----------
    X : ndarray of shape (n_spots, n_components)
        Components of the expression.
    morphology : ndarray of shape (n_spots, n_image_components) or None
        Those of the image.
    around : Neighbourhoods
        Of the spots.
    """

    X: np.ndarray
    morphology: np.ndarray | None
    around: Neighbourhoods


class SpotReader:
    """Reads spots in one way for all slices.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_spots, n_features)
        Expression of the spots of the fit: counts, components or other features.
    morphology : array-like of shape (n_spots, n_image_features) or None
        Their image features.
    is_spatial : bool
        Whether they have coordinates.
    total : ndarray of shape (n_spots,) or None
        Sums of all counts of each spot, where X holds some only.

    Attributes
    ----------
    expression_pca, morphology_pca : CountsPCA, PCA or None
        What features are reduced by.
    """

    def __init__(self, X, morphology, is_spatial: bool, total: np.ndarray | None) -> None:
        self.is_spatial = is_spatial
        self.expression_pca = _expression_pca(X, total)
        if morphology is not None:
            morphology = check_morphology(morphology, X.shape[0])
        self.morphology_pca = None if morphology is None else _pca(morphology)

    def read(self, X, morphology, coordinates, slide, total: np.ndarray | None) -> Spots:
        """Return spots of any slides, given what the fit was given."""
        around = self._neighbourhoods(X.shape[0], coordinates, slide)
        if morphology is not None:
            expected = self.morphology_pca.n_features_in_ if self.morphology_pca else None
            morphology = check_morphology(morphology, X.shape[0], expected)
            if self.morphology_pca is not None:
                morphology = self.morphology_pca.transform(morphology)
        return Spots(self._components(X, total), morphology, around)

    def _neighbourhoods(self, n_spots: int, coordinates, slide) -> Neighbourhoods:
        if self.is_spatial != (coordinates is not None):
            raise ValueError(
                "coordinates is missing: the domains were found with coordinates, pass those of "
                "these spots, too."
                if self.is_spatial
                else "coordinates was given, but fit had none: fit with coordinates, or leave "
                "them out."
            )
        if coordinates is None:
            if slide is not None:
                raise ValueError("slide was given without coordinates: pass coordinates, too.")
            return Neighbourhoods.isolated(n_spots)
        around = Neighbourhoods(check_coordinates(coordinates, n_spots), slide)
        if 1 < len(around.slide_names) == n_spots:
            warnings.warn(
                "slide names another slide for each spot, so no spot has a neighbour: give the "
                "spots of one slide one name, or leave slide out.",
                UserWarning,
                stacklevel=2,
            )
        return around

    def _components(self, X, total: np.ndarray | None) -> np.ndarray:
        if isinstance(self.expression_pca, CountsPCA):
            if not looks_like_counts(X):
                raise ValueError(
                    "X holds numbers that are no counts, fractions or negative ones, but the "
                    "domains were found from counts: pass the counts of these spots, too."
                )
            return self.expression_pca.transform(X, total=total)
        if self.expression_pca is not None:
            return self.expression_pca.transform(X)
        if sparse.issparse(X):
            raise ValueError(
                f"X is sparse, holds no counts, and has {X.shape[1]} features, which are taken as "
                "they are: sparse input is for counts, or for more than "
                f"{MAX_COMPONENTS} features. Pass X.toarray()."
            )
        return X


class SpotsMixin:
    """An estimator of spots reads them in one way, in fit and after it, and annotates them."""

    def annotate(self, adata, *, key="aestetik"):
        """Write domains and embedding into an AnnData, which is read as by ``predict``.

        What came from elsewhere, such as arrays, is written by
        ``skvae.spatial.annotated.annotate(adata, labels, embedding)``.

        Parameters
        ----------
        adata : AnnData
            The spots; it is changed: ``obs[key]``, where noise is missing, ``obsm["X_<key>"]`` and
            ``obsm["<key>_proba"]``.
        key : str, default="aestetik"
            The name.

        Returns
        -------
        adata
            The same object.

        Raises
        ------
        TypeError
            It is no AnnData.
        """
        check_is_fitted(self)
        if not is_annotated(adata):
            raise TypeError(
                f"adata must be an AnnData or a SpatialData, got {type(adata).__name__}: labels of "
                "arrays are those of predict."
            )
        spots = self._read(adata, None, None, None, reset=False)
        Z = self._view(spots).embed(self.model_)
        proba = self._proba(spots, Z)
        return annotate(adata, labels_of(proba), Z, proba, key=key)

    @property
    def expression_pca_(self):
        """What X is reduced by, or None."""
        check_is_fitted(self)
        return self._reader.expression_pca

    @property
    def morphology_pca_(self):
        """What image features are reduced by, or None."""
        check_is_fitted(self)
        return self._reader.morphology_pca

    def _read(self, X, coordinates, morphology, slide, *, reset: bool) -> Spots:
        """Check what was passed, and reduce it to components."""
        given = gather(X, coordinates, morphology, slide)
        if reset:
            X, self._gene_names = given.X, given.gene_names
        else:
            X = order_genes(given.X, given.gene_names, self._gene_names)
        dtypes = [np.float64, np.float32]
        X = validate_data(self, X, accept_sparse="csr", dtype=dtypes, reset=reset)
        X, parts = split_columns(
            X,
            getattr(self, "feature_names_in_", ()),
            {"coordinates": self.coordinates_columns, "morphology": self.morphology_columns},
            {"coordinates": given.coordinates, "morphology": given.morphology},
        )
        coordinates, morphology = parts["coordinates"], parts["morphology"]
        if self.use_morphology is False:
            morphology = None
        if reset:
            if X.shape[0] < max(self.n_clusters or 2, 2):
                raise ValueError(
                    f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}, and at "
                    "least 2: lower n_clusters or pass more spots."
                )
            self._reader = SpotReader(X, morphology, coordinates is not None, given.total)
        return self._reader.read(X, morphology, coordinates, given.slide, given.total)


def gather(X, coordinates, morphology, slide) -> GivenSpots:
    """Return what was passed; of an AnnData its parts, before which goes what came beside it."""
    if not is_annotated(X):
        return GivenSpots(X, coordinates, morphology, slide)
    beside = {"coordinates": coordinates, "morphology": morphology, "slide": slide}
    beside = {name: part for name, part in beside.items() if part is not None}
    return GivenSpots(*read_annotated(X), total=read_totals(X))._replace(**beside)


def split_columns(X, names: Sequence[str], columns: Mapping[str, Sequence | None], given: Mapping):
    """Take columns of a table that are no features out of it.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_spots, n_columns)
        The table.
    names : sequence of str
        Names of its columns, if they have any.
    columns : dict of sequence of (str or int), or of None
        Names or positions of the columns of each part; None for a part that is not in the table.
    given : dict of arrays or of None
        The parts that were given beside the table.

    Returns
    -------
    X : ndarray or sparse matrix of shape (n_spots, n_features)
        The columns that are left.
    parts : dict of arrays or of None
        Those of ``given``, and the ones taken out of the table.

    Raises
    ------
    ValueError
        A column is not there, or is in two parts; a part was given twice; or nothing is left.
    """
    taken = np.zeros(X.shape[1], dtype=bool)
    parts = dict(given)
    for name, wanted in columns.items():
        if wanted is None:
            continue
        if parts[name] is not None:
            raise ValueError(
                f"{name} was given, and {name}_columns={wanted!r} too: use one of them."
            )
        places = _places(wanted, f"{name}_columns", list(names), X.shape[1])
        if taken[places].any():
            raise ValueError(f"{name}_columns={wanted!r} holds columns of coordinates too.")
        taken[places] = True
        part = X[:, places]
        parts[name] = part.toarray() if sparse.issparse(part) else part
    if taken.all():
        raise ValueError("X has no features beside coordinates_columns and morphology_columns.")
    return X[:, np.flatnonzero(~taken)] if taken.any() else X, parts


def _places(columns: Sequence, parameter: str, names: list[str], n_columns: int) -> list[int]:
    """Return the positions of columns that are named or counted."""
    places = []
    for column in columns:
        if isinstance(column, str) and column in names:
            places.append(names.index(column))
        elif _is_place(column) and -n_columns <= column < n_columns:
            places.append(int(column) % n_columns)
        else:
            raise ValueError(
                f"{parameter} holds {column!r}, which is no column of X: expected positions "
                f"below {n_columns}" + (f" or names of {names}." if names else ".")
            )
    if len(set(places)) < len(places):
        raise ValueError(f"{parameter}={columns!r} names a column twice: name each once.")
    return places


def _is_place(column) -> bool:
    return isinstance(column, Integral) and not isinstance(column, bool)


def _expression_pca(X, total: np.ndarray | None) -> CountsPCA | PCA | None:
    """Return what reduces features, fitted, or None if they are few and no counts."""
    if looks_like_counts(X):
        return CountsPCA(MAX_COMPONENTS).fit(X, total=total)
    values = X.data if sparse.issparse(X) else X
    if X.shape[1] > MAX_COMPONENTS and values.min() < 0 and np.all(values == np.floor(values)):
        raise ValueError(
            f"X holds whole numbers, as counts do, but {np.sum(values < 0)} of them are negative: "
            "set missing counts to 0, or reduce features that are none by PCA."
        )
    return _pca(X)


def _pca(X) -> PCA | None:
    """Return fitted components of features, or None if there are no more than 50."""
    if X.shape[1] <= MAX_COMPONENTS:
        return None
    size = min(MAX_COMPONENTS, X.shape[0] - 1, X.shape[1] - 1)
    solver = "covariance_eigh" if X.shape[1] <= FEW_FEATURES else "arpack"
    with np.errstate(invalid="ignore"):  # of constant features no share of the variance is left
        return PCA(size, svd_solver=solver, random_state=0).fit(X)
