import os
import pickle
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skvae.datasets import load_adult
from skvae.tabular import TabularTransformer

ENCODINGS = ["quantile", "mixture"]


@parametrize_with_checks([TabularTransformer(numeric_encoding=name) for name in ENCODINGS])
def test_it_is_a_scikit_learn_transformer(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")
@pytest.mark.parametrize(
    "name",
    [
        "check_dataframe_column_names_consistency",
        "check_param_validation",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_output_transform_pandas",
        "check_global_set_output_transform_polars",
        "check_get_feature_names_out_error",
    ],
)
def test_it_passes_the_checks_that_check_estimator_leaves_out(name):
    if "polars" in name:
        pytest.importorskip("polars")
    getattr(estimator_checks, name)("TabularTransformer", TabularTransformer())


@pytest.fixture(scope="module")
def mixed():
    """A table with a column of most kinds, 600 rows."""
    rng = np.random.default_rng(0)
    n_rows = 600
    holes = rng.random(n_rows) < 0.1
    return pd.DataFrame(
        {
            "float": rng.normal(size=n_rows),
            "float32": np.round(rng.normal(size=n_rows) * 10, 1).astype("float32"),
            "price": np.where(holes, np.nan, np.round(rng.gamma(2, 500, n_rows), 2)),
            "int": rng.integers(0, 10**6, n_rows),
            "int8": rng.integers(-100, 100, n_rows).astype("int8"),
            "uint64": rng.integers(2**63, 2**63 + 10**6, n_rows, dtype="uint64"),
            "hundreds": rng.integers(0, 1000, n_rows) * 100,
            "Int64": pd.Series(rng.integers(0, 5000, n_rows)).astype("Int64").mask(holes),
            "Float64": pd.Series(rng.normal(size=n_rows)).astype("Float64").mask(holes),
            "int64[pyarrow]": pd.Series(rng.integers(0, 9999, n_rows)).astype("int64[pyarrow]"),
            "double[pyarrow]": pd.Series(rng.normal(size=n_rows)).astype("double[pyarrow]"),
            "bool": rng.random(n_rows) < 0.3,
            "boolean": pd.Series(rng.random(n_rows) < 0.3).astype("boolean").mask(holes),
            "object": pd.Series(rng.choice(["a", "b"], n_rows), dtype=object).mask(holes, None),
            "string": pd.Series(rng.choice(["a", "b"], n_rows), dtype="string").mask(holes),
            "category": pd.Categorical(rng.choice(["x", "y", "z"], n_rows)),
            "ordered": pd.Categorical(rng.choice([3, 1, 2], n_rows), [3, 2, 1], ordered=True),
            "constant": 4.2,
            "all missing": np.nan,
        }
    )


def perfect_sample(transformer, encoded, n_rows, seed=0):
    """Rows drawn column by column from the frequencies of the codes."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(encoded.codes), size=(n_rows, encoded.codes.shape[1]))
    codes = np.take_along_axis(encoded.codes, rows, axis=0)
    places = np.take_along_axis(encoded.places, rows, axis=0)
    if transformer.numeric_encoding == "quantile":
        places = rng.random(places.shape)
    return transformer.decode(codes, places, rng)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_mixed_table_comes_back_with_its_columns_dtypes_rounding_and_range(mixed, encoding):
    transformer = TabularTransformer(numeric_encoding=encoding, random_state=0).fit(mixed)
    back = transformer.inverse_transform(transformer.transform(mixed))
    assert list(back.columns) == list(mixed.columns)
    pd.testing.assert_series_equal(back.dtypes, mixed.dtypes)
    pd.testing.assert_frame_equal(back.isna(), mixed.isna())
    for name, schema in zip(mixed, transformer.schema_, strict=True):
        if schema.kind == "categorical" or name == "constant":
            pd.testing.assert_series_equal(back[name], mixed[name])
            continue
        before, after = mixed[name].dropna(), back[name].dropna()
        if len(before) == 0:
            continue
        assert before.min() <= after.min()
        assert after.max() <= before.max()
        # All but the few extreme rows that the rule smooths away.
        error = np.sort(np.abs(before.astype(float) - after.astype(float)))[:-12].max()
        assert error <= 0.03 * (float(before.max()) - float(before.min())), name
    assert (back["price"].dropna() == back["price"].dropna().round(2)).all()
    assert (back["float32"] == back["float32"].astype(float).round(1).astype("float32")).all()
    assert (back["hundreds"] % 100 == 0).all()


def test_columns_keep_their_distribution(mixed):
    transformer = TabularTransformer(random_state=0)
    encoded = transformer.fit_encode(mixed)
    drawn = perfect_sample(transformer, encoded, 20_000)
    for name, schema in zip(mixed, transformer.schema_, strict=True):
        if schema.kind == "numeric" and name != "all missing":
            before, after = (table[name].dropna().astype(float) for table in (mixed, drawn))
            assert stats.ks_2samp(before, after).statistic < 0.03, name
        share = mixed[name].isna().mean()
        assert drawn[name].isna().mean() == pytest.approx(share, abs=0.012), name
        if schema.kind == "categorical":
            shares = [table[name].value_counts(normalize=True) for table in (mixed, drawn)]
            assert (shares[0] - shares[1]).abs().max() < 0.015, name


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_adult_comes_back_level_for_level(encoding):
    table = load_adult().head(4000)
    transformer = TabularTransformer(numeric_encoding=encoding, random_state=0)
    encoded = transformer.fit_encode(table)
    back = transformer.decode(encoded.codes, encoded.places, np.random.default_rng(0))
    pd.testing.assert_series_equal(back.dtypes, table.dtypes)
    for name in table.select_dtypes(object):
        frequent = table[name].isin(table[name].value_counts().loc[lambda count: count >= 5].index)
        assert (back[name] == table[name])[frequent].all()
        assert set(back[name]) <= set(table.loc[frequent, name])
    if encoding == "quantile":
        assert (back["age"] == table["age"]).mean() > 0.998
        assert np.median(np.abs(back["fnlwgt"] - table["fnlwgt"])) <= 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_dump_holds_no_number_of_fewer_rows_than_allowed(encoding):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "normal": rng.normal(size=2000),
            "heavy": rng.standard_cauchy(2000),
            "short": np.where(np.arange(2000) < 4, rng.random(2000), np.nan),
            "repeated": np.where(rng.random(2000) < 0.5, 0.123456789, rng.random(2000)),
        }
    )
    transformer = TabularTransformer(numeric_encoding=encoding, random_state=0).fit(table)
    dump = pickle.dumps(transformer)
    for name in table:
        counts = table[name].value_counts()
        rare = counts.index[counts < 5]
        held = [x for x in rare if struct.pack("<d", x) in dump or struct.pack(">d", x) in dump]
        assert held == []
    if encoding == "quantile":
        assert struct.pack("<d", 0.123456789) in dump
        through = TabularTransformer(min_rows_per_value=1).fit(table)
        assert struct.pack("<d", table["heavy"].max()) in pickle.dumps(through)


def test_the_dump_holds_no_rare_category():
    table = load_adult()
    transformer = TabularTransformer(random_state=0).fit(table)
    assert (table["native.country"] == "Holand-Netherlands").sum() == 1
    assert b"Holand-Netherlands" not in pickle.dumps(transformer)
    assert b"Scotland" in pickle.dumps(transformer)


@pytest.mark.skipif("SKVAE_DATA" not in os.environ, reason="SKVAE_DATA names no folder of tables")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["california_housing", "insurance", "titanic"])
def test_the_rule_holds_on_real_tables(name, encoding):
    table = pd.read_parquet(Path(os.environ["SKVAE_DATA"]) / name / "data.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names and tickets get fresh labels
        transformer = TabularTransformer(numeric_encoding=encoding, random_state=0).fit(table)
    dump = pickle.dumps(transformer)
    back = transformer.inverse_transform(transformer.transform(table))
    pd.testing.assert_series_equal(back.dtypes, table.dtypes)
    for column, encoder in zip(table, transformer.encoders_, strict=True):
        counts = table[column].value_counts()
        rare = counts.index[counts < 5]
        if transformer.schema_[table.columns.get_loc(column)].kind == "categorical":
            assert not set(rare.astype(object)) & set(back[column].dropna())
            continue
        assert not np.isin(getattr(encoder, "atoms_", []), rare).any()
        # A mean of five whole numbers may happen to be one of them; at the ends, of fractions, not.
        extremes = {table[column].min(), table[column].max()} & {x for x in rare if x % 1}
        assert not any(struct.pack("<d", value) in dump for value in extremes)
        assert not extremes & set(back[column].dropna())


def test_scores_rank_the_codes_of_columns_with_an_order(mixed):
    transformer = TabularTransformer(random_state=0).fit(mixed)
    scores = dict(zip(mixed, transformer.code_scores_, strict=True))
    for name, encoder in zip(mixed, transformer.encoders_, strict=True):
        assert len(encoder.code_counts_) == encoder.n_codes_
        assert encoder.code_counts_.sum() == len(mixed)
        assert scores[name] is None or len(scores[name]) == encoder.n_codes_
    assert scores["category"] is scores["object"] is scores["bool"] is None
    assert (np.diff(scores["float"]) > 0).all()
    assert scores["float"][0] < 0.05 < 0.95 < scores["float"][-1]
    assert scores["price"][-1] == 0.5  # missing
    assert (np.diff(scores["ordered"][:3]) > 0.2).all()


def test_a_rare_ordered_level_has_no_rank():
    cells = pd.Categorical([1] * 50 + [2] * 50 + [3] * 4, [1, 2, 3], ordered=True)
    transformer = TabularTransformer().fit(pd.DataFrame({"x": cells}))
    np.testing.assert_allclose(transformer.code_scores_[0], [0.25, 0.75, 0.5], atol=0.01)


def test_log_densities_of_columns_add_up_and_categories_have_none(mixed):
    transformer = TabularTransformer(random_state=0).fit(mixed)
    encoded, log_measure = transformer.encode_with_measure(mixed)
    assert (encoded.codes == transformer.encode(mixed).codes).all()
    total = np.zeros(len(mixed))
    for name in mixed:
        part = TabularTransformer(copy_columns=False).fit(mixed[[name]])
        single = part.encode_with_measure(mixed[[name]])[1]
        if part.schema_[0].kind == "categorical":
            assert (single == 0).all()
        total += single
    np.testing.assert_allclose(log_measure, total)


def test_encodings_give_comparable_densities():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": np.round(rng.gamma(3, 100, 20_000), 2)})
    means = []
    for parameters in ({"n_bins": 32}, {"n_bins": 128}, {"numeric_encoding": "mixture"}):
        transformer = TabularTransformer(random_state=0, **parameters).fit(table)
        encoded, log_measure = transformer.encode_with_measure(table)
        encoder, codes = transformer.encoders_[0], encoded.codes[:, 0]
        log_density = np.log(encoder.code_counts_[codes] / len(table)) + log_measure
        if "numeric_encoding" in parameters:
            # A normal density of the place in each mode, weighted by the modes' frequencies.
            frame = pd.DataFrame({"code": codes, "place": encoded.places[:, 0]})
            by_mode = frame.groupby("code")["place"]
            places = stats.norm(by_mode.mean(), by_mode.std()).logpdf(encoded.mode_places[0])
            joint = places + np.log(by_mode.size() / len(table)).to_numpy()
            log_density = logsumexp(joint - np.log(encoder.mode_widths_), axis=1)
        means.append(log_density.mean())
    assert means[0] == pytest.approx(means[1], abs=0.05)
    assert means[1] == pytest.approx(means[2], abs=0.1)


def test_fit_is_repeatable_and_leaves_the_global_random_state_alone(mixed):
    before = np.random.get_state()[1].copy()
    table = mixed[["float", "price", "object"]]
    for encoding in ENCODINGS:
        first, second = (
            TabularTransformer(numeric_encoding=encoding, random_state=3).fit_encode(table)
            for _ in range(2)
        )
        assert (first.codes == second.codes).all()
        assert (first.places == second.places).all()
    assert (np.random.get_state()[1] == before).all()


def test_a_dump_transforms_as_before(mixed):
    transformer = TabularTransformer(random_state=0).fit(mixed)
    loaded = pickle.loads(pickle.dumps(transformer))
    Z = transformer.transform(mixed)
    np.testing.assert_array_equal(loaded.transform(mixed), Z)
    pd.testing.assert_frame_equal(loaded.inverse_transform(Z), transformer.inverse_transform(Z))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_it_works_in_a_pipeline_and_gives_named_frames(mixed, encoding):
    table, y = mixed[["float", "Int64", "object", "ordered"]], mixed["bool"]
    transformer = TabularTransformer(numeric_encoding=encoding).set_output(transform="pandas")
    Z = transformer.fit_transform(table.set_index(table.index + 7))
    assert list(Z.columns) == list(transformer.get_feature_names_out())
    assert {"float__mode", "float__place", "object__level"} <= set(Z.columns)
    assert Z.index[0] == 7
    assert transformer.inverse_transform(Z).shape == table.shape
    pipeline = make_pipeline(clone(transformer), DecisionTreeClassifier(max_depth=3))
    assert pipeline.fit(table, y).predict(table).shape == (600,)


def test_feature_names_of_arrays_are_scikit_learns():
    transformer = TabularTransformer().fit(np.random.default_rng(0).random((50, 2)))
    assert list(transformer.get_feature_names_out()) == [
        "x0__mode",
        "x0__place",
        "x1__mode",
        "x1__place",
    ]
    assert transformer.get_feature_names_out(["a", "b"])[3] == "b__place"


@pytest.mark.parametrize(
    "table",
    [
        np.random.default_rng(0).normal(size=(60, 3)),
        np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32),
        np.random.default_rng(0).integers(0, 3, (60, 3)),
        np.random.default_rng(0).random((60, 3)) < 0.5,
        np.random.default_rng(0).choice(["a", "bb"], (60, 3)),
        np.array([[1.5, "a", True], [2.5, "b", False]] * 30, dtype=object),
    ],
    ids=lambda table: str(table.dtype),
)
def test_arrays_come_back_as_arrays(table):
    transformer = TabularTransformer().fit(table)
    back = transformer.inverse_transform(transformer.transform(table))
    assert isinstance(back, np.ndarray)
    assert back.dtype == table.dtype
    assert back.shape == table.shape
    if table.dtype.kind != "f":
        assert (back == table).all()


def test_lists_of_rows_are_tables_too():
    rows = [[1, "a", 0.5], [2, "b", None]] * 20
    transformer = TabularTransformer().fit(rows)
    assert [schema.kind for schema in transformer.schema_] == ["numeric", "categorical", "numeric"]
    back = transformer.inverse_transform(transformer.transform(rows))
    assert back[0].tolist() == [1, "a", 0.5]
    assert back[1, :2].tolist() == [2, "b"]
    assert pd.isna(back[1, 2])


@pytest.mark.parametrize("names", [[0, 1], [("a", 1), ("a", 2)], ["a", 3]], ids=str)
def test_names_need_not_be_strings(names):
    table = pd.DataFrame({0: [1, 2] * 10, 1: ["x", "y"] * 10})
    table.columns = names
    transformer = TabularTransformer().fit(table)
    assert len(transformer.get_feature_names_out()) == 2
    pd.testing.assert_frame_equal(
        transformer.inverse_transform(transformer.transform(table)), table
    )
    with pytest.raises(ValueError, match="another order"):
        transformer.transform(table.iloc[:, ::-1])


def test_a_target_is_ignored(mixed):
    first = TabularTransformer(random_state=0).fit(mixed, mixed["bool"])
    second = TabularTransformer(random_state=0).fit(mixed)
    np.testing.assert_array_equal(first.transform(mixed), second.transform(mixed))
    assert first.n_features_in_ == mixed.shape[1]


@pytest.mark.parametrize("n_rows", [1, 4])
def test_a_table_shorter_than_the_rule_allows_is_refused(mixed, n_rows):
    with pytest.raises(ValueError, match=f"Found {n_rows} row.*min_rows_per_value=5.*lower"):
        TabularTransformer().fit(mixed.head(n_rows))


def test_two_rows_are_enough_where_every_value_is_let_through():
    table = pd.DataFrame({"x": [1.5, 2.5], "y": ["a", "b"]})
    transformer = TabularTransformer(min_rows_per_value=1).fit(table)
    back = transformer.inverse_transform(transformer.transform(table))
    pd.testing.assert_frame_equal(back, table)


def test_one_column_and_more_columns_than_rows_are_fine():
    rng = np.random.default_rng(0)
    for shape in ((30, 1), (8, 40)):
        table = pd.DataFrame(rng.normal(size=shape)).add_prefix("x")
        transformer = TabularTransformer().fit(table)
        assert transformer.inverse_transform(transformer.transform(table)).shape == shape


@pytest.mark.parametrize("dtype", ["object", "category"])
def test_unseen_categories_and_missing_cells_are_taken_at_transform(dtype):
    table = pd.DataFrame({"x": ["a", "b", "b"] * 5, "y": [1.0, 2.0, 2.0] * 5})
    transformer = TabularTransformer(random_state=0).fit(table.astype({"x": dtype}))
    later = pd.DataFrame({"x": ["new", None, "a"], "y": [9.0, np.nan, 1.0]})
    back = transformer.inverse_transform(transformer.transform(later))
    assert set(back["x"]) <= {"a", "b"}
    assert back["x"].iloc[1:].tolist() == ["b", "a"]
    assert back["y"].tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": [np.inf, 1.0]}, "Column 'x' contains infinity in 1 rows"),
        ({"x": ["1.0", "2.0"]}, "Column 'x' held numbers in fit"),
        ({"s": [1, 2]}, "Column 's' held strings in fit"),
        ({"s": [["a"], {}]}, "Column 's' held strings in fit"),
        ({"b": ["yes", "no"]}, "Column 'b' held booleans in fit"),
    ],
)
def test_cells_of_another_kind_are_refused_at_transform(change, message):
    table = pd.DataFrame({"x": [1.0, 2.0] * 9, "s": ["a", "b"] * 9, "b": [True, False] * 9})
    transformer = TabularTransformer().fit(table)
    with pytest.raises(ValueError, match=message):
        transformer.transform(table.head(2).assign(**change))


def test_bad_cells_are_refused_in_fit_by_the_name_of_their_column():
    for cells, error in (
        ([1, "a"], TypeError),
        ([{"a": 1}, ["b"]], TypeError),
        (pd.period_range("2020", periods=2), TypeError),
        ([np.inf, 1.0], ValueError),
    ):
        table = pd.DataFrame({"fine": [1, 2] * 5, "bad": list(cells) * 5})
        with pytest.raises(error, match="Column 'bad'"):
            TabularTransformer().fit(table)


def test_a_hundred_thousand_distinct_strings_are_quick_and_never_come_back():
    table = pd.DataFrame({"id": [f"person-{number}" for number in range(100_000)]})
    transformer = TabularTransformer(random_state=0)
    start = time.process_time()
    with pytest.warns(UserWarning, match=r"made anew.*column_kinds={'id': 'identifier'}"):
        Z = transformer.fit_transform(table)
    back = transformer.inverse_transform(Z)
    assert time.process_time() - start < 5
    assert back["id"].is_unique
    assert not set(back["id"]) & set(table["id"])
    assert len(pickle.dumps(transformer)) < 5000


def test_inverse_transform_takes_what_a_model_may_say(mixed):
    transformer = TabularTransformer(random_state=0).fit(mixed)
    Z = transformer.transform(mixed)
    wild = np.random.default_rng(0).normal(0, 1000, Z.shape)
    back = transformer.inverse_transform(wild)
    pd.testing.assert_series_equal(back.dtypes, mixed.dtypes)
    assert back["float"].between(mixed["float"].min(), mixed["float"].max()).all()
    with pytest.raises(ValueError, match=f"Z has 1 features.*expects {Z.shape[1]}"):
        transformer.inverse_transform(Z[:, :1])


def test_it_must_be_fitted_first(mixed):
    for method in ("transform", "encode", "encode_with_measure", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(TabularTransformer(), method)(mixed)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_bins": 0},
        {"min_rows_per_value": 0},
        {"numeric_encoding": "tree"},
        {"categorical_features": "sex"},
        {"copy_columns": "yes"},
    ],
)
def test_parameters_out_of_their_range_are_named(mixed, parameters):
    with pytest.raises(ValueError, match=f"The '{next(iter(parameters))}' parameter"):
        TabularTransformer(**parameters).fit(mixed)


def test_a_refit_on_a_table_too_short_loses_nothing(mixed):
    transformer = TabularTransformer(random_state=0).fit(mixed)
    before = transformer.transform(mixed)
    with pytest.raises(ValueError, match="3 row"):
        transformer.fit(pd.DataFrame({"other": [1, 2, 3]}))
    np.testing.assert_array_equal(transformer.transform(mixed), before)
