"""``TabularTransformer``: a mixed-type table to modes and places, and back."""

from __future__ import annotations

import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names_in,
    _num_samples,
    check_array,
    check_is_fitted,
)

from skvae._random import private_random_state
from skvae.tabular.categorical import CategoricalEncoder
from skvae.tabular.copies import copied_from, find_copies
from skvae.tabular.encoded import EncodedTable, mean_ranks
from skvae.tabular.frames import read_table, restore_container
from skvae.tabular.mixture import MixtureEncoder
from skvae.tabular.numeric import QuantileEncoder
from skvae.tabular.schema import infer_schema


class TabularTransformer(TransformerMixin, BaseEstimator):
    """Turn a mixed-type table into numbers by mode-specific normalisation, and back.

    A categorical cell becomes the code of its level. A numeric cell becomes a mode and the place
    within it: modes are repeated values and quantile bins (``numeric_encoding="quantile"``), or
    the components of a Bayesian Gaussian mixture (``"mixture"``, [1]_). Missing cells are a mode
    of their own. Columns come back with the dtype, rounding and range they came in with.

    Parameters
    ----------
    categorical_features : "auto" or array-like of names, positions or booleans, default="auto"
        Columns to take as categorical whatever their dtype. Strings, booleans and pandas
        categories always are.
    numeric_encoding : {"quantile", "mixture"}, default="quantile"
        How the modes of numeric columns are found.
    n_bins : int, default=128
        Most quantile bins in a numeric column.
    min_rows_per_value : int, default=5
        No value held by fewer training rows is stored: rarer categories share one code, rarer
        numbers go through quantiles that are means of at least this many rows, and numbers in a
        column with fewer present cells count as missing. Kept in any case: both booleans, and the
        categories that the dtype of a pandas ``category`` declares.
    rare_category_min_count : int or None, default=None
        The same threshold for categories alone; None takes ``min_rows_per_value``.
    rows_per_bin : int, default=10
        Least number of training rows in a quantile bin.
    copy_columns : bool, default=True
        Whether a numeric cell that equals an earlier column's cell in the same row may be encoded
        as a copy of it, in columns where that happens often.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws that ``inverse_transform`` makes for rare categories, and the rows that
        mixtures are fitted on.

    Attributes
    ----------
    schema_ : list of ColumnSchema
        Kind and dtype of each column.
    encoders_ : list of encoders
        One for each column.
    cardinalities_ : ndarray of shape (n_columns,)
        Number of codes of each column.
    code_scores_ : list of (ndarray of shape (n_codes,) or None)
        Mean rank, in (0, 1), of the training cells behind each code of a column with an order;
        None for the others.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_columns,)
        Their names, if all are strings.

    References
    ----------
    .. [1] Xu et al., "Modeling Tabular Data using Conditional GAN", NeurIPS 2019, section 4.2.

    Notes
    -----
    ``transform`` counts a category that fit did not see as a rare one, a number out of the range
    as the nearest end of it, and a missing cell in a column where fit saw none as the column's
    most frequent value. A list of rows comes back as an array.

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.tabular import TabularTransformer
    >>> table = pd.DataFrame(
    ...     {"age": [20, 30, 30, 40, None] * 5, "sex": ["f", "m", "m", "f", "f"] * 5}
    ... )
    >>> transformer = TabularTransformer().fit(table)
    >>> [str(name) for name in transformer.get_feature_names_out()]
    ['age__mode', 'sex__level']
    >>> transformer.transform(table)[:3]
    array([[0., 0.],
           [1., 1.],
           [1., 1.]])
    >>> transformer.inverse_transform(transformer.transform(table)).equals(table)
    True
    """

    _parameter_constraints: dict = {
        "categorical_features": ["array-like", StrOptions({"auto"}), None],
        "numeric_encoding": [StrOptions({"quantile", "mixture"})],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "min_rows_per_value": [Interval(Integral, 1, None, closed="left")],
        "rare_category_min_count": [Interval(Integral, 1, None, closed="left"), None],
        "rows_per_bin": [Interval(Integral, 1, None, closed="left")],
        "copy_columns": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        categorical_features="auto",
        *,
        numeric_encoding="quantile",
        n_bins=128,
        min_rows_per_value=5,
        rare_category_min_count=None,
        rows_per_bin=10,
        copy_columns=True,
        random_state=None,
    ):
        self.categorical_features = categorical_features
        self.numeric_encoding = numeric_encoding
        self.n_bins = n_bins
        self.min_rows_per_value = min_rows_per_value
        self.rare_category_min_count = rare_category_min_count
        self.rows_per_bin = rows_per_bin
        self.copy_columns = copy_columns
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn the schema and the modes of a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            The table; missing cells are allowed.
        y : None
            Ignored.

        Returns
        -------
        self : TabularTransformer

        Raises
        ------
        ValueError, TypeError
            The table cannot be encoded; the message names the column and the way out.
        """
        self.fit_encode(X)
        return self

    def fit_encode(self, X, *, places=True) -> EncodedTable:
        """Fit, and return the table's codes and places.

        In the mixture encoding, modes are drawn by their responsibilities here, as in the paper,
        where ``transform`` takes the most probable one.
        """
        self._validate_params()
        _refuse_short(X, self.min_rows_per_value)
        frame = read_table(self, X, reset=True)
        rng = private_random_state(self.random_state)
        self._seed = int(rng.randint(2**31 - 1))
        self.schema_ = infer_schema(frame, self.categorical_features)
        self.encoders_ = []
        cells = self._read(frame)
        for schema, column in zip(self.schema_, cells, strict=True):
            self.encoders_.append(self._make_encoder(schema).fit(column))
        if self.copy_columns and self.numeric_encoding == "quantile":
            find_copies(self.encoders_, self.schema_, cells)
        encoded = self._encode(cells, places, np.random.default_rng(self._seed))
        self._describe_codes(cells, encoded.codes)
        self._warn_of_fresh_labels()
        return encoded

    def encode(self, X, *, places=True) -> EncodedTable:
        """Return the codes and places of a table with the columns of fit."""
        check_is_fitted(self)
        return self._encode(self._read(read_table(self, X, reset=False)), places)

    def encode_with_measure(self, X):
        """Return the encoded table, and log densities of the cells given their modes.

        Returns
        -------
        encoded : EncodedTable
        log_measure : float64 array of shape (n_rows,)
            Summed over columns in the quantile encoding; what, added to the log probability of
            the codes, makes a log density in data space. Modes of the mixture encoding overlap:
            their densities are summed by the model, from ``encoded.mode_places``.
        """
        check_is_fitted(self)
        cells = self._read(read_table(self, X, reset=False))
        encoded = self._encode(cells, True)
        log_measure = np.zeros(len(encoded.codes))
        for index, (encoder, column) in enumerate(zip(self.encoders_, cells, strict=True)):
            if isinstance(encoder, QuantileEncoder):
                log_measure += encoder.log_measure(column, encoded.codes[:, index])
            elif isinstance(encoder, MixtureEncoder) and len(encoder.means_):
                encoded.mode_places.append(encoder.mode_places(column))
        return encoded, log_measure

    def decode(self, codes, places, rng: np.random.Generator) -> pd.DataFrame:
        """Return the table behind codes and places, under the names of fit."""
        columns, earlier = {}, []
        for index, (schema, encoder) in enumerate(zip(self.schema_, self.encoders_, strict=True)):
            code = codes[:, index]
            if isinstance(encoder, CategoricalEncoder):
                columns[index] = encoder.decode(code, rng)
                earlier.append(None)
            else:
                values = encoder.decode(code, places[:, index], earlier)
                columns[index] = schema.write_numbers(values)
                earlier.append(values)
        frame = pd.DataFrame(columns, copy=False)
        frame.columns = pd.Index([schema.name for schema in self.schema_])
        return frame

    def transform(self, X):
        """Turn a table into modes and places.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            A table with the columns of fit, in their order.

        Returns
        -------
        Z : float64 array of shape (n_rows, n_features_out)
            ``level`` or ``mode`` of each column, and ``place`` where modes have an inside.

        Raises
        ------
        ValueError
            Other columns than in fit.
        """
        return self._stack(self.encode(X))

    def fit_transform(self, X, y=None):
        """Fit, then transform the same table; see ``transform``."""
        return self.fit(X).transform(X)

    def inverse_transform(self, Z):
        """Turn modes and places back into a table.

        Parameters
        ----------
        Z : array-like of shape (n_rows, n_features_out)
            What ``transform`` returned; modes are rounded and clipped to those there are.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_rows, n_columns)
            In the container and dtypes that fit saw. Rare categories, which share one code, come
            back as draws seeded by ``random_state``.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float64)
        n_out = len(self._out_columns)
        if Z.shape[1] != n_out:
            raise ValueError(f"Z has {Z.shape[1]} features, but inverse_transform expects {n_out}.")
        codes = np.zeros((len(Z), self.n_features_in_), np.int64)
        places = np.zeros((len(Z), self.n_features_in_))
        for out, (column, is_place) in enumerate(self._out_columns):
            if is_place:
                places[:, column] = Z[:, out]
            else:
                codes[:, column] = np.clip(np.rint(Z[:, out]), 0, self.cardinalities_[column] - 1)
        frame = self.decode(codes, places, np.random.default_rng(self._seed))
        return restore_container(self, frame)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns that ``transform`` returns.

        Parameters
        ----------
        input_features : None or array-like of shape (n_columns,)
            Names of the columns; those of fit by default.

        Returns
        -------
        names : ndarray of str of shape (n_features_out,)
        """
        check_is_fitted(self)
        if input_features is None and self._container[0] == "frame":
            names = [str(schema.name) for schema in self.schema_]
        else:
            names = _check_feature_names_in(self, input_features)
        out = []
        for column, is_place in self._out_columns:
            categorical = isinstance(self.encoders_[column], CategoricalEncoder)
            suffix = "place" if is_place else "level" if categorical else "mode"
            out.append(f"{names[column]}__{suffix}")
        return np.array(out, dtype=object)

    @property
    def _out_columns(self):
        """(column, whether it is the place) of each feature that comes out."""
        out = []
        for index, encoder in enumerate(self.encoders_):
            out.append((index, False))
            if encoder.has_place:
                out.append((index, True))
        return out

    def _stack(self, encoded: EncodedTable) -> np.ndarray:
        picks = [
            (encoded.places if is_place else encoded.codes)[:, column]
            for column, is_place in self._out_columns
        ]
        return np.stack(picks, axis=1).astype(np.float64)

    def _read(self, frame: pd.DataFrame) -> list:
        """Numeric columns as float64 arrays, categorical ones as Series."""
        cells = []
        for position, schema in enumerate(self.schema_):
            column = frame.iloc[:, position]
            cells.append(schema.read_numbers(column) if schema.kind == "numeric" else column)
        return cells

    def _make_encoder(self, schema):
        if schema.kind == "categorical":
            least = self.rare_category_min_count
            return CategoricalEncoder(schema, self.min_rows_per_value if least is None else least)
        if self.numeric_encoding == "mixture":
            return MixtureEncoder(
                self.min_rows_per_value,
                integer=schema.integer,
                random_state=self._seed,
                precision=schema.precision,
            )
        return QuantileEncoder(
            self.n_bins,
            self.min_rows_per_value,
            self.rows_per_bin,
            integer=schema.integer,
            precision=schema.precision,
        )

    def _encode(self, cells, places: bool, rng=None) -> EncodedTable:
        n_rows = len(cells[0])
        codes = np.empty((n_rows, len(cells)), np.int64)
        inside = np.zeros((n_rows, len(cells)) if places else (0, 0), np.float32)
        for index, (encoder, column) in enumerate(zip(self.encoders_, cells, strict=True)):
            if isinstance(encoder, CategoricalEncoder):
                codes[:, index] = encoder.encode(column)
                continue
            if isinstance(encoder, MixtureEncoder):
                codes[:, index], place = encoder.encode(column, rng)
            else:
                codes[:, index], place = encoder.encode(column, copied_from(encoder, column, cells))
            if places:
                inside[:, index] = place
        return EncodedTable(codes, inside)

    def _describe_codes(self, cells, codes: np.ndarray) -> None:
        """Count the rows behind each code, and rank the codes of columns with an order."""
        self.cardinalities_ = np.array([encoder.n_codes_ for encoder in self.encoders_])
        self.code_scores_ = []
        for index, (encoder, column) in enumerate(zip(self.encoders_, cells, strict=True)):
            code = codes[:, index]
            encoder.code_counts_ = np.bincount(code, minlength=encoder.n_codes_)
            scores = None
            if encoder.ordinal:
                if isinstance(encoder, CategoricalEncoder):
                    # Neither what is rare nor what is missing has a place in the order.
                    order = np.where(code < len(encoder.levels_), code, np.nan)
                else:
                    missing = encoder.has_missing_ & (code == encoder.n_codes_ - 1)
                    order = np.where(missing, np.nan, column)
                scores = mean_ranks(order, code, encoder.code_counts_)
            self.code_scores_.append(scores)

    def _warn_of_fresh_labels(self) -> None:
        names = [
            schema.name
            for schema, encoder in zip(self.schema_, self.encoders_, strict=True)
            if getattr(encoder, "fresh_labels_", False)
        ]
        if names:
            warnings.warn(
                f"Columns {names} hold mostly values found in fewer than min_rows_per_value="
                f"{self.min_rows_per_value} rows, as identifiers and free text do. Such values are "
                "not learnt; fresh labels stand in their place. Drop the columns, or lower "
                "min_rows_per_value to let the values through.",
                UserWarning,
                stacklevel=4,
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


def _refuse_short(X, min_rows: int) -> None:
    """Refuse a table whose values could not hide, before anything of an earlier fit is lost."""
    n_rows = _num_samples(X) if hasattr(X, "__len__") or hasattr(X, "shape") else 0
    if 0 < n_rows < max(2, min_rows):
        raise ValueError(
            f"Found {n_rows} row(s) (n_samples={n_rows}), expected at least "
            f"min_rows_per_value={min_rows} and 2: no value of so short a table may be stored. "
            "Give more rows, or lower min_rows_per_value."
        )
