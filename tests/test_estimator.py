"""What TVAESynthesizer owes scikit-learn, and what estimators share: seeds, state, devices."""

import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skvae import TVAESynthesizer
from skvae._estimator import isolated_torch_seed, load_presets, resolve_device

PRESETS = sorted(load_presets("tvae_synthesizer"))
# Defined by scikit-learn, but not called by its check_estimator.
UNCALLED_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_inplace_ensure_writeable",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]
POLARS_CHECKS = ["check_set_output_transform_polars", "check_global_set_output_transform_polars"]


def quick(**params):
    """Return a synthesizer that fits a small table in a fraction of a second."""
    return TVAESynthesizer(**{"max_epochs": 1, "device": "cpu", "random_state": 0, **params})


def paper(**params):
    return TVAESynthesizer.from_preset(
        "paper", **{"max_epochs": 1, "device": "cpu", "random_state": 0, **params}
    )


ESTIMATORS = [quick(), paper()]


@pytest.fixture(scope="module")
def table():
    """Mixed dtypes, missing cells, and a label that the other columns tell."""
    rng = np.random.default_rng(0)
    n = 160
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "x": np.where(rng.random(n) < 0.1, np.nan, x),
            "count": rng.poisson(4, n),
            "colour": rng.choice(["red", "green", None], n),
            "grade": pd.Categorical(rng.choice(["a", "b", "c"], n), ["c", "b", "a"], ordered=True),
            "member": x > 0,
        }
    )


class TestScikitLearnContract:
    @parametrize_with_checks(ESTIMATORS)
    def test_check_estimator(self, estimator, check):
        check(estimator)

    # They fit with names and transform without, and the other way round, on purpose.
    @pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
    @pytest.mark.parametrize("estimator", ESTIMATORS, ids=["default", "paper"])
    @pytest.mark.parametrize("name", UNCALLED_CHECKS)
    def test_checks_that_check_estimator_does_not_call(self, estimator, name):
        getattr(estimator_checks, name)("TVAESynthesizer", clone(estimator))

    @pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
    @pytest.mark.parametrize("name", POLARS_CHECKS)
    def test_polars_checks(self, name):
        pytest.importorskip("polars")
        getattr(estimator_checks, name)("TVAESynthesizer", quick())

    def test_clone_keeps_every_parameter(self):
        estimator = paper(n_components=3, callbacks=[print])
        assert clone(estimator).get_params() == estimator.get_params()

    def test_set_output_names_the_columns(self, table):
        fitted = quick(n_components=2).set_output(transform="pandas").fit(table)
        embedded = fitted.transform(table)
        assert list(embedded.columns) == ["tvaesynthesizer0", "tvaesynthesizer1"]
        assert embedded.index.equals(table.index)


class TestMixedFramesInScikitLearn:
    def test_cross_val_score(self, table):
        scores = cross_val_score(quick(), table, cv=3)
        assert scores.shape == (3,)
        assert np.isfinite(scores).all()

    def test_grid_search_over_the_size_of_the_latent_and_a_presets_parameters(self, table):
        search = GridSearchCV(
            TVAESynthesizer.from_preset("fast", max_epochs=1, random_state=0),
            {"n_components": [2, 5], "column_layer_sizes": [(8,), (16, 16)], "n_bins": [4]},
            cv=2,
            error_score="raise",
        ).fit(table)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_params_["n_components"] in (2, 5)
        assert list(search.best_estimator_.sample(3).columns) == list(table.columns)
        assert search.transform(table).shape == (len(table), search.best_params_["n_components"])

    def test_a_pipeline_that_embeds_before_a_classifier(self, table):
        features, target = table.drop(columns="member"), table["member"]
        pipeline = make_pipeline(quick(n_components=4), LogisticRegression())
        pipeline.fit(features, target)
        assert pipeline.predict(features).shape == (len(table),)
        assert len(cross_val_score(pipeline, features, target, cv=2)) == 2

    def test_a_pipeline_that_ends_in_a_synthesizer(self, table):
        pipeline = make_pipeline("passthrough", quick()).fit(table)
        assert np.isfinite(pipeline.score(table))


class TestPresets:
    @pytest.mark.parametrize("name", PRESETS)
    def test_every_preset_fits_and_samples(self, name, table):
        fitted = TVAESynthesizer.from_preset(name, max_epochs=1, random_state=0).fit(table)
        assert fitted.sample(5).dtypes.equals(table.dtypes)

    def test_there_are_three(self):
        assert PRESETS == ["default", "fast", "paper"]

    def test_default_is_the_default(self):
        found = TVAESynthesizer.from_preset("default").get_params()
        assert found == TVAESynthesizer().get_params()

    def test_parameters_given_beside_the_name_win(self):
        changed = TVAESynthesizer.from_preset("paper", n_components=7, batch_size=9)
        original = TVAESynthesizer.from_preset("paper")
        assert original.decoder == "factorized"
        different = {
            name
            for name, value in original.get_params().items()
            if changed.get_params()[name] != value
        }
        assert different == {"n_components", "batch_size"}
        assert (changed.n_components, changed.batch_size) == (7, 9)

    def test_the_paper_presets_objective_is_the_papers(self):
        """``2 R + KL`` of the paper is twice ``R + 0.5 KL``; the rest are its code's settings."""
        params = TVAESynthesizer.from_preset("paper").get_params()
        assert params["beta"] == 0.5
        assert params["free_nats"] == 0
        assert params["numeric_encoding"] == "mixture"
        assert params["batch_size"] == 500
        assert params["optimizer"] == "adam"
        assert params["learning_rate_schedule"] == "constant"
        assert params["weight_averaging"] is None

    def test_an_unknown_name_is_told_the_known_ones(self):
        with pytest.raises(ValueError, match=r"'papre'.*'default', 'fast', 'paper'"):
            TVAESynthesizer.from_preset("papre")

    def test_a_parameter_that_does_not_exist_is_refused(self):
        with pytest.raises(TypeError, match="n_epochs"):
            TVAESynthesizer.from_preset("paper", n_epochs=3)


class TestRandomState:
    def test_two_fits_with_one_seed_give_identical_samples(self, table):
        first, second = (quick(max_epochs=2).fit(table) for _ in range(2))
        pd.testing.assert_frame_equal(first.sample(50), second.sample(50))
        np.testing.assert_array_equal(first.transform(table), second.transform(table))
        other = quick(max_epochs=2, random_state=1).fit(table)
        assert not first.sample(50).equals(other.sample(50))

    def test_a_generator_is_used_up_as_it_goes(self, table):
        state = np.random.RandomState(0)
        first = quick(random_state=state).fit(table).transform(table)
        second = quick(random_state=state).fit(table).transform(table)
        again = quick(random_state=np.random.RandomState(0)).fit(table).transform(table)
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(first, again)

    @pytest.mark.parametrize("make", [quick, paper], ids=["default", "paper"])
    def test_the_global_random_state_is_left_alone_and_plays_no_part(self, make, table):
        results = []
        for seed in (1, 2):
            np.random.seed(seed)
            torch.manual_seed(seed)
            before = torch.get_rng_state(), np.random.get_state()[1:3]
            fitted = make(sampler="gaussian_mixture").fit(table)
            Z = fitted.transform(table)
            results.append((fitted.sample(20), Z, fitted.score_samples(table)))
            fitted.inverse_transform(Z)
            pickle.loads(pickle.dumps(fitted))
            after = torch.get_rng_state(), np.random.get_state()[1:3]
            assert torch.equal(before[0], after[0])
            np.testing.assert_array_equal(before[1][0], after[1][0])
            assert before[1][1] == after[1][1]
        pd.testing.assert_frame_equal(results[0][0], results[1][0])
        np.testing.assert_array_equal(results[0][1], results[1][1])
        np.testing.assert_array_equal(results[0][2], results[1][2])

    def test_isolated_torch_seed(self):
        state = torch.get_rng_state()
        with pytest.raises(RuntimeError), isolated_torch_seed(3):
            first = torch.rand(3)
            raise RuntimeError
        assert torch.equal(torch.get_rng_state(), state)
        with isolated_torch_seed(3):
            assert torch.equal(torch.rand(3), first)


def tensors_in(value, seen=None):
    """Yield every torch object reachable from a state."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (torch.Tensor, torch.nn.Module, torch.Generator)):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item, seen)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, seen)
    elif hasattr(value, "__dict__"):
        yield from tensors_in(vars(value), seen)


LOAD_ELSEWHERE = """
import sys, joblib
fitted = joblib.load(sys.argv[1])
table = joblib.load(sys.argv[2])
joblib.dump(
    (fitted.sample(30, random_state=5), fitted.sample(30), fitted.transform(table),
     fitted.score_samples(table)),
    sys.argv[3],
)
"""


class TestState:
    @pytest.mark.parametrize("make", [quick, paper], ids=["default", "paper"])
    def test_a_dump_gives_the_same_bits_in_a_fresh_process(self, make, table, tmp_path):
        fitted = make(sampler="gaussian_mixture").fit(table)
        paths = [str(tmp_path / name) for name in ("model", "table", "results")]
        joblib.dump(fitted, paths[0])
        joblib.dump(table, paths[1])
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        subprocess.run([sys.executable, "-c", LOAD_ELSEWHERE, *paths], check=True, env=environment)
        seeded, stream, embedded, scores = joblib.load(paths[2])
        pd.testing.assert_frame_equal(seeded, fitted.sample(30, random_state=5))
        pd.testing.assert_frame_equal(stream, fitted.sample(30))
        np.testing.assert_array_equal(embedded, fitted.transform(table))
        np.testing.assert_array_equal(scores, fitted.score_samples(table))

    def test_the_state_holds_arrays_and_no_tensors(self, table):
        fitted = quick().fit(table)
        state = fitted.__getstate__()
        assert list(tensors_in(state)) == []
        arrays = state["_model_state"]
        assert arrays
        assert all(isinstance(array, np.ndarray) for array in arrays.values())
        assert list(tensors_in(vars(fitted)))  # the walk does find what there is

    def test_a_dump_opened_as_a_memory_map_works(self, table, tmp_path):
        fitted = quick().fit(table)
        joblib.dump(fitted, tmp_path / "model")
        loaded = joblib.load(tmp_path / "model", mmap_mode="r")
        np.testing.assert_array_equal(loaded.transform(table), fitted.transform(table))

    def test_an_unfitted_estimator_travels_too(self):
        loaded = pickle.loads(pickle.dumps(quick(n_components=3)))
        assert loaded.n_components == 3
        with pytest.raises(NotFittedError):
            loaded.sample()

    def test_a_loaded_estimator_fits_again(self, table):
        loaded = pickle.loads(pickle.dumps(quick().fit(table)))
        pd.testing.assert_frame_equal(loaded.fit(table).sample(9), quick().fit(table).sample(9))

    def test_parameters_changed_after_fit_wait_for_the_next_one(self, table):
        fitted = quick(n_components=4, n_bins=8).fit(table)
        embedded, scores = fitted.transform(table), fitted.score_samples(table)
        fitted.set_params(
            n_components=9,
            hidden_layer_sizes=(16,),
            column_layer_sizes=(8,),
            embedding_dim=3,
            decoder="factorized",
            numeric_encoding="mixture",
        )
        for estimator in (fitted, pickle.loads(pickle.dumps(fitted))):
            np.testing.assert_array_equal(estimator.transform(table), embedded)
            np.testing.assert_array_equal(estimator.score_samples(table), scores)
            assert len(estimator.sample(3)) == 3
            assert len(estimator.inverse_transform(embedded)) == len(table)

    def test_a_dump_from_a_missing_device_loads_on_the_cpu(self, table):
        fitted = quick().fit(table)
        fitted.device = "cuda:99"
        loaded = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(loaded.transform(table), fitted.transform(table))


class TestDevice:
    def test_auto_and_cpu(self):
        assert resolve_device("cpu") == torch.device("cpu")
        expected = "cuda" if torch.cuda.is_available() else "cpu"
        assert resolve_device("auto") == torch.device(expected)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_cuda_without_cuda_is_refused(self, table):
        with pytest.raises(ValueError, match=r"device='cuda' cannot be used.*Use 'auto'"):
            quick(device="cuda").fit(table)

    def test_a_name_that_is_no_device_is_refused(self, table):
        with pytest.raises(ValueError, match="device='gpu0' cannot be used"):
            quick(device="gpu0").fit(table)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    @pytest.mark.parametrize("make", [quick, paper], ids=["default", "paper"])
    def test_a_fit_on_a_gpu_travels_to_the_cpu(self, make, table):
        fitted = make(device="cuda", sampler="gaussian_mixture").fit(table)
        assert next(fitted.model_.parameters()).device.type == "cuda"
        pd.testing.assert_frame_equal(
            fitted.sample(20, random_state=0),
            make(device="cuda", sampler="gaussian_mixture").fit(table).sample(20, random_state=0),
        )
        assert fitted.inverse_transform(fitted.transform(table)).dtypes.equals(table.dtypes)
        fitted.device = "cpu"
        loaded = pickle.loads(pickle.dumps(fitted))
        assert next(loaded.model_.parameters()).device.type == "cpu"
        np.testing.assert_allclose(loaded.transform(table), fitted.transform(table), atol=1e-8)
        np.testing.assert_allclose(loaded.score_samples(table), fitted.score_samples(table))


class TestFitLoop:
    def test_history(self, table):
        fitted = quick(max_epochs=3).fit(table)
        history = fitted.history_
        assert list(history["epoch"]) == [1, 2, 3]
        assert fitted.n_iter_ == 3
        assert fitted.loss_curve_ == history["loss"].tolist()
        for column in ("log_likelihood", "kl_divergence", "elbo", "learning_rate", "seconds"):
            assert np.isfinite(history[column]).all()
        assert "validation_loss" not in history
        bound = history["log_likelihood"] - history["kl_divergence"]
        np.testing.assert_allclose(history["elbo"], bound)
        assert not hasattr(fitted, "best_epoch_")

    def test_max_steps_bounds_the_budget(self, table):
        fitted = quick(max_epochs=50, batch_size=16, max_steps=30).fit(table)
        assert fitted.n_iter_ == 3  # of ten steps each

    def test_the_automatic_budget_is_at_least_one_epoch(self, table):
        assert quick(max_epochs="auto", max_steps=1).fit(table).n_iter_ == 1

    @pytest.mark.parametrize("wrap", [list, tuple])
    def test_callbacks_hear_of_epochs_and_may_stop(self, table, wrap):
        logs = []

        def stop_after_two(log):
            logs.append(log)
            return log["epoch"] == 2

        fitted = quick(max_epochs=5, callbacks=wrap([stop_after_two])).fit(table)
        assert fitted.n_iter_ == len(logs) == 2
        assert logs == fitted.history_.to_dict("records")

    def test_callbacks_of_the_wrong_type_are_refused(self, table):
        with pytest.raises(TypeError, match="callbacks must be"):
            quick(callbacks=["stop"]).fit(table)

    def test_verbose_shows_progress_on_stderr_and_silence_is_silent(self, table, capsys):
        quick(max_epochs=2, verbose=1).fit(table)
        out, err = capsys.readouterr()
        assert out == ""
        assert "TVAESynthesizer" in err
        assert "2/2" in err
        quick(verbose=0).fit(table).sample(5)
        assert capsys.readouterr() == ("", "")

    def test_early_stopping_restores_the_best_epoch(self, table):
        fitted = quick(
            max_epochs=60,
            batch_size=16,
            early_stopping=True,
            n_iter_no_change=2,
            learning_rate=0.02,
            weight_averaging=0.5,
            tol=0.0,
        ).fit(table)
        losses = fitted.history_["validation_loss"]
        assert fitted.n_iter_ < 60
        assert fitted.best_epoch_ == 1 + losses.argmin() == fitted.n_iter_ - 2

    def test_a_fit_without_early_stopping_forgets_the_best_epoch(self, table):
        fitted = quick(max_epochs=2, early_stopping=True).fit(table)
        assert fitted.best_epoch_ in (1, 2)
        fitted.set_params(early_stopping=False).fit(table)
        assert not hasattr(fitted, "best_epoch_")

    def interrupt(self, log):
        if log["epoch"] == 2:
            raise KeyboardInterrupt

    def test_an_interrupt_leaves_the_estimator_unfitted(self, table):
        fitted = quick(max_epochs=5).fit(table)
        fitted.set_params(callbacks=[self.interrupt])
        with pytest.raises(KeyboardInterrupt):
            fitted.fit(table)
        with pytest.raises(NotFittedError):
            fitted.sample()

    def test_an_interrupt_under_early_stopping_keeps_the_best_so_far(self, table):
        fitted = quick(max_epochs=5, early_stopping=True, callbacks=[self.interrupt])
        with pytest.warns(UserWarning, match="interrupted after epoch 2"):
            fitted.fit(table)
        assert fitted.n_iter_ == 2
        assert fitted.best_epoch_ in (1, 2)
        assert len(fitted.sample(4)) == 4

    def test_a_loss_that_stays_non_finite_ends_the_fit_with_advice(self, table):
        estimator = quick(max_epochs=5, beta=1e39, batch_size=16)
        with pytest.raises(FloatingPointError, match=r"epoch 1: .* not finite .*learning_rate"):
            estimator.fit(table)
        with pytest.raises(NotFittedError):
            estimator.transform(table)


@pytest.mark.parametrize("decoder", ["autoregressive", "factorized"])
def test_a_default_type_of_torch_that_is_not_float32_does_no_harm(decoder, table):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = TVAESynthesizer(2, max_epochs=1, decoder=decoder, device="cpu", random_state=0)
        assert len(model.fit(table).sample(3)) == 3
    finally:
        torch.set_default_dtype(before)
