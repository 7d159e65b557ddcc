"""Constraints: what they say, what is built in, and that no row that comes out breaks one."""

import datetime
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import skvae
from skvae import TVAESynthesizer
from skvae.constraints import (
    ConstraintPlan,
    FixedCombinations,
    Inequality,
    Predicate,
    Range,
    Total,
)

COUNTRY = {"Bern": "CH", "Basel": "CH", "Lyon": "FR", "Rome": "IT"}


def even_or_rich(table):
    return (table["guests"] % 2 == 0) | (table["net"] > 100)


ALL = [
    Inequality("arrival", "departure"),
    Inequality("guests", "beds", strict=True),
    Total(["net", "tax"], "gross"),
    FixedCombinations(["city", "country"]),
    Range("rating", 0, 5),
    Range("deposit", 0, "net"),
    Predicate(even_or_rich),
]


def make_bookings(n=900, seed=0, missing=0.1):
    """Bookings of hotels: dates, whole numbers and prices with missing cells, all of ``ALL``."""
    rng = np.random.default_rng(seed)
    arrival = pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 700, n), unit="D")
    city = rng.choice(list(COUNTRY), n)
    net = np.round(rng.gamma(3, 60, n), 2)
    tax = np.round(net * 0.077, 2)
    guests = np.where(net > 100, rng.integers(1, 5, n), 2)
    table = pd.DataFrame(
        {
            "city": city,
            "country": pd.Categorical([COUNTRY[name] for name in city]),
            "arrival": arrival,
            "departure": arrival + pd.to_timedelta(rng.poisson(3, n), unit="D"),
            "guests": guests,
            "beds": guests + 1 + rng.poisson(0.5, n),
            "net": net,
            "tax": tax,
            "gross": np.round(net + tax, 2),
            "deposit": np.round(net * rng.random(n), 1).clip(max=net),
            "rating": rng.integers(0, 6, n).astype(np.int8),
        }
    ).astype({"beds": "Int64"})
    for name in ("departure", "beds", "gross", "deposit"):
        table.loc[rng.random(n) < missing, name] = None
    table.loc[rng.random(n) < missing, "arrival"] = pd.NaT
    return table


def numbers_of(table):
    """The bookings with days in place of dates."""
    table = table.copy()
    for name in ("arrival", "departure"):
        days = (table[name] - pd.Timestamp("2023-01-01")).dt.days
        table[name] = days.astype("Int64")
    return table


def plan_for(table, constraints, **params):
    params = {"min_rows": 5, "min_count": 5, **params}
    return ConstraintPlan(constraints, **params).fit(table)


def shuffled(table, seed=0):
    """Each column by itself in another order: what the worst of models would draw."""
    rng = np.random.default_rng(seed)
    columns = [table.iloc[:, i].iloc[rng.permutation(len(table))] for i in range(table.shape[1])]
    return pd.concat([column.reset_index(drop=True) for column in columns], axis=1)


def quick(**params):
    return TVAESynthesizer(**{"max_epochs": 2, "device": "cpu", "random_state": 0, **params})


@pytest.fixture(scope="module")
def bookings():
    return make_bookings()


@pytest.fixture(scope="module")
def numbers(bookings):
    return numbers_of(bookings)


@pytest.fixture(scope="module")
def fitted(numbers):
    return quick(constraints=ALL, max_epochs=15).fit(numbers)


class TestWhatTheySay:
    @pytest.mark.parametrize(
        ("constraint", "expected"),
        [
            (Inequality("a", "b"), [True, True, False, True]),
            (Inequality("a", "b", strict=True), [True, False, False, True]),
            (Range("a", 1, 2), [True, True, False, True]),
            (Range("a", 1, 2, strict=True), [False, False, False, True]),
            (Range("a", low=2), [False, True, True, True]),
            (Range("a", high="b"), [True, True, False, True]),
            (Total(["a", "b"], "c"), [True, False, True, True]),
            (Total(["a", "b"], "c", tolerance=1), [True, True, True, True]),
            (Predicate(lambda t: t["c"] > 3), [False, True, True, True]),
            (FixedCombinations(["a", "b"]), [True, True, True, True]),
        ],
    )
    def test_of_each_row(self, constraint, expected):
        table = pd.DataFrame({"a": [1, 2, 3, None], "b": [2, 2, 1, 5], "c": [3, 5, 4, 9]})
        assert constraint.holds(table).tolist() == expected

    @pytest.mark.parametrize("dtype", ["Int64", "float32", "int64[pyarrow]", "object"])
    def test_a_missing_cell_breaks_nothing_whatever_the_dtype(self, dtype):
        table = pd.DataFrame({"a": pd.array([5, None, 9], "Int64"), "b": [6, 1, 8]})
        table = table.astype(dtype)
        assert Inequality("a", "b").holds(table).tolist() == [True, True, False]

    def test_tenths_add_up_in_floating_point(self):
        table = pd.DataFrame({"a": [0.1, 0.1], "b": [0.2, 0.2], "c": [0.3, 0.301]})
        assert Total(["a", "b"], "c").holds(table).tolist() == [True, False]

    @pytest.mark.parametrize(
        ("dates", "bound"),
        [
            (pd.to_datetime(["2020-01-01", None, "2021-06-01"]), "2020-12-31"),
            (
                pd.to_datetime(["2020-01-01", None, "2021-06-01"]).tz_localize("Asia/Tokyo"),
                "2020-12-31",
            ),
            (
                np.array([datetime.date(2020, 1, 1), None, datetime.date(9999, 12, 31)]),
                datetime.date(2020, 12, 31),
            ),
            (pd.to_timedelta(["1D", None, "9D"]), "2D"),
        ],
        ids=["naive", "zoned", "objects", "durations"],
    )
    def test_bounds_of_dates_and_durations(self, dates, bound):
        table = pd.DataFrame({"when": dates})
        assert Range("when", high=bound).holds(table).tolist() == [True, True, False]

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: Range("a"), ValueError, "has no bound"),
            (lambda: FixedCombinations(["a"]), ValueError, "at least two columns"),
            (lambda: FixedCombinations("ab"), ValueError, "at least two columns"),
            (lambda: Total([], "a"), ValueError, "expected a list of columns"),
            (lambda: Total(["a", "b"], "b"), ValueError, "names a column twice"),
            (lambda: Predicate("a > b"), TypeError, "expected a function"),
        ],
    )
    def test_what_says_nothing_is_refused(self, make, error, message):
        with pytest.raises(error, match=message):
            make()

    @pytest.mark.parametrize("answer", [lambda t: True, lambda t: ["yes"] * len(t), lambda t: t])
    def test_a_predicate_that_answers_no_question_is_refused(self, answer):
        with pytest.raises(ValueError, match="expected a boolean for each of 2 rows"):
            Predicate(answer, "odd").holds(pd.DataFrame({"a": [1, 2], "b": [1, 2]}))

    def test_a_predicate_that_fails_is_named(self):
        with pytest.raises(ValueError, match=r"Predicate\(odd\) raised KeyError: 'c'.*\['a'\]"):
            Predicate(lambda t: t["c"] > 0, "odd").holds(pd.DataFrame({"a": [1, 2]}))


class TestBuiltIn:
    def test_a_table_comes_back_as_it_was(self, bookings):
        plan = plan_for(bookings, ALL, enforce_range=False)
        reduced = plan.reduce(bookings)
        assert not {"departure", "beds", "gross", "city", "deposit"} & set(reduced.columns)
        back = plan.restore(reduced, np.random.default_rng(0))
        pd.testing.assert_frame_equal(back, bookings, rtol=1e-12)

    def test_whatever_is_drawn_keeps_to_them(self, bookings):
        plan = plan_for(bookings, ALL[:-1])
        for seed in range(5):
            rows = plan.restore(shuffled(plan.reduce(bookings), seed), np.random.default_rng(0))
            pd.testing.assert_series_equal(rows.dtypes, bookings.dtypes)
            for constraint in ALL[:-1]:
                assert constraint.holds(rows).all(), constraint
            known = set(zip(bookings["city"], bookings["country"], strict=True))
            assert set(zip(rows["city"], rows["country"], strict=True)) <= known
            assert plan.holds(rows).all()

    def test_columns_that_are_computed_keep_their_rounding_and_range(self, bookings):
        plan = plan_for(bookings, ALL[:-1])
        rows = plan.restore(shuffled(plan.reduce(bookings)), np.random.default_rng(0))
        assert rows["departure"].dropna().dt.hour.eq(0).all()
        for name, decimals in (("gross", 2), ("deposit", 1)):
            cells = rows[name].dropna()
            # A deposit is at most the net price, which has more decimals.
            off = (cells.round(decimals) != cells).mean()
            assert off < (0.02 if name == "deposit" else 1e-12), name
        for name in ("departure", "beds", "deposit"):
            assert rows[name].max() <= bookings[name].max(), name
            assert rows[name].min() >= bookings[name].min(), name

    @pytest.mark.parametrize(
        ("grid", "dtype"), [(1, "float64"), (1, "int64"), (1, "Int64"), (0.05, "float64")]
    )
    def test_a_total_that_was_rounded_is_rounded_again(self, grid, dtype):
        table = make_bookings(missing=0)[["net", "tax"]]
        steps = ((table["net"] + table["tax"]) / grid).round()
        table["gross"] = (steps * grid).round(2).astype(dtype)
        total = Total(["net", "tax"], "gross", tolerance=0.51 * grid)
        plan = plan_for(table, [total])
        assert "gross" not in plan.reduce(table)
        rows = plan.restore(shuffled(plan.reduce(table)), np.random.default_rng(0))
        assert total.holds(rows).all()
        assert rows["gross"].dtype == table["gross"].dtype
        steps = rows["gross"].astype(float) / grid
        assert (steps.round() - steps).abs().max() < 1e-6

    def test_a_total_is_the_exact_sum_where_rounding_is_too_much_or_off(self):
        net = np.arange(100.0)
        table = pd.DataFrame({"net": net, "tax": np.where(net % 2, 0.2, -0.2), "gross": net})
        total = Total(["net", "tax"], "gross", tolerance=0.25)
        for enforced, expected in ((True, [7.0, 7.0, 7.3, 7.4]), (False, [7.0, 7.2, 7.3, 7.4])):
            plan = plan_for(table, [total], enforce_rounding=enforced)
            reduced = plan.reduce(table[:4]).assign(net=7.0, tax=[0.0, 0.2, 0.3, 0.4])
            rows = plan.restore(reduced, np.random.default_rng(0))
            np.testing.assert_allclose(rows["gross"], expected)
            assert total.holds(rows).all()

    def test_without_enforcement_range_and_rounding_are_free(self, bookings):
        plan = plan_for(
            bookings,
            [Inequality("deposit", "gross")],
            enforce_range=False,
            enforce_rounding=False,
        )
        rows = plan.restore(shuffled(plan.reduce(bookings)), np.random.default_rng(0))
        assert plan.holds(rows).all()
        assert rows["gross"].max() > bookings["gross"].max()

    @pytest.mark.parametrize(
        "low",
        [
            pd.Series([1, 5, 9, None] * 10, dtype="Int16"),
            pd.Series([1, 5, 9, None] * 10, dtype="float32"),
            pd.Series([1, 5, 9, None] * 10, dtype="int64[pyarrow]"),
            pd.Series([1, 5, 9, None] * 10, dtype=object),
            pd.Series(pd.to_datetime(["2020-01-01", "2021-02-03", "2020-05-05", None] * 10)).add(
                pd.Timedelta("5min")
            ),
            pd.Series(
                pd.to_datetime(["2020-01-01", "2021-02-03", "2020-05-05", None] * 10)
            ).dt.tz_localize("Europe/Zurich"),
            pd.Series([datetime.date(2020, 1, 1), datetime.date(2021, 2, 3), None, None] * 10),
            pd.Series(
                [datetime.datetime(2020, 1, 1), datetime.datetime(2021, 2, 3, 4), None, None] * 10,
                dtype=object,
            ),
            pd.Series(pd.to_timedelta(["1h", "25h", None, None] * 10)),
            pd.Series(pd.to_datetime(["2020-01-01", "2021-02-03", "2020-05-05", None] * 10)).astype(
                "timestamp[us][pyarrow]"
            ),
        ],
        ids=lambda column: f"{column.dtype}-{type(column[0]).__name__}",
    )
    @pytest.mark.parametrize("strict", [False, True])
    def test_every_dtype_that_has_an_order(self, low, strict):
        step = 1 if pd.api.types.is_number(low[0]) else pd.Timedelta("2D")
        rng = np.random.default_rng(0)
        high = pd.Series(
            [cell if pd.isna(cell) else cell + step * int(k) for cell, k in
             zip(low, rng.integers(int(strict), 4, 40), strict=True)],
            dtype=low.dtype,
        )  # fmt: skip
        high[3] = high[4]  # a row in which low is missing
        table = pd.DataFrame({"low": low, "high": high})
        rule = Inequality("low", "high", strict=strict)
        plan = plan_for(table, [rule], enforce_range=False)
        pd.testing.assert_frame_equal(plan.restore(plan.reduce(table), None), table)
        rows = plan.restore(shuffled(plan.reduce(table)), None)
        pd.testing.assert_series_equal(rows.dtypes, table.dtypes)
        assert plan.holds(rows).all()
        kinds = {type(cell) for cell in high.dropna()}
        assert {type(cell) for cell in rows["high"].dropna()} <= kinds

    def test_dates_whose_rests_span_more_than_floats_hold(self):
        rng = np.random.default_rng(0)
        low = pd.Series(pd.Timestamp("1990-01-01") + pd.to_timedelta(rng.integers(0, 9, 60), "D"))
        high = low + pd.to_timedelta(rng.integers(0, 10**18, 60), unit="ns")
        table = pd.DataFrame({"low": low, "high": high})
        plan = plan_for(table, [Inequality("low", "high", strict=True)], enforce_range=False)
        back = plan.restore(plan.reduce(table), None)
        assert ((back["high"] - table["high"]).abs() < pd.Timedelta("1us")).all()
        assert (back["high"] > back["low"]).all()

    def test_columns_that_sit_between_columns(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame(np.sort(rng.normal(size=(200, 3)), axis=1), columns=["a", "b", "c"])
        rules = [Range("b", "a", "c"), Inequality("a", "c")]
        plan = plan_for(table, rules)
        rows = plan.restore(shuffled(plan.reduce(table)), None)
        for rule in rules:
            assert rule.holds(rows).all()

    def test_one_column_below_two_others_and_above_two_others(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame(np.sort(rng.integers(0, 99, (200, 3)), axis=1), columns=list("abc"))
        below = [Inequality("a", "b"), Inequality("a", "c")]
        above = [Inequality("a", "c"), Inequality("b", "c")]
        for rules in (below, above):
            plan = plan_for(table, rules)
            assert len(plan.steps_) == 2
            rows = plan.restore(shuffled(plan.reduce(table)), None)
            assert all(rule.holds(rows).all() for rule in rules)

    def test_what_cannot_be_built_in_is_checked(self):
        table = pd.DataFrame({"a": [1, 2, 3] * 5, "b": [2, 3, 4] * 5, "c": [5, 6, 7] * 5})
        rules = [Inequality("a", "b"), Inequality("b", "c"), Inequality("a", "c")]
        plan = plan_for(table, rules)
        assert len(plan.steps_) == 2
        broken = pd.DataFrame({"a": [9], "b": [9], "c": [1]})
        assert not plan.holds(broken).any()

    def test_two_totals_share_their_parts(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame(rng.integers(0, 9, (100, 3)), columns=list("abc"))
        table["d"], table["e"] = table["a"] + table["b"], table["b"] + table["c"]
        rules = [Total(["a", "b"], "d"), Total(["b", "c"], "e")]
        plan = plan_for(table, rules)
        assert list(plan.reduce(table)) == ["a", "b", "c"]
        rows = plan.restore(shuffled(plan.reduce(table)), None)
        assert all(rule.holds(rows).all() for rule in rules)

    def test_totals_that_settle_everything_twice_are_refused(self):
        table = pd.DataFrame({"a": [0] * 9, "b": [0] * 9})
        rules = [Total(["a"], "b"), Total(["b"], "a")]
        with pytest.raises(ValueError, match="cannot be held together"):
            plan_for(table, rules)

    def test_rare_combinations_are_neither_stored_nor_drawn(self):
        cells = ["a"] * 40 + ["b"] * 40 + ["c"] * 2
        table = pd.DataFrame({"x": cells, "y": [cell * 2 for cell in cells]})
        plan = plan_for(table, [FixedCombinations(["x", "y"])])
        assert b"cc" not in pickle.dumps(plan)
        rows = plan.restore(plan.reduce(table), np.random.default_rng(0))
        assert set(rows["y"]) == {"aa", "bb"}
        assert (rows["x"] * 2 == rows["y"]).all()

    def test_combinations_of_which_none_may_be_stored_are_refused(self):
        table = pd.DataFrame({"x": range(30), "y": range(30)})
        with pytest.raises(ValueError, match=r"0 of 30 combinations .* rare_category_min_count"):
            plan_for(table, [FixedCombinations(["x", "y"])])

    def test_combinations_that_are_mostly_rare_are_reported(self):
        table = pd.DataFrame({"x": [*range(30), *[99] * 10], "y": 1})
        with pytest.warns(UserWarning, match=r"together by 25 % of the table"):
            plan_for(table, [FixedCombinations(["x", "y"])])

    def test_a_missing_cell_is_part_of_a_combination(self):
        table = pd.DataFrame({"x": ["a", None] * 20, "y": [None, 2.0] * 20})
        plan = plan_for(table, [FixedCombinations(["x", "y"])])
        back = plan.restore(plan.reduce(table), np.random.default_rng(0))
        pd.testing.assert_frame_equal(back, table)


class TestRefusals:
    @pytest.mark.parametrize(
        ("rules", "error", "message"),
        [
            (["a < b"], TypeError, r"constraints holds 'a < b', expected objects of skvae"),
            ([Inequality("net", "grosss")], ValueError, r"'grosss'.*Did you mean 'gross'\?"),
            ([Inequality("city", "net")], TypeError, r"'city' holds string .* expected numbers"),
            ([Inequality("arrival", "net")], TypeError, "'arrival' .* and 'net' .* cannot be"),
            ([Range("net", "2020-01-01")], TypeError, "'net' .* expected a number"),
            ([Range("arrival", 5)], TypeError, "'arrival' .* is 5, expected a date"),
            (
                [Inequality("gross", "net")],
                ValueError,
                r"Inequality\(low='gross', high='net', strict=False\) does not hold in \d+ of 900 "
                r"training rows \(row \d+, gross=[\d.]+, net=.*; \.\.\.\)\. Correct or",
            ),
        ],
    )
    def test_name_the_constraint_and_the_way_out(self, bookings, rules, error, message):
        with pytest.raises(error, match=message):
            plan_for(bookings, rules)

    def test_a_fit_that_is_refused_loses_nothing(self, numbers):
        fitted = quick(constraints=ALL).fit(numbers)
        before = fitted.sample(5, random_state=0)
        fitted.set_params(constraints=[Inequality("gross", "net")])
        with pytest.raises(ValueError, match="does not hold"):
            fitted.fit(numbers)
        pd.testing.assert_frame_equal(fitted.sample(5, random_state=0), before)

    @pytest.mark.parametrize(
        "features", [["beds"], [5], [False] * 5 + [True] + [False] * 5], ids=str
    )
    def test_a_computed_column_cannot_be_categorical(self, numbers, features):
        with pytest.raises(ValueError, match="categorical_features names 'beds'"):
            quick(constraints=ALL, categorical_features=features).fit(numbers)


class TestInTheSynthesizer:
    def test_no_row_breaks_one(self, fitted, numbers):
        rows = fitted.sample(4000)
        pd.testing.assert_series_equal(rows.dtypes, numbers.dtypes)
        assert list(rows.columns) == list(numbers.columns)
        assert rows.index.equals(pd.RangeIndex(4000))
        for constraint in ALL:
            assert constraint.holds(rows).all(), constraint
        known = set(zip(numbers["city"], numbers["country"], strict=True))
        assert set(zip(rows["city"], rows["country"], strict=True)) <= known
        for name in ("departure", "beds", "gross"):
            expected = numbers[name].isna().mean()
            assert rows[name].isna().mean() == pytest.approx(expected, abs=0.06), name

    def test_dates_and_identifiers_beside_constraints(self, bookings):
        table = bookings.assign(booking=[f"B-{number:06d}" for number in range(len(bookings))])
        fitted = quick(constraints=ALL, column_kinds={"booking": "identifier"}).fit(table)
        rows = fitted.sample(1500)
        pd.testing.assert_series_equal(rows.dtypes, table.dtypes)
        assert all(constraint.holds(rows).all() for constraint in ALL)
        assert rows["booking"].is_unique
        assert rows["departure"].dropna().dt.hour.eq(0).all()

    def test_columns_that_are_compared_are_no_identifiers(self):
        table = pd.DataFrame({"low": range(100), "high": range(5, 105)})
        rows = quick(constraints=[Inequality("low", "high")], max_epochs=1).fit(table).sample(500)
        assert rows["low"].between(0, 99).all()

    @pytest.mark.parametrize("kind", ["identifier", "text"])
    def test_cells_that_are_made_anew_cannot_be_compared(self, kind):
        table = pd.DataFrame({"low": range(100), "high": range(5, 105)})
        rules = [Inequality("low", "high")]
        with pytest.raises(ValueError, match=f"column_kinds.'low'. is '{kind}'.* made anew"):
            quick(constraints=rules, column_kinds={"low": kind}).fit(table)

    def test_identifiers_that_repeat_keep_to_a_predicate(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"who": 2 * rng.integers(50, 100, 400), "n": rng.normal(size=400)})
        rule = Predicate(lambda t: t["who"] % 3 != 0)
        fitted = quick(constraints=[rule], column_kinds={"who": "identifier"}, max_epochs=1)
        rows = fitted.fit(table[rule.holds(table)]).sample(300, random_state=0)
        assert rule.holds(rows).all()
        assert rows["who"].duplicated().any()

    def test_condition_columns_are_not_computed_ones(self, numbers):
        with pytest.raises(ValueError, match=r"condition_columns names 'beds'.* from \['guests'\]"):
            quick(constraints=ALL, condition_columns=["beds"]).fit(numbers)

    def test_the_most_probable_rows_break_none(self, fitted, numbers):
        rows = fitted.inverse_transform(fitted.transform(numbers))
        assert len(rows) == len(numbers)
        for constraint in ALL:
            assert constraint.holds(rows).all(), constraint

    def test_what_is_built_in_helps_the_likelihood(self, numbers):
        columns = ["net", "tax", "gross", "deposit"]
        rules = [Total(["net", "tax"], "gross"), Inequality("deposit", "net")]
        train, test = numbers[columns][:700], numbers[columns][700:]
        free, bound = (
            quick(max_epochs=20, constraints=rule).fit(train).score(test) for rule in (None, rules)
        )
        assert bound > free + 0.5

    def test_a_row_that_breaks_one_has_no_density(self, fitted, numbers):
        rows = numbers.head(4).copy()
        rows.loc[1, "beds"] = 0
        rows.loc[2, "rating"] = 9
        scores = fitted.score_samples(rows)
        assert np.isfinite(scores).tolist() == [True, False, False, True]
        assert np.isfinite(fitted.transform(rows)).all()

    def test_categorical_features_keep_their_meaning(self, numbers):
        expected = quick(constraints=ALL, categorical_features=["rating"]).fit(numbers)
        for features in ([10], [False] * 10 + [True], ["rating", "city"]):
            found = quick(constraints=ALL, categorical_features=features).fit(numbers)
            pd.testing.assert_frame_equal(found.sample(9), expected.sample(9, random_state=None))
            expected = clone(expected).fit(numbers)

    def test_arrays(self):
        X = np.sort(np.random.default_rng(0).integers(0, 9, (200, 2)), axis=1)
        rows = quick(constraints=[Inequality(0, 1)]).fit(X).sample(500)
        assert rows.dtype == X.dtype
        assert (rows[:, 0] <= rows[:, 1]).all()

    def test_too_few_rows_that_keep_to_them_are_told(self, numbers):
        def unlikely(table):
            return table["net"].duplicated(keep=False) if len(table) < 900 else table["net"] > 0

        fitted = quick(constraints=[Predicate(unlikely, "unlikely")]).fit(numbers)
        fitted._plan.checked_ = [Predicate(lambda t: t["net"] < 0, "negative price")]
        with pytest.raises(ValueError, match=r"0 of 10000 rows .*Predicate\(negative price\): 0 %"):
            fitted.sample(50)

    def test_rows_drawn_again_follow_the_distribution_that_is_left(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"a": rng.choice(list("xyz"), 1000, p=[0.6, 0.3, 0.1])})
        table["b"] = rng.normal(size=1000)
        allowed = Predicate(lambda t: t["a"] != "y")
        fitted = quick(max_epochs=15, batch_size=64).fit(table)
        only = clone(fitted).set_params(constraints=[allowed]).fit(table[table["a"] != "y"])
        share = (only.sample(4000)["a"] == "x").mean()
        assert share == pytest.approx(6 / 7, abs=0.04)

    def test_the_estimator_can_be_cloned_and_pickled(self, fitted):
        assert clone(fitted).get_params() == fitted.get_params()
        again = pickle.loads(pickle.dumps(fitted))
        pd.testing.assert_frame_equal(
            again.sample(9, random_state=0), fitted.sample(9, random_state=0)
        )

    def test_save_and_load(self, numbers, tmp_path):
        fitted = quick(constraints=ALL[:-1]).fit(numbers)
        skvae.save(fitted, tmp_path / "model.skvae")
        again = skvae.load(tmp_path / "model.skvae")
        assert again.constraints == ALL[:-1]
        pd.testing.assert_frame_equal(
            again.sample(99, random_state=0), fitted.sample(99, random_state=0)
        )
        np.testing.assert_array_equal(again.score_samples(numbers), fitted.score_samples(numbers))

    def test_a_function_is_not_saved(self, fitted, tmp_path):
        with pytest.raises(TypeError, match=r"even_or_rich.*leave a Predicate out"):
            skvae.save(fitted, tmp_path / "model.skvae")
        with pytest.raises(TypeError, match=r"'constraints' holds Predicate\(even_or_rich\)"):
            skvae.to_config(fitted)

    def test_a_configuration_with_a_field_that_is_none_is_refused(self):
        config = skvae.to_config(quick(constraints=[Inequality("a", "b")]))
        config["params"]["constraints"][0]["higher"] = "c"
        with pytest.raises(ValueError, match=r"Inequality.*higher"):
            skvae.from_config(config)


class TestWithConditions:
    def test_on_columns_that_are_learnt_and_that_are_computed(self, fitted):
        conditions = {"city": "Rome", "beds": (4, 6), "rating": [4, 5]}
        rows = fitted.sample(50, conditions=conditions, random_state=0)
        assert (rows["city"] == "Rome").all()
        assert rows["beds"].between(4, 6).all()
        assert rows["rating"].isin([4, 5]).all()
        assert all(constraint.holds(rows).all() for constraint in ALL)

    @pytest.mark.parametrize("wanted", ["many", [3, "many"]])
    def test_on_a_computed_column_of_what_it_cannot_hold(self, fitted, wanted):
        with pytest.raises(ValueError, match=r"conditions\['beds'\]=.*many.* holds numbers"):
            fitted.sample(5, conditions={"beds": wanted})

    def test_on_a_missing_cell_of_a_computed_column(self, fitted):
        assert fitted.sample(20, conditions={"gross": None}, random_state=0)["gross"].isna().all()

    def test_a_table_of_cells(self, fitted):
        known = pd.DataFrame(
            {"guests": [2, 4], "beds": [4, 5], "city": ["Bern", None], "country": ["CH", None]},
            index=["p", "q"],
        )
        rows = fitted.sample(conditions=known, random_state=0)
        assert list(rows.index) == ["p", "q"]
        assert rows["beds"].tolist() == [4, 5]
        assert rows["guests"].tolist() == [2, 4]
        assert rows.loc["p", ["city", "country"]].tolist() == ["Bern", "CH"]
        assert all(constraint.holds(rows).all() for constraint in ALL)

    def test_a_table_that_gives_half_of_what_is_bound_is_refused(self, fitted):
        with pytest.raises(ValueError, match=r"give \['beds'\] without \['guests'\] in row 0"):
            fitted.sample(conditions=pd.DataFrame({"beds": [4]}))
        with pytest.raises(ValueError, match=r"\['city', 'country'\] without each other"):
            fitted.sample(conditions=pd.DataFrame({"city": ["Bern"]}))

    def test_rebalance(self, fitted):
        rows = fitted.sample(300, rebalance={"rating": {5: 0.6}}, random_state=0)
        assert (rows["rating"] == 5).mean() == pytest.approx(0.6, abs=0.1)
        assert all(constraint.holds(rows).all() for constraint in ALL)
