import gzip
import hashlib
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from skvae.datasets import load_adult

INTEGERS = {"age", "fnlwgt", "education.num", "capital.gain", "capital.loss", "hours.per.week"}


@pytest.fixture(scope="module")
def adult():
    return load_adult()


def test_adult_has_the_rows_columns_and_dtypes_of_the_official_training_split(adult):
    assert adult.shape == (32_561, 15)
    assert adult.index.equals(pd.RangeIndex(32_561))
    assert list(adult.columns) == [
        "age",
        "workclass",
        "fnlwgt",
        "education",
        "education.num",
        "marital.status",
        "occupation",
        "relationship",
        "race",
        "sex",
        "capital.gain",
        "capital.loss",
        "hours.per.week",
        "native.country",
        "income",
    ]
    for column in adult:
        assert adult[column].dtype == (np.int64 if column in INTEGERS else object), column


def test_adult_agrees_with_what_is_published_about_it(adult):
    assert adult["income"].value_counts().to_dict() == {"<=50K": 24_720, ">50K": 7_841}
    # 30,162 rows are left without the unknown values, by the data set's own notes.
    assert (~(adult == "?").any(axis=1)).sum() == 30_162
    assert adult["age"].agg(["min", "max"]).tolist() == [17, 90]
    assert adult["capital.gain"].max() == 99_999
    assert adult["native.country"].nunique() == 42


def test_adult_is_whole_to_the_last_cell(adult):
    text = adult.to_csv(index=False, lineterminator="\n").encode()
    assert (
        hashlib.sha256(text).hexdigest()
        == "0790474b6024ba34548c2add2514ec29c0d6c895d81e0fe38f3ea618bee066a8"
    )


def test_adult_text_cells_are_stripped_strings_and_never_missing(adult):
    assert not adult.isna().any(axis=None)
    for column in adult.columns.difference(list(INTEGERS)):
        levels = adult[column].unique()
        assert all(type(level) is str and level == level.strip() for level in levels), column


def test_return_x_y_takes_the_target_apart(adult):
    X, y = load_adult(return_X_y=True)
    pd.testing.assert_frame_equal(X, adult.drop(columns="income"))
    pd.testing.assert_series_equal(y, adult["income"])


def test_every_call_gives_a_frame_of_its_own():
    first = load_adult()
    first.loc[0, "age"] = -1
    assert load_adult().loc[0, "age"] == 39


def test_the_file_carries_no_date_so_that_packing_it_again_changes_nothing():
    packed = (files("skvae.datasets") / "data" / "adult.csv.gz").read_bytes()
    assert packed[4:8] == b"\0\0\0\0"
    assert gzip.decompress(packed).startswith(b"age,workclass,fnlwgt,")


def test_the_attribution_travels_with_the_file():
    readme = (files("skvae.datasets") / "data" / "README.md").read_text(encoding="utf-8")
    for needed in ("Becker", "Kohavi", "10.24432/C5XW20", "Creative Commons Attribution 4.0"):
        assert needed in readme
