import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator

from skvae.tabular import TabularTransformer
from skvae.tabular.frames import read_table, restore_container


class Door(BaseEstimator):
    """The least that the functions ask of an estimator."""


def passed_through(table):
    """What comes back of a table that is read and restored."""
    door = Door()
    frame = read_table(door, table, reset=True)
    return restore_container(door, frame.copy())


@pytest.mark.parametrize(
    "names",
    [["a", "b"], [0, 1], [7, 3], [("a", 1), ("a", 2)], ["a", 1], [None, "b"], [1.5, "b"]],
    ids=str,
)
def test_a_frame_comes_back_with_its_names_whatever_they_are(names):
    table = pd.DataFrame([[1, "x"], [2, "y"]])
    table.columns = names
    back = passed_through(table)
    pd.testing.assert_frame_equal(back, table)
    assert list(back.columns) == list(table.columns)


def test_the_kind_of_the_column_index_is_kept():
    columns = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["letter", "number"])
    table = pd.DataFrame([[1, 2], [3, 4]], columns=columns)
    pd.testing.assert_index_equal(passed_through(table).columns, columns)


def test_a_frame_is_not_copied():
    table = pd.DataFrame({"a": [1.0, 2.0]})
    assert read_table(Door(), table, reset=True) is table


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int8", "uint16", "bool"])
def test_arrays_come_back_as_arrays_of_their_dtype(dtype):
    table = np.array([[1, 0], [0, 1], [1, 1]]).astype(dtype)
    back = passed_through(table)
    assert isinstance(back, np.ndarray)
    assert back.dtype == table.dtype
    assert (back == table).all()


def test_arrays_of_objects_get_one_dtype_a_column_and_come_back_as_objects():
    table = np.array([[1, "x", 0.5], [2, "y", None]], dtype=object)
    frame = read_table(Door(), table, reset=True)
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "object", "float64"]
    back = passed_through(table)
    assert back.dtype == object
    assert back[0].tolist() == [1, "x", 0.5]


def test_arrays_of_strings_come_back_as_wide_as_they_need_to_be():
    door = Door()
    read_table(door, np.array([["a"], ["b"]]), reset=True)
    back = restore_container(door, pd.DataFrame([["longer than before"]]))
    assert back.dtype.kind == "U"
    assert back.tolist() == [["longer than before"]]


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        ([[1, 2], [3, 4]], np.int64),
        ([[1, 2.5], [3, 4]], np.float64),
        ([(1, "a"), (2, "b")], object),
        (((1, None), (2, 3)), object),
    ],
)
def test_lists_of_rows_come_back_as_arrays(rows, dtype):
    back = passed_through(rows)
    assert back.dtype == dtype
    assert back[:, 0].tolist() == [row[0] for row in rows]


def test_numbers_beside_strings_in_a_list_stay_numbers():
    frame = read_table(Door(), [[1, "a"], [2, "b"]], reset=True)
    assert frame[0].dtype == np.int64


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (pd.DataFrame({"a": []}), ValueError, r"0 sample\(s\) \(shape=\(0, 1\)\)"),
        (pd.DataFrame(index=[0, 1]), ValueError, r"0 feature\(s\) \(shape=\(2, 0\)\)"),
        (np.empty((0, 2)), ValueError, r"0 sample\(s\)"),
        (np.empty((2, 0)), ValueError, r"0 feature\(s\)"),
        ([], ValueError, "Expected 2D array"),
        ([1, 2, 3], ValueError, "Expected 2D array"),
        ([[1, 2], [3]], ValueError, "Expected 2D array"),
        (None, ValueError, "X is of type NoneType, expected a table"),
        ({"a": [1, 2]}, ValueError, r"X is of type dict, .* pd.DataFrame\(X\)"),
        ("table.csv", ValueError, r"X is of type str, .* pd.read_csv\(X\)"),
        (sparse.dok_matrix([[1.0]]), TypeError, "[Ss]parse"),
        (pd.Series([1, 2]), ValueError, "Expected a 2-dimensional container"),
        (sparse.csr_matrix([[1.0]]), TypeError, "[Ss]parse"),
        (np.array([[1j]]), ValueError, "Complex data not supported"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "'a' stands 2 times"),
    ],
)
def test_what_is_no_table_is_refused(table, error, message):
    with pytest.raises(error, match=message):
        read_table(Door(), table, reset=True)


STRINGS, OTHERS = ["a", "b", "c"], [0, 1, "c"]


@pytest.mark.parametrize(
    ("fitted", "later", "message"),
    [
        (STRINGS, ["a", "b", "d"], "(?s)unseen at fit time.*- d.*now missing.*- c"),
        (STRINGS, ["b", "a", "c"], "must be in the same order"),
        (STRINGS, ["a", "b"], "now missing"),
        (
            OTHERS,
            [0, 1, "d"],
            r"missing: \['c'\], not seen in fit: \['d'\].*Expected \[0, 1",
        ),
        (OTHERS, [1, 0, "c"], "they stand in another order"),
        (OTHERS, [0, 1], r"missing: \['c'\]"),
        (OTHERS, [0, 1, "c", 2], r"not seen in fit: \[2\]"),
        (STRINGS, OTHERS, r"missing: \['a', 'b'\]"),
        (OTHERS, STRINGS, r"missing: \[0, 1\], not seen in fit: \['a', 'b'\]"),
    ],
)
def test_other_columns_than_in_fit_are_refused(fitted, later, message):
    door = Door()
    read_table(door, pd.DataFrame([range(len(fitted))], columns=fitted), reset=True)
    with pytest.raises(ValueError, match=message):
        read_table(door, pd.DataFrame([range(len(later))], columns=later), reset=False)


def test_an_array_of_another_width_is_refused():
    door = Door()
    read_table(door, np.ones((2, 3)), reset=True)
    with pytest.raises(ValueError, match="X has 2 features, but Door is expecting 3"):
        read_table(door, np.ones((2, 2)), reset=False)


def test_an_array_after_a_frame_is_taken_with_scikit_learns_warning():
    door = Door()
    read_table(door, pd.DataFrame({"a": [1.0]}), reset=True)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert read_table(door, np.ones((2, 1)), reset=False).shape == (2, 1)


def test_a_list_keeps_its_booleans_and_whole_numbers():
    rows = [[step % 7, step % 2 == 0, step / 4] for step in range(40)]
    transformer = TabularTransformer().fit(rows)
    assert [schema.dtype.kind for schema in transformer.schema_] == ["i", "b", "f"]
    back = transformer.inverse_transform(transformer.transform(rows))
    assert [type(cell) for cell in back[0]] == [int, bool, float]
