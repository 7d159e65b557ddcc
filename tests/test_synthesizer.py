"""TVAESynthesizer from end to end: what it learns, what it gives back, what it refuses."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skvae import TVAESynthesizer
from skvae.datasets import load_adult
from skvae.training import Callback

PARTNER = {"a": "u", "b": "v", "c": "w", "d": "u"}


def make_table(n=1000, seed=0):
    """``partner`` is a function of ``letter``, ``y`` of ``x``, and ``coin`` of nothing."""
    rng = np.random.default_rng(seed)
    letter = rng.choice(list("abcd"), n, p=[0.4, 0.3, 0.2, 0.1])
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "letter": letter,
            "x": x,
            "partner": pd.Categorical([PARTNER[level] for level in letter], ["w", "v", "u"]),
            "y": np.round(2 * x + rng.normal(0, 0.1, n), 3),
            "coin": rng.random(n) < 0.8,
            "count": pd.array(
                np.where(rng.random(n) < 0.25, pd.NA, rng.integers(1, 7, n)), dtype="Int64"
            ),
        }
    )


def quick(**params):
    return TVAESynthesizer(**{"max_epochs": 1, "device": "cpu", "random_state": 0, **params})


def paper(**params):
    return TVAESynthesizer.from_preset(
        "paper", **{"max_epochs": 1, "device": "cpu", "random_state": 0, **params}
    )


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def learnt(table):
    """The default model after a short fit; tests must not change it."""
    return quick(max_epochs=50, batch_size=128).fit(table)


@pytest.fixture(scope="module")
def drawn(learnt):
    return learnt.sample(4000, random_state=0)


@pytest.fixture(scope="module")
def barely(table):
    """Fitted to have a state, not to be good."""
    return quick().fit(table[:200])


@pytest.fixture(scope="module", params=[quick, paper], ids=["default", "paper"])
def either(request, table):
    return request.param().fit(table[:200])


def shuffled(table, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: table[name].array[rng.permutation(len(table))] for name in table})


class TestWhatItLearns:
    def test_single_columns(self, table, drawn):
        for name in ("letter", "partner", "coin"):
            expected = table[name].value_counts(normalize=True)
            found = drawn[name].value_counts(normalize=True).reindex(expected.index)
            np.testing.assert_allclose(found, expected, atol=0.06, err_msg=name)
        assert drawn["count"].isna().mean() == pytest.approx(table["count"].isna().mean(), abs=0.05)
        for name in ("x", "y"):
            quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
            np.testing.assert_allclose(
                drawn[name].quantile(quantiles) / table[name].std(),
                table[name].quantile(quantiles) / table[name].std(),
                atol=0.15,
                err_msg=name,
            )

    def test_a_category_that_is_a_function_of_another(self, table, drawn):
        def share(rows):
            return (rows["letter"].map(PARTNER) == rows["partner"].astype(object)).mean()

        assert share(shuffled(table)) < 0.5
        assert share(drawn) > 0.95

    def test_a_number_that_is_a_function_of_another(self, drawn):
        assert np.corrcoef(drawn["x"], drawn["y"])[0, 1] > 0.97
        # Independent columns: more than 2.
        assert (drawn["y"] - 2 * drawn["x"]).std() < 0.5

    def test_columns_that_have_nothing_to_do_with_each_other(self, drawn):
        high = drawn["x"] > 0
        assert abs(drawn["coin"][high].mean() - drawn["coin"][~high].mean()) < 0.08

    def test_the_latent_is_alive_at_its_floor(self, learnt):
        assert learnt.free_nats == 2.0
        assert learnt.history_["kl_divergence"].iloc[-1] == pytest.approx(2.0, abs=0.3)

    def test_without_a_floor_the_latent_dies(self, table):
        """What the floor is for: the autoregressive decoder can do without the latent."""
        fitted = quick(max_epochs=15, batch_size=128, free_nats=0.0).fit(table)
        assert fitted.history_["kl_divergence"].iloc[-1] < 0.5

    def test_more_epochs_lower_the_loss(self, learnt):
        assert learnt.loss_curve_[-1] < learnt.loss_curve_[0] - 3

    def test_missing_cells_stay_with_what_they_depend_on(self):
        rng = np.random.default_rng(0)
        kind = rng.choice(["known", "hidden"], 600)
        table = pd.DataFrame(
            {"kind": kind, "value": np.where(kind == "hidden", np.nan, rng.normal(size=600))}
        )
        rows = quick(max_epochs=25, batch_size=64).fit(table).sample(1000)
        assert (rows["value"].isna() == (rows["kind"] == "hidden")).mean() > 0.97


class TestSample:
    @pytest.mark.parametrize("n_samples", [1, 7, np.int64(3)])
    def test_columns_dtypes_and_rows_are_those_asked_for(self, either, table, n_samples):
        rows = either.sample(n_samples)
        assert len(rows) == n_samples
        assert list(rows.columns) == list(table.columns)
        pd.testing.assert_series_equal(rows.dtypes, table.dtypes)
        assert rows.index.equals(pd.RangeIndex(n_samples))

    def test_no_conditions_are_as_good_as_none(self, barely):
        free = barely.sample(20, random_state=0)
        pd.testing.assert_frame_equal(barely.sample(20, conditions={}, random_state=0), free)

    @pytest.mark.parametrize("n_particles", [0, 1.5, "many"])
    def test_particles_are_whole_numbers(self, barely, n_particles):
        with pytest.raises(ValueError, match=f"n_particles={n_particles!r}, expected a whole"):
            barely.sample(2, n_particles=n_particles)

    def test_one_row_by_default(self, barely):
        assert len(barely.sample()) == 1

    def test_no_rows_keep_their_dtypes(self, either, table):
        rows = either.sample(0)
        assert rows.shape == (0, table.shape[1])
        pd.testing.assert_series_equal(rows.dtypes, table.dtypes)

    @pytest.mark.parametrize("n_samples", [-1, 2.5, 3.0, True, "3", None, [3]])
    def test_other_numbers_of_rows_are_refused(self, barely, n_samples):
        with pytest.raises(ValueError, match=r"n_samples=.* expected a whole number"):
            barely.sample(n_samples)

    def test_each_call_gives_other_rows_unless_it_is_seeded(self, barely):
        first, second = barely.sample(40), barely.sample(40)
        assert not first.equals(second)
        seeded = [barely.sample(40, random_state=seed) for seed in (4, 4, 5)]
        pd.testing.assert_frame_equal(seeded[0], seeded[1])
        assert not seeded[0].equals(seeded[2])

    def test_a_seeded_call_leaves_the_stream_of_the_others_alone(self, table):
        streams = []
        for seeded in (False, True):
            fitted = quick().fit(table[:200])
            if seeded:
                fitted.sample(3, random_state=9)
            streams.append(fitted.sample(20))
        pd.testing.assert_frame_equal(*streams)

    def test_a_generator_may_be_handed_over(self, barely):
        rng = np.random.RandomState(0)
        first, second = barely.sample(20, random_state=rng), barely.sample(20, random_state=rng)
        assert not first.equals(second)
        pd.testing.assert_frame_equal(first, barely.sample(20, random_state=0))

    def test_values_stay_within_the_range_and_rounding_of_the_table(self, table, drawn):
        for name in ("x", "y"):
            assert drawn[name].between(table[name].min(), table[name].max()).all()
        np.testing.assert_array_equal(drawn["y"], drawn["y"].round(3))
        assert set(drawn["count"].dropna()) == {1, 2, 3, 4, 5, 6}

    def test_continuous_values_are_not_copied(self, table, drawn):
        assert not drawn["x"].isin(table["x"]).any()

    def test_a_category_held_by_too_few_rows_never_comes_out(self, table):
        rare = table[["letter", "x"]][:300].copy()
        rare.loc[[3, 50, 200], "letter"] = "secret"
        fitted = quick(max_epochs=3).fit(rare)
        assert "secret" not in set(fitted.sample(5000)["letter"])
        assert "secret" not in set(fitted.inverse_transform(fitted.transform(rare))["letter"])
        allowed = quick(max_epochs=3, min_rows_per_value=3).fit(rare)
        assert 5 < (allowed.sample(5000)["letter"] == "secret").sum() < 250

    def test_argmax_takes_the_most_probable_cells(self, table):
        settings = {"max_epochs": 10, "free_nats": 0.0}  # a latent that says nothing
        drawn = quick(**settings).fit(table[["coin"]])
        assert 0.6 < drawn.sample(500)["coin"].mean() < 0.95
        argmax = quick(**settings, decoding="argmax").fit(table[["coin"]])
        assert argmax.sample(500)["coin"].all()

    def test_a_gaussian_mixture_of_the_latents(self, table):
        fitted = quick(max_epochs=10, sampler="gaussian_mixture", free_nats=6.0).fit(table)
        assert fitted.sampler_.mixture_.means_.shape == (16, 16)
        rows = fitted.sample(400, random_state=0)
        assert rows.dtypes.equals(table.dtypes)
        pd.testing.assert_frame_equal(rows, fitted.sample(400, random_state=0))
        assert abs(rows["coin"].mean() - 0.8) < 0.12

    def test_a_gaussian_mixture_sees_all_of_a_long_sorted_table(self):
        rng = np.random.default_rng(0)
        group = np.repeat(["first", "second"], 10_000)
        sign = np.where(group == "first", -5, 5)
        table = pd.DataFrame({"group": group, "v": sign + rng.normal(size=20_000)})
        fitted = quick(max_epochs=3, batch_size=512, sampler="gaussian_mixture", free_nats=3.0)
        assert (fitted.fit(table).sample(2000)["group"] == "first").mean() < 0.6


class TestContainers:
    NUMBERS = np.column_stack(
        [np.random.default_rng(0).normal(size=60), np.arange(60) % 3, np.arange(60) % 7]
    )

    def test_an_array_gives_arrays(self):
        fitted = quick().fit(self.NUMBERS)
        for rows in (fitted.sample(9), fitted.inverse_transform(fitted.transform(self.NUMBERS))):
            assert isinstance(rows, np.ndarray)
            assert rows.dtype == np.float64
            assert rows.shape[1] == 3
        assert fitted.sample(0).shape == (0, 3)
        assert fitted.n_features_in_ == 3
        assert not hasattr(fitted, "feature_names_in_")

    @pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
    def test_of_the_same_dtype(self, dtype):
        data = np.arange(120).reshape(60, 2).astype(dtype)
        assert quick().fit(data).sample(5).dtype == dtype

    def test_lists_give_arrays(self):
        mixed = [[number, "ab"[number % 2]] for number in range(40)]
        rows = quick().fit(mixed).sample(6)
        assert isinstance(rows, np.ndarray)
        assert rows.dtype == object
        assert set(rows[:, 1]) <= {"a", "b"}
        assert all(isinstance(number, int) for number in rows[:, 0])

    def test_a_frame_of_one_column(self):
        table = pd.DataFrame({"only": np.random.default_rng(0).normal(size=50)})
        fitted = quick().fit(table)
        assert fitted.sample(4).shape == (4, 1)
        assert np.isfinite(fitted.score_samples(table)).all()

    def test_more_columns_than_rows(self):
        table = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 20))).add_prefix("c")
        rows = quick().fit(table).sample(3)
        assert list(rows.columns) == list(table.columns)

    def test_constant_columns_stay_constant(self, either, table):
        frame = table[:60].assign(one=1, same="always", void=np.nan)
        rows = type(either)(**either.get_params()).fit(frame).sample(20)
        assert (rows["one"] == 1).all()
        assert (rows["same"] == "always").all()
        assert rows["void"].isna().all()

    def test_names_that_are_not_strings(self):
        table = pd.DataFrame({0: np.arange(30.0), ("a", 1): ["p", "q"] * 15})
        rows = quick().fit(table).sample(4)
        assert list(rows.columns) == list(table.columns)

    def test_the_table_is_left_as_it_was(self, table):
        before = table[:100].copy()
        frame = before.copy()
        fitted = quick().fit(frame)
        fitted.transform(frame)
        fitted.score_samples(frame)
        pd.testing.assert_frame_equal(frame, before)

    def test_a_batch_larger_than_the_table(self, table):
        for make in (quick, paper):
            assert len(make(batch_size=10_000).fit(table[:40]).sample(3)) == 3


class TestTransform:
    def test_shape_and_dtype(self, either, table):
        Z = either.transform(table)
        assert Z.shape == (len(table), either.n_components)
        assert Z.dtype == np.float64

    def test_each_row_depends_on_itself_alone(self, either, table):
        Z, scores = either.transform(table), either.score_samples(table)
        for part in (table.iloc[[17]], table.iloc[::-3], table[5:400]):
            np.testing.assert_allclose(either.transform(part), Z[part.index], atol=1e-11)
            np.testing.assert_allclose(either.score_samples(part), scores[part.index], atol=1e-9)

    def test_is_deterministic(self, either, table):
        np.testing.assert_array_equal(either.transform(table), either.transform(table))
        np.testing.assert_array_equal(either.score_samples(table), either.score_samples(table))

    def test_equal_rows_embed_alike_and_others_do_not(self, barely, table):
        twice = pd.concat([table[:5], table[:5]])
        Z = barely.transform(twice)
        np.testing.assert_allclose(Z[:5], Z[5:], atol=1e-11)
        assert len(np.unique(Z[:5].round(9), axis=0)) == 5

    def test_an_unseen_category_counts_as_rare(self, either, table):
        new = table[:4].assign(letter=["a", "?", "unheard", "b"])
        new.loc[1:2] = new.loc[[1, 1]].assign(letter=["?", "unheard"]).to_numpy()
        new = new.astype(table.dtypes)
        Z = either.transform(new)
        assert np.isfinite(Z).all()
        np.testing.assert_allclose(Z[1], Z[2], atol=1e-11)

    def test_the_embedding_tells_something_of_the_row(self, table):
        """With ten nats to spend, the most telling column can be read off the latent."""
        fitted = quick(max_epochs=30, batch_size=128, free_nats=8.0).fit(table)
        Z = np.column_stack([np.ones(len(table)), fitted.transform(table)])
        x = table["x"].to_numpy()
        residual = x - Z @ np.linalg.lstsq(Z, x, rcond=None)[0]
        assert 1 - residual.var() / x.var() > 0.4  # noise: 16 / 1000

    def test_other_columns_are_refused(self, barely, table):
        for wrong, message in (
            (table.drop(columns="x"), "x"),
            (table.assign(z=1), "z"),
            (table[table.columns[::-1]], "order"),
        ):
            for method in (barely.transform, barely.score_samples):
                with pytest.raises(ValueError, match=message):
                    method(wrong)

    def test_another_number_of_columns_is_refused(self):
        fitted = quick().fit(np.arange(90.0).reshape(30, 3))
        with pytest.raises(ValueError, match="2 features"):
            fitted.transform(np.zeros((5, 2)))

    def test_an_array_in_place_of_the_frame(self, barely, table):
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            Z = barely.transform(table.to_numpy(dtype=object))
        np.testing.assert_allclose(Z, barely.transform(table), atol=1e-11)


class TestInverseTransform:
    def test_columns_and_dtypes(self, either, table):
        rows = either.inverse_transform(either.transform(table[:30]))
        assert list(rows.columns) == list(table.columns)
        pd.testing.assert_series_equal(rows.dtypes, table.dtypes)

    def test_is_deterministic(self, either, table):
        Z = either.transform(table[:50])
        pd.testing.assert_frame_equal(either.inverse_transform(Z), either.inverse_transform(Z))

    def test_a_row_does_not_depend_on_its_batch(self, either, table):
        Z = either.transform(table[:20])
        rows = either.inverse_transform(Z)
        for place in (0, 7, 19):
            alone = either.inverse_transform(Z[[place]])
            pd.testing.assert_frame_equal(alone, rows[place : place + 1].reset_index(drop=True))

    def test_leaves_the_stream_of_samples_alone(self, table):
        streams = []
        for embeds in (False, True):
            fitted = quick().fit(table[:100])
            if embeds:
                fitted.inverse_transform(fitted.transform(table[:5]))
            streams.append(fitted.sample(10))
        pd.testing.assert_frame_equal(*streams)

    def test_another_number_of_latents_is_refused(self, barely):
        with pytest.raises(ValueError, match=r"Z has 3 features.*n_components=16"):
            barely.inverse_transform(np.zeros((2, 3)))

    def test_a_rich_latent_rebuilds_the_row(self, table):
        """A wide latent and a small price for it: an autoencoder."""
        fitted = paper(max_epochs=60, batch_size=64, beta=0.05, n_components=16).fit(table)
        rows = fitted.inverse_transform(fitted.transform(table))
        assert (rows["letter"] == table["letter"]).mean() > 0.9
        assert np.corrcoef(rows["x"], table["x"])[0, 1] > 0.8


class TestScore:
    def test_real_rows_beat_rows_with_shuffled_columns(self, learnt, table):
        fresh = make_table(seed=1)
        real, broken = learnt.score(fresh), learnt.score(shuffled(fresh))
        assert real > broken + 10
        # Letter, partner, coin, count, x, y: about 1.3 + 0.5 + 1.9 + 1.4 - 0.9 nats of entropy.
        assert -6.5 < real < -3.5

    def test_is_the_mean_over_rows(self, either, table):
        scores = either.score_samples(table)
        assert scores.shape == (len(table),)
        assert scores.dtype == np.float64
        assert either.score(table) == pytest.approx(scores.mean())

    @pytest.mark.parametrize(
        ("params", "slack"),
        [
            ({"n_bins": 128}, 0.25),
            ({"n_bins": 32}, 0.25),
            ({"n_bins": 32, "decoder": "factorized", "max_epochs": 30}, 0.25),
            ({"numeric_encoding": "mixture", "decoder": "factorized"}, 0.25),
        ],
        ids=["128-bins", "32-bins", "factorized", "mixture"],
    )
    @pytest.mark.parametrize("scale", [1.0, 1000.0])
    def test_is_a_density_in_the_units_of_the_column(self, params, slack, scale):
        """A normal column has a known entropy, whatever the encoding."""
        rng = np.random.default_rng(0)
        train, test = (scale * rng.normal(size=(1500, 1)) for _ in range(2))
        fitted = quick(**{"max_epochs": 10, "batch_size": 64, "free_nats": 0.0, **params})
        score = fitted.fit(train).score(test)
        expected = -0.5 * np.log(2 * np.pi * np.e) - np.log(scale)
        assert expected - slack < score < expected + 0.1

    @pytest.mark.parametrize("dtype", [np.int64, np.float64, "category", str])
    def test_of_a_die_is_the_log_of_its_sides(self, dtype):
        throws = pd.DataFrame({"die": np.random.default_rng(0).integers(1, 7, 1200)})
        fitted = quick(max_epochs=20, batch_size=128, free_nats=0.0).fit(throws.astype(dtype))
        # Floats are known to the unit as well: the density of a whole number is its mass.
        assert fitted.score(throws.astype(dtype)) == pytest.approx(-np.log(6), abs=0.05)

    @pytest.mark.parametrize("make", [quick, paper], ids=["default", "paper"])
    def test_unseen_values_are_unlikely_but_not_impossible(self, make, table):
        fitted = make(max_epochs=10, batch_size=32).fit(table[:300])
        odd = table[:50].copy()
        usual = fitted.score_samples(odd)
        for column, value in {"x": 1e6, "y": -1e9, "count": 99, "letter": "?"}.items():
            scores = fitted.score_samples(odd.assign(**{column: value}).astype(table.dtypes))
            assert np.isfinite(scores).all(), column
            assert scores.mean() < usual.mean(), column

    def test_a_missing_cell_where_fit_saw_none(self, either, table):
        odd = table[:20].copy()
        odd.loc[3, ["x", "letter"]] = np.nan, None
        assert np.isfinite(either.score_samples(odd)).all()
        assert np.isfinite(either.transform(odd)).all()


class TestFit:
    def test_returns_itself(self, table):
        estimator = quick()
        assert estimator.fit(table[:50]) is estimator

    def test_a_target_is_ignored(self, table):
        first = quick().fit(table[:100]).sample(20)
        second = quick().fit(table[:100], np.arange(100)).sample(20)
        pd.testing.assert_frame_equal(first, second)

    def test_a_second_fit_forgets_the_first(self, table):
        fitted = quick().fit(np.arange(90.0).reshape(30, 3))
        fitted.fit(table[:100])
        pd.testing.assert_frame_equal(fitted.sample(20), quick().fit(table[:100]).sample(20))
        assert list(fitted.feature_names_in_) == list(table.columns)
        fitted.fit(np.arange(90.0).reshape(30, 3))
        assert fitted.n_features_in_ == 3
        assert not hasattr(fitted, "feature_names_in_")

    @pytest.mark.parametrize(
        "broken",
        [
            lambda table: table[:0],
            lambda table: table[:1],
            lambda table: table.assign(x=np.inf),
            lambda table: table.assign(x=[{}] * len(table)),
            lambda table: pd.concat([table, table[["x"]]], axis=1),
        ],
        ids=["empty", "one-row", "infinity", "dict", "duplicate"],
    )
    def test_a_refit_that_fails_on_its_table_keeps_the_old_fit(self, table, broken):
        fitted = quick().fit(table[:100])
        before, embedded = fitted.sample(10, random_state=0), fitted.transform(table)
        with pytest.raises((ValueError, TypeError)):
            fitted.fit(broken(table))
        pd.testing.assert_frame_equal(fitted.sample(10, random_state=0), before)
        np.testing.assert_array_equal(fitted.transform(table), embedded)
        assert list(fitted.feature_names_in_) == list(table.columns)

    @pytest.mark.parametrize(
        "call",
        [
            lambda estimator, table: estimator.sample(3),
            lambda estimator, table: estimator.transform(table),
            lambda estimator, table: estimator.inverse_transform(np.zeros((1, 16))),
            lambda estimator, table: estimator.score_samples(table),
            lambda estimator, table: estimator.score(table),
            lambda estimator, table: estimator.get_feature_names_out(),
        ],
        ids=["sample", "transform", "inverse", "score_samples", "score", "names"],
    )
    def test_fit_comes_first(self, table, call):
        with pytest.raises(NotFittedError):
            call(quick(), table)

    def test_early_stopping(self, table):
        fitted = quick(max_epochs=40, batch_size=32, early_stopping=True, n_iter_no_change=2).fit(
            table[:300]
        )
        assert fitted.n_iter_ < 40
        assert fitted.best_epoch_ <= fitted.n_iter_
        assert fitted.sample(5).dtypes.equals(table.dtypes)

    def test_the_automatic_budget_is_more_than_an_epoch(self, table):
        assert quick(max_epochs="auto").fit(table[:60]).n_iter_ > 1


class TestParameters:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"n_components": 0}, "n_components"),
            ({"n_components": 2.5}, "n_components"),
            ({"max_epochs": 0}, "max_epochs"),
            ({"max_epochs": "many"}, "max_epochs"),
            ({"batch_size": 0}, "batch_size"),
            ({"learning_rate": 0.0}, "learning_rate"),
            ({"beta": -1.0}, "beta"),
            ({"decoder": "linear"}, "decoder"),
            ({"sampler": "flow"}, "sampler"),
            ({"decoding": "mean"}, "decoding"),
            ({"weight_averaging": 1.0}, "weight_averaging"),
            ({"validation_fraction": 1.0}, "validation_fraction"),
            ({"min_rows_per_value": 0}, "min_rows_per_value"),
            ({"callbacks": print}, "callbacks"),
            ({"hidden_layer_sizes": ()}, "hidden_layer_sizes"),
            ({"hidden_layer_sizes": 64}, "hidden_layer_sizes"),
            ({"hidden_layer_sizes": (64, 0)}, "hidden_layer_sizes"),
            ({"column_layer_sizes": (64.5,)}, "column_layer_sizes"),
            ({"column_layer_sizes": (64, 32)}, r"column_layer_sizes must be equal, got \(64, 32\)"),
            ({"numeric_encoding": "mixture"}, "numeric_encoding='mixture' needs decoder="),
            ({"categorical_features": ["nowhere"]}, "categorical_features.*nowhere"),
            ({"categorical_features": [99]}, "categorical_features"),
            ({"categorical_features": [True]}, "categorical_features"),
        ],
    )
    def test_what_cannot_be_used_is_refused_by_name(self, table, params, message):
        with pytest.raises(ValueError, match=message):
            quick(**params).fit(table[:50])

    def test_a_refit_with_what_is_no_callback_loses_nothing(self, table):
        fitted = quick().fit(table[:50])
        before = fitted.sample(5, random_state=0)
        for callback in ("print", Callback):
            with pytest.raises(TypeError, match="callbacks"):
                fitted.set_params(callbacks=[callback]).fit(table[:50])
        pd.testing.assert_frame_equal(fitted.sample(5, random_state=0), before)

    @pytest.mark.parametrize("goes_on", [False, True])
    @pytest.mark.parametrize("late", ["in the training", "after it"])
    def test_a_fit_that_fails_late_leaves_the_one_before(self, table, late, goes_on, monkeypatch):
        def fail(*_):
            raise RuntimeError("too late")

        fitted = quick(warm_start=goes_on).fit(table[:100])
        before, Z = dict(vars(fitted)), fitted.transform(table)
        rows = fitted.sample(5, random_state=0)
        if late == "in the training":
            fitted.set_params(callbacks=[fail])
        else:
            monkeypatch.setattr("skvae.synthesizer.fit_sampler", fail)
        with pytest.raises(RuntimeError, match="too late"):
            fitted.fit(table[100:300] if goes_on else table[["x", "coin"]])
        fitted.set_params(callbacks=None)
        assert all(vars(fitted)[name] is before[name] for name in before)
        np.testing.assert_array_equal(fitted.transform(table), Z)
        pd.testing.assert_frame_equal(fitted.sample(5, random_state=0), rows)

    @pytest.mark.parametrize(
        "params",
        [
            {"hidden_layer_sizes": (32, 16), "column_layer_sizes": (8,)},
            {"hidden_layer_sizes": [16], "column_layer_sizes": [8, 8, 8]},
            {"decoder": "factorized", "hidden_layer_sizes": (24, 12)},
            {"optimizer": "adam", "learning_rate_schedule": "constant"},
            {"weight_averaging": None, "max_grad_norm": None},
            {"n_components": 1, "embedding_dim": 1, "n_bins": 1},
        ],
    )
    def test_what_can_be_used_works(self, table, params):
        fitted = quick(**params).fit(table[:100])
        assert fitted.transform(table).shape == (len(table), fitted.n_components)
        assert len(fitted.sample(7)) == 7

    def test_a_number_may_be_taken_as_categorical(self, table):
        frame = pd.DataFrame({"code": [10, 20, 90] * 40, "x": table["x"][:120]})
        for features in (["code"], [0], [True, False]):
            fitted = quick(categorical_features=features).fit(frame)
            rows = fitted.sample(60)
            assert set(rows["code"]) <= {10, 20, 90}
            assert rows["code"].dtype == np.int64
            assert fitted.transformer_.schema_[0].kind == "categorical"


@pytest.mark.slow
def test_the_default_preset_on_all_of_adult():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from skvae.metrics import column_shapes, pair_trends

    table = load_adult()
    fitted = TVAESynthesizer.from_preset("default", random_state=0).fit(table)
    assert fitted.history_["kl_divergence"].iloc[-1] > 1.5
    synthetic = fitted.sample(len(table))
    assert synthetic.dtypes.equals(table.dtypes)
    assert column_shapes(table, synthetic).error_percent <= 0.7
    assert pair_trends(table, synthetic).error_percent <= 1.6
    income = table["income"] == ">50K"
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    Z = fitted.transform(table)
    auc = cross_val_score(classifier, Z, income, scoring="roc_auc", cv=3).mean()
    assert auc >= 0.85


class TestBudget:
    @pytest.mark.parametrize(("n_rows", "batch_size"), [(160, 64), (100, 30), (97, 64), (50, 256)])
    def test_max_steps_is_not_exceeded(self, table, n_rows, batch_size):
        fitted = quick(max_epochs=50, max_steps=6, batch_size=batch_size).fit(table[:n_rows])
        assert fitted.n_steps_ == 6
        whole, rest = divmod(n_rows, min(batch_size, n_rows))
        assert fitted.n_iter_ == math.ceil(6 / (whole + (2 * rest >= batch_size)))
        assert fitted.history_["loss"].notna().all()

    @pytest.mark.parametrize("max_epochs", [1, 3, 6])
    def test_a_fit_that_diverges_says_so(self, table, max_epochs):
        wild = quick(learning_rate=1e30, max_grad_norm=None, max_epochs=max_epochs)
        with pytest.raises(FloatingPointError, match=r"learning_rate=1e\+30"):
            wild.fit(table[:200])
        with pytest.raises(NotFittedError):
            wild.sample()
