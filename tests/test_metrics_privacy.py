"""The privacy metrics: what leaks is flagged, real rows are not, and figures are as defined."""

import numpy as np
import pandas as pd
import pytest

from skvae.metrics import (
    attribute_inference,
    closest_record_share,
    exact_copies,
    membership_inference,
    nearest_neighbour_ratio,
    singling_out,
)

WITH_HOLDOUT = [closest_record_share, membership_inference, attribute_inference, singling_out]
ALL = [*WITH_HOLDOUT, nearest_neighbour_ratio, exact_copies]


def people(n, seed):
    """Return a table of every kind of column, with missing cells, whose columns hang together."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    table = pd.DataFrame(
        {
            "age": age,
            "income": np.where(rng.random(n) < 0.1, np.nan, 500.0 * age + rng.normal(0, 9000, n)),
            "since": pd.Timestamp("2020-01-01")
            - pd.to_timedelta(age * 100 + rng.integers(0, 900, n), "D"),
            "job": rng.choice(["nurse", "baker", "judge", None], n),
            "grade": pd.Categorical(rng.choice(list("abc"), n), ordered=True),
            "member": rng.random(n) < 0.3 + 0.4 * (age > 50),
            "name": [f"n{i}" for i in rng.integers(0, 10_000, n)],
        }
    )
    table.loc[rng.random(n) < 0.05, "since"] = pd.NaT
    return table


@pytest.fixture(scope="module")
def real():
    return people(900, seed=0)


@pytest.fixture(scope="module")
def holdout():
    return people(800, seed=1)


@pytest.mark.parametrize("metric", ALL)
def test_a_memoriser_is_flagged_and_fresh_rows_are_not(metric, real, holdout):
    copies = real.sample(900, replace=True, random_state=0)
    assert metric(real, copies, holdout=holdout).flagged
    assert not metric(real, people(900, seed=2), holdout=holdout).flagged


@pytest.mark.parametrize("metric", ALL)
def test_blurred_copies_are_flagged_where_distances_count(metric, real, holdout):
    rng = np.random.default_rng(0)
    blurred = real.assign(
        age=real["age"] + rng.integers(-1, 2, 900), income=real["income"] + rng.normal(0, 50, 900)
    )
    result = metric(real, blurred, holdout=holdout)
    if metric is exact_copies:
        assert result.value < 0.2
    else:
        assert result.flagged


@pytest.mark.parametrize("metric", ALL)
def test_the_standard_error_is_that_of_the_leak(metric):
    leaks, errors = [], []
    for seed in range(30):
        tables = [people(120, seed=1000 + 3 * seed + k).drop(columns="name") for k in range(3)]
        result = metric(*tables)
        leaks, errors = [*leaks, result.leak], [*errors, result.standard_error]
    assert np.std(leaks) < 1.7 * np.mean(errors)
    assert abs(np.mean(leaks)) < 4 * np.mean(errors) / np.sqrt(30) + 0.01


@pytest.mark.parametrize("metric", ALL)
class TestInput:
    def test_same_seed_same_value_and_global_state_untouched(self, metric, real, holdout):
        before = np.random.get_state()[1].copy()
        first, second = (metric(real, people(300, 5), holdout=holdout) for _ in range(2))
        assert first.value == second.value
        assert first.details.equals(second.details)
        assert np.array_equal(np.random.get_state()[1], before)

    def test_other_columns(self, metric, real, holdout):
        with pytest.raises(ValueError, match=r"holdout lacks \['age'\] and adds \[\]"):
            metric(real, real, holdout=holdout.drop(columns="age"))

    def test_empty(self, metric, real, holdout):
        with pytest.raises(ValueError, match="synthetic is empty"):
            metric(real, real.iloc[:0], holdout=holdout)

    def test_columns_without_a_known_or_a_second_value(self, metric, real, holdout):
        tables = (t.assign(nothing=np.nan, none=None, same=1) for t in (real, real, holdout))
        assert np.isfinite(metric(*tables).value)

    def test_arrays(self, metric):
        x = np.random.default_rng(0).normal(size=(3, 200, 3))
        assert np.isfinite(metric(x[0], x[1], x[2]).value)

    def test_levels_and_numbers_that_real_lacks(self, metric, real, holdout):
        strange = real.assign(job="astronaut", age=1000, income=np.inf)
        assert np.isfinite(metric(real, strange, holdout=holdout).value)


@pytest.mark.parametrize("metric", WITH_HOLDOUT)
def test_a_holdout_is_asked_for(metric, real):
    with pytest.raises(ValueError, match="real rows that the synthesizer never saw"):
        metric(real, real, None)


def test_the_result_says_whether_it_leaks(real, holdout):
    assert "LEAKS" in repr(exact_copies(real, real, holdout))
    assert "no leak found" in repr(exact_copies(real, people(500, 7), holdout))
    without = exact_copies(real, real)
    assert without.value == 1.0
    assert without.flagged is None
    assert "no holdout" in repr(without)


class TestClosestRecordShare:
    def test_counts_rows_and_ties(self):
        real, holdout = pd.DataFrame({"x": [0.0, 10.0]}), pd.DataFrame({"x": [4.0, 10.0]})
        synthetic = pd.DataFrame({"x": [0.0, -1.0, 10.0, 4.0]})
        result = closest_record_share(real, synthetic, holdout)
        # Nearer to the real one, twice; as near; nearer to the holdout.
        assert result.value == pytest.approx((2 + 0.5) / 4)
        assert list(result.details["row"]) == [0, 1, 2, 3]

    def test_two_levels_are_as_far_apart_as_a_range_of_numbers(self):
        real = pd.DataFrame({"x": [0.0, 1.0], "c": ["a", "b"]})
        synthetic = pd.DataFrame({"x": [0.0], "c": ["b"]})
        result = closest_record_share(real, synthetic, real)
        # To row 0: the level. To row 1: the ranks, a quarter and three quarters.
        assert result.details.loc[0, "to_real"] == pytest.approx(0.5)

    def test_an_outlier_changes_nothing(self, real, holdout):
        synthetic = people(300, 3)
        before = closest_record_share(real, synthetic, holdout).value
        real = real.copy()
        real.loc[real["income"].idxmax(), "income"] = 1e12
        assert closest_record_share(real, synthetic, holdout).value == pytest.approx(
            before, abs=0.01
        )


def test_the_ratio_of_distances_is_as_defined():
    real = pd.DataFrame({"c": list("aab"), "d": list("xyy"), "e": list("ppq")})
    synthetic = pd.DataFrame({"c": ["a", "a"], "d": ["x", "z"], "e": ["p", "p"]})
    details = nearest_neighbour_ratio(real, synthetic).details
    assert list(details["ratio"]) == pytest.approx([0.0, 1.0])  # 0 and 1 apart; 1 and 1 apart


class TestCopies:
    def test_missing_cells_equal_each_other_and_types_do_not_matter(self):
        real = pd.DataFrame({"x": [1, 2, None], "c": ["a", None, "a"]})
        synthetic = pd.DataFrame({"x": [2.0, None], "c": pd.Categorical([None, "a"])})
        assert exact_copies(real, synthetic).value == 1.0

    def test_one_other_cell_is_no_copy(self):
        real = pd.DataFrame({"x": [1.0, 2.0], "c": ["a", "b"]})
        synthetic = pd.DataFrame({"x": [1.0, 2.0, 1.0], "c": ["b", "a", "a"]})
        result = exact_copies(real, synthetic)
        assert result.value == pytest.approx(1 / 3)
        assert result.details.to_dict("list") == {"row": [2], "n_real": [1]}


class TestMembership:
    def test_by_density_it_asks_the_model_about_rows_as_they_are(self, real, holdout):
        seen = []

        def overfitted(rows):
            seen.append(rows)
            return rows.index.isin(real.index[:450]) + np.zeros(len(rows))

        known = real.set_axis(range(10_000, 10_900))
        result = membership_inference(known, real, holdout, score_samples=lambda r: r["age"] * 0.0)
        assert result.value == 0.5
        result = membership_inference(
            real, real, holdout.set_axis(range(5000, 5800)), score_samples=overfitted
        )
        assert 0.7 < result.value < 0.8
        assert result.flagged
        assert all(list(rows.columns) == list(real.columns) for rows in seen)
        assert "density" in repr(result)

    def test_impossible_rows_are_the_least_suspicious(self, real, holdout):
        result = membership_inference(
            real, real, holdout, score_samples=lambda r: np.full(len(r), -np.inf)
        )
        assert result.value == 0.5

    @pytest.mark.parametrize("scores", [np.zeros(3), np.full(800, np.nan)])
    def test_scores_of_another_shape_or_nan(self, real, holdout, scores):
        with pytest.raises(ValueError, match="one number per row"):
            membership_inference(real, real, holdout, score_samples=lambda _: scores)


class TestAttributes:
    def test_knowledge_of_the_population_is_no_risk(self):
        rng = np.random.default_rng(0)
        tables = []
        for _ in range(3):
            x = rng.integers(0, 50, 600)
            tables.append(pd.DataFrame({"x": x, "double": 2 * x}))
        result = attribute_inference(*tables, columns=["double"])
        assert result.details.loc[0, "attack"] == result.details.loc[0, "control"] == 1.0
        assert result.value == 0.0

    def test_the_risk_of_one_column(self, real, holdout):
        result = attribute_inference(real, real, holdout, columns=["job"])
        row = result.details.loc[0]
        assert row["column"] == "job" and row["attack"] > 0.95 and row["control"] < 0.4
        assert row["risk"] == pytest.approx((row["attack"] - row["control"]) / (1 - row["control"]))

    def test_unknown_columns(self, real, holdout):
        with pytest.raises(ValueError, match=r"it has \['salary'\]"):
            attribute_inference(real, real, holdout, columns=["salary"])
        with pytest.raises(ValueError, match="at least two columns"):
            attribute_inference(real[["age"]], real[["age"]], holdout[["age"]])


class TestSinglingOut:
    def test_descriptions_fit_one_synthetic_row_and_say_how_many_real_ones(self, real, holdout):
        synthetic = real.drop(columns=["since", "name"])
        result = singling_out(
            synthetic, synthetic, holdout[synthetic.columns], max_columns=2, n_attacks=40
        )
        assert 0 < len(result.details) <= 40
        text = result.details.loc[0, "description"]
        assert text.count(",") < 2 and any(word in text for word in (" is ", " >= ", " <= "))

    def test_nobody_can_be_singled_out_where_all_are_alike(self):
        table = pd.DataFrame({"x": [1] * 50, "c": ["a"] * 50})
        result = singling_out(table, table, table)
        assert (result.value, len(result.details)) == (0.0, 0)
        assert not result.flagged


class TestSizesThatAreAsked:
    """Nothing drawn would read as nothing leaked."""

    @pytest.mark.parametrize(
        ("metric", "name", "size"),
        [
            (closest_record_share, "max_rows", 0),
            (nearest_neighbour_ratio, "max_rows", -1),
            (membership_inference, "max_rows", 0),
            (attribute_inference, "n_attacks", 0),
            (singling_out, "n_attacks", 0),
            (singling_out, "max_columns", 0),
        ],
    )
    def test_none_is_refused_by_name(self, metric, name, size):
        tables = (pd.DataFrame(np.arange(40.0).reshape(20, 2)) for _ in range(3))
        real, synthetic, holdout = tables
        with pytest.raises(ValueError, match=f"{name} == {size}, must be >= 1"):
            metric(real, synthetic, holdout=holdout, **{name: size})

    def test_one_name_is_not_taken_for_its_letters(self):
        tables = [pd.DataFrame({"ab": np.arange(20.0), "b": 1.0}) for _ in range(3)]
        with pytest.raises(TypeError, match=r"columns='ab' is one name.*\['ab'\]"):
            attribute_inference(*tables, columns="ab")
        with pytest.raises(TypeError, match="discrete_columns='ab' is one name"):
            singling_out(*tables, discrete_columns="ab")
