import pickle

import numpy as np
import pandas as pd
import pytest

from skvae.tabular import CategoricalEncoder, infer_schema


def fitted(cells, min_rows_per_value=5, **kwargs):
    """An encoder fitted to a column, the codes, and the counts that the transformer sets."""
    column = pd.Series(cells, name="x", **kwargs)
    schema = infer_schema(column.to_frame(), ["x"])[0]
    encoder = CategoricalEncoder(schema, min_rows_per_value).fit(column)
    codes = encoder.encode(column)
    encoder.code_counts_ = np.bincount(codes, minlength=encoder.n_codes_)
    return encoder, codes


def decoded(encoder, codes, seed=0):
    """The cells behind codes, as a Series."""
    return pd.Series(encoder.decode(np.asarray(codes), np.random.default_rng(seed)), name="x")


STRINGS = ["b", "a", "c"] * 10
COLUMNS = {
    "object": pd.Series(STRINGS, dtype=object),
    "object with None": pd.Series([*STRINGS, *[None] * 6], dtype=object),
    "object with nan": pd.Series([*STRINGS, *[np.nan] * 6], dtype=object),
    "object with NA": pd.Series([*STRINGS, *[pd.NA] * 6], dtype=object),
    "string[python]": pd.Series([*STRINGS, None], dtype="string[python]"),
    "string[pyarrow]": pd.Series([*STRINGS, None], dtype="string[pyarrow]"),
    "large_string": pd.Series([*STRINGS, None], dtype="large_string[pyarrow]"),
    "category": pd.Series([*STRINGS, None], dtype="category"),
    "category of integers": pd.Series([*[3, 1, 2] * 10, None], dtype="category"),
    "category of booleans": pd.Series(pd.Categorical([True, False, None] * 10)),
    "category of dates": pd.Series(pd.Categorical(pd.to_datetime(["2020-01-01"] * 9))),
    "category of intervals": pd.cut(pd.Series(range(30)), 3),
    "ordered category": pd.Series(pd.Categorical(STRINGS, ["c", "a", "b", "z"], ordered=True)),
    "bool": pd.Series([True, False] * 9),
    "boolean": pd.Series([True, False, None] * 9, dtype="boolean"),
    "bool[pyarrow]": pd.Series([True, False, None] * 9, dtype="bool[pyarrow]"),
    "booleans as objects": pd.Series([True, False, None] * 9, dtype=object),
    "integers": pd.Series([3, 1, 2] * 9),
    "small integers": pd.Series([3, 1, 2] * 9, dtype="uint8"),
    "nullable integers": pd.Series([3, 1, None] * 9, dtype="Int16"),
    "floats": pd.Series([0.5, 1.5, np.nan] * 9),
    "float32": pd.Series([0.1, 1.5, np.nan] * 9, dtype="float32"),
    "constant": pd.Series(["x"] * 9),
}
EMPTY = ["object", "string[python]", "string[pyarrow]", "boolean", "category", "null[pyarrow]"]


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_comes_back_as_it_went_in(kind):
    column = COLUMNS[kind].rename("x")
    encoder, codes = fitted(column)
    assert codes.dtype == np.int64
    back = decoded(encoder, codes)
    pd.testing.assert_series_equal(back, column)
    if column.dtype == object:
        missing = [(a, b) for a, b in zip(column, back, strict=True) if pd.isna(a)]
        assert all(a is b for a, b in missing)


@pytest.mark.parametrize("dtype", EMPTY)
def test_a_column_without_any_cell_comes_back_empty_whatever_the_code(dtype):
    encoder, codes = fitted([None] * 9, dtype=dtype)
    assert len(encoder.levels_) == 0
    for code in range(encoder.n_codes_):
        back = decoded(encoder, np.full(3, code))
        assert back.isna().all()
        assert back.dtype == pd.Series([None], dtype=dtype).dtype
    new = pd.Series(pd.Categorical(["new"]) if dtype == "category" else ["new"])
    assert decoded(encoder, encoder.encode(new)).isna().all()
    assert (codes == encoder.n_codes_ - 1).all()


def test_codes_are_sorted_levels_then_unknown_then_missing():
    encoder, codes = fitted(["b"] * 6 + ["a"] * 5 + ["rare"] * 4 + [None] * 7)
    assert encoder.levels_.tolist() == ["a", "b"]
    assert encoder.code_counts_.tolist() == [5, 6, 4, 7]
    assert codes[[0, 6, 11, 15]].tolist() == [1, 0, 2, 3]


def test_codes_of_a_category_follow_its_own_order():
    cells = pd.Categorical(STRINGS, ["c", "unused", "a", "b"], ordered=True)
    encoder, _ = fitted(cells)
    assert encoder.ordinal
    assert encoder.levels_.tolist() == ["c", "a", "b"]


@pytest.mark.parametrize("dtype", ["object", "string[python]", "category"])
def test_rare_levels_never_come_out_and_frequent_ones_keep_their_proportions(dtype):
    cells = ["a"] * 600 + ["b"] * 200 + [f"rare{i // 4}" for i in range(400)]
    encoder, codes = fitted(cells, dtype=dtype)
    assert encoder.code_counts_[:2].tolist() == [600, 200]
    back = decoded(encoder, codes)
    assert set(back) == {"a", "b"}
    assert (back[:800] == cells[:800]).all()
    assert np.mean(back[800:] == "a") == pytest.approx(0.75, abs=0.08)


def test_a_rare_level_is_not_in_the_dump():
    cells = ["frequent"] * 50 + ["solitary"] * 4
    encoder, _ = fitted(cells)
    assert b"solitary" not in pickle.dumps(encoder)
    encoder, _ = fitted(cells, min_rows_per_value=4)
    assert b"solitary" in pickle.dumps(encoder)


def test_the_declared_domain_of_a_category_is_kept_its_rare_levels_unused():
    cells = pd.Categorical(["a"] * 50 + ["rare"], ["never", "rare", "a"])
    encoder, codes = fitted(cells)
    back = decoded(encoder, codes)
    assert back.cat.categories.tolist() == ["never", "rare", "a"]
    assert (back == "a").all()


def test_both_booleans_are_levels_however_rare():
    encoder, codes = fitted([False] * 50 + [True])
    assert encoder.n_codes_ == 2
    assert decoded(encoder, codes).sum() == 1


@pytest.mark.parametrize("dtype", ["object", "string[pyarrow]"])
def test_identifiers_come_back_as_fresh_labels(dtype):
    names = [f"x_{number}" for number in range(10**6, 10**6 + 300)]  # like fresh labels
    encoder, codes = fitted([*names, *["guest"] * 20, None], dtype=dtype)
    assert encoder.fresh_labels_
    back = decoded(encoder, codes)
    assert back[:300].is_unique
    assert back[:300].str.startswith("new_x_").all()
    assert not set(back) & set(names)
    assert (back[300:320] == "guest").all()
    assert pd.isna(back.iloc[-1])


def test_fresh_labels_are_named_after_the_column():
    encoder, codes = fitted([f"{number:x}" for number in range(100)])
    assert decoded(encoder, codes).str.fullmatch(r"x_\d+").all()


@pytest.mark.parametrize(
    "cells", [pd.Categorical([f"id{i}" for i in range(50)]), np.arange(50), np.arange(50) / 7]
)
def test_a_column_of_rare_levels_that_has_no_room_for_fresh_ones_is_refused(cells):
    with pytest.raises(
        ValueError, match=r"(?s)'x' is categorical.*none of its 50 levels.*by 5 rows"
    ):
        fitted(cells)
    encoder, codes = fitted(cells, min_rows_per_value=1)
    assert (decoded(encoder, codes) == cells).all()


def test_an_unseen_level_shares_the_code_of_the_rare_ones():
    encoder, _ = fitted(["a"] * 9 + ["b"] * 9)
    codes = encoder.encode(pd.Series(["b", "new", "a"]))
    assert codes.tolist() == [1, 2, 0]
    codes = encoder.encode(pd.Series(pd.Categorical(["b", "new", "a"])))
    assert codes.tolist() == [1, 2, 0]
    assert set(decoded(encoder, np.full(50, 2))) == {"a", "b"}


def test_a_missing_cell_where_fit_saw_none_counts_as_the_most_frequent_level():
    encoder, _ = fitted(["a"] * 9 + ["b"] * 10)
    assert encoder.encode(pd.Series(["a", None])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("cells", "later", "message"),
    [
        (["a"] * 9, [1, 2], "held strings in fit, but now holds 1 of type int"),
        (["a"] * 9, ["a", ["b"]], r"held strings in fit, but now holds \['b'\] of type list"),
        (["a"] * 9, [True], "held strings in fit, but now holds True"),
        ([True, False] * 5, ["True"], "held booleans in fit, but now holds 'True' of type str"),
        ([True, False] * 5, [2], "held booleans in fit, but now holds 2"),
        ([1, 2] * 5, [{"a": 1}], "held categories in fit, but now holds {'a': 1} of type dict"),
    ],
)
def test_a_column_that_turns_into_something_else_is_refused(cells, later, message):
    encoder, _ = fitted(cells)
    with pytest.raises(ValueError, match=f"Column 'x' {message}"):
        encoder.encode(pd.Series(later))


def test_zeros_and_ones_pass_for_booleans_and_floats_for_integers():
    encoder, _ = fitted([True, False] * 5)
    assert encoder.encode(pd.Series([0, 1, 1])).tolist() == [0, 1, 1]
    encoder, _ = fitted([10, 20] * 5)
    assert encoder.encode(pd.Series([20.0, 10.0])).tolist() == [1, 0]
