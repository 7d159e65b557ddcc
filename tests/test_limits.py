import numpy as np
import pandas as pd
import pytest

from skvae import TVAESynthesizer
from skvae.tabular import TabularTransformer
from skvae.tabular.limits import release


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "price": np.round(rng.gamma(2, 50, 1500), 1),
            "pixel": rng.integers(0, 256, 1500).astype(np.uint8),
            "size": rng.normal(size=1500),
            "stars": rng.integers(1, 6, 1500),
        }
    )


def drawn(table, n=20_000, **params):
    params = {"max_epochs": 1, "device": "cpu", "random_state": 0, **params}
    if params.get("numeric_encoding") == "mixture":
        params["decoder"] = "factorized"
    return TVAESynthesizer(**params).fit(table).sample(n)


@pytest.mark.parametrize("encoding", ["quantile", "mixture"])
def test_range_and_rounding_are_kept_by_default(table, encoding):
    rows = drawn(table, numeric_encoding=encoding)
    assert (rows.max() <= table.max()).all()
    assert (rows.min() >= table.min()).all()
    assert (rows["price"].round(1) == rows["price"]).all()


def test_numbers_may_leave_the_range_but_not_the_dtype(table):
    rows = drawn(table, enforce_range=False)
    beyond = (rows["size"] > table["size"].max()) | (rows["size"] < table["size"].min())
    assert 0 < beyond.mean() < 0.02
    assert rows["size"].abs().max() < 2.5 * table["size"].abs().max()
    assert rows["pixel"].dtype == np.uint8
    # Wrapping around would put many of the largest at the other end.
    assert rows["pixel"].isin([0, 1, 2, 253, 254, 255]).mean() < 0.06
    assert (rows["price"].round(1) == rows["price"]).all()
    assert set(rows["stars"]) == {1, 2, 3, 4, 5}  # values that repeat are the values there are


def test_modes_of_mixtures_may_leave_the_range_but_not_the_dtype(table):
    transformer = TabularTransformer(numeric_encoding="mixture", random_state=0).fit(table)
    release(transformer, range_=True, rounding=False)
    codes = np.zeros((2, 4), np.int64)
    places = np.array([[-1.0] * 4, [1.0] * 4])
    rows = transformer.decode(codes, places, np.random.default_rng(0))
    assert rows["size"].max() > table["size"].max()
    # Wrapping around would make the larger place the smaller number.
    assert rows["pixel"].is_monotonic_increasing


@pytest.mark.parametrize("encoding", ["quantile", "mixture"])
def test_numbers_may_be_finer_than_those_of_the_table(table, encoding):
    rows = drawn(table, enforce_rounding=False, numeric_encoding=encoding)
    assert (rows["price"].round(1) != rows["price"]).mean() > 0.5
    assert rows["stars"].dtype == table["stars"].dtype
    assert (rows.max() <= table.max()).all()


def test_a_number_beyond_the_range_is_likelier_where_it_may_be_drawn(table):
    beyond = table.head(1).assign(size=table["size"].max() + 0.05)
    scores = [
        TVAESynthesizer(max_epochs=1, random_state=0, enforce_range=kept)
        .fit(table)
        .score_samples(beyond)[0]
        for kept in (True, False)
    ]
    assert scores[1] > scores[0]


def test_categories_have_a_threshold_of_their_own():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"kind": ["a"] * 300 + ["b"] * 12 + ["c"] * 3, "x": rng.normal(size=315)})
    expected = {None: {"a", "b"}, 20: {"a"}, 2: {"a", "b", "c"}}
    for least, levels in expected.items():
        fitted = TVAESynthesizer(max_epochs=1, random_state=0, rare_category_min_count=least)
        assert set(fitted.fit(table).sample(2000)["kind"]) == levels
