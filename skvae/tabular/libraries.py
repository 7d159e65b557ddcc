"""Tables of other libraries, such as polars and pyarrow, to pandas and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def as_pandas(X: Any) -> tuple[Any, tuple[str, bytes] | None]:
    """Return a table as a DataFrame of pandas, and what it takes to make it of its own kind again.

    What is no table of another library comes back as it is, with None.

    Parameters
    ----------
    X : object
        A table of polars, of pyarrow, or of another library that narwhals reads; or anything else.

    Returns
    -------
    frame : DataFrame
        With nullable dtypes where numpy's would not keep integers, strings and booleans as such.
    origin : (str, bytes) or None
        Name of the library, and the schema of Arrow.

    Raises
    ------
    TypeError
        The table is lazy: its rows are not here yet.
    """
    known = isinstance(X, (pd.DataFrame, pd.Series, np.ndarray, list, tuple))
    if known or not hasattr(type(X), "columns"):
        return X, None
    try:
        import narwhals as nw
    except ImportError:  # with a scikit-learn before 1.9
        return X, None
    frame = nw.from_native(X, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        raise TypeError(
            f"X is a {type(X).__module__.split('.')[0]} {type(X).__name__}, whose rows are not "
            "here yet: give X.collect()."
        )
    if not isinstance(frame, nw.DataFrame):
        return X, None
    table = frame.to_arrow()
    origin = str(frame.implementation), table.schema.serialize().to_pybytes()
    # What pandas noted about itself may make an index of a column.
    return table.to_pandas(types_mapper=_pandas_dtype, ignore_metadata=True), origin


def from_pandas(frame: pd.DataFrame, origin: tuple[str, bytes]) -> Any:
    """Return a DataFrame with the columns of a table as a table of its library."""
    import narwhals as nw
    import pyarrow as pa

    library, schema = origin[0], pa.ipc.read_schema(pa.py_buffer(origin[1]))
    columns = [_to_arrow(frame.iloc[:, place], field.type) for place, field in enumerate(schema)]
    # Without what pandas notes about itself, which would make a table of pyarrow unlike its like.
    table = pa.Table.from_arrays(columns, schema=schema)
    return table if library == "pyarrow" else nw.from_arrow(table, backend=library).to_native()


def column_as_pandas(y: Any) -> tuple[Any, tuple[str, bytes] | None]:
    """Return a column of another library as a Series; see ``as_pandas``."""
    if isinstance(y, (pd.Series, np.ndarray, list, tuple)):
        return y, None
    try:
        import narwhals as nw
    except ImportError:
        return y, None
    column = nw.from_native(y, pass_through=True, allow_series=True)
    if not isinstance(column, nw.Series):
        return y, None
    frame, origin = as_pandas(column.to_frame().to_native())
    return frame.iloc[:, 0], origin


def column_from_pandas(column: pd.Series, origin: tuple[str, bytes]) -> Any:
    """Return a Series as a column of the library that it came from."""
    import narwhals as nw

    frame = nw.from_native(from_pandas(column.to_frame(), origin), eager_only=True)
    return frame[frame.columns[0]].to_native()


def _to_arrow(column: pd.Series, kind: Any) -> Any:
    import pyarrow as pa

    array = pa.array(column, from_pandas=True)
    if not pa.types.is_dictionary(kind):
        return array.cast(kind)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(kind.value_type).dictionary_encode().cast(kind)


def _pandas_dtype(kind: Any) -> Any:
    """Return the pandas dtype for a type of Arrow; None for that which pyarrow takes by itself."""
    import pyarrow as pa

    if pa.types.is_integer(kind):  # int8 is Int8 of pandas, and uint8 is UInt8
        return pd.api.types.pandas_dtype(str(kind).replace("int", "Int").replace("u", "U"))
    if pa.types.is_boolean(kind):
        return pd.BooleanDtype()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pd.StringDtype("python")
    if pa.types.is_decimal(kind):
        return pd.ArrowDtype(kind)
    return None
