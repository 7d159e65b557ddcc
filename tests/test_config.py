"""``skvae.to_config`` and ``skvae.from_config``: a run on paper, and back."""

import inspect
import json
from importlib import resources

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import InvalidParameterError

import skvae
from skvae import TVAESynthesizer, from_config, to_config
from skvae.config import read_config
from skvae.constraints import FixedCombinations, Inequality, Range, Total
from skvae.tabular import TabularTransformer

# A value other than the default for every parameter that JSON can hold.
OTHER = {
    "n_components": 3,
    "categorical_features": ("a", 1),
    "numeric_encoding": "mixture",
    "n_bins": 7,
    "min_rows_per_value": 2,
    "rare_category_min_count": 7,
    "constraints": (
        Inequality("a", "b", strict=True),
        Range("c", 0, None),
        FixedCombinations(["d", ("e", 1)]),
        Total(["f", "g"], "h", tolerance=0.5),
    ),
    "enforce_range": False,
    "enforce_rounding": False,
    "decoder": "factorized",
    "hidden_layer_sizes": (8, 9, 10),
    "column_layer_sizes": (4,),
    "embedding_dim": 2,
    "beta": 0.1,
    "free_nats": 0.3,
    "max_epochs": 2,
    "max_steps": 11,
    "max_seconds": 2.5,
    "warm_start": True,
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 1 / 3,
    "learning_rate_schedule": "constant",
    "weight_decay": 1e-300,
    "weight_averaging": None,
    "max_grad_norm": None,
    "early_stopping": True,
    "validation_fraction": 0.2,
    "n_iter_no_change": 3,
    "tol": 0.0,
    "sampler": "gaussian_mixture",
    "decoding": "argmax",
    "temperature": 0.5,
    "condition_columns": ("age",),
    "column_order": "random",
    "column_kinds": {"age": "categorical"},
    "max_categories": 50,
    "device": "cpu",
    "random_state": 2**32 - 1,
    "verbose": 1,
}


def config_of(**changes):
    """Return a small configuration, with some of its keys changed."""
    return {
        "format": "skvae config",
        "format_version": 1,
        "estimator": "TVAESynthesizer",
        "params": {},
        **changes,
    }


def from_params(**params):
    return from_config(config_of(params=params))


class TestRoundTrip:
    def test_the_values_tried_differ_from_every_default(self):
        defaults = TVAESynthesizer().get_params()
        assert set(OTHER) == set(defaults) - {"callbacks"}
        assert all(OTHER[name] != defaults[name] for name in OTHER)

    @pytest.mark.parametrize("name", OTHER)
    def test_each_parameter_comes_back(self, name, tmp_path):
        written = TVAESynthesizer(**{name: OTHER[name]})
        to_config(written, tmp_path / "config.json")
        read = from_config(tmp_path / "config.json")
        assert read.get_params() == written.get_params()
        assert type(getattr(read, name)) is type(OTHER[name])

    def test_all_parameters_at_once_as_the_file_or_its_content(self, tmp_path):
        written = TVAESynthesizer(**OTHER)
        config = to_config(written, tmp_path / "config.json")
        assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) == config
        for source in (config, tmp_path / "config.json", str(tmp_path / "config.json")):
            read = from_config(source)
            assert type(read) is TVAESynthesizer
            assert read.get_params() == written.get_params()

    def test_every_parameter_is_written_in_the_order_of_the_signature(self):
        config = to_config(TVAESynthesizer(n_bins=9))
        assert list(config) == ["format", "format_version", "skvae", "estimator", "params"]
        assert list(config["params"]) == list(inspect.signature(TVAESynthesizer).parameters)
        assert config["skvae"] == skvae.__version__

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (np.array(["a", "b"]), ("a", "b")),
            (np.array([True, False]), (True, False)),
            (np.array([2, 0]), (2, 0)),
            (pd.Index(["a", "b"]), ("a", "b")),
            (pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), (("a", 1), ("b", 2))),
            ([np.str_("a"), np.int64(3), "größe"], ("a", 3, "größe")),
        ],
    )
    def test_columns_named_by_any_array(self, found, expected, tmp_path):
        to_config(TVAESynthesizer(categorical_features=found), tmp_path / "config.json")
        assert from_config(tmp_path / "config.json").categorical_features == expected

    def test_numpy_scalars_become_plain_numbers(self):
        written = TVAESynthesizer(
            n_components=np.int64(4), beta=np.float32(0.1), early_stopping=np.bool_(True)
        )
        params = to_config(written)["params"]
        for name, kind in {"n_components": int, "beta": float, "early_stopping": bool}.items():
            assert type(params[name]) is kind
            assert params[name] == getattr(written, name)

    def test_other_estimators(self):
        written = TabularTransformer(["a"], n_bins=12, copy_columns=False)
        read = from_config(to_config(written))
        assert type(read) is TabularTransformer
        assert read.get_params() == {**written.get_params(), "categorical_features": ("a",)}

    def test_parameters_left_out_take_their_defaults(self):
        expected = TVAESynthesizer(n_bins=9).get_params()
        assert from_params(n_bins=9).get_params() == expected

    def test_the_configuration_and_the_estimator_share_nothing(self):
        config = config_of(params={"hidden_layer_sizes": [8, 8]})
        estimator = from_config(config)
        config["params"]["hidden_layer_sizes"].append(8)
        assert estimator.hidden_layer_sizes == (8, 8)

    def test_a_fit_is_repeated_from_the_file(self, tmp_path):
        rng = np.random.default_rng(0)
        table = pd.DataFrame({"x": rng.normal(size=100), "y": rng.choice(["a", "b"], 100)})
        first = TVAESynthesizer(
            max_epochs=1, random_state=0, hidden_layer_sizes=[8], column_layer_sizes=(8,)
        ).fit(table)
        to_config(first, tmp_path / "config.json")
        second = from_config(tmp_path / "config.json").fit(table)
        weights = second.model_.state_dict()
        for name, tensor in first.model_.state_dict().items():
            assert torch.equal(tensor, weights[name])
        pd.testing.assert_frame_equal(second.sample(20), first.sample(20))


class Nested:
    """Stands in for an estimator with a dictionary among its parameters."""

    def __init__(self, model_params=None):
        self.model_params = model_params

    def _validate_params(self):
        pass


class TestDictionaries:
    @pytest.fixture(autouse=True)
    def _known(self, monkeypatch):
        monkeypatch.setitem(skvae.config.ESTIMATORS, "Nested", __name__)

    @pytest.mark.parametrize(
        "found",
        [
            None,
            {},
            {"beta": 2.0, "warm": True, "prior": None, "sizes": (1, 2), "deep": {"a": {"b": (3,)}}},
        ],
    )
    def test_they_come_back(self, found, tmp_path):
        to_config(Nested(found), tmp_path / "config.json")
        assert from_config(tmp_path / "config.json").model_params == found

    def test_a_parameter_inside_that_json_cannot_hold_is_refused(self):
        with pytest.raises(TypeError, match=r"'model_params' holds Linear\("):
            to_config(Nested({"encoder": torch.nn.Linear(1, 1)}))

    def test_keys_that_would_come_back_as_strings_are_refused(self):
        with pytest.raises(TypeError, match=r"'model_params' holds \{1: 2\}"):
            to_config(Nested({1: 2}))


class TestWriting:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("callbacks", [lambda log: None]),
            ("random_state", np.random.RandomState(0)),
            ("beta", float("nan")),
            ("beta", np.float64("inf")),
            ("beta", np.longdouble(1)),
            ("categorical_features", [pd.Timestamp("2020-01-01")]),
            ("sampler", torch.nn.Linear(1, 1)),
        ],
    )
    def test_what_json_cannot_hold_is_refused_with_the_way_out(self, name, value):
        message = rf"TVAESynthesizer: '{name}' holds .* set_params\({name}=\.\.\.\)"
        with pytest.raises(TypeError, match=message):
            to_config(TVAESynthesizer(**{name: value}))

    @pytest.mark.parametrize(
        "estimator",
        [LogisticRegression(), TVAESynthesizer, type("TVAESynthesizer", (), {})(), None],
    )
    def test_what_is_no_estimator_of_ours_is_refused(self, estimator):
        with pytest.raises(TypeError, match=r"expected an instance of .*'TVAESynthesizer'"):
            to_config(estimator)

    def test_a_failed_write_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "config.json"
        to_config(TVAESynthesizer(), path)
        before = path.read_bytes()
        with pytest.raises(TypeError, match="callbacks"):
            to_config(TVAESynthesizer(callbacks=[print]), path)
        assert path.read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]

    def test_the_file_is_text_to_be_read_and_compared(self, tmp_path):
        path = tmp_path / "config.json"
        to_config(TVAESynthesizer(categorical_features=["größe"]), path)
        text = path.read_text(encoding="utf-8")
        assert text.endswith("}\n")
        assert '    "n_components": 16,\n' in text
        assert '"größe"' in text


class TestReading:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [("n_epochs", "max_epochs"), ("batchsize", "batch_size"), ("learn_rate", "learning_rate")],
    )
    def test_a_misspelt_parameter_is_told_the_nearest(self, written, meant):
        message = f"TVAESynthesizer has no parameter '{written}'. Did you mean '{meant}'?"
        with pytest.raises(ValueError, match=message.replace("?", r"\?")):
            from_params(**{written: 1})

    def test_a_parameter_near_to_none_is_told_all(self):
        with pytest.raises(ValueError, match=r"'zzz'\. There is 'n_components', .*'callbacks'"):
            from_params(zzz=1)

    def test_a_misspelt_key_is_told_the_nearest(self):
        with pytest.raises(ValueError, match=r"unknown key 'parms'. Did you mean 'params'\?"):
            from_config(config_of(parms={}))

    def test_an_unknown_estimator_is_told_the_known_ones(self):
        message = r"'TVAESynthesiser'\. Did you mean 'TVAESynthesizer'\? There is .*Transformer'"
        with pytest.raises(ValueError, match=message):
            from_config(config_of(estimator="TVAESynthesiser"))

    @pytest.mark.parametrize("name", ["os.system", "LogisticRegression", None, ["TVAESynthesizer"]])
    def test_nothing_but_an_estimator_of_ours_is_built(self, name):
        with pytest.raises(ValueError, match="unknown estimator"):
            from_config(config_of(estimator=name))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("n_bins", "128"),
            ("n_bins", 128.0),
            ("n_bins", 0),
            ("beta", None),
            ("early_stopping", "no"),
            ("hidden_layer_sizes", 128),
            ("decoder", "autoregresive"),
            ("random_state", "zero"),
            ("weight_averaging", {"decay": 0.9}),
        ],
    )
    def test_a_value_of_the_wrong_type_is_refused_by_name(self, name, value, tmp_path):
        with pytest.raises(InvalidParameterError, match=f"The configuration: The '{name}' param"):
            from_params(**{name: value})
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config_of(params={name: value})))
        with pytest.raises(InvalidParameterError, match=rf"config\.json': The '{name}' parameter"):
            from_config(path)

    def test_a_later_format_is_refused_by_its_number(self):
        message = r"format version 2, written by skvae 9\.1, but .* up to 1: update skvae"
        with pytest.raises(ValueError, match=message):
            from_config(config_of(format_version=2, skvae="9.1", engine={"new": "key"}))

    @pytest.mark.parametrize("found", ["1", 0, 1.0, True, None])
    def test_a_format_version_that_is_none_is_refused(self, found):
        with pytest.raises(ValueError, match=r"'format_version' is .*, expected 1"):
            from_config(config_of(format_version=found))

    @pytest.mark.parametrize("found", [{}, {"n_bins": 64}, config_of(format="other")])
    def test_what_is_no_configuration_is_refused(self, found):
        with pytest.raises(ValueError, match=r"The configuration is not what skvae\.to_config"):
            from_config(found)

    def test_json_that_is_no_configuration_is_refused(self, tmp_path):
        path = tmp_path / "list.json"
        path.write_text("[1, 2]")
        with pytest.raises(ValueError, match=r"list\.json' is not what skvae"):
            from_config(path)

    @pytest.mark.parametrize("key", ["estimator", "params"])
    def test_a_missing_key_is_named(self, key):
        config = config_of()
        del config[key]
        with pytest.raises(ValueError, match=f"'{key}' is missing"):
            from_config(config)

    def test_parameters_that_are_no_dictionary_are_refused(self):
        with pytest.raises(ValueError, match=r"'params' is \[1\], expected a dictionary"):
            from_config(config_of(params=[1]))

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b'{"format": "skvae config",\n  "params": {,}}', "line 2 column 14"),
            (b"", "line 1 column 1"),
            (b'{"format": "\xff"}', "position 12"),
            (b'{"params": {"n_bins": 1, "beta": 2, "n_bins": 3}}', "'n_bins' stands twice"),
        ],
        ids=["syntax", "empty", "bytes", "repeated"],
    )
    def test_a_broken_file_is_named_with_the_place(self, content, complaint, tmp_path):
        path = tmp_path / "broken.json"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"broken\.json' is not valid JSON: .*{complaint}"):
            from_config(path)

    def test_nan_in_a_file_is_refused(self, tmp_path):
        path = tmp_path / "nan.json"
        path.write_text(json.dumps(config_of(params={"beta": float("nan")})))
        with pytest.raises(TypeError, match=r"nan\.json': 'beta' holds nan"):
            from_config(path)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            from_config(tmp_path / "nowhere.json")

    @pytest.mark.parametrize("source", [None, 3, [config_of()], TVAESynthesizer()])
    def test_what_is_neither_a_path_nor_a_dictionary_is_refused(self, source):
        with pytest.raises(TypeError, match=r"source is .*, expected a path or a dictionary"):
            from_config(source)

    def test_callbacks_are_refused(self):
        with pytest.raises(TypeError, match="'callbacks' holds"):
            from_params(callbacks=[print])


class TestPresets:
    def preset_files(self):
        return sorted(file for file in resources.files("skvae").joinpath("presets").rglob("*.json"))

    def test_every_preset_is_a_configuration(self):
        assert self.preset_files()
        for file in self.preset_files():
            read = from_config(file)
            assert read.get_params() == type(read).from_preset(file.stem).get_params()
            assert file.parent.name == type(read)._preset_folder

    def test_presets_state_only_what_differs(self):
        for file in self.preset_files():
            name, params = read_config(file)
            defaults = getattr(skvae, name)().get_params()
            same = {key for key, value in params.items() if value == defaults[key]}
            assert same <= {"hidden_layer_sizes"}  # the paper's, whatever ours become

    def test_a_preset_can_be_written_out_and_read_back(self, tmp_path):
        written = TVAESynthesizer.from_preset("paper", random_state=0)
        to_config(written, tmp_path / "paper.json")
        assert from_config(tmp_path / "paper.json").get_params() == written.get_params()

    def test_a_subclass_takes_its_parents_presets(self):
        class Mine(TVAESynthesizer):
            pass

        assert type(Mine.from_preset("fast")) is Mine
