"""Weights of rows, fits that go on, batches of a stream, and a budget of time."""

import pickle
import time

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

import skvae
from skvae import TVAESynthesizer
from skvae.constraints import Inequality
from skvae.models import LossResult
from skvae.tabular import TabularTransformer
from skvae.training import TimeBudget, TrainingConfig, WeightedRows, steps_within, train


def make_table(n=800, seed=0, share=0.3):
    rng = np.random.default_rng(seed)
    kind = np.where(rng.random(n) < share, "a", "b")
    return pd.DataFrame(
        {
            "kind": kind,
            "x": rng.normal(size=n) + 3 * (kind == "a"),
            "count": rng.poisson(3, n),
            "more": rng.choice([True, False], n),
        }
    )


def quick(**params):
    return TVAESynthesizer(**{"max_epochs": 2, "device": "cpu", "random_state": 0, **params})


@pytest.fixture(scope="module")
def table():
    return make_table()


def weights_of(estimator):
    return torch.cat([p.detach().ravel() for p in estimator.model_.parameters()])


class TestWeightedRows:
    def test_each_row_stands_in_a_pass_as_often_as_its_weight_says(self):
        weights = torch.tensor([0.0, 0.5, 1.0, 2.5, 1.0])
        rows = WeightedRows((torch.arange(5),), weights, 2, torch.Generator().manual_seed(0))
        counts = torch.stack([torch.bincount(rows.draw(), minlength=5) for _ in range(4000)])
        assert (counts >= weights.floor()).all()
        assert (counts <= weights.ceil()).all()
        torch.testing.assert_close(counts.double().mean(0), weights.double(), atol=0.03, rtol=0)

    def test_equal_weights_are_a_plain_pass(self):
        rows = (torch.arange(10), torch.arange(10) * 2.0)
        batches = WeightedRows(rows, torch.ones(10), 4, torch.Generator().manual_seed(0))
        first, second = list(batches), list(batches)
        assert len(batches) == len(first) == 3
        seen = torch.cat([batch[0] for batch in first])
        assert sorted(seen.tolist()) == list(range(10))
        assert not torch.equal(seen, torch.cat([batch[0] for batch in second]))
        assert all(torch.equal(batch[1], batch[0] * 2.0) for batch in first)


class TestSampleWeight:
    def test_the_order_of_rows_plays_no_part(self, table):
        again = table.sample(frac=1, random_state=1)
        assert torch.equal(weights_of(quick().fit(table)), weights_of(quick().fit(again)))

    def test_whole_weights_do_what_repeated_rows_do(self, table):
        weights = np.arange(len(table)) % 4
        repeated = table.loc[table.index.repeat(weights)]
        weighted = quick().fit(table, sample_weight=weights)
        assert torch.equal(weights_of(weighted), weights_of(quick().fit(repeated)))

    def test_a_row_without_weight_is_no_row(self, table):
        weights = np.where(table["kind"] == "a", 0.0, 1.5)
        fitted = quick().fit(table, sample_weight=weights)
        assert set(fitted.sample(500)["kind"]) == {"b"}

    @pytest.mark.parametrize("decoder", ["autoregressive", "factorized"])
    def test_relative_weights_act_as_repeated_rows_do(self, decoder):
        table = make_table(1200)
        weights = np.where(table["kind"] == "a", 3.0, 1.0)
        params = {"max_epochs": 12, "batch_size": 64, "decoder": decoder}
        rows = {
            "weighted": quick(**params).fit(table, sample_weight=weights / 7).sample(6000),
            "repeated": quick(**params).fit(table, sample_weight=weights).sample(6000),
        }
        share = 3 * (table["kind"] == "a").sum() / weights.sum()
        assert share > (table["kind"] == "a").mean() + 0.2
        for found in rows.values():
            assert (found["kind"] == "a").mean() == pytest.approx(share, abs=0.04)
            assert found["x"].mean() == pytest.approx(
                np.average(table["x"], weights=weights), abs=0.2
            )

    def test_relative_weights_let_no_row_hide_among_its_copies(self):
        table = pd.DataFrame({"kind": ["a"] * 100 + ["b"] * 100 + ["lone"] * 2})
        weights = np.where(table["kind"] == "lone", 50.5, 1.0)
        assert set(quick().fit(table, sample_weight=weights).sample(500)["kind"]) == {"a", "b"}

    def test_rows_held_out_are_weighted_too(self, table):
        weights = np.where(table["kind"] == "a", 10.5, 0.1)
        params = {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 12}
        fitted = quick(batch_size=64, **params).fit(table, sample_weight=weights)
        plain = quick(batch_size=64, **params).fit(table[table["kind"] == "a"])
        loss = fitted.history_["validation_loss"].iloc[-1]
        assert loss == pytest.approx(plain.history_["validation_loss"].iloc[-1], abs=1.0)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (np.ones(3), r"sample_weight has shape \(3,\), expected \(800,\)"),
            (np.zeros(800), "only zeros"),
            (-np.ones(800), "negative"),
            (np.full(800, np.nan), "sample_weight contains NaN"),
            (["much"] * 800, "sample_weight holds what is no number .*'much'"),
            (np.full(800, 10**6), "divide them by their mean"),
        ],
    )
    def test_weights_that_are_none_are_refused_and_nothing_is_lost(self, table, weights, message):
        fitted = quick().fit(table)
        before = weights_of(fitted)
        with pytest.raises(ValueError, match=message):
            fitted.fit(table, sample_weight=weights)
        assert torch.equal(weights_of(fitted), before)

    def test_errors_name_rows_where_the_user_has_them(self, table):
        broken = table.copy()
        broken.loc[17, "x"] = np.inf
        with pytest.raises(ValueError, match="the first at position 17"):
            quick().fit(broken)
        with pytest.raises(ValueError, match=r"\(row 0, count=\S+, x="):
            quick(constraints=[Inequality("count", "x")]).fit(table.assign(count=99))


class TestWarmStart:
    def test_it_goes_on_from_the_weights_and_gains(self, table):
        test = make_table(400, seed=1)
        fitted = quick(warm_start=True, batch_size=64).fit(table)
        first = fitted.score(test)
        before = weights_of(fitted)
        fitted.set_params(max_epochs=6).fit(table)
        assert fitted.score(test) > first + 0.05
        # Nearer to where it was than another fit would be.
        other = quick(max_epochs=6, batch_size=64, random_state=1).fit(table)
        distance = (weights_of(fitted) - before).norm()
        assert distance < 0.7 * (weights_of(other) - before).norm()

    def test_without_it_a_fit_forgets(self, table):
        fitted = quick().fit(make_table(seed=5))
        assert torch.equal(weights_of(fitted.fit(table)), weights_of(quick().fit(table)))

    def test_a_second_course_does_no_harm(self, table):
        test = make_table(400, seed=1)
        fitted = quick(max_epochs=12, batch_size=64, warm_start=True).fit(table)
        first = fitted.score(test)
        assert fitted.fit(table).score(test) > first - 0.15

    def test_other_rows_of_the_same_kind_are_taken(self, table):
        fitted = quick(warm_start=True, batch_size=64).fit(table)
        fitted.set_params(max_epochs=8).fit(make_table(seed=2, share=0.9))
        assert (fitted.sample(2000)["kind"] == "a").mean() > 0.7

    def test_codes_without_rows_can_be_learnt_later(self):
        first = make_table().assign(kind=["a", "b"] * 400)
        fitted = quick(warm_start=True).fit(first)
        later = first.assign(kind="neither")
        fitted.set_params(max_epochs=8, batch_size=32).fit(later)
        codes, _ = fitted.model_.sample_columns(torch.zeros(200, 16))
        unknown = len(fitted.transformer_.encoders_[0].levels_)
        assert (codes[:, 0] == unknown).float().mean() > 0.5

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"n_components": 4}, "n_components=4 is not what the model"),
            ({"hidden_layer_sizes": (8,)}, r"hidden_layer_sizes=\(8,\)"),
            ({"decoder": "factorized"}, "decoder='factorized'"),
            ({"n_bins": 7}, "n_bins=7"),
            ({"constraints": [Inequality("count", "x")]}, "constraints="),
            ({"condition_columns": ["count"]}, "condition_columns="),
            ({"column_kinds": {"count": "categorical"}}, "column_kinds="),
            ({"categorical_features": ["count"]}, "categorical_features="),
            ({"enforce_range": False}, "enforce_range=False"),
        ],
    )
    def test_parameters_of_another_model_are_refused(self, table, params, message):
        fitted = quick(warm_start=True).fit(table)
        before = weights_of(fitted)
        with pytest.raises(ValueError, match=message):
            fitted.set_params(**params).fit(table)
        assert torch.equal(weights_of(fitted), before)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.drop(columns="x"), "now missing"),
            (lambda t: t[["x", "kind", "count", "more"]], "same order"),
            (lambda t: t.assign(x="one"), "'x' held numbers in fit"),
        ],
    )
    def test_another_table_is_refused(self, table, change, message):
        fitted = quick(warm_start=True).fit(table)
        before = weights_of(fitted)
        with pytest.raises(ValueError, match=message):
            fitted.fit(change(table))
        assert torch.equal(weights_of(fitted), before)

    def test_a_failure_on_the_way_leaves_the_model_as_it_was(self, table):
        fitted = quick(warm_start=True).fit(table)
        before, rows = weights_of(fitted), fitted.sample(5, random_state=0)

        def fail(log):
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            fitted.set_params(callbacks=[fail]).fit(table)
        assert torch.equal(weights_of(fitted), before)
        pd.testing.assert_frame_equal(fitted.sample(5, random_state=0), rows)

    def test_it_goes_on_after_a_dump(self, table):
        fitted = quick(warm_start=True).fit(table)
        again = pickle.loads(pickle.dumps(fitted))
        assert torch.equal(weights_of(fitted.fit(table)), weights_of(again.fit(table)))


class TestPartialFit:
    def test_batches_of_a_stream_teach_what_the_table_does(self):
        table, test = make_table(6000), make_table(1000, seed=1)
        once = quick(max_epochs=1, batch_size=64).fit(table)
        stream = quick(batch_size=64)
        for start in range(0, 6000, 500):
            stream.partial_fit(table[start : start + 500], schema=None if start else table[:1000])
        assert stream.score(test) > once.score(test) - 0.3
        rows = stream.sample(3000)
        pd.testing.assert_series_equal(rows.dtypes, table.dtypes)
        assert (rows["kind"] == "a").mean() == pytest.approx(0.3, abs=0.06)
        high = rows[rows["kind"] == "a"]["x"].mean() - rows[rows["kind"] == "b"]["x"].mean()
        assert high == pytest.approx(3, abs=0.6)

    def test_more_passes_go_on_gaining(self, table):
        test = make_table(400, seed=1)
        fitted = quick(batch_size=64).partial_fit(table)
        scores = [fitted.score(test)]
        for _ in range(6):
            scores.append(fitted.partial_fit(table).score(test))
        assert scores[-1] > scores[0] + 0.1
        assert fitted.n_iter_ == 1

    def test_a_stream_goes_on_after_a_dump_and_after_a_file(self, table, tmp_path):
        first = quick(batch_size=64).partial_fit(table)
        copies = [pickle.loads(pickle.dumps(first))]
        skvae.save(first, tmp_path / "model.skvae")
        copies.append(skvae.load(tmp_path / "model.skvae"))
        first.partial_fit(table)
        for copy in copies:
            assert torch.equal(weights_of(copy.partial_fit(table)), weights_of(first))

    def test_the_learning_rate_falls_from_call_to_call(self, table):
        fitted = quick(batch_size=32)
        rates = [fitted.partial_fit(table).history_["learning_rate"].iloc[-1] for _ in range(4)]
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] == pytest.approx(0.01 / np.sqrt(1 + 3 * 25 / 100))

    @pytest.mark.parametrize("as_transformer", [False, True])
    def test_a_declared_schema_holds_what_the_first_batch_lacks(self, table, as_transformer):
        schema = TabularTransformer().fit(table) if as_transformer else table
        only = table[table["kind"] == "b"]
        fitted = quick().partial_fit(only, schema=schema)
        assert list(fitted.transformer_.encoders_[0].levels_) == ["a", "b"]
        plain = quick().partial_fit(only)
        assert list(plain.transformer_.encoders_[0].levels_) == ["b"]

    def test_a_schema_is_declared_once(self, table):
        fitted = quick().partial_fit(table)
        with pytest.raises(ValueError, match="schema was given, but the first call"):
            fitted.partial_fit(table, schema=table)

    @pytest.mark.parametrize(
        ("schema", "params", "message"),
        [
            (make_table().drop(columns="x"), {}, "schema, expected .*(?s:.)*now missing"),
            ("kinds", {}, "schema, expected .* X is of type str"),
            (TabularTransformer().fit(make_table(100)[["x"]]), {}, r"schema has .* \['x'\]"),
            (TabularTransformer().fit(make_table(100)), {"n_bins": 64}, "n_bins=64 is not what"),
            (TabularTransformer(numeric_encoding="mixture"), {}, "not fitted"),
            (
                TabularTransformer(numeric_encoding="mixture").fit(make_table(100)),
                {},
                "numeric_encoding='quantile' is not what schema was fitted with",
            ),
            (
                TabularTransformer().fit(make_table(100)),
                {"constraints": [Inequality("count", "x")]},
                "knows no constraints",
            ),
        ],
        ids=[
            "columns",
            "no table",
            "fitted columns",
            "bins",
            "unfitted",
            "encoding",
            "constraints",
        ],
    )
    def test_a_schema_that_does_not_go_with_the_rest_is_refused(
        self, table, schema, params, message
    ):
        with pytest.raises(ValueError, match=message):
            quick(**params).partial_fit(table, schema=schema)

    def test_a_batch_that_breaks_a_constraint_is_refused_and_nothing_is_lost(self):
        table = pd.DataFrame({"low": range(100), "high": range(5, 105)})
        fitted = quick(constraints=[Inequality("low", "high")]).partial_fit(table)
        before = weights_of(fitted)
        with pytest.raises(ValueError, match="does not hold in 10 of 100"):
            fitted.partial_fit(table.assign(low=[500] * 10 + [0] * 90))
        assert torch.equal(weights_of(fitted), before)

    def test_one_row_is_too_few_to_hold_any_out(self, table):
        stream = quick(early_stopping=True).partial_fit(table)
        before = weights_of(stream)
        with pytest.raises(ValueError, match=r"early_stopping=True .* only 1 row"):
            stream.partial_fit(table.head(1))
        assert torch.equal(weights_of(stream), before)

    def test_it_goes_on_after_a_fit_and_after_a_clone_it_starts_anew(self, table):
        fitted = quick(batch_size=64).fit(table)
        before = fitted.score(table)
        assert fitted.partial_fit(table).score(table) > before - 0.3
        assert not hasattr(clone(fitted), "model_")

    def test_the_global_random_state_is_left_alone(self, table):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        quick().partial_fit(table).partial_fit(table)
        assert torch.equal(torch.get_rng_state(), before)


class Slow(torch.nn.Linear):
    """A model whose steps take four milliseconds."""

    def training_loss(self, batch, context):
        time.sleep(0.004)
        loss = self(batch[0]).square().mean()
        return LossResult(loss, {"loss": loss.detach()})


class TestTimeBudget:
    def test_a_fit_ends_within_its_time_with_the_learning_rate_run_down(self):
        table = make_table(4000)
        start = time.perf_counter()
        fitted = quick(max_seconds=2.0, max_epochs=1000, batch_size=32).fit(table)
        took = time.perf_counter() - start
        assert took < 4
        assert fitted.n_steps_ < 1000 * 4000 / 32
        # Planned to the end: a course that is cut off keeps a high rate.
        assert fitted.history_["learning_rate"].iloc[-1] < 0.003
        assert len(fitted.sample(10)) == 10

    def test_time_in_plenty_changes_nothing_but_the_noise(self, table):
        fitted = quick(max_seconds=1000.0).fit(table)
        assert fitted.n_iter_ == 2
        assert fitted.n_steps_ == quick().fit(table).n_steps_

    def test_hardly_any_time_leaves_a_model_that_can_be_used(self, table):
        fitted = quick(max_seconds=1e-6).fit(table)
        assert fitted.n_steps_ >= 1
        assert len(fitted.sample(10)) == 10

    def test_steps_that_take_longer_than_planned_end_within_their_epoch(self):
        def run(seconds):
            config = TrainingConfig(n_epochs=3, batch_size=1, warmup_steps=0, learning_rate=0.1)
            data = (torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0)),)
            return train(Slow(3, 1), data, config, callbacks=[TimeBudget(seconds)])

        start = time.perf_counter()
        result = run(0.4)
        assert time.perf_counter() - start < 1.2  # an epoch takes minutes
        assert result.n_epochs == len(result.history) == 1
        assert 2 < result.n_steps <= 100
        # Run down by the clock: a share of 100 / 300,000 steps would leave it at 0.1.
        assert result.history[-1]["learning_rate"] < 0.01
        assert run(-1.0).n_steps == 1

    def test_the_steps_are_those_that_fit(self):
        data = (torch.randn(64, 3),)
        config = TrainingConfig(n_epochs=5, batch_size=8)
        n_steps = steps_within(Slow(3, 1), data, config, 1.0, generator=torch.Generator())
        assert 40 < n_steps < 230
