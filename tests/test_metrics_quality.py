"""Coverage, precision and recall, utility, oracles, and scorers for searches."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import metrics
from skvae.metrics import (
    SampleScorer,
    alpha_precision,
    beta_recall,
    column_shapes,
    coverage,
    pair_trends,
    two_sample_score,
    two_sample_scorer,
    utility,
)


def table(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "x": x,
            "y": np.where(rng.random(n) < 0.1, np.nan, x + 0.3 * rng.normal(size=n)),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 400, n), "D"),
            "colour": rng.choice(["red", "green", "blue", None], n, p=[0.6, 0.3, 0.05, 0.05]),
            "sick": np.where(x + 0.3 * rng.normal(size=n) > 0.5, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def real():
    return table(900, seed=0)


@pytest.fixture(scope="module")
def other():
    return table(700, seed=1)


@pytest.fixture(scope="module")
def holdout():
    return table(600, seed=2)


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (column_shapes, {}),
        (pair_trends, {"bins": "real"}),
        (two_sample_score, {"random_state": 0, "n_splits": 4}),
        (coverage, {}),
        (alpha_precision, {"max_rows": 400}),
        (beta_recall, {"max_rows": 400}),
    ],
)
def test_the_oracle_is_the_score_of_the_holdout(metric, options, real, other, holdout):
    result = metric(real, other, holdout=holdout, **options)
    assert result.oracle == metric(real, holdout, **options).value
    assert metric(real, other, **options).oracle is None
    if metric is not two_sample_score:
        assert "real rows reach" in repr(result)


@pytest.mark.parametrize("metric", [coverage, alpha_precision, beta_recall])
def test_tables_with_other_columns_or_none_or_empty_ones(metric, real):
    with pytest.raises(ValueError, match=r"lacks \['x'\] and adds \[\]"):
        metric(real, real.drop(columns="x"))
    with pytest.raises(ValueError, match="synthetic is empty"):
        metric(real, real.iloc[:0])
    empty = real.assign(nothing=np.nan, none=None)
    assert metric(empty, empty).value > 0.6


class TestCoverage:
    def test_equals_sdmetrics(self, real, other):
        single_column = pytest.importorskip("sdmetrics.single_column")
        details = coverage(real, other).details.set_index("column")["score"]
        for column in real:
            name = "CategoryCoverage" if column in ("colour", "sick") else "RangeCoverage"
            expected = getattr(single_column, name).compute(
                real[column].dropna(), other[column].dropna()
            )
            assert details[column] == pytest.approx(expected, abs=1e-9)

    def test_cells_outside_are_counted(self, real):
        details = coverage(real, real.assign(x=100.0, colour="pink")).details.set_index("column")
        assert details.loc["x", "outside"] == details.loc["colour", "outside"] == 1.0
        assert details.loc["sick", "outside"] == 0.0

    def test_categories_that_no_row_holds_do_not_count(self):
        grade = pd.Series(pd.Categorical(["a", "b"], categories=list("abc")), name="g").to_frame()
        assert coverage(grade, grade).value == 1.0
        assert coverage(grade, grade.iloc[:1]).value == 0.5

    def test_a_constant_column(self):
        one = pd.DataFrame({"x": [3, 3]})
        assert coverage(one, one).value == 1.0
        assert coverage(one, one + 1).value == 0.0


class TestPrecisionAndRecall:
    @pytest.fixture
    def numbers(self):
        rng = np.random.default_rng(0)
        real, synthetic = rng.random((300, 3)), rng.random((300, 3)) ** 1.5
        real[:2] = [[0, 0, 0], [1, 1, 1]]  # so that the range is 0 to 1
        return real, synthetic

    def test_equal_the_definition(self, numbers):
        real, synthetic = numbers
        alphas = np.linspace(0, 1, 30)
        centre = real.mean(axis=0)
        radii = np.quantile(np.linalg.norm(real - centre, axis=1), alphas)
        distance = np.linalg.norm(synthetic - centre, axis=1)
        curve = np.array([np.mean(distance <= r) for r in radii])
        expected = 1 - np.abs(alphas - curve).sum() / alphas.sum()
        assert alpha_precision(real, synthetic).value == pytest.approx(expected, abs=1e-2)

        to_real = np.sort(cdist(real, real), axis=1)[:, 1]
        pairs = cdist(real, synthetic)
        closest = synthetic[pairs.argmin(axis=1)]
        distance = np.linalg.norm(closest - synthetic.mean(axis=0), axis=1)
        radii = np.quantile(distance, alphas)
        covered = pairs.min(axis=1) <= to_real
        curve = np.array([np.mean(covered & (distance <= r)) for r in radii])
        expected = 1 - np.abs(alphas - curve).sum() / alphas.sum()
        assert beta_recall(real, synthetic).value == pytest.approx(expected, abs=1e-2)

    def test_what_is_too_narrow_has_precision_to_lose_and_no_recall(self, real, other):
        narrow = other.assign(x=0.0, y=0.0, colour="red", sick="no", when=other["when"].iloc[0])
        assert alpha_precision(real, other).value > 0.9 > 0.5 > alpha_precision(real, narrow).value
        assert beta_recall(real, other).value > 0.4 > 0.1 > beta_recall(real, narrow).value

    def test_copies_have_too_much_recall(self, real):
        assert beta_recall(real, real.copy()).value > 0.9

    def test_one_real_row_is_too_few(self, real, other):
        with pytest.raises(ValueError, match="at least two rows"):
            beta_recall(real.iloc[:1], other)


class TestUtility:
    def test_classes(self, real, other, holdout):
        result = utility(real, other, "sick", holdout=holdout)
        assert 0.9 < result.value <= 1.0
        assert result.value == pytest.approx(result.oracle, abs=0.05)
        assert list(result.details["metric"]) == ["auc", "accuracy", "f1_macro"]
        shuffled = other.assign(sick=other["sick"].to_numpy()[::-1])
        assert abs(utility(real, shuffled, "sick", holdout=holdout).value - 0.5) < 0.15

    def test_numbers(self, real, other, holdout):
        result = utility(real, other, "y", holdout=holdout)
        assert list(result.details["metric"]) == ["r2", "rmse", "mae"]
        assert 0.8 < result.value < 1.0
        assert result.details.loc[1, "score"] == pytest.approx(0.33, abs=0.1)

    def test_a_group_of_few_rows_is_learned_from_a_small_table(self):
        def bills(seed):
            rng = np.random.default_rng(seed)
            smoker = np.arange(100) < 15
            return pd.DataFrame({"smoker": smoker, "bill": rng.normal(20.0 * smoker, 1.0)})

        assert utility(bills(0), bills(1), "bill", holdout=bills(2)).value > 0.9

    def test_without_a_holdout_the_real_rows_are_the_test(self, real, other):
        assert utility(real, other, "sick").oracle is None
        assert (
            utility(real, other, "sick").value == utility(other, other, "sick", holdout=real).value
        )

    def test_an_estimator_of_ones_own(self, real, other):
        forest = RandomForestClassifier(5, random_state=0)
        result = utility(real[["x", "sick"]], other[["x", "sick"]], "sick", estimator=forest)
        assert result.value > 0.85
        assert not hasattr(forest, "classes_")

    def test_more_classes_and_some_that_are_not_learned(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=600)
        real = pd.DataFrame({"x": x, "level": pd.cut(x, [-9, -1, 0, 1, 9], labels=list("abcd"))})
        assert utility(real, real, "level").value > 0.99
        some = real[real["level"].isin(["a", "d"])]
        assert 0.5 < utility(real, some, "level").value < 0.95
        assert utility(real, real[real["level"] == "a"], "level").value == 0.5

    def test_the_task_can_be_said(self, real, other):
        counts = [t.assign(k=t["x"].round().clip(-2, 2)) for t in (real, other)]
        assert utility(*counts, "k").details["metric"][0] == "auc"
        assert utility(*counts, "k", task="regression").details["metric"][0] == "r2"

    @pytest.mark.parametrize(
        ("change", "target", "options", "message"),
        [
            ({}, "ill", {}, "target 'ill' is not a column of the tables"),
            ({}, "sick", {"task": "regression"}, "'sick' is not numerical"),
            ({}, "sick", {"task": "ranking"}, "task must be"),
            ({"sick": None}, "sick", {}, "all cells of target 'sick' are missing in real"),
            ({"sick": "no"}, "sick", {}, "only one class"),
        ],
    )
    def test_errors(self, real, other, change, target, options, message):
        with pytest.raises(ValueError, match=message):
            utility(real.assign(**change), other, target, **options)

    def test_empty_columns_do_no_harm(self, real, other):
        tables = [t.assign(nothing=np.nan, none=None) for t in (real, other)]
        assert utility(*tables, "sick").value == utility(real, other, "sick").value

    def test_a_table_of_the_target_alone(self, real):
        with pytest.raises(ValueError, match="no column beside target"):
            utility(real[["sick"]], real[["sick"]], "sick")


@pytest.mark.parametrize("classifier", ["hist_gradient_boosting", "logistic"])
def test_importances_name_the_columns_that_give_the_rows_away(real, other, classifier):
    options = {"classifier": classifier, "importances": True, "random_state": 0}
    found = two_sample_score(real, other.assign(colour="blue"), **options).importances
    assert found["column"][0] == "colour"
    assert found["importance"][0] > 0.3 > 0.1 > found["importance"][1]
    assert set(found["column"]) == set(real.columns)
    assert two_sample_score(real, other, random_state=0).importances is None


class TestScorers:
    def test_a_search_finds_the_bandwidth_that_cannot_be_told_apart(self):
        X = np.random.default_rng(0).normal(size=(400, 2))
        search = GridSearchCV(
            KernelDensity(), {"bandwidth": [0.15, 2.0]}, scoring=two_sample_scorer, cv=3
        ).fit(X)
        assert search.best_params_ == {"bandwidth": 0.15}
        assert search.best_score_ > 0.7

    @pytest.mark.parametrize("metric", sorted(metrics.scorers._METRICS))
    def test_every_name_scores_and_is_the_same_twice_and_in_another_process(self, metric):
        X = np.random.default_rng(0).normal(size=(200, 2))
        scorer = SampleScorer(metric)
        scores = cross_val_score(KernelDensity(bandwidth=0.2), X, scoring=scorer, cv=2)
        again = pickle.loads(pickle.dumps(scorer))
        assert (
            cross_val_score(KernelDensity(bandwidth=0.2), X, scoring=again, cv=2) == scores
        ).all()
        assert metric in repr(scorer)

    def test_a_function_of_ones_own_and_its_parameters(self):
        X = np.zeros((10, 1))
        kde = KernelDensity().fit(X)
        scorer = SampleScorer(lambda real, rows, by: -by * len(rows), by=2)
        assert scorer(kde, X) == -20.0

    def test_what_cannot_be_scored(self):
        X = np.random.default_rng(0).normal(size=(20, 2))
        with pytest.raises(ValueError, match="metric must be callable or one of"):
            SampleScorer("likelihood")
        with pytest.raises(TypeError, match="has no method sample"):
            two_sample_scorer(make_pipeline(StandardScaler()).fit(X), X)

    def test_a_synthesizer_is_scored_on_the_rows_held_out(self, real):
        from skvae import TVAESynthesizer

        rows = real.drop(columns="when")
        model = TVAESynthesizer(max_steps=20, random_state=0).fit(rows)
        score = SampleScorer("column_shapes")(model, rows.iloc[:200])
        expected = column_shapes(rows.iloc[:200], model.sample(200, random_state=0))
        assert score == expected.value


def test_what_is_printed_names_the_best_and_puts_no_order_on_metrics_of_other_units():
    real, other = (pd.DataFrame(np.random.default_rng(k).normal(size=(300, 2))) for k in (0, 1))
    assert "(about 0.5 is best)" in repr(beta_recall(real, other))
    shown = repr(utility(real, other, 1, task="regression"))
    assert "lowest" not in shown
    assert len(shown.splitlines()) == 4
