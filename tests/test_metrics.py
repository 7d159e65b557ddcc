"""Column shapes, pair trends and the two-sample score: known answers and SDMetrics' figures."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from skvae.metrics import _tables, column_shapes, pair_trends, trends, two_sample, two_sample_score

DISCRETE = ["colour", "member", "grade"]


def mixed_table(n, seed, shift=0.0):
    """Return a table with numbers, spikes, missing cells, booleans, strings and integer codes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, n)
    table = pd.DataFrame(
        {
            "x": x,
            "y": np.where(rng.random(n) < 0.1, np.nan, 2 * x + rng.normal(0, 1, n)),
            "count": rng.poisson(3 + np.abs(x)),
            "gain": np.where(rng.random(n) < 0.8, 0.0, rng.lognormal(8, 1, n)),
            "colour": rng.choice(["red", "green", "blue", None], n, p=[0.5, 0.3, 0.1, 0.1]),
            "member": x + rng.normal(0, 1, n) > 0,
            "grade": rng.integers(1, 6, n),
        }
    )
    table.loc[table["member"] & (rng.random(n) < 0.5), "colour"] = "red"
    return table


@pytest.fixture(scope="module")
def real():
    return mixed_table(3000, seed=0)


@pytest.fixture(scope="module")
def other():
    return mixed_table(2000, seed=1, shift=0.2)


def independent_columns(table, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({c: table[c].to_numpy()[rng.permutation(len(table))] for c in table})


class TestColumnShapes:
    def test_a_table_matches_itself(self, real):
        result = column_shapes(real, real.sample(frac=1, random_state=0))
        assert result.value == pytest.approx(1.0, abs=1e-12)
        assert list(result.details["column"]) == list(real.columns)

    def test_disjoint_columns_score_zero(self):
        real = pd.DataFrame({"x": [1.0, 2.0], "c": ["a", "b"]})
        assert column_shapes(real, pd.DataFrame({"x": [3.0, 4.0], "c": ["d", "e"]})).value == 0.0

    def test_known_answers(self):
        real = pd.DataFrame({"x": [1, 2, 3, 4], "c": list("aabb")})
        synthetic = pd.DataFrame({"x": [1, 1, 1, 9], "c": list("aaac")})
        scores = column_shapes(real, synthetic).details.set_index("column")["score"]
        assert scores["x"] == pytest.approx(0.5)  # at 1: 3/4 against 1/4
        assert scores["c"] == pytest.approx(0.5)  # a: .75 against .5, b: 0 against .5, c: .25

    @pytest.mark.parametrize("scale", [1.0, 1e6])
    @pytest.mark.parametrize("whole", [True, False])
    def test_ks_equals_scipy(self, scale, whole):
        rng = np.random.default_rng(3)
        a, b = rng.normal(0, 3 * scale, 500), rng.normal(scale, 3 * scale, 700)
        if whole:
            a, b = np.rint(a), np.rint(b)
        score = column_shapes(pd.DataFrame({"x": a}), pd.DataFrame({"x": b})).value
        assert score == pytest.approx(1 - ks_2samp(a, b).statistic, abs=1e-12)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize(
        "draw",
        [
            lambda rng, n: rng.lognormal(0, 4, n),
            lambda rng, n: np.where(rng.random(n) < 0.6, 0.0, rng.lognormal(0, 3, n)),
            lambda rng, n: np.rint(rng.lognormal(7, 2, n)),
            lambda rng, n: 10_000.0 * rng.integers(-50, 50, n),
            lambda rng, n: rng.standard_cauchy(n).round(2),
            lambda rng, n: np.full(n, 3.5),
            lambda rng, n: np.full(n, 1),
            lambda rng, n: rng.choice([0.0, np.inf], n),
            lambda rng, n: rng.integers(0, 2**40, n).astype(float),
        ],
    )
    def test_ks_equals_scipy_on_long_tails_and_repeated_values(self, draw, seed):
        rng = np.random.default_rng(seed)
        a, b = draw(rng, 4000), draw(rng, rng.integers(1, 5000))
        score = column_shapes(pd.DataFrame({"x": a}), pd.DataFrame({"x": b})).value
        assert score == pytest.approx(1 - ks_2samp(a, b).statistic, abs=1e-12)

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
    def test_whole_numbers_at_the_ends_of_their_dtype(self, dtype):
        ends = np.iinfo(dtype)
        a = np.array([ends.min, ends.min, ends.max, ends.max], dtype=dtype)
        b = np.array([ends.min, ends.max, ends.max, ends.max], dtype=dtype)
        assert column_shapes(pd.DataFrame({"x": a}), pd.DataFrame({"x": b})).value == 0.75

    def test_large_whole_numbers_keep_their_last_digit(self):
        a = 2**60 + np.arange(100)
        score = column_shapes(pd.DataFrame({"x": a}), pd.DataFrame({"x": a + 10})).value
        assert score == pytest.approx(0.9)

    @pytest.mark.parametrize("n", [500, 20_000])
    def test_tv_is_that_of_the_frequencies_at_any_length(self, n):
        rng = np.random.default_rng(5)
        a, b = (
            rng.choice(["a", "b", "c", None], n, p=p) for p in ([0.5, 0.2, 0.1, 0.2], [0.25] * 4)
        )
        shares = [pd.Series(x).value_counts(normalize=True) for x in (a, b)]
        expected = 1 - (shares[0] - shares[1]).abs().sum() / 2
        score = column_shapes(pd.DataFrame({"c": a}), pd.DataFrame({"c": b})).value
        assert score == pytest.approx(expected, abs=1e-12)

    def test_extreme_numbers(self):
        a = pd.DataFrame({"x": [-np.inf, 0.5, 1e300, np.inf]})
        assert column_shapes(a, a).value == 1.0

    def test_missing_cells_are_left_out(self):
        real = pd.DataFrame({"x": [1.0, np.nan, 2.0], "c": ["a", None, "b"]})
        synthetic = pd.DataFrame({"x": [1.0, 2.0, np.nan], "c": ["a", "b", np.nan]})
        assert column_shapes(real, synthetic).value == 1.0

    def test_an_empty_column_is_left_out_of_the_mean(self):
        real = pd.DataFrame({"x": [1.0, 2.0], "e": [np.nan, np.nan], "c": [None, None]})
        result = column_shapes(real, real)
        assert result.value == 1.0
        assert result.details["score"].isna().sum() == 2
        assert "not defined for 2" in repr(result)

    def test_declared_discrete(self):
        real, synthetic = pd.DataFrame({"k": [1, 2, 3]}), pd.DataFrame({"k": [3, 1, 1]})
        result = column_shapes(real, synthetic, discrete_columns=["k"])
        assert result.details.loc[0, "metric"] == "tv"
        assert result.value == pytest.approx(2 / 3)


class TestPairTrends:
    def test_a_table_matches_itself(self, real):
        for bins in ("own", "real"):
            assert pair_trends(real, real, bins=bins).value == pytest.approx(1.0, abs=1e-12)

    def test_opposite_correlation_scores_zero(self):
        real = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0]})
        result = pair_trends(real, real.assign(y=[3.0, 2.0, 1.0]))
        assert result.value == pytest.approx(0.0, abs=1e-12)
        assert result.details.loc[0, "real"] == pytest.approx(1.0)
        assert result.details.loc[0, "synthetic"] == pytest.approx(-1.0)

    def test_known_contingency(self):
        real = pd.DataFrame({"a": list("xxyy"), "b": [True, True, False, False]})
        synthetic = pd.DataFrame({"a": list("xxyy"), "b": [True, False, True, False]})
        assert pair_trends(real, synthetic).value == pytest.approx(0.5)

    def test_missing_is_a_level(self):
        real = pd.DataFrame({"a": ["x", "x", None, None], "b": list("pppp")})
        synthetic = pd.DataFrame({"a": ["x", "x", "x", "x"], "b": list("pppp")})
        assert pair_trends(real, synthetic).value == pytest.approx(0.5)

    def test_missing_numbers_are_a_level_of_their_own_with_real_bins(self):
        real = pd.DataFrame({"a": [0.0, 1.0, np.nan, np.nan], "b": list("pppp")})
        synthetic = pd.DataFrame({"a": [0.0, 1.0, 1.0, 1.0], "b": list("pppp")})
        assert pair_trends(real, synthetic, bins="real").value == pytest.approx(0.5)
        assert pair_trends(real, synthetic, bins="own").value == pytest.approx(1.0)

    def test_correlations_with_missing_cells_equal_pandas(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) + 1e6
        x[rng.random(x.shape) < 0.2] = np.nan
        table = pd.DataFrame(x, columns=list("abcd"))
        table["constant"] = 0.1
        details = pair_trends(table, table).details
        expected = table.corr()
        for row in details.itertuples():
            r = expected.loc[row.column_1, row.column_2]
            assert row.real == pytest.approx(r, abs=1e-9, nan_ok=True)
        assert details["score"].isna().sum() == 4  # the constant column's pairs

    def test_one_outlier_moves_own_bins_only(self):
        rng = np.random.default_rng(0)
        real = pd.DataFrame({"x": rng.uniform(0, 1, 1000), "c": rng.choice(list("ab"), 1000)})
        synthetic = real.copy()
        synthetic.loc[0, "x"] = 1e6
        assert pair_trends(real, synthetic).value < 0.2
        assert pair_trends(real, synthetic, bins="real").value > 0.99

    def test_counting_by_occupied_cells_changes_nothing(self, real, other, monkeypatch):
        dense = pair_trends(real, other).details
        monkeypatch.setattr(trends, "_MAX_DENSE_CELLS", 0)
        pd.testing.assert_frame_equal(pair_trends(real, other).details, dense)

    def test_many_levels(self):
        names = pd.DataFrame({"a": [f"a{i}" for i in range(3000)]})
        names["b"] = names["a"].str.replace("a", "b")
        assert pair_trends(names, names).value == pytest.approx(1.0)
        shuffled = names.assign(b=names["b"].to_numpy()[::-1])
        assert pair_trends(names, shuffled).value == 0.0

    def test_bad_parameters(self, real):
        with pytest.raises(ValueError, match='bins must be "own" or "real"'):
            pair_trends(real, real, bins="shared")
        with pytest.raises(ValueError, match="at least two columns"):
            pair_trends(real[["x"]], real[["x"]])


@pytest.mark.parametrize("metric", [column_shapes, pair_trends, two_sample_score])
class TestInput:
    def test_different_columns(self, metric, real):
        with pytest.raises(ValueError, match=r"lacks \['x'\] and adds \['z'\]"):
            metric(real, real.rename(columns={"x": "z"}))

    def test_empty(self, metric, real):
        with pytest.raises(ValueError, match="synthetic is empty"):
            metric(real, real.iloc[:0])

    def test_duplicate_columns(self, metric, real):
        with pytest.raises(ValueError, match=r"duplicate column names: \['x'\]"):
            metric(real.rename(columns={"y": "x"}), real)

    def test_not_a_table(self, metric, real):
        with pytest.raises(TypeError, match="2-d array, not list"):
            metric([1, 2, 3], real)

    def test_strings_for_numbers(self, metric, real):
        with pytest.raises(ValueError, match="column 'x' of synthetic should hold numbers"):
            metric(real, real.assign(x="high"))

    def test_unhashable_cells(self, metric, real):
        with pytest.raises(TypeError, match="column 'bag' holds cells that cannot be compared"):
            metric(real.assign(bag=[[1]] * len(real)), real.assign(bag=[[1]] * len(real)))

    def test_arrays_and_other_column_order(self, metric, real):
        reordered = real[real.columns[::-1]]
        seed = {"random_state": 0} if metric is two_sample_score else {}
        assert metric(real, reordered, **seed).value == metric(real, real, **seed).value
        array = real[["x", "count", "gain"]].to_numpy()
        assert metric(array, array.copy(), **seed).value == pytest.approx(1.0)

    def test_containers_do_not_matter(self, metric):
        pytest.importorskip("pyarrow")
        plain = pd.DataFrame({"n": [1, 2, 3, 4, 5, 6], "s": list("aabbcc"), "b": [True, False] * 3})
        dressed = plain.astype({"n": "Int64", "s": "string[pyarrow]", "b": "boolean"})
        category = plain.astype({"s": "category", "n": "int32"})
        seed = {"random_state": 0, "n_splits": 2} if metric is two_sample_score else {}
        expected = metric(plain, plain, **seed).value
        for a, b in [(plain, dressed), (dressed, plain), (category, plain), (category, category)]:
            assert metric(a, b, **seed).value == pytest.approx(expected)

    def test_dates_and_durations_are_numbers(self, metric):
        days = pd.date_range("2020-01-01", periods=60, tz="Europe/Berlin")
        real = pd.DataFrame({"when": days, "long": days - days[0]})
        real.loc[3, "when"] = pd.NaT
        later = real.assign(when=real["when"].dt.tz_convert("UTC") + pd.Timedelta("30D"))
        seed = {"random_state": 0} if metric is two_sample_score else {}
        assert metric(real, real, **seed).value == pytest.approx(1.0)
        assert metric(real, later, **seed).value < 0.9 or metric is pair_trends

    def test_columns_without_a_common_type(self, metric):
        table = pd.DataFrame({"m": [1, "a", 2.5, None, (1, 2), "b"], 7: [1, 2, 3, 4, 5, 6]})
        seed = {"random_state": 0, "n_splits": 2} if metric is two_sample_score else {}
        assert metric(table, table.copy(), **seed).value == pytest.approx(1.0)


def test_discrete_columns_must_exist(real):
    for metric in (column_shapes, pair_trends):
        with pytest.raises(ValueError, match=r"do not have: \['nope'\]"):
            metric(real, real, discrete_columns=["nope"])


def test_levels_are_sorted_and_shared():
    cells = (["b", None], ["c", "a"], ["d"])
    tables = _tables.Tables.of(*(pd.DataFrame({"c": c}) for c in cells))
    codes, n_levels = tables.codes("c")
    assert ([c.tolist() for c in codes], n_levels) == ([[1, -1], [2, 0], [3]], 4)


class TestTwoSampleScore:
    def test_the_standard_error_at_chance_is_that_of_the_rank_test(self):
        n, m = 300, 200
        expected = np.sqrt((n + m + 1) / (12 * n * m))
        assert two_sample.auc_error(0.5, n, m) == pytest.approx(expected)

    def test_an_auc_off_by_chance_lies_within_its_standard_errors(self):
        aucs, errors = [], []
        for seed in range(12):
            x = np.random.default_rng(seed).normal(size=(300, 3))
            result = two_sample_score(x[:180], x[180:], classifier="logistic", random_state=0)
            aucs, errors = [*aucs, result.auc], [*errors, result.standard_error]
        assert abs(np.mean(aucs) - 0.5) < np.mean(errors)
        assert 0.4 < np.std(aucs) / np.mean(errors) < 1.4

    @pytest.mark.parametrize("classifier", ["auto", "xgboost"])
    def test_fresh_rows_pass_and_independent_columns_fail(self, real, classifier):
        if classifier == "xgboost":
            pytest.importorskip("xgboost")
        fresh = two_sample_score(
            real, mixed_table(3000, seed=5), classifier=classifier, random_state=0
        )
        broken = two_sample_score(
            real, independent_columns(real), classifier=classifier, random_state=0
        )
        assert fresh.value > 0.93
        assert abs(fresh.auc - 0.5) < 0.04
        assert broken.value < 0.5
        assert broken.auc > 0.75

    def test_logistic_misses_what_is_not_linear(self, real):
        result = two_sample_score(
            real, independent_columns(real), classifier="logistic", random_state=0
        )
        assert result.value > 0.9

    def test_a_memoriser_shines_only_against_its_own_rows(self, real):
        copies = real.sample(len(real), replace=True, random_state=0)
        against_train = two_sample_score(real, copies, random_state=0)
        assert against_train.value == 1.0
        assert against_train.auc < 0.4
        # Rows drawn twice are recognised, which no real holdout row can be.
        assert two_sample_score(mixed_table(3000, seed=6), copies, random_state=0).auc > 0.6

    def test_same_seed_same_score_and_global_state_untouched(self, real, other):
        before = np.random.get_state()[1].copy()
        first = two_sample_score(real, other, random_state=3)
        assert first.details.equals(two_sample_score(real, other, random_state=3).details)
        assert np.array_equal(np.random.get_state()[1], before)

    def test_result(self, real, other):
        result = two_sample_score(real, other, n_splits=4, random_state=0)
        assert result.classifier == "hist_gradient_boosting"
        assert len(result.details) == 4
        expected = 1 - np.mean(2 * np.maximum(result.details["auc"], 0.5) - 1)
        assert result.value == pytest.approx(expected)
        assert result.auc == pytest.approx(result.details["auc"].mean())
        assert "AUC" in repr(result)

    def test_levels_and_missing_cells_that_real_lacks(self):
        pytest.importorskip("xgboost")
        real = pd.DataFrame({"c": list("ab") * 50, "b": [True, None] * 50})
        synthetic = pd.DataFrame({"c": ["z", None] * 50, "b": [False, None] * 50})
        result = two_sample_score(real, synthetic, classifier="xgboost", random_state=0)
        assert result.value < 0.1

    def test_infinities_count_as_missing(self, real):
        pytest.importorskip("xgboost")
        infinite = real.assign(x=np.inf)
        result = two_sample_score(real, infinite, classifier="xgboost", random_state=0)
        assert 0.0 <= result.value < 1.0

    @pytest.mark.parametrize("classifier", ["auto", "logistic"])
    def test_empty_columns_do_no_harm(self, real, classifier):
        empty = real.assign(nothing=np.nan, none=None)
        known = two_sample_score(real, real, classifier=classifier, random_state=0).value
        found = two_sample_score(empty, empty, classifier=classifier, random_state=0).value
        assert found == pytest.approx(known, abs=0.05)

    def test_bad_parameters(self, real):
        with pytest.raises(ValueError, match="classifier must be one of"):
            two_sample_score(real, real, classifier="forest")
        with pytest.raises(ValueError, match="rows of the smaller table, 2"):
            two_sample_score(real, real.head(2))

    def test_a_missing_xgboost_names_the_extra(self, real, monkeypatch):
        monkeypatch.setitem(sys.modules, "xgboost", None)
        with pytest.raises(ImportError, match=r"skvae\[bench\]"):
            two_sample_score(real, real, classifier="xgboost")


class TestResult:
    def test_figures_and_text(self, real, other):
        result = column_shapes(real, other)
        assert float(result) == result.value
        assert result.error_percent == pytest.approx(100 * (1 - result.value))
        worst = result.worst(2)
        assert worst["score"].is_monotonic_increasing and len(worst) == 2
        assert worst["column"][0] in repr(result)
        assert " x " in repr(pair_trends(real, other))

    def test_is_frozen(self, real):
        with pytest.raises(AttributeError):
            column_shapes(real, real).value = 0.5


def test_metrics_do_not_load_torch():
    code = "import sys, skvae.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.filterwarnings("ignore")
class TestAgainstSDMetrics:
    """The same figures as SDMetrics 0.32, on tables that use every branch."""

    @pytest.fixture(scope="class")
    def properties(self):
        return pytest.importorskip("sdmetrics.reports.single_table._properties")

    @pytest.fixture(scope="class")
    def metadata(self, real):
        kinds = {c: "categorical" if c in DISCRETE else "numerical" for c in real}
        return {"columns": {c: {"sdtype": kind} for c, kind in kinds.items()}}

    def test_shapes(self, properties, metadata, real, other):
        expected = properties.ColumnShapes().get_score(real, other, metadata)
        ours = column_shapes(real, other, discrete_columns=DISCRETE)
        assert ours.value == pytest.approx(expected, abs=1e-6)

    def test_trends(self, properties, metadata, real, other):
        theirs = properties.ColumnPairTrends()
        expected = theirs.get_score(real, other, metadata)
        ours = pair_trends(real, other, discrete_columns=DISCRETE)
        assert ours.value == pytest.approx(expected, abs=1e-9)
        np.testing.assert_allclose(
            ours.details["score"], theirs.details["Score"].to_numpy(float), atol=1e-9
        )

    @pytest.mark.parametrize("classifier", ["xgboost", "logistic"])
    def test_detection_on_the_same_folds(self, metadata, real, other, classifier):
        sklearn_detection = pytest.importorskip("sdmetrics.single_table.detection.sklearn")
        if classifier == "logistic":
            theirs = sklearn_detection.LogisticDetection
        else:
            xgboost = pytest.importorskip("xgboost")

            class theirs(sklearn_detection.ScikitLearnClassifierDetectionMetric):
                @staticmethod
                def _get_classifier():
                    return xgboost.XGBClassifier(
                        eval_metric="logloss", enable_categorical=True, random_state=0
                    )

        state = np.random.get_state()
        np.random.seed(4)  # their folds come from numpy's global state
        expected = theirs.compute(real.copy(), other.copy(), metadata)
        np.random.set_state(state)
        ours = two_sample_score(real, other, classifier=classifier, random_state=4)
        assert ours.value == pytest.approx(expected, abs=1e-6)
