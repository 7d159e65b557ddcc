"""AnnData in and out, without importing it: what looks like one is read as one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from skvae.spatial.lattices import visium_places

# Where things are looked for, in this order.
REPRESENTATIONS = ("X_pca_transcriptomics", "X_pca")
IMAGE_REPRESENTATIONS = (
    "X_pca_morphology",
    "X_morphology",
    "X_image",
    "X_image_features",
    "image_features",
)
COORDINATES = "spatial"
# The names of rows and columns of an array of spots.
ARRAY_COORDINATES = (("array_row", "array_col"), ("y_array", "x_array"))
SLIDE_KEYS = ("library_id", "batch", "sample")
TOTAL_KEYS = ("total_counts", "n_counts", "nCount_Spatial", "sum_umi")


class AnnotatedSpots(NamedTuple):
    """What ``read_annotated`` found, in the order of the clusterer's arguments.

    Attributes
    ----------
    X : ndarray or sparse matrix of shape (n_spots, n_features)
        Features, or counts. It may share memory with the AnnData.
    coordinates : ndarray of shape (n_spots, 2) or (n_spots, 3)
        Where the spots lie.
    morphology : ndarray of shape (n_spots, n_image_features) or None
        Features of the image.
    slide : ndarray of shape (n_spots,) or None
        The slide of each spot if there are several.
    gene_names : ndarray of shape (n_features,) or None
        Names of the columns of X, if it is the matrix of genes or a layer of it.
    """

    X: np.ndarray | sparse.sparray
    coordinates: np.ndarray
    morphology: np.ndarray | None
    slide: np.ndarray | None
    gene_names: np.ndarray | None


def is_annotated(data) -> bool:
    """Tell whether this is an AnnData, or a SpatialData, to judge by its attributes."""
    return all(hasattr(data, name) for name in ("obs", "obsm")) or hasattr(data, "tables")


def read_annotated(
    adata,
    *,
    representation=None,
    image_representation=None,
    coordinates=None,
    slide_key=None,
) -> AnnotatedSpots:
    """Read features, places, image features and slides of spots from an AnnData.

    Nothing in it is changed, and nothing but what is named here is read.

    Parameters
    ----------
    adata : AnnData or SpatialData
        Anything with ``obs``, ``obsm`` and ``X``; or with ``tables`` that hold one such table.
    representation : str, optional
        The features: a key of ``obsm`` or of ``layers``, or ``"X"``. By default the first there is
        of ``obsm["X_pca_transcriptomics"]``, ``obsm["X_pca"]`` and ``X``.
    image_representation : str or False, optional
        The features of the image: a key of ``obsm``. By default the first there is of
        ``"X_pca_morphology"``, ``"X_morphology"``, ``"X_image"``, ``"X_image_features"`` and
        ``"image_features"``, if any. False reads none.
    coordinates : str or pair of str, optional
        A key of ``obsm``, or two columns of ``obs``, x and y. By default ``obsm["spatial"]``, and
        without it the columns ``array_row`` and ``array_col``, or ``y_array`` and ``x_array``.
        Where these are the array of Visium, whose columns move in steps of two, they are stretched
        to the hexagonal lattice they stand for.
    slide_key : str, optional
        A column of ``obs`` that names each spot's slide. By default the first of ``library_id``,
        ``batch`` and ``sample`` that holds several names, if any.

    Returns
    -------
    spots : AnnotatedSpots
        The tuple (X, coordinates, morphology, slide, gene_names).

    Raises
    ------
    KeyError
        Something is not there; the message tells what was looked for, and what is there.
    ValueError
        Something is there, and is not what it should be.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skvae.spatial.annotated import read_annotated
    >>> rng = np.random.default_rng(0)
    >>> adata = SimpleNamespace(
    ...     X=rng.poisson(1.0, size=(6, 9)),
    ...     obs=pd.DataFrame({"batch": list("aaabbb")}),
    ...     var_names=list("ABCDEFGHI"),
    ...     obsm={"spatial": rng.uniform(size=(6, 2))},
    ... )
    >>> X, coordinates, morphology, slide, gene_names = read_annotated(adata)
    >>> X.shape, coordinates.shape, morphology, slide.tolist()
    ((6, 9), (6, 2), None, ['a', 'a', 'a', 'b', 'b', 'b'])
    """
    table = _table_of(adata)
    X, gene_names = _read_features(table, representation)
    return AnnotatedSpots(
        X,
        _read_coordinates(table, coordinates),
        _read_image(table, image_representation),
        _read_slide(table, slide_key),
        gene_names,
    )


def order_genes(X, gene_names, expected):
    """Put columns of genes in the order that is expected, leaving out the others.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_spots, n_genes)
        Columns of genes.
    gene_names : array-like of shape (n_genes,) or None
        Their names.
    expected : array-like of shape (n_expected,) or None
        The names wanted. Where either is None, columns stay as they are.

    Returns
    -------
    X : ndarray or sparse matrix of shape (n_spots, n_expected)

    Raises
    ------
    ValueError
        Genes are missing, or names stand for several columns.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial.annotated import order_genes
    >>> order_genes(np.array([[1, 2, 3]]), ["A", "B", "C"], ["C", "A"])
    array([[3, 1]])
    """
    if gene_names is None or expected is None or np.array_equal(gene_names, expected):
        return X
    names = pd.Index(gene_names)
    if not names.is_unique:
        raise ValueError(
            f"The genes of adata are not in the order of fit, and {names[names.duplicated()][0]!r} "
            "names several: call adata.var_names_make_unique()."
        )
    places = names.get_indexer(expected)
    if (places < 0).any():
        missing = [name for name, place in zip(expected, places, strict=True) if place < 0]
        raise ValueError(
            f"{len(missing)} of the {len(expected)} genes of fit are not in adata, such as "
            f"{missing[:3]}: fit on the genes that all slices have, as in adata[:, genes]."
        )
    return X[:, places]


def read_totals(adata, key=None) -> np.ndarray | None:
    """Read each spot's sum of counts over all genes, which ``X`` may hold only some of.

    Parameters
    ----------
    adata : AnnData or SpatialData
        As for ``read_annotated``.
    key : str, optional
        A column of ``obs``. By default the first there is of ``total_counts``, ``n_counts``,
        ``nCount_Spatial`` and ``sum_umi``.

    Returns
    -------
    total : float64 array of shape (n_spots,) or None
        None if there is no such column.
    """
    obs = _table_of(adata).obs
    if key is None:
        key = next((name for name in TOTAL_KEYS if name in obs), None)
    return None if key is None else _numbers(_column(obs, key, "The totals"), f"obs[{key!r}]")


def annotate(adata, labels, embedding=None, proba=None, *, key="aestetik"):
    """Write domains into an AnnData, as a user asks for.

    Parameters
    ----------
    adata : AnnData or SpatialData
        Where to write: the only function here that changes it.
    labels : array-like of int of shape (n_spots,)
        Domains. They become the categories ``"0"``, ``"1"``, ... of ``obs[key]``.
    embedding : array-like of shape (n_spots, n_components), optional
        Goes to ``obsm["X_<key>"]``.
    proba : array-like of shape (n_spots, n_domains), optional
        Goes to ``obsm["<key>_proba"]``. All its domains are categories, so that slices without
        some of them have the same ones.
    key : str, default="aestetik"
        The name.

    Returns
    -------
    adata
        The same object.

    Raises
    ------
    ValueError
        There are more or fewer rows than spots. Nothing has been written then.
    """
    table = _table_of(adata)
    labels = np.asarray(labels)
    arrays = {f"X_{key}": embedding, f"{key}_proba": proba}
    arrays = {name: np.array(array) for name, array in arrays.items() if array is not None}
    for name, rows in {key: labels, **arrays}.items():
        if len(rows) != len(table.obs):
            raise ValueError(f"{name!r} has {len(rows)} rows, and adata {len(table.obs)} spots.")
    names = np.unique(labels) if proba is None else np.arange(arrays[f"{key}_proba"].shape[1])
    categories = [str(name) for name in names]
    for name, rows in arrays.items():
        table.obsm[name] = rows
    table.obs[key] = pd.Categorical([str(label) for label in labels], categories=categories)
    return adata


def _table_of(adata):
    """Return the AnnData, which a SpatialData may hold as its one table."""
    if hasattr(adata, "obsm"):
        return adata
    tables = dict(adata.tables)
    if len(tables) != 1:
        raise ValueError(
            f"This SpatialData holds the tables {list(tables)}, expected one: pass the table "
            "itself, such as sdata.tables['name']."
        )
    return next(iter(tables.values()))


def _there(**places):
    """Say, for an error, what is there."""
    return "; ".join(f"{name} holds {list(keys)}" for name, keys in places.items()) + "."


def _read_features(table, key):
    """Return the features, and the names of the genes if that is what they are."""
    layers = getattr(table, "layers", None) or {}
    if key is None:
        key = next((name for name in REPRESENTATIONS if name in table.obsm), "X")
    gene_names = None
    if key in table.obsm:
        found = table.obsm[key]
    elif key in layers or key == "X":
        found = layers[key] if key in layers else getattr(table, "X", None)
        gene_names = getattr(table, "var_names", None)
    else:
        raise KeyError(
            f"representation={key!r} is not in adata: "
            + _there(obsm=table.obsm, layers=layers)
            + " 'X' takes adata.X."
        )
    if found is None:
        raise KeyError(
            f"adata.X is empty, and obsm has none of {list(REPRESENTATIONS)}: "
            + _there(obsm=table.obsm, layers=layers)
            + " Name one as representation."
        )
    # What a file backs is read.
    found = found.to_memory() if hasattr(found, "to_memory") else found
    X = found if sparse.issparse(found) else _numbers(found, repr(key), dtype=None, n_axes=2)
    return X, None if gene_names is None else np.asarray(gene_names, dtype=object)


def _read_coordinates(table, key):
    if isinstance(key, str) or (key is None and COORDINATES in table.obsm):
        key = COORDINATES if key is None else key
        if key not in table.obsm:
            raise KeyError(f"coordinates={key!r} is not in adata: " + _there(obsm=table.obsm))
        return _numbers(table.obsm[key], f"obsm[{key!r}]", n_axes=2)
    if key is not None:
        if len(key) != 2:
            raise ValueError(f"coordinates={key!r}, expected a key of obsm or two columns of obs.")
        columns = [_column(table.obs, name, "The coordinates") for name in key]
        return np.column_stack([_numbers(column, "the coordinates") for column in columns])
    for row_name, column_name in ARRAY_COORDINATES:
        if row_name in table.obs and column_name in table.obs:
            row = _numbers(table.obs[row_name], f"obs[{row_name!r}]")
            column = _numbers(table.obs[column_name], f"obs[{column_name!r}]")
            return visium_places(row, column) if _is_visium(row, column) else np.c_[column, row]
    raise KeyError(
        f"adata has no coordinates. Looked for obsm[{COORDINATES!r}] and, in obs, for the columns "
        + " or ".join(" and ".join(map(repr, pair)) for pair in ARRAY_COORDINATES)
        + ". "
        + _there(obsm=table.obsm, obs=table.obs)
        + " Name them as coordinates."
    )


def _is_visium(row, column):
    """Tell whether every second place of an array is left out, as on a board of draughts."""
    parity = (row + column) % 2
    return len(np.unique(row % 2)) == 2 and np.isin(parity, (0, 1)).all() and np.ptp(parity) == 0


def _read_image(table, key):
    if key is None:
        key = next((name for name in IMAGE_REPRESENTATIONS if name in table.obsm), False)
    if key is False:
        return None
    if key not in table.obsm:
        raise KeyError(f"image_representation={key!r} is not in adata: " + _there(obsm=table.obsm))
    return _numbers(table.obsm[key], f"obsm[{key!r}]", n_axes=2)


def _read_slide(table, key):
    if key is None:
        several = (name for name in SLIDE_KEYS if name in table.obs and _varies(table.obs[name]))
        key = next(several, None)
    if key is None:
        return None
    column = _column(table.obs, key, "The slides")
    if column.isna().any():
        raise ValueError(
            f"obs[{key!r}] is to name each spot's slide, and {column.isna().sum()} of "
            f"{len(column)} are missing: fill them, or name another column as slide_key."
        )
    return np.asarray(column) if _varies(column) else None


def _varies(column):
    return column.nunique(dropna=False) > 1


def _column(obs, key, what):
    if key not in obs:
        raise KeyError(f"{what} are looked for in obs[{key!r}]: " + _there(obs=obs))
    return obs[key]


def _numbers(values, name, *, dtype=np.float64, n_axes=1):
    """Return an array of numbers, dense, in no more axes than told."""
    values = values.toarray() if sparse.issparse(values) else values
    try:
        array = np.asarray(values, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} of adata does not hold numbers: {error}") from None
    if array.ndim != n_axes:
        raise ValueError(f"{name} of adata has shape {array.shape}, expected {n_axes} axes.")
    return array
