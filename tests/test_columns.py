"""Tables that hold a column of every kind, from fit to sample."""

import doctest
import pickle
import re
import uuid
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import skvae
from skvae import TVAESynthesizer
from skvae.tabular import KINDS, TabularTransformer
from skvae.tabular.kinds import MADE_KINDS

GUESSED = {
    "key": "identifier",
    "snowflake": "identifier",
    "uuid": "identifier",
    "code": "identifier",
    "order no": "identifier",
    "hex": "identifier",
    "customer_id": "identifier",
    "email": "email",
    "phone": "phone",
    "text": "text",
    "full_name": "name",
}
# Missing in the same rows.
TOGETHER = ["float", "str", "moment", "email", "date"]
ALWAYS_THERE = ["key", "snowflake", "uuid", "bool", "constant", "all missing", "int"]


def objects(cells):
    return pd.Series(np.array(list(cells), dtype=object), dtype=object)


def every_kind(n_rows, seed=0):
    """A table with a column of every kind and dtype, most with missing cells."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n_rows)
    days = np.datetime64("2015-01-01") + rng.integers(0, 3000, n_rows)
    moments = (np.datetime64("2020-01-01", "s") + rng.integers(0, 10**8, n_rows)).astype("M8[ns]")
    words = np.array(
        ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "sleeps"]
    )
    numbers = rng.permutation(10 * n_rows)[:n_rows]
    table = pd.DataFrame(
        {
            "key": np.arange(1, n_rows + 1),
            "snowflake": rng.integers(2**60, 2**63 - 1, n_rows),
            "uuid": objects(str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(n_rows)),
            "code": objects(f"CUST-{number:07d}" for number in numbers),
            "order no": objects(f"o{number}" for number in numbers),
            "hex": pd.array([rng.bytes(8).hex() for _ in range(n_rows)], dtype="string"),
            "customer_id": pd.array(numbers + 10**6, dtype="Int64"),
            "email": objects(f"user{number}@mail.org" for number in numbers),
            "phone": objects(f"+49 30 {number:07d}" for number in numbers),
            "text": objects(
                " ".join(words[rng.integers(len(words), size=9)]) + f" {number}"
                for number in numbers
            ),
            "full_name": objects(
                f"Ann {word.title()}"
                for word in rng.integers(97, 123, (n_rows, 9), "u1").view("S9").ravel().astype(str)
            ),
            "int": rng.integers(0, 1000, n_rows) + 1000 * group,
            "float": rng.normal(size=n_rows) + group,
            "heavy tails": rng.standard_cauchy(n_rows),
            "huge": 10.0 ** rng.uniform(-200, 200, n_rows),
            "few values": rng.choice([0.1, 0.5, 2.5], n_rows),
            "spike": np.where(rng.random(n_rows) < 0.6, 0.0, rng.gamma(2, 100, n_rows).round(2)),
            "Int64": pd.array(rng.integers(0, 5000, n_rows), dtype="Int64"),
            "Float32": pd.array(rng.normal(size=n_rows).astype("float32"), dtype="Float32"),
            "UInt64": pd.array(rng.integers(2**63, 2**63 + 10**6, n_rows, "uint64")),
            "arrow double": pd.Series(rng.normal(size=n_rows)).astype("double[pyarrow]"),
            "bool": rng.random(n_rows) < 0.3,
            "boolean": pd.array(rng.random(n_rows) < 0.3, dtype="boolean"),
            "str": objects(rng.choice(["a", "b", "c"], n_rows).tolist()),
            "string": pd.array(rng.choice(["a", "b", "c"], n_rows), dtype="string"),
            "category": pd.Categorical(np.array(["x", "y", "z"])[group]),
            "ordered": pd.Categorical(rng.choice([3, 1], n_rows), [3, 2, 1], ordered=True),
            "many levels": objects(f"city {level}" for level in rng.zipf(1.4, n_rows) % 5000),
            "constant": 4.2,
            "all missing": np.nan,
            "all None": objects([None] * n_rows),
            "day": days.astype("M8[ns]"),
            "moment": moments.astype("M8[s]"),
            "zoned": pd.DatetimeIndex(moments).tz_localize("UTC").tz_convert("Europe/Berlin"),
            "arrow zoned": pd.Series(moments).astype(pd.ArrowDtype(pa.timestamp("us", "UTC"))),
            "date": objects(days.tolist()),
            "date32": pd.array(days.tolist(), dtype=pd.ArrowDtype(pa.date32())),
            "duration": rng.integers(0, 10**6, n_rows).astype("m8[s]"),
            "time": objects(pd.DatetimeIndex(moments).time),
            "ISO date": objects(days.astype(str).tolist()),
        }
    )
    together = rng.random(n_rows) < 0.15
    for name in table.columns.drop(ALWAYS_THERE):
        table.loc[together if name in TOGETHER else rng.random(n_rows) < 0.1, name] = None
    return table


def check_made_anew(sample, table, kinds):
    for name in table:
        if kinds[name] in MADE_KINDS:
            assert not set(sample[name].dropna()) & set(table[name].dropna()), name
        if kinds[name] == "identifier":
            assert sample[name].dropna().is_unique


@pytest.fixture(scope="module")
def small():
    return every_kind(1500)


@pytest.fixture(scope="module")
def transformer(small):
    return TabularTransformer(column_kinds=GUESSED, random_state=0).fit(small)


def test_what_columns_are_is_guessed_and_said(small):
    with pytest.warns(UserWarning, match="not learnt, but made anew") as caught:
        transformer = TabularTransformer().fit(small)
    assert len(caught) == 1
    assert f"column_kinds={GUESSED}" in str(caught[0].message)
    made = {name: kind for name, kind in transformer.kinds_.items() if kind in MADE_KINDS}
    assert made == GUESSED


def test_the_kinds_of_all_columns_are_an_attribute(small, transformer):
    kinds = transformer.kinds_
    assert list(kinds) == list(small)
    assert set(kinds.values()) <= set(KINDS)
    assert kinds["ISO date"] == kinds["date32"] == kinds["zoned"] == "datetime"
    assert (kinds["duration"], kinds["time"]) == ("timedelta", "time")
    assert kinds["int"] == kinds["UInt64"] == "numeric"
    assert kinds["many levels"] == kinds["str"] == "categorical"


def test_a_table_of_every_kind_makes_a_round_trip(small, transformer):
    back = transformer.inverse_transform(transformer.transform(small))
    pd.testing.assert_series_equal(back.dtypes, small.dtypes)
    pd.testing.assert_frame_equal(back.isna(), small.isna())
    for name in ("date", "time", "ISO date", "str", "all None"):
        types = {type(cell) for cell in small[name]}
        assert {type(cell) for cell in back[name]} == types, name
    check_made_anew(back, small, transformer.kinds_)
    for name in ("few values", "bool", "boolean", "str", "string", "category", "ordered"):
        pd.testing.assert_series_equal(back[name], small[name])


def test_nothing_that_is_made_anew_is_in_the_transformer(small, transformer):
    dump = pickle.dumps(transformer)
    for name, kind in transformer.kinds_.items():
        if kind in MADE_KINDS and name not in ("key", "order no"):  # short: found by chance
            assert not any(str(cell).encode() in dump for cell in small[name].dropna()), name


def test_of_what_is_made_anew_only_the_missing_cells_are_modelled(small, transformer):
    for position, name in enumerate(small):
        assert transformer.code_columns_[position] == [position]
        size = transformer.cardinalities_[position]
        if transformer.kinds_[name] in MADE_KINDS:
            assert size == 1 + small[name].isna().any(), name
    assert transformer.cardinalities_[list(small).index("constant")] == 1


@pytest.mark.parametrize("decoder", ["autoregressive", "factorized"])
def test_a_synthesizer_of_every_kind_survives_being_saved(decoder, small, tmp_path):
    synthesizer = TVAESynthesizer(
        column_kinds=GUESSED, decoder=decoder, max_epochs=1, random_state=0
    ).fit(small)
    sample = synthesizer.sample(300, random_state=1)
    pd.testing.assert_series_equal(sample.dtypes, small.dtypes)
    check_made_anew(sample, small, synthesizer.transformer_.kinds_)
    assert np.isfinite(synthesizer.score_samples(small.head(50))).all()
    assert synthesizer.transform(small.head(50)).shape == (50, 16)
    skvae.save(synthesizer, tmp_path / "model.skvae")
    again = skvae.load(tmp_path / "model.skvae")
    pd.testing.assert_frame_equal(again.sample(300, random_state=1), sample)


def test_a_table_of_nothing_but_identifiers_and_constants_is_sampled():
    table = pd.DataFrame({"id": np.arange(200), "constant": 1.5})
    with pytest.warns(UserWarning, match="identifier"):
        synthesizer = TVAESynthesizer(max_epochs=1, random_state=0).fit(table)
    sample = synthesizer.sample(500, random_state=0)
    assert sample["id"].is_unique
    assert not set(sample["id"]) & set(table["id"])
    assert (sample["constant"] == 1.5).all()


def test_an_array_with_keys_comes_back_as_an_array():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.arange(300), rng.integers(0, 5, 300)])
    with pytest.warns(UserWarning, match="{0: 'identifier'}"):
        transformer = TabularTransformer().fit(X)
    back = transformer.inverse_transform(transformer.transform(X))
    assert back.dtype == X.dtype
    assert not set(back[:, 0]) & set(X[:, 0])
    np.testing.assert_array_equal(back[:, 1], X[:, 1])


@pytest.mark.slow
def test_torture():
    table = every_kind(20_000)
    with warnings.catch_warnings(action="ignore"):
        synthesizer = TVAESynthesizer(random_state=0).fit(table)
    kinds = synthesizer.transformer_.kinds_
    sample = synthesizer.sample(20_000, random_state=1)
    pd.testing.assert_series_equal(sample.dtypes, table.dtypes)
    check_made_anew(sample, table, kinds)
    assert {name: kind for name, kind in kinds.items() if kind in MADE_KINDS} == GUESSED
    assert (sample.isna().mean() - table.isna().mean()).abs().max() < 0.01
    gaps = [name for name in table if 0 < table[name].isna().mean() < 1]
    assert (sample[gaps].isna().corr() - table[gaps].isna().corr()).abs().max().max() < 0.05
    assert sample[TOGETHER].isna().corr().min().min() > 0.98


GUIDE = Path(__file__).parents[1] / "docs" / "columns.rst"


@pytest.mark.skipif(not GUIDE.is_file(), reason="the documentation is not here")
def test_the_guide_names_every_kind_and_its_examples_run():
    named = re.findall(r'^   \* - ``"(\w+)"``$', GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(named) == KINDS
    result = doctest.testfile(str(GUIDE), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0
