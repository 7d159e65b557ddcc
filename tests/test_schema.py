from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from skvae.tabular import infer_schema

NUMBERS = [3, 1, 4, 1, 5, 9, 2, 6]
SINGLE = ("float32", "float[pyarrow]")


def schema_of(column, **kwargs):
    return infer_schema(pd.DataFrame({"x": column}), **kwargs)[0]


@pytest.mark.parametrize(
    ("dtype", "integer"),
    [
        *[(f"{sign}int{bits}", True) for sign in ("", "u") for bits in (8, 16, 32, 64)],
        *[(f"{sign}Int{bits}", True) for sign in ("", "U") for bits in (8, 16, 32, 64)],
        ("int64[pyarrow]", True),
        ("uint8[pyarrow]", True),
        ("float16", False),
        ("float32", False),
        ("float64", False),
        ("Float32", False),
        ("Float64", False),
        ("double[pyarrow]", False),
        ("float[pyarrow]", False),
        ("Sparse[int64]", True),
        ("Sparse[float64]", False),
        (pd.ArrowDtype(pa.decimal128(10, 2)), False),
    ],
    ids=str,
)
def test_numbers_are_numeric_and_come_back_under_their_dtype(dtype, integer):
    cells = [Decimal(number) for number in NUMBERS] if "decimal" in str(dtype) else NUMBERS
    column = pd.Series(cells, dtype=dtype)
    schema = schema_of(column)
    assert (schema.kind, schema.integer, schema.offset) == ("numeric", integer, None)
    bits = 16 if "16" in str(dtype) else 32 if str(dtype).lower() in SINGLE else 64
    assert integer or schema.precision == np.finfo(f"float{bits}").eps
    values = schema.read_numbers(column)
    assert values.dtype == np.float64
    assert values.tolist() == NUMBERS
    back = pd.Series(schema.write_numbers(values))
    pd.testing.assert_series_equal(back, column)


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "boolean",
        "bool[pyarrow]",
        "string[python]",
        "string[pyarrow]",
        pd.ArrowDtype(pa.large_string()),
        "category",
        "object",
    ],
    ids=str,
)
def test_strings_booleans_and_categories_are_categorical(dtype):
    cells = [True, False] * 4 if "bool" in str(dtype) else ["yes", "no"] * 4
    schema = schema_of(pd.Series(cells, dtype=dtype))
    assert (schema.kind, schema.ordered) == ("categorical", False)


def test_an_ordered_category_is_ordered():
    cells = pd.Categorical(["low", "high"], categories=["low", "high"], ordered=True)
    assert schema_of(cells).ordered


@pytest.mark.parametrize(
    ("cells", "kind", "integer"),
    [
        ([1, 2, 3], "numeric", True),
        ([1.5, 2, 3], "numeric", False),
        ([1.5, None, 3], "numeric", False),
        ([True, None, False], "categorical", False),
        ([None, None, None], "categorical", False),
        ([np.str_("a"), "b", None], "categorical", False),
    ],
)
def test_a_column_of_python_objects_is_what_its_cells_are(cells, kind, integer):
    schema = schema_of(pd.Series(cells, dtype=object))
    assert (schema.kind, schema.integer) == (kind, integer)


@pytest.mark.parametrize("marker", [None, np.nan, pd.NA], ids=str)
def test_objects_get_the_missing_marker_back_that_they_came_with(marker):
    column = pd.Series([7, marker, 9], dtype=object)
    schema = schema_of(column)
    back = schema.write_numbers(schema.read_numbers(column))
    assert back[1] is marker
    assert [type(back[0]), back[0], back[2]] == [int, 7, 9]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([2**62 + 1, 2**62 + 4, 2**62 + 9]),
        pd.Series([2**64 - 1, 2**64 - 3, 2**64 - 900], dtype="uint64"),
        pd.Series([2**62 + 1, pd.NA, 2**62 + 9], dtype="Int64"),
        pd.Series([2**63 + 1, pd.NA, 2**63 + 9], dtype="UInt64"),
        pd.Series([2**62 + 1, pd.NA, 2**62 + 9], dtype="int64[pyarrow]"),
        pd.Series([2**63 + 1, 2**63 + 9, None], dtype=object),
        pd.Series([2**80 + 1, 2**80 + 9], dtype=object),
    ],
    ids=lambda column: f"{column.dtype}",
)
def test_integers_beyond_2_to_the_53_survive_to_the_last_digit(column):
    schema = schema_of(column)
    assert schema.offset is not None
    back = schema.write_numbers(schema.read_numbers(column))
    for before, after in zip(column, back, strict=True):
        if pd.isna(before):
            assert pd.isna(after)
        else:
            assert int(after) == int(before)


def test_the_offset_of_wide_integers_is_a_round_number_and_no_cell():
    column = pd.Series([2**62 + step for step in range(5)])
    offset = schema_of(column).offset
    assert offset % 10**15 == 0
    assert abs(offset - 2**62) <= 10**15


def test_generated_wide_integers_stay_within_the_dtype():
    schema = schema_of(pd.Series([2**64 - 1, 2**64 - 2], dtype="uint64"))
    back = schema.write_numbers(np.array([1e18, -1e30]))
    assert back.tolist() == [2**64 - 1, 0]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([-(2**63), 2**63 - 1, 0]),
        pd.Series([5, 2**63 + 1, 2**64 - 1], dtype="uint64"),
        pd.Series([7] * 9 + [10**40], dtype=object),
    ],
    ids=["int64", "uint64", "object"],
)
def test_integers_too_far_apart_to_be_told_apart_are_refused(column):
    with pytest.raises(ValueError, match=r"Column 'x'.*spread over more than 2\*\*53.*identifier"):
        schema_of(column)


def test_reading_wide_integers_that_became_floats_leaves_the_column_alone():
    schema = schema_of(pd.Series([2**60 + step for step in range(9)]))
    column = pd.Series([2.0**60, np.nan, 2.0**60 + 512])
    before = column.copy()
    schema.read_numbers(column)
    pd.testing.assert_series_equal(column, before)


def test_integers_that_no_float_holds_are_refused():
    with pytest.raises(ValueError, match=r"Column 'x' holds integers beyond 1e\+300.*str"):
        schema_of(pd.Series([10**400, 10**400], dtype=object))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pd.period_range("2020", periods=2), "dtype period"),
        (np.array([1j, 2]), "dtype complex128"),
        ([date(2020, 1, 1), 1], "1 of type date, 1 of type int.*Convert"),
        ([Decimal("1.5"), Decimal("2.5")], r"2 of type Decimal.*astype\(float\)"),
        ([b"a", b"b"], "2 of type bytes"),
        ([{"a": 1}, {"b": 2}], "2 of type dict.*must be a string or a real number"),
        ([[1], [2]], "2 of type list"),
        ([1, "a"], "mixes types: 1 of type int, 1 of type str.*astype"),
        ([True, "a", 2.5], "mixes types"),
        (["a", {"a": 1}], "cannot be encoded"),
    ],
)
def test_what_cannot_be_encoded_is_named_with_a_way_out(cells, message):
    with pytest.raises(TypeError, match=f"(?s)Column 'x'.*{message}"):
        schema_of(pd.Series(cells))


@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64", "object", "double[pyarrow]"])
def test_infinities_are_refused_with_their_place(dtype):
    schema = schema_of(pd.Series([1.0, 2.0, 3.5]).astype(dtype))
    with pytest.raises(ValueError, match=r"Column 'x' contains infinity in 2 rows.*position 1\)"):
        schema.read_numbers(pd.Series([1.0, np.inf, -np.inf]).astype(dtype))


@pytest.mark.parametrize(
    "cells", [["a", "b"], ["1", "2"], pd.Categorical([1, 2]), [Decimal(1), Decimal(2)]]
)
def test_a_numeric_column_that_turns_into_something_else_is_refused(cells):
    schema = schema_of(pd.Series([1.0, 2.5]))
    with pytest.raises(ValueError, match=r"Column 'x' held numbers in fit \(dtype float64\)"):
        schema.read_numbers(pd.Series(cells))


@pytest.mark.parametrize("column", [pd.Series([True, False]), pd.Series([None, 3], dtype=object)])
def test_booleans_and_objects_pass_for_numbers(column):
    values = schema_of(pd.Series([1.0, 2.5])).read_numbers(column)
    np.testing.assert_array_equal(values, [1, 0] if column.dtype == bool else [np.nan, 3])


@pytest.mark.parametrize(
    "wanted", [["b"], [1], [False, True, False], np.array(["b"]), pd.Index(["b"])]
)
def test_numbers_are_categorical_where_the_user_says_so(wanted):
    frame = pd.DataFrame({"a": [1, 2], "b": [1, 2], "c": ["x", "y"]})
    kinds = [schema.kind for schema in infer_schema(frame, wanted)]
    assert kinds == ["numeric", "categorical", "categorical"]


def test_names_come_before_positions():
    frame = pd.DataFrame({1: [1, 2], 0: [1, 2]})
    kinds = [schema.kind for schema in infer_schema(frame, [0])]
    assert kinds == ["numeric", "categorical"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["nope"], r"names 'nope', which is not a column. The columns are \['a', 'b'\]"),
        ([2], "names 2"),
        ([-1], "names -1"),
        ([True], "mask of 1 booleans, but the table has 2 columns"),
        ("a", "must be 'auto' or a list.*got 'a'"),
    ],
)
def test_categorical_features_that_are_not_there_are_refused(wanted, message):
    with pytest.raises(ValueError, match=message):
        infer_schema(pd.DataFrame({"a": [1], "b": [2]}), wanted)


def test_a_name_that_stands_twice_is_refused_with_its_positions():
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    with pytest.raises(ValueError, match=r"'a' stands 2 times, at positions \[0, 2\]"):
        infer_schema(frame)
