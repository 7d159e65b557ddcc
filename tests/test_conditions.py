"""Conditions in the user's words: which codes and places agree, and what no row can hold."""

import numpy as np
import pandas as pd
import pytest

from skvae.tabular import TabularTransformer
from skvae.tabular.conditions import parse_condition, parse_conditions

LEVELS = ["lo", "mid", "hi"]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    n = 1000
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "price": np.round(rng.gamma(2, 20, n), 1),
            "count": rng.integers(0, 6, n),
            "letter": rng.choice(list("abc"), n),
            "rank": pd.Categorical(rng.choice(LEVELS, n), LEVELS, ordered=True),
            "gap": np.where(rng.random(n) < 0.3, np.nan, rng.integers(0, 4, n)),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
        }
    )


@pytest.fixture(scope="module")
def transformer(table):
    return TabularTransformer(random_state=0).fit(table)


def drawn(transformer, name, wanted, n=4000):
    """Cells of all codes that a condition lets come, at places all over their intervals."""
    (condition,) = parse_conditions(transformer, {name: wanted})
    encoder = transformer.encoders_[condition.column]
    rng = np.random.default_rng(0)
    allowed = np.flatnonzero(condition.high > condition.low)
    codes = rng.choice(allowed, n)
    low, high = condition.low[codes].clip(0, 1), condition.high[codes].clip(0, 1)
    if condition.column in (3, 4):
        return encoder.decode(codes, rng)
    return condition.settle(encoder.decode(codes, low + rng.random(n) * (high - low)))


class TestRanges:
    @pytest.mark.parametrize("ends", [(-0.3, 0.11), (1.23, 1.24), (None, -1.0), (2.0, None)])
    def test_numbers_fill_the_range_and_stay_in_it(self, transformer, table, ends):
        values = drawn(transformer, "x", ends)
        low, high = (-np.inf if ends[0] is None else ends[0], ends[1] or np.inf)
        assert values.min() >= low
        assert values.max() <= high
        real = table["x"][table["x"].between(low, high)]
        assert np.ptp(values) > 0.6 * np.ptp(real)

    def test_rounded_numbers_keep_their_grid(self, transformer):
        values = drawn(transformer, "price", (20.04, 20.55))
        assert set(np.round(values, 10)) == {20.1, 20.2, 20.3, 20.4, 20.5}
        np.testing.assert_array_equal(values, np.round(values, 1))

    def test_both_ends_count(self, transformer):
        assert set(drawn(transformer, "count", (2, 4))) == {2, 3, 4}

    def test_ordered_categories_have_ranges(self, transformer):
        assert set(drawn(transformer, "rank", ("mid", None))) == {"mid", "hi"}

    def test_dates_may_be_written(self, transformer):
        (condition,) = parse_conditions(transformer, {"day": ("2020-02-01", "2020-02-10")})
        days = transformer.schema_[6].write_numbers(
            drawn(transformer, "day", condition_ends(condition))
        )
        assert days.min() >= np.datetime64("2020-02-01")
        assert days.max() <= np.datetime64("2020-02-10")

    def test_missing_cells_lie_in_no_range(self, transformer):
        assert not np.isnan(drawn(transformer, "gap", (None, None))).any()


def condition_ends(condition):
    """The range of a condition on dates, as dates."""
    start = np.datetime64("1970-01-01")
    return tuple(pd.Timestamp(start + np.timedelta64(int(end), "D")) for end in condition.span)


class TestValues:
    def test_a_number_in_a_bin_has_one_code_and_its_place(self, transformer):
        condition = parse_condition(transformer, 0, 0.25)
        encoder = transformer.encoders_[0]
        value = encoder.decode(np.array([condition.code]), np.array([condition.place]))
        assert value[0] == pytest.approx(0.25, abs=1e-6)

    def test_several_numbers_and_missing(self, transformer):
        values = drawn(transformer, "gap", [1, 3, None])
        assert set(values[~np.isnan(values)]) == {1, 3}
        assert np.isnan(values).any()

    def test_numbers_of_a_set_in_bins(self, transformer):
        assert set(drawn(transformer, "price", [20.1, 30.5])) == {20.1, 30.5}

    @pytest.mark.parametrize("many", [["a", "c"], {"a", "c"}, np.array(["a", "c"])])
    def test_sets_of_any_kind(self, transformer, many):
        assert set(drawn(transformer, "letter", many)) == {"a", "c"}


class TestWhatNoRowCanHold:
    @pytest.mark.parametrize(
        ("name", "wanted", "message"),
        [
            ("letter", "aa", r"'letter'\] asks for 'aa'.*closest of its 3 values are 'a'"),
            ("count", 9, r"'count'\] asks for 9, .*closest that it can hold are 5"),
            ("count", 2.5, r"asks for 2.5, .*can hold are 2, 3"),
            ("count", (2.2, 2.8), r"no support.*can hold are 2, 3"),
            ("x", (50, 60), r"no support.*can hold are [23]\."),
            ("x", (1, 0), "the wrong way round"),
            ("x", (1, 2, 3), "tuple of 3, expected a range"),
            ("letter", ("a", "b"), "has no order"),
            ("rank", ("low", None), "'low' is not one of the categories 'lo', 'mid', 'hi'"),
            ("letter", None, "fit saw none"),
            ("other", 1, r"names 'other', which is not a column of fit: \['x'"),
            ("letter", {"a": 1}, r"conditions\['letter'\] is of type dict, expected a value, a li"),
            ("count", True, r"'count'\] asks for True, a boolean, but the column holds numbers"),
            ("count", [1, np.bool_(False)], "asks for False, a boolean"),
            ("count", (False, 3), "asks for False, a boolean"),
            ("letter", True, r"asks for True, a boolean, but the column holds values such as 'a'"),
            ("count", "three", "asks for 'three' of type str, but the column holds numbers"),
            ("day", "soon", r"asks for 'soon' of type str, but the column holds datetime cells"),
            ("day", ("soon", None), r"conditions\['day'\] asks for 'soon'"),
        ],
    )
    def test_the_error_names_column_value_and_way_out(self, transformer, name, wanted, message):
        with pytest.raises(ValueError, match=message):
            parse_conditions(transformer, {name: wanted})

    def test_the_error_blames_the_parameter(self, transformer):
        with pytest.raises(ValueError, match=r"^rebalance\['letter'\] asks for 'z'"):
            parse_condition(transformer, 3, "z", "rebalance")
