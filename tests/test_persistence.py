"""``skvae.save`` and ``skvae.load``: nothing lost, no code run."""

import json
import pickle
import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

import skvae
from skvae import TVAESynthesizer, VAEEmbedder
from skvae.models import VAE


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    n = 200
    words = rng.choice(["red", "green", "blue"], n)
    return pd.DataFrame(
        {
            "float": rng.normal(size=n),
            "missing": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n).round(2)),
            "integer": rng.integers(0, 1000, n),
            "wide": rng.integers(2**60, 2**60 + 10**9, n),
            "nullable": pd.array(np.where(rng.random(n) < 0.2, None, 7), dtype="Int64"),
            "boolean": rng.random(n) < 0.5,
            "object": words.astype(object),
            "string": pd.array(words, dtype="string"),
            "ordered": pd.Categorical(words, ["blue", "green", "red"], ordered=True),
            "intervals": pd.Categorical(rng.integers(1, 4, n)),
        }
    )


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"sampler": "gaussian_mixture", "random_state": np.random.RandomState(3)},
        {"decoder": "factorized", "numeric_encoding": "mixture"},
    ],
    ids=["default", "gaussian_mixture", "mixture"],
)
def test_loaded_estimator_is_the_saved_one(table, params, tmp_path):
    saved = TVAESynthesizer(max_epochs=1, **params).fit(table)
    skvae.save(saved, tmp_path / "model.skvae")
    loaded = skvae.load(tmp_path / "model.skvae")
    pd.testing.assert_frame_equal(
        loaded.sample(50, random_state=0), saved.sample(50, random_state=0)
    )
    # The stream of samples without a seed goes on where it stood, too.
    pd.testing.assert_frame_equal(loaded.sample(50), saved.sample(50))
    np.testing.assert_array_equal(loaded.transform(table), saved.transform(table))
    np.testing.assert_array_equal(loaded.score_samples(table), saved.score_samples(table))
    pd.testing.assert_frame_equal(loaded.history_, saved.history_)
    assert list(loaded.feature_names_in_) == list(table.columns)


@pytest.mark.parametrize(
    "names",
    [range(3), [("a", 1), ("b", 2), ("c", 3)], ["a", 1, ("b", 2)]],
    ids=["numbers", "tuples", "mixture"],
)
def test_column_names_of_any_kind_come_back(names, tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)))
    table.columns = pd.Index(names, tupleize_cols=False)
    skvae.save(TVAESynthesizer(max_epochs=1).fit(table), tmp_path / "model.skvae")
    assert list(skvae.load(tmp_path / "model.skvae").sample(3).columns) == list(names)


def test_pyarrow_dtypes_come_back(tmp_path):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"a": np.arange(60) % 7, "b": list("abc") * 20})
    table = table.astype({"a": "int64[pyarrow]", "b": "string[pyarrow]"})
    skvae.save(TVAESynthesizer(max_epochs=1).fit(table), tmp_path / "model.skvae")
    assert (skvae.load(tmp_path / "model.skvae").sample(5).dtypes == table.dtypes).all()


@pytest.mark.parametrize(
    "categories",
    [
        pd.interval_range(0, 4),
        pd.date_range("2020-01-01", periods=4),
        pd.date_range("2020-01-01", periods=4, tz="Europe/Paris"),
        pd.period_range("2020-01", periods=4, freq="M"),
        pd.timedelta_range("1h", periods=4),
    ],
    ids=["intervals", "dates", "zoned", "periods", "timedeltas"],
)
def test_categories_and_names_of_any_pandas_kind_come_back(categories, tmp_path):
    cells = pd.Categorical.from_codes(np.arange(80) % 4, categories=categories)
    table = pd.DataFrame({"a": cells, "b": np.arange(80.0)})
    table.columns = pd.Index(list(categories[:2]))
    skvae.save(TVAESynthesizer(max_epochs=1).fit(table), tmp_path / "model.skvae")
    rows = skvae.load(tmp_path / "model.skvae").sample(20)
    assert (rows.dtypes.to_numpy() == table.dtypes.to_numpy()).all()
    assert list(rows.columns) == list(table.columns)
    assert rows.iloc[:, 0].isin(categories).all()


def test_the_file_is_as_open_as_any_new_one(table, tmp_path):
    path = tmp_path / "model.skvae"
    skvae.save(TVAESynthesizer(max_epochs=1).fit(table), path)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_damage_is_told(table, tmp_path):
    path = tmp_path / "model.skvae"
    skvae.save(TVAESynthesizer(max_epochs=1).fit(table), path)
    with zipfile.ZipFile(path) as archive:
        content = json.loads(archive.read("estimator.json"))
        arrays = archive.read("arrays.safetensors")
    state = content["estimator"]["state"]["$dict"]
    content["estimator"]["state"]["$dict"] = [pair for pair in state if pair[0] != "_spec"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("estimator.json", json.dumps(content))
        archive.writestr("arrays.safetensors", arrays)
    with pytest.raises(ValueError, match="is damaged"):
        skvae.load(path)


def test_callbacks_are_left_out(table, tmp_path):
    saved = TVAESynthesizer(max_epochs=1, callbacks=[lambda log: None]).fit(table)
    skvae.save(saved, tmp_path / "model.skvae")
    assert skvae.load(tmp_path / "model.skvae").callbacks is None
    assert saved.callbacks is not None


def test_unfitted_estimator_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        skvae.save(TVAESynthesizer(), tmp_path / "model.skvae")
    assert not list(tmp_path.iterdir())


def test_failed_save_leaves_the_old_file(table, tmp_path):
    path = tmp_path / "model.skvae"
    saved = TVAESynthesizer(max_epochs=1).fit(table)
    skvae.save(saved, path)
    before = path.read_bytes()
    saved.extra_ = object()
    with pytest.raises(TypeError, match=r"Cannot save an object of type builtins\.object"):
        skvae.save(saved, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.skvae"]


class _OwnVAE(VAE):
    pass


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"model": _OwnVAE}, "_OwnVAE"),
        ({"encoder": torch.nn.Linear(4, 3)}, "Linear"),
        ({"encoder": lambda shape: torch.nn.Linear(4, 3)}, "<lambda>"),
    ],
    ids=["model", "module", "function"],
)
def test_code_of_ones_own_is_named_as_what_stands_in_the_way(params, name, tmp_path):
    embedder = VAEEmbedder(2, max_epochs=1, **params).fit(np.random.default_rng(0).random((20, 4)))
    with pytest.raises(TypeError, match=rf"Cannot save [\w.]*{name}: .*no code.*joblib\.dump"):
        skvae.save(embedder, tmp_path / "model.skvae")


class _Exploding:
    def __reduce__(self):
        return (pytest.fail, ("code from the file was run",))


def test_pickles_are_refused_unread(tmp_path):
    path = tmp_path / "model.skvae"
    for dump in (
        lambda: path.write_bytes(pickle.dumps(_Exploding())),
        lambda: joblib.dump({}, path),
    ):
        dump()
        with pytest.raises(ValueError, match=r"not a file that skvae\.save wrote"):
            skvae.load(path)


@pytest.mark.parametrize("forbidden", ["Popen", "os.system", "LinearRegression"])
def test_other_classes_are_refused(table, tmp_path, forbidden):
    path = tmp_path / "model.skvae"
    skvae.save(TVAESynthesizer(max_epochs=1).fit(table), path)
    with zipfile.ZipFile(path) as archive:
        content = json.loads(archive.read("estimator.json"))
        arrays = archive.read("arrays.safetensors")
    content["estimator"]["$object"] = forbidden
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("estimator.json", json.dumps(content))
        archive.writestr("arrays.safetensors", arrays)
    with pytest.raises(ValueError, match=f"asks for the class '{forbidden}'"):
        skvae.load(path)


def test_later_format_is_refused(table, tmp_path):
    path = tmp_path / "model.skvae"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "estimator.json", json.dumps({"format": "skvae estimator", "format_version": 99})
        )
        archive.writestr("arrays.safetensors", b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ValueError, match="update skvae"):
        skvae.load(path)
