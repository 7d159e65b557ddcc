"""Missing cells and conditional shares: what is there stays, what is not follows from it."""

import numpy as np
import pandas as pd
import pytest

from skvae import TVAESynthesizer
from skvae._synthesis.imputation import _most_frequent


def make_table(n=1500, seed=0):
    """``late`` is a function of ``early``; ``x`` lies around its position."""
    rng = np.random.default_rng(seed)
    early = rng.choice(list("abc"), n, p=[0.5, 0.3, 0.2])
    x = np.select([early == "a", early == "b"], [0.0, 5.0], 10.0) + rng.normal(0, 0.5, n)
    return pd.DataFrame(
        {
            "early": early,
            "x": x,
            "count": pd.array(np.where(rng.random(n) < 0.1, pd.NA, rng.integers(0, 5, n)), "Int64"),
            "n": rng.integers(0, 4, n).astype(np.int32),
            "late": pd.Categorical(np.char.upper(early.astype(str))),
        }
    )


@pytest.fixture(scope="module", params=["table", "random", "paper"])
def model(request):
    settings = {"batch_size": 64, "device": "cpu", "random_state": 0}
    if request.param == "paper":
        return TVAESynthesizer.from_preset("paper", **{**settings, "max_epochs": 60}).fit(
            make_table()
        )
    return TVAESynthesizer(max_epochs=30, column_order=request.param, **settings).fit(make_table())


@pytest.fixture(scope="module")
def whole():
    return make_table(300, seed=5)


@pytest.fixture(scope="module")
def gaps(whole):
    return whole.mask(np.random.default_rng(0).random(whole.shape) < 0.25).set_axis(range(9, 309))


class TestImpute:
    def test_cells_that_are_there_come_back_to_the_bit(self, model, gaps, whole):
        filled = model.impute(gaps, random_state=0)
        assert filled.index.equals(gaps.index)
        pd.testing.assert_series_equal(filled.dtypes, whole.dtypes)
        assert filled.notna().all(axis=None)
        for name in gaps:
            known = gaps[name].notna()
            assert (
                filled.loc[known, name].astype(object) == gaps.loc[known, name].astype(object)
            ).all()

    @pytest.mark.parametrize("method", ["draw", "mode", "mean"])
    def test_cells_follow_from_those_before_and_after(self, model, whole, method):
        for name, source in (("early", "late"), ("late", "early")):
            filled = model.impute(whole.assign(**{name: None}), method=method, random_state=0)
            same = filled["early"].str.upper() == filled["late"].astype(object)
            assert same.mean() > (0.7 if model.decoder == "factorized" else 0.95), source

    def test_means_come_nearer_than_draws(self, model, whole):
        gap = whole.assign(x=np.nan)
        error = {
            method: (model.impute(gap, method=method, random_state=0)["x"] - whole["x"]).std()
            for method in ("mean", "draw")
        }
        assert error["mean"] < error["draw"]
        assert error["mean"] < 1.5  # of the column: 3.9

    def test_several_tables_differ_where_cells_are_missing(self, model, gaps):
        tables = model.impute(gaps, n_draws=3, random_state=0)
        assert len(tables) == 3
        differ = tables[0]["n"] != tables[1]["n"]
        assert differ.any()
        assert not differ[gaps["n"].notna()].any()

    def test_a_whole_table_comes_back(self, model, whole):
        table = whole.dropna()
        pd.testing.assert_frame_equal(model.impute(table), table)

    def test_arrays_come_back_as_arrays(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(200, 3))
        model = TVAESynthesizer(max_epochs=2, random_state=0).fit(X)
        X[rng.random(X.shape) < 0.2] = np.nan
        filled = model.impute(X)
        assert isinstance(filled, np.ndarray)
        assert not np.isnan(filled).any()

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"method": "median"}, "expected 'draw', 'mode' or 'mean'"),
            ({"n_draws": 0}, "n_draws=0, expected a whole number from 1 up"),
            ({"n_draws": 2, "method": "mode"}, "has one answer"),
        ],
    )
    def test_other_parameters_are_refused(self, model, gaps, params, message):
        with pytest.raises(ValueError, match=message):
            model.impute(gaps, **params)


class TestConditionalProba:
    @pytest.mark.parametrize("column", ["early", "late"])
    def test_it_knows_what_follows(self, model, whole, column):
        proba = model.conditional_proba(whole, column)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        assert list(proba.columns) == sorted(whole[column].unique())
        assert (proba.idxmax(axis=1) == whole[column].astype(object)).mean() > 0.95

    def test_it_is_calibrated_where_nothing_follows(self, model, whole):
        if model.decoder == "factorized":
            pytest.skip("numbers are modes of a mixture, which no values stand for")
        proba = model.conditional_proba(whole, "n")
        assert list(proba.columns) == [0, 1, 2, 3]
        np.testing.assert_allclose(proba.mean(), 0.25, atol=0.08)

    def test_missing_cells_are_averaged_over(self, model, whole):
        alone = model.conditional_proba(
            whole.assign(late=None, x=np.nan, count=pd.NA, n=np.nan)[:50], "early"
        )
        np.testing.assert_allclose(alone.mean(), [0.5, 0.3, 0.2], atol=0.1)

    def test_what_the_column_holds_is_not_looked_at(self, model, whole):
        expected = model.conditional_proba(whole, "late")
        for X in (whole.assign(late=None), whole.drop(columns="late")):
            pd.testing.assert_frame_equal(model.conditional_proba(X, "late"), expected)

    def test_a_column_of_many_values_is_refused(self, model, whole):
        with pytest.raises(ValueError, match="Column 'x' has more values than can be told"):
            model.conditional_proba(whole, "x")


@pytest.mark.parametrize("method", ["draw", "mode", "mean"])
class TestNothingToSay:
    def test_a_table_without_gaps_comes_back(self, model, whole, method):
        full = whole.dropna()
        pd.testing.assert_frame_equal(model.impute(full, method=method, random_state=0), full)

    def test_a_column_that_was_always_missing_stays_so(self, method):
        table = make_table(200)[["early", "x"]].assign(
            hole=pd.Series([None] * 200, dtype=object), none=np.nan
        )
        model = TVAESynthesizer(max_epochs=1, device="cpu", random_state=0).fit(table)
        gaps = table.head(20).assign(early=None)
        filled = model.impute(gaps, method=method, random_state=0)
        assert filled["hole"].isna().all() and filled["none"].isna().all()
        assert filled["early"].isin(list("abc")).all()


def test_missing_draws_have_a_vote_of_their_own():
    drawn = [pd.Series(["a", None]), pd.Series([None, None]), pd.Series(["a", "z"])]
    cells = _most_frequent(drawn)
    assert cells[0] == "a" and pd.isna(cells[1])
