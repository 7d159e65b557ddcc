"""Tables of other libraries, and the interfaces of imbalanced-learn and SDMetrics."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

import skvae
from skvae import TVAEOverSampler, TVAESynthesizer
from skvae.constraints import FixedCombinations, Inequality
from skvae.tabular import TabularTransformer

pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")


def quick(**params):
    return TVAESynthesizer(**{"max_epochs": 1, "device": "cpu", "random_state": 0, **params})


def polars_table(n=60):
    """A table of polars with most of its dtypes, and null in each."""
    when = datetime.datetime(2020, 1, 1)
    cells = {
        "whole": ([1, None, 3], pl.Int32),
        "byte": ([0, None, 255], pl.UInt8),
        "real": ([0.5, None, 2.0], pl.Float32),
        "text": (["a", None, "b"], pl.String),
        "flag": ([True, None, False], pl.Boolean),
        "date": ([datetime.date(2020, 1, 1), None, datetime.date(2021, 1, 1)], pl.Date),
        "time": ([datetime.time(1, 2), None, datetime.time(3)], pl.Time),
        "moment": ([when, None, when.replace(hour=7)], pl.Datetime("ms")),
        "zoned": ([when, None, when.replace(hour=7)], pl.Datetime("us", "Europe/Paris")),
        "span": ([datetime.timedelta(1), None, datetime.timedelta(2)], pl.Duration("us")),
        "level": (["x", None, "y"], pl.Categorical),
        "ranked": (["high", None, "low"], pl.Enum(["low", "middle", "high"])),
    }
    series = [pl.Series(name, values * (n // 3), dtype=dtype) for name, (values, dtype) in
              cells.items() if name != "zoned"]  # fmt: skip
    table = pl.DataFrame(series)
    return table.with_columns(zoned=pl.col("moment").dt.replace_time_zone("Europe/Paris"))


@pytest.fixture(scope="module")
def table():
    return polars_table()


class TestTablesOfOtherLibraries:
    @pytest.mark.parametrize("kind", ["polars", "pyarrow"])
    def test_come_back_as_they_went_in(self, table, kind):
        X = table if kind == "polars" else table.to_arrow()
        fitted = quick().fit(X)
        rows = fitted.sample(40)
        assert type(rows) is type(X)
        assert rows.schema == X.schema
        assert len(rows) == 40
        frame = rows if kind == "polars" else pl.from_arrow(rows)
        assert all(frame[name].null_count() > 0 for name in frame.columns)
        for name in frame.columns:
            assert set(frame[name]) <= set(table[name]), name
        assert fitted.sample(0).schema == X.schema
        assert list(fitted.feature_names_in_) == table.columns

    def test_the_transformer_gives_back_each_cell(self, table):
        transformer = TabularTransformer().fit(table)
        back = transformer.inverse_transform(transformer.transform(table))
        assert back.equals(table)
        assert len(transformer.get_feature_names_out()) == transformer.transform(table).shape[1]

    def test_methods_take_them_and_tables_of_pandas_alike(self, table):
        fitted = quick().fit(table)
        frame = table.to_pandas()
        np.testing.assert_allclose(fitted.transform(table), fitted.transform(table.to_arrow()))
        simple = table.select("whole", "real", "text")
        again = quick().fit(simple)
        np.testing.assert_allclose(
            again.score_samples(simple), again.score_samples(simple.to_pandas())
        )
        assert len(frame) == len(fitted.score_samples(table))

    def test_the_same_model_is_learnt_as_from_pandas(self):
        frame = pd.DataFrame({"x": np.arange(90) % 7, "y": np.linspace(0, 1, 90)})
        ours, theirs = quick().fit(frame), quick().fit(pl.from_pandas(frame))
        pd.testing.assert_frame_equal(ours.sample(50), theirs.sample(50).to_pandas())

    def test_conditions_and_imputation(self, table):
        fitted = quick().fit(table)
        rows = fitted.sample(10, conditions={"text": "a"}, random_state=0)
        assert isinstance(rows, pl.DataFrame)
        assert set(rows["text"]) == {"a"}
        rows = fitted.sample(conditions=pl.DataFrame({"text": ["b", "a"]}), random_state=0)
        assert rows["text"].to_list() == ["b", "a"]
        filled = fitted.impute(table, random_state=0)
        assert isinstance(filled, pl.DataFrame)
        assert filled["text"].null_count() == 0

    def test_constraints_and_batches(self):
        table = pl.DataFrame({"low": [1, 2, None] * 40, "high": [3, 2, 5] * 40})
        fitted = quick(constraints=[Inequality("low", "high")]).partial_fit(table[:60])
        rows = fitted.partial_fit(table[60:]).sample(200).drop_nulls()
        assert (rows["low"] <= rows["high"]).all()

    def test_a_saved_model_knows_the_library(self, table, tmp_path):
        skvae.save(quick().fit(table), tmp_path / "model.skvae")
        rows = skvae.load(tmp_path / "model.skvae").sample(5)
        assert rows.schema == table.schema

    @pytest.mark.parametrize("library", [pl.DataFrame, pa.table])
    def test_decimals_are_numbers_and_come_back_as_decimals(self, library):
        cells = [Decimal("1.25") * (i % 9) if i % 7 else None for i in range(60)]
        table = library({"price": cells})
        fitted = quick().fit(table)
        assert fitted.transformer_.kinds_ == {"price": "numeric"}
        rows = fitted.sample(50)
        assert rows.schema == table.schema
        assert set(rows["price"].to_pylist() if library is pa.table else rows["price"]) <= set(
            cells
        )

    def test_a_lazy_table_is_refused_with_the_way_out(self, table):
        with pytest.raises(TypeError, match=r"polars LazyFrame.*give X\.collect\(\)"):
            quick().fit(table.lazy())

    def test_embeddings_come_as_polars_where_asked_for(self, table):
        fitted = quick(n_components=2).set_output(transform="polars").fit(table)
        embedded = fitted.transform(table)
        assert isinstance(embedded, pl.DataFrame)
        assert embedded.columns == ["tvaesynthesizer0", "tvaesynthesizer1"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = pd.Series(np.where(rng.random(600) < 0.15, "rare", "usual"), name="class")
    X = pd.DataFrame(
        {
            "x": np.where(y == "rare", 4.0, 0.0) + rng.normal(size=600),
            "letter": rng.choice(["a", "b", None], 600),
        },
        index=np.arange(600) + 7,
    )
    return X, y.set_axis(X.index)


class TestOverSampler:
    def sampler(self, **params):
        return TVAEOverSampler(quick(max_epochs=12, batch_size=64), random_state=0, **params)

    def test_classes_come_out_equal_and_rows_are_of_their_class(self, data):
        X, y = data
        X_new, y_new = self.sampler().fit_resample(X, y)
        assert y_new.value_counts().nunique() == 1
        assert y_new.name == "class"
        pd.testing.assert_series_equal(X_new.dtypes, X.dtypes)
        pd.testing.assert_frame_equal(X_new[:600], X.reset_index(drop=True))
        added = X_new[600:][(y_new[600:] == "rare").to_numpy()]
        assert len(added) == len(X_new) - 600
        assert added["x"].mean() == pytest.approx(4, abs=0.6)

    @pytest.mark.parametrize(
        ("strategy", "expected"),
        [
            ("minority", {0: 60, 1: 60, 2: 20}),
            ("not majority", {0: 60, 1: 60, 2: 60}),
            ({2: 35}, {0: 60, 1: 10, 2: 35}),
        ],
    )
    def test_strategies(self, strategy, expected):
        y = np.repeat([0, 1, 2], [60, 10, 20])
        X = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
        sampler = TVAEOverSampler(quick(), sampling_strategy=strategy, random_state=0)
        X_new, y_new = sampler.fit_resample(X, y)
        assert dict(zip(*np.unique(y_new, return_counts=True), strict=True)) == expected
        assert X_new.dtype == np.float32
        assert y_new.dtype == y.dtype
        assert isinstance(X_new, np.ndarray)

    @pytest.mark.parametrize("library", ["polars", "pyarrow"])
    def test_rows_and_classes_come_out_as_they_came_in(self, data, library):
        X, y = data
        module = pytest.importorskip(library)
        if library == "polars":
            X, y = module.from_pandas(X), module.from_pandas(y)
        else:
            X, y = module.Table.from_pandas(X), module.chunked_array([y.tolist()])
        sampler = TVAEOverSampler(quick(), random_state=0)
        X_new, y_new = sampler.fit_resample(X, y)
        assert type(X_new) is type(X)
        assert type(y_new) is type(y)
        assert (
            y_new[: len(y)].to_pylist() == y.to_pylist()
            if library == "pyarrow"
            else (y_new.dtype == y.dtype and y_new.name == y.name and y_new[: len(y)].equals(y))
        )
        assert len(X_new) == len(y_new) > len(y)

    def test_save_and_load(self, data, tmp_path):
        sampler = TVAEOverSampler(quick(), random_state=0)
        with pytest.raises(NotFittedError, match="call fit_resample first"):
            skvae.save(sampler, tmp_path / "sampler.skvae")
        sampler.fit_resample(*data)
        skvae.save(sampler, tmp_path / "sampler.skvae")
        again = skvae.load(tmp_path / "sampler.skvae")
        assert again.sampling_strategy_ == sampler.sampling_strategy_
        pd.testing.assert_frame_equal(
            again.synthesizer_.sample(9, random_state=0),
            sampler.synthesizer_.sample(9, random_state=0),
        )
        assert str(again.get_params()) == str(sampler.get_params())

    def test_a_ratio_of_two_classes(self, data):
        X, y = data
        _, y_new = self.sampler(sampling_strategy=0.5).fit_resample(X, y)
        counts = y_new.value_counts()
        assert counts["rare"] == counts["usual"] // 2

    @pytest.mark.parametrize(
        ("params", "y", "message"),
        [
            ({}, [0] * 40, "expected at least two"),
            ({}, [0] * 38 + [1] * 2, "Class 1 has 2 rows, fewer than the 5"),
            ({"sampling_strategy": 0.1}, [0, 1] * 20, "less than the ratio in y, 1"),
            ({"sampling_strategy": 0.9}, [0, 1, 2, 1] * 10, "y has 3"),
            ({"sampling_strategy": {3: 9}}, [0, 1] * 20, "names the class 3"),
            ({"sampling_strategy": {1: 9}}, [0, 1] * 20, "at least the 20 rows"),
            ({}, np.linspace(0, 1, 40), "Unknown label type"),
            ({}, None, "y is None"),
            ({}, ["a", None] * 20, "y has 20 missing classes"),
            ({"synthesizer": BaseEstimator()}, [0, 1] * 20, "'synthesizer' parameter"),
        ],
    )
    def test_what_cannot_be_balanced_is_refused(self, params, y, message):
        X = np.random.default_rng(0).normal(size=(40, 2))
        with pytest.raises(ValueError, match=message):
            TVAEOverSampler(**{"synthesizer": quick(), **params}).fit_resample(X, y)

    def test_one_seed_gives_one_table_and_the_synthesizer_is_left_alone(self, data):
        sampler = TVAEOverSampler(quick(), random_state=0)
        first, second = (clone(sampler).fit_resample(*data) for _ in range(2))
        pd.testing.assert_frame_equal(first[0], second[0])
        assert not hasattr(sampler.synthesizer, "model_")

    def test_it_does_not_transform_as_pipelines_of_imbalanced_learn_ask(self):
        assert not hasattr(TVAEOverSampler, "transform")

    def test_in_a_pipeline_of_imbalanced_learn(self, data):
        pipeline = pytest.importorskip("imblearn.pipeline")
        from sklearn.linear_model import LogisticRegression

        X, y = data
        model = pipeline.make_pipeline(self.sampler(), LogisticRegression())
        assert model.fit(X[["x"]], y).score(X[["x"]], y) > 0.9


class TestMetadata:
    def test_kinds_in_the_words_of_sdmetrics(self):
        n = 200
        rng = np.random.default_rng(0)
        table = pd.DataFrame(
            {
                "key": [f"K{number:05d}" for number in range(n)],
                "age": rng.integers(20, 60, n),
                "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 99, n), "D"),
                "member": rng.random(n) < 0.5,
                "city": rng.choice(["Bern", "Rome"], n),
                "wait": pd.to_timedelta(rng.integers(1, 9, n), unit="h"),
            }
        )
        table["until"] = table["since"] + pd.Timedelta("3D")
        table["country"] = table["city"].map({"Bern": "CH", "Rome": "IT"})
        rules = [Inequality("since", "until"), FixedCombinations(["city", "country"])]
        fitted = quick(column_kinds={"key": "identifier"}, constraints=rules).fit(table)
        sdtypes = {name: cell["sdtype"] for name, cell in fitted.metadata()["columns"].items()}
        assert sdtypes == {
            "key": "id",
            "age": "numerical",
            "since": "datetime",
            "member": "boolean",
            "city": "categorical",
            "wait": "unknown",
            "until": "datetime",
            "country": "categorical",
        }
        assert list(sdtypes) == list(table.columns)
        assert fitted.metadata()["primary_key"] == "key"

    def test_reports_of_sdmetrics_take_it(self):
        reports = pytest.importorskip("sdmetrics.reports")
        table = skvae.datasets.load_adult().head(400)
        fitted = quick().fit(table)
        report = reports.QualityReport()
        real, synthetic = {"adult": table}, {"adult": fitted.sample(400)}
        report.generate(real, synthetic, fitted.metadata("adult"), verbose=False)
        assert 0.5 < report.get_score() <= 1
