"""Gaps under constraints: filled rows keep to them, and follow what the known cells say."""

import numpy as np
import pandas as pd
import pytest

from skvae import TVAESynthesizer
from skvae.constraints import FixedCombinations, Inequality, Predicate, Range, Total
from tests.test_constraints import ALL, make_bookings, quick

TOWNS = {"Bern": "CH", "Basel": "CH", "Lyon": "FR", "Nice": "FR", "Rome": "IT"}
RULES = [
    Inequality("low", "high"),
    Total(["low", "other"], "sum"),
    FixedCombinations(["town", "country"]),
]


def make_table(n=3000, seed=0):
    """``sign`` tells of the gap between ``low`` and ``high``; the town of ``other``."""
    rng = np.random.default_rng(seed)
    low = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    gap = np.where(rng.random(n) < 0.5, low % 2, rng.choice(3, n, p=[0.2, 0.5, 0.3]))
    sign = np.where(rng.random(n) < 0.8, gap, rng.integers(0, 3, n))
    town = rng.choice(list(TOWNS), n, p=[0.3, 0.2, 0.2, 0.1, 0.2])
    other = np.where(town == "Bern", 0, rng.integers(0, 3, n))
    return pd.DataFrame(
        {
            "sign": np.array(list("xyz"))[sign],
            "low": low,
            "high": low + gap,
            "town": town,
            "country": [TOWNS[name] for name in town],
            "other": other,
            "sum": low + other,
        }
    )


def rows_of(known, n_rows, columns):
    return pd.DataFrame({name: [known.get(name)] * n_rows for name in columns})


def real_shares(table, known, column):
    same = np.all([table[name] == value for name, value in known.items()], axis=0)
    return table.loc[same, column].value_counts(normalize=True)


def check_kept(filled, gaps, table, rules):
    assert filled.notna().all(axis=None)
    pd.testing.assert_series_equal(filled.dtypes, table.dtypes)
    assert filled.index.equals(gaps.index)
    for rule in rules:
        assert rule.holds(filled).all(), rule
    for name in gaps:
        there = gaps[name].notna()
        assert filled.loc[there, name].astype(object).equals(gaps.loc[there, name].astype(object))


def exact(model):
    """Whether the model learns the table but for noise."""
    return model.decoder == "autoregressive" and model.column_order == "table"


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module", params=["table", "random", "factorized"])
def model(request, table):
    kind = {"column_order": request.param, "max_epochs": 20}
    if request.param == "factorized":
        kind = {"decoder": "factorized"}
    settings = {"max_epochs": 12, "batch_size": 64, "device": "cpu", "random_state": 0}
    return TVAESynthesizer(constraints=RULES, **{**settings, **kind}).fit(table)


@pytest.fixture(scope="module")
def bookings():
    return make_bookings()


@pytest.fixture(scope="module")
def fitted(bookings):
    return quick(constraints=ALL, max_epochs=10, batch_size=64).fit(bookings)


class TestFilledRows:
    @pytest.mark.parametrize("method", ["draw", "mode", "mean"])
    def test_keep_to_all_constraints_and_known_cells_to_the_bit(self, fitted, bookings, method):
        whole = make_bookings(40, seed=5, missing=0)
        absent = np.random.default_rng(0).random(whole.shape) < 0.25
        gaps = whole.mask(absent).set_axis(range(7, 47))
        filled = fitted.impute(gaps, method=method, random_state=0)
        check_kept(filled, gaps, bookings, ALL)
        known = set(zip(bookings["city"], bookings["country"], strict=True))
        assert set(zip(filled["city"], filled["country"], strict=True)) <= known

    def test_follow_from_cells_that_are_computed(self, fitted):
        whole = make_bookings(200, seed=6, missing=0)
        filled = fitted.impute(whole.assign(arrival=pd.NaT, net=np.nan), random_state=0)
        days = (filled["departure"] - filled["arrival"]).dt.days
        assert days.mean() == pytest.approx(3, abs=0.7)  # of 700 in which arrivals lie
        np.testing.assert_allclose(filled["net"], whole["net"])  # gross less tax

    def test_two_unknown_parts_of_a_known_sum(self, fitted):
        whole = make_bookings(100, seed=7, missing=0)
        gaps = whole.assign(net=np.nan, tax=np.nan, deposit=np.nan)
        filled = fitted.impute(gaps, random_state=0)
        np.testing.assert_allclose(filled["net"] + filled["tax"], whole["gross"])
        share = filled["tax"] / filled["net"]
        assert share.median() == pytest.approx(0.077, abs=0.02)

    @pytest.mark.parametrize(
        "known",
        [
            {"high": 3, "sign": "y"},
            {"high": 2, "sign": "x"},
            {"sum": 3, "high": 2},
            {"sum": 3, "country": "CH"},
        ],
        ids=str,
    )
    def test_have_the_shares_of_the_table(self, model, table, known):
        gaps = rows_of(known, 400, table)
        filled = model.impute(gaps, random_state=0)
        check_kept(filled, gaps, table, RULES)
        for name in ("low", "other"):
            expected = real_shares(table, known, name)
            found = filled[name].value_counts(normalize=True)
            distance = found.sub(expected, fill_value=0).abs().sum() / 2
            assert distance < (0.1 if exact(model) else 0.25), name

    def test_several_draws_differ_in_the_gaps_alone(self, fitted):
        gaps = make_bookings(40, seed=8, missing=0).assign(beds=pd.NA, city=None)
        first, second, third = fitted.impute(gaps, n_draws=3, random_state=0)
        assert (first["city"] != second["city"]).any()
        assert (second["beds"] != third["beds"]).any()
        pd.testing.assert_series_equal(first["country"], gaps["country"])

    def test_keep_to_a_predicate_without_anything_built_in(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"a": rng.integers(0, 6, 600), "b": rng.integers(0, 6, 600)})
        rule = Predicate(lambda t: (t["a"] + t["b"]) % 2 == 0)
        table = table[rule.holds(table)].reset_index(drop=True)
        fitted = quick(constraints=[rule]).fit(table)
        filled = fitted.impute(table.assign(b=np.nan), random_state=0)
        assert rule.holds(filled).all()
        pd.testing.assert_series_equal(filled["a"], table["a"])

    def test_of_an_array(self):
        X = np.sort(np.random.default_rng(0).normal(size=(300, 2)), axis=1)
        fitted = quick(constraints=[Inequality(0, 1)]).fit(X)
        X[:100, 0], X[100:200, 1] = np.nan, np.nan
        filled = fitted.impute(X, random_state=0)
        assert isinstance(filled, np.ndarray)
        assert (filled[:, 0] <= filled[:, 1]).all()
        np.testing.assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])

    def test_a_chain_of_inequalities(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame(np.cumsum(rng.poisson(3, (500, 3)), axis=1), columns=list("abc"))
        rules = [Inequality("a", "b"), Inequality("b", "c")]
        fitted = quick(constraints=rules, max_epochs=10).fit(table)
        for lacking in (["a"], ["b"], ["a", "b"], ["b", "c"], ["a", "c"]):
            gaps = table.head(50).assign(**dict.fromkeys(lacking, np.nan))
            check_kept(fitted.impute(gaps, random_state=0), gaps, table, rules)

    def test_identifiers_beside_constraints_are_made_anew_where_they_lack(self):
        table = make_table(400).assign(key=[f"K-{number:06d}" for number in range(400)])
        fitted = quick(constraints=RULES, column_kinds={"key": "identifier"}).fit(table)
        gaps = table.assign(low=np.nan)
        gaps.loc[:99, "key"] = None
        filled = fitted.impute(gaps, random_state=0)
        assert filled["key"].notna().all()
        assert not set(filled["key"][:100]) & set(table["key"])
        assert (filled["key"][100:] == table["key"][100:]).all()

    def test_of_the_paper_model(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"a": rng.normal(0, 5, 600)})
        table["b"] = table["a"] + rng.gamma(9, 0.1, 600)
        table["c"] = table["a"] - table["b"]
        rules = [Inequality("a", "b"), Total(["b", "c"], "a")]
        fitted = TVAESynthesizer.from_preset(
            "paper", constraints=rules, max_epochs=30, batch_size=64, device="cpu", random_state=0
        ).fit(table)
        gaps = table.assign(a=np.nan, c=np.nan)[:200]
        filled = fitted.impute(gaps, random_state=0)
        check_kept(filled, gaps, table, rules)
        assert (filled["a"] - table["a"][:200]).std() < 2  # of 5

    def test_a_combination_that_leaves_a_gap_keeps_it(self):
        table = pd.DataFrame({"x": ["a", "b"] * 40, "y": [None, 2.0] * 40})
        fitted = quick(constraints=[FixedCombinations(["x", "y"])]).fit(table)
        filled = fitted.impute(pd.DataFrame({"x": ["a", "b", None], "y": [None, None, 2.0]}))
        assert filled["x"].tolist() == ["a", "b", "b"]
        assert filled["y"].isna().tolist() == [True, False, False]


class TestRowsThatCannotBeFilled:
    @pytest.mark.parametrize(
        ("known", "message"),
        [
            ({"low": 3, "high": 1}, r"Row 'p' breaks Inequality\(.*low=3.0, high=1.0\)"),
            ({"town": "Oslo"}, r"Row 'p' breaks FixedCombinations\(.*\(town='Oslo'\)"),
            ({"low": 1, "other": 1, "sum": 9}, r"Row 'p' breaks Total\("),
        ],
    )
    def test_are_named_with_the_rule(self, model, table, known, message):
        gaps = rows_of({}, 1, table).assign(**{k: [v] for k, v in known.items()})
        gaps = pd.concat([table.head(1), gaps.astype({"low": float, "high": float})])
        for ask in (lambda X: model.impute(X), lambda X: model.conditional_proba(X, "sign")):
            with pytest.raises(ValueError, match=message):
                ask(gaps.set_axis(["o", "p"]))

    def test_are_given_up_after_a_while(self):
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"a": rng.integers(0, 9, 200), "b": rng.integers(0, 9, 200)})
        fitted = quick(constraints=[Range("a", 0, 8)]).fit(table)
        fitted._plan.constraints.append(Predicate(lambda t: t["b"] < 0, "negative"))
        with pytest.raises(ValueError, match=r"Row 3 found no cells .*Predicate\(negative\)"):
            fitted.impute(table.assign(b=table["b"].where(table.index != 3))[3:4])


class TestConditionalProba:
    @pytest.mark.parametrize(
        ("column", "known"),
        [
            ("low", {"high": 3, "sign": "y"}),
            ("high", {"low": 2, "sign": "y"}),
            ("sum", {"low": 2, "other": 1}),
            ("town", {"country": "CH", "other": 0}),
            ("country", {"town": "Nice"}),
            ("sign", {"low": 1, "high": 2}),
            ("other", {"sum": 4, "town": "Rome"}),
        ],
    )
    def test_is_that_of_the_table(self, model, table, column, known):
        proba = model.conditional_proba(rows_of(known, 60, table), column)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        found, expected = proba.mean(), real_shares(table, known, column)
        distance = found.sub(expected, fill_value=0).abs().sum() / 2
        assert distance < (0.1 if exact(model) else 0.3)
        if column in ("sum", "country"):
            assert distance < 1e-6  # it follows

    def test_what_breaks_a_constraint_has_none(self, model, table):
        proba = model.conditional_proba(table.head(200), "low")
        assert list(proba.columns) == [0, 1, 2, 3]
        above = proba.columns.to_numpy() > table["high"].to_numpy()[:200, None]
        assert proba.to_numpy()[above].max() == 0
        named = model.conditional_proba(table.head(200).drop(columns="country"), "country")
        assert (named.idxmax(axis=1) == table["country"][:200]).all()

    def test_a_computed_column_of_many_values_is_refused(self, fitted, bookings):
        with pytest.raises(ValueError, match="Column 'departure' has more values than can be"):
            fitted.conditional_proba(bookings.head(), "departure")

    def test_a_column_that_is_not_there(self, fitted, bookings):
        with pytest.raises(ValueError, match="column names 'stars', which is not a column"):
            fitted.conditional_proba(bookings.head(), "stars")
