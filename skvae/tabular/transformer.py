"""``TabularTransformer``: a mixed-type table to modes and places, and back."""

from __future__ import annotations

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
from skvae.tabular.encoded import EncodedTable
from skvae.tabular.encoders import (
    code_scores,
    make_encoder,
    warn_of_fresh_labels,
    warn_of_guesses,
)
from skvae.tabular.frames import read_table, restore_container
from skvae.tabular.inference import infer_schema
from skvae.tabular.made import MadeEncoder
from skvae.tabular.mixture import MixtureEncoder
from skvae.tabular.numeric import QuantileEncoder
from skvae.tabular.splits import CodeSplit, code_columns, join_codes, split_codes


class TabularTransformer(TransformerMixin, BaseEstimator):
    """Turn a mixed-type table into numbers by mode-specific normalisation, and back.

    A categorical cell becomes the code of its level. A numeric cell becomes a mode and the place
    within it: modes are repeated values and quantile bins (``numeric_encoding="quantile"``), or
    the components of a Bayesian Gaussian mixture (``"mixture"``, [1]_). Missing cells are a mode
    of their own. Columns come back with the dtype, rounding and range they came in with. Of
    identifiers, free text and personal data only the missing cells are encoded: the others are
    made anew.

    Parameters
    ----------
    categorical_features : "auto" or array-like of names, positions or booleans, default="auto"
        Columns to take as categorical whatever their dtype: short for ``column_kinds`` with the
        kind "categorical". Strings, booleans and pandas categories are so by themselves.
    column_kinds : dict of names to kinds, default=None
        Kinds of columns: "numeric", "datetime", "timedelta", "time", "categorical", "identifier",
        "text", "name", "first_name", "last_name", "email", "phone", "address" or "company". Those
        of the other columns follow from dtype and cells; see ``kinds_``.
    max_categories : int, default=1000
        Most codes of a code column, and so the width of any layer that a categorical column needs:
        a column of more levels becomes several code columns.
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
    kinds_ : dict
        Kind of each column, by name.
    code_columns_ : list of list of int
        For each column, which code columns it has in an ``EncodedTable``: the one at its own
        position, and beyond ``max_categories`` more, that stand behind those of all columns.
    cardinalities_ : ndarray of shape (n_code_columns,)
        Number of codes of each code column.
    code_counts_ : list of ndarray of shape (n_codes,)
        Training rows behind each code of each code column.
    code_scores_ : list of (ndarray of shape (n_codes,) or None)
        Mean rank, in (0, 1), of the training cells behind each code of a code column with an
        order; None for the others.
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
        "column_kinds": [dict, None],
        "max_categories": [Interval(Integral, 16, None, closed="left")],
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
        column_kinds=None,
        max_categories=1000,
        numeric_encoding="quantile",
        n_bins=128,
        min_rows_per_value=5,
        rare_category_min_count=None,
        rows_per_bin=10,
        copy_columns=True,
        random_state=None,
    ):
        self.categorical_features = categorical_features
        self.column_kinds = column_kinds
        self.max_categories = max_categories
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
        self.schema_ = infer_schema(frame, self.categorical_features, self.column_kinds)
        self.encoders_ = []
        cells = self._read(frame)
        for schema, column in zip(self.schema_, cells, strict=True):
            self.encoders_.append(make_encoder(self, schema, self._seed).fit(column))
        if self.copy_columns and self.numeric_encoding == "quantile":
            find_copies(self.encoders_, self.schema_, cells)
        codes, inside = self._encode(cells, places, np.random.default_rng(self._seed))
        self._lay_out(cells, codes)
        warn_of_guesses(self.schema_)
        warn_of_fresh_labels(self, self.encoders_, self.schema_)
        return split_codes(self.splits_, codes, inside)

    def encode(self, X, *, places=True) -> EncodedTable:
        """Return the codes and places of a table with the columns of fit."""
        check_is_fitted(self)
        cells = self._read(read_table(self, X, reset=False))
        return split_codes(self.splits_, *self._encode(cells, places))

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
        codes, inside = self._encode(cells, True)
        encoded = split_codes(self.splits_, codes, inside)
        log_measure = np.zeros(len(codes))
        for index, (encoder, column) in enumerate(zip(self.encoders_, cells, strict=True)):
            if isinstance(encoder, QuantileEncoder):
                log_measure += encoder.log_measure(column, codes[:, index])
            elif isinstance(encoder, MixtureEncoder) and len(encoder.means_):
                encoded.mode_places.append(encoder.mode_places(column))
        return encoded, log_measure

    def decode(self, codes, places, rng: np.random.Generator, *, made=True) -> pd.DataFrame:
        """Return the table behind codes and places, under the names of fit.

        Parameters
        ----------
        codes : int64 array of shape (n_rows, n_code_columns)
        places : float array of shape (n_rows, n_code_columns)
        rng : numpy.random.Generator
            Source of what codes leave open: stand-ins of rare levels, cells made anew.
        made : bool, default=True
            Whether to make cells anew; False leaves them missing.
        """
        codes = join_codes(self.splits_, self.code_columns_, codes, rng)
        return self._decode_columns(codes, places, rng, made)

    def _decode_columns(
        self, codes, places, rng: np.random.Generator, made: bool = True
    ) -> pd.DataFrame:
        """Return the table behind one code and one place for each cell."""
        columns, earlier = {}, []
        for index, (schema, encoder) in enumerate(zip(self.schema_, self.encoders_, strict=True)):
            code = codes[:, index]
            if isinstance(encoder, MadeEncoder) and not made:
                columns[index] = np.full(len(code), None, object)
                earlier.append(None)
            elif isinstance(encoder, (CategoricalEncoder, MadeEncoder)):
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
        check_is_fitted(self)
        return self._stack(*self._encode(self._read(read_table(self, X, reset=False)), True))

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
                last = self.encoders_[column].n_codes_ - 1
                codes[:, column] = np.clip(np.rint(Z[:, out]), 0, last)
        frame = self._decode_columns(codes, places, np.random.default_rng(self._seed))
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
            suffix = "place" if is_place else "mode" if self.schema_[column].is_number else "level"
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

    def _stack(self, codes: np.ndarray, places: np.ndarray) -> np.ndarray:
        picks = [
            (places if is_place else codes)[:, column] for column, is_place in self._out_columns
        ]
        return np.stack(picks, axis=1).astype(np.float64)

    def _read(self, frame: pd.DataFrame) -> list:
        """Columns of numbers as float64 arrays, all others as Series."""
        cells = []
        for position, schema in enumerate(self.schema_):
            column = frame.iloc[:, position]
            cells.append(schema.read_numbers(column) if schema.is_number else column)
        return cells

    def _encode(self, cells, places: bool, rng=None) -> tuple[np.ndarray, np.ndarray]:
        """Return one code and one place for each cell; no places if not asked for."""
        n_rows = len(cells[0])
        codes = np.empty((n_rows, len(cells)), np.int64)
        inside = np.zeros((n_rows, len(cells)) if places else (0, 0), np.float32)
        for index, (encoder, column) in enumerate(zip(self.encoders_, cells, strict=True)):
            if isinstance(encoder, (CategoricalEncoder, MadeEncoder)):
                codes[:, index] = encoder.encode(column)
                continue
            if isinstance(encoder, MixtureEncoder):
                codes[:, index], place = encoder.encode(column, rng)
            else:
                codes[:, index], place = encoder.encode(column, copied_from(encoder, column, cells))
            if places:
                inside[:, index] = place
        return codes, inside

    def _lay_out(self, cells, codes: np.ndarray) -> None:
        """Split columns of too many codes; count the rows behind codes, and rank those."""
        self.splits_, self.code_counts_, self.code_scores_ = {}, [], []
        for index, (encoder, column) in enumerate(zip(self.encoders_, cells, strict=True)):
            code = codes[:, index]
            encoder.code_counts_ = np.bincount(code, minlength=encoder.n_codes_)
            if isinstance(encoder, CategoricalEncoder) and encoder.n_codes_ > self.max_categories:
                always = np.arange(len(encoder.levels_), encoder.n_codes_)
                split = CodeSplit(encoder.code_counts_, self.max_categories, always)
                self.splits_[index] = split
                code = split.split(code)[:, 0]
                self.code_counts_.append(np.bincount(code, minlength=split.sizes_[0]))
                self.code_scores_.append(None)
            else:
                self.code_counts_.append(encoder.code_counts_)
                self.code_scores_.append(code_scores(encoder, column, code))
        self.code_columns_ = code_columns(len(cells), self.splits_)
        for index, split in self.splits_.items():
            for digit, size in zip(
                split.split(codes[:, index]).T[1:], split.sizes_[1:], strict=True
            ):
                self.code_counts_.append(np.bincount(digit, minlength=size))
                self.code_scores_.append(None)
        self.cardinalities_ = np.array([len(counts) for counts in self.code_counts_])

    @property
    def kinds_(self) -> dict:
        """Kind of each column, by name."""
        return {schema.name: schema.kind for schema in self.schema_}

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
