import numpy as np
import pandas as pd
import pytest

from skvae.tabular import TabularTransformer


@pytest.fixture(scope="module")
def bills():
    """Four in ten bills are paid in full."""
    rng = np.random.default_rng(0)
    due = rng.gamma(2, 1000, 3000)
    paid = np.where(rng.random(3000) < 0.4, due, rng.gamma(2, 500, 3000))
    return pd.DataFrame({"due": due, "note": "x", "paid": paid})


def sources(table, **parameters):
    """Names of the columns that each column copies from."""
    transformer = TabularTransformer(random_state=0, **parameters).fit(table)
    return {
        name: [table.columns[source] for source in getattr(encoder, "copies_", [])]
        for name, encoder in zip(table, transformer.encoders_, strict=True)
    }


def test_cells_that_equal_an_earlier_column_stay_equal_wherever_in_the_bin_they_come_out(bills):
    transformer = TabularTransformer(random_state=0)
    encoded = transformer.fit_encode(bills)
    places = np.random.default_rng(1).random(encoded.places.shape)
    back = transformer.decode(encoded.codes, places, np.random.default_rng(0))
    copied = bills["due"] == bills["paid"]
    equal = back["due"] == back["paid"]
    assert equal[copied].mean() > 0.98  # but for the ends of the range
    assert equal[~copied].mean() < 0.01
    counts = transformer.encoders_[2].code_counts_
    assert counts[-1] == copied.sum()


def test_columns_copy_from_earlier_ones_only_and_only_if_asked_to(bills):
    assert sources(bills) == {"due": [], "note": [], "paid": ["due"]}
    assert sources(bills.iloc[:, ::-1]) == {"paid": [], "note": [], "due": ["paid"]}
    assert not any(sources(bills, copy_columns=False).values())


def test_a_chance_repetition_is_no_copy(bills):
    rng = np.random.default_rng(0)
    seldom = np.where(rng.random(3000) < 0.005, bills["due"], rng.gamma(2, 500, 3000))
    assert sources(bills.assign(paid=seldom))["paid"] == []


def test_values_that_are_atoms_anyway_are_no_copies():
    rng = np.random.default_rng(0)
    sparse = {name: np.where(rng.random(3000) < 0.8, 0.0, rng.random(3000)) for name in "ab"}
    table = pd.DataFrame(sparse)
    assert (table["a"] == table["b"]).mean() > 0.5
    assert sources(table) == {"a": [], "b": []}


def test_a_column_copies_from_the_three_that_it_equals_most(bills):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((3000, 5)), columns=list("abcde"))
    which = rng.choice(5, size=3000, p=[0.1, 0.2, 0.3, 0.05, 0.35])
    target = np.select([which == k for k in range(4)], [table[c] for c in "abcd"], table["e"])
    table["e"] = np.where(which == 4, rng.random(3000), target)
    assert sources(table)["e"] == ["c", "b", "a"]


def test_integers_beyond_2_to_the_53_take_no_part():
    wide = np.random.default_rng(0).integers(2**62, 2**62 + 10**6, 500)
    assert sources(pd.DataFrame({"a": wide, "b": wide})) == {"a": [], "b": []}


def test_a_copy_of_a_missing_cell_is_the_middle_of_the_column(bills):
    table = bills.assign(due=bills["due"].mask(bills.index % 9 == 0))
    transformer = TabularTransformer(random_state=0).fit(table)
    due, _, paid = transformer.encoders_
    codes = np.array([[due.n_codes_ - 1, 0, paid.n_codes_ - 1]])
    row = transformer.decode(codes, np.zeros((1, 3)), np.random.default_rng(0))
    assert np.isnan(row["due"][0])
    # Of the cells that are no copies, which alone are in bins.
    free = bills["paid"][bills["paid"] != table["due"]]
    assert row["paid"][0] == pytest.approx(free.median(), rel=0.3)
