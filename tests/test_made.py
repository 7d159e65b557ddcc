import re
import uuid

import numpy as np
import pandas as pd
import pytest

from skvae.tabular import ColumnSchema, IdentifierEncoder, PersonalEncoder, SeenValues, TextEncoder
from skvae.tabular.kinds import PERSONAL_KINDS

N_ROWS = 3000
NUMBERS = np.random.default_rng(0).permutation(10 * N_ROWS)[:N_ROWS]


def fit(cells, kind="identifier", min_rows=5, **kwargs):
    column = pd.Series(cells, name="x")
    kinds = {"identifier": IdentifierEncoder, "text": TextEncoder}
    schema = ColumnSchema("x", kind, column.dtype, column.dtype.kind in "iu", **kwargs)
    return kinds.get(kind, PersonalEncoder)(schema, min_rows).fit(column)


def made(encoder, n_rows=N_ROWS, seed=0):
    return pd.Series(encoder.decode(np.zeros(n_rows, np.int64), np.random.default_rng(seed)))


class TestSeenValues:
    def test_all_that_were_seen_are_told(self):
        values = np.array([f"value {number}" for number in range(10_000)], dtype=object)
        seen = SeenValues(values, np.random.default_rng(0))
        assert seen.may_hold(values).all()

    def test_few_of_the_others_are_and_not_none(self):
        values = np.array([f"value {number}" for number in range(10_000)], dtype=object)
        seen = SeenValues(values, np.random.default_rng(0))
        others = np.array([f"other {number}" for number in range(10_000)], dtype=object)
        assert 0.01 < seen.may_hold(others).mean() < 1 / 15

    def test_of_no_values_none_was_seen(self):
        seen = SeenValues(np.empty(0, dtype=object), np.random.default_rng(0))
        assert not seen.may_hold(np.array(["a"], dtype=object)).any()


PATTERNS = {
    "uuid": (
        [str(uuid.UUID(int=int(n) ** 7 * 31 + 10**30, version=4)) for n in NUMBERS],
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    ),
    "padded": ([f"CUST-{n:05d}" for n in NUMBERS], r"CUST-\d{5}"),
    "number": ([f"o{n}" for n in NUMBERS], r"o[1-9]\d*"),
    "suffix": ([f"{n}-X" for n in NUMBERS], r"[1-9]\d*-X"),
    "HEX": ([f"{n * 977 + 2**30:08X}" for n in NUMBERS], r"[0-9A-F]{8}"),
    "plate": (
        [f"B-{chr(65 + n % 26)}{chr(65 + n % 7)} {n:05d}" for n in NUMBERS],
        r"B-[A-Z][A-Z] \d{5}",
    ),
    "words": ([f"{n} {'abc'[n % 3]} {n}" for n in NUMBERS], r"x_\d{9}"),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_identifiers_have_the_pattern_are_unique_and_new(name):
    cells, pattern = PATTERNS[name]
    drawn = made(fit(cells), 2 * N_ROWS)
    assert drawn.is_unique
    assert not set(drawn) & set(cells)
    assert all(re.fullmatch(pattern, cell) for cell in drawn)


@pytest.mark.parametrize(
    "dtype", ["int16", "int64", "uint64", "Int32", "int64[pyarrow]", "float64"]
)
def test_numbers_come_back_under_their_dtype_unique_and_new(dtype):
    column = pd.Series(NUMBERS[NUMBERS < 9000]).astype(dtype)
    drawn = made(fit(column), 1000)
    assert drawn.dtype == column.dtype
    assert drawn.is_unique
    assert not set(drawn) & set(column)
    assert len(set(drawn) & set(made(fit(column), 1000, seed=1))) < 500


def test_integers_beyond_64_bits_are_replaced_by_smaller_ones():
    cells = [2**70 + int(number) for number in NUMBERS]
    drawn = made(fit(pd.Series(cells, dtype=object)))
    assert drawn.is_unique
    assert not set(drawn) & set(cells)


def test_codes_that_fill_their_pattern_make_way_for_longer_ones():
    cells = [f"K{number:02d}" for number in range(100)]
    drawn = made(fit(cells), 500)
    assert drawn.is_unique
    assert not set(drawn) & set(cells)
    assert drawn.str.fullmatch(r"K\d{2,5}").all()


def test_a_dtype_without_room_is_named_with_a_way_out():
    encoder = fit(np.arange(200, dtype="uint8"))
    assert len(set(made(encoder, 30)) & set(range(200))) == 0
    with pytest.raises(ValueError, match=r"Column 'x'.*uint8.*room for \d+ values.*fewer rows"):
        made(encoder, 200)


def test_identifiers_that_repeat_come_back_repeating_as_often():
    cells = np.repeat(NUMBERS[:500], 6)
    drawn = made(fit(cells), 6000)
    assert 900 < drawn.nunique() <= 1000
    assert not set(drawn) & set(cells)


def test_missing_cells_are_the_only_thing_encoded():
    column = pd.Series(["a1", None, "a2"] * 10, dtype=object)
    encoder = fit(column, missing=None)
    codes = encoder.encode(column)
    assert codes.tolist() == [0, 1, 0] * 10
    assert encoder.n_codes_ == 2
    back = pd.Series(encoder.decode(codes, np.random.default_rng(0)))
    assert back.isna().tolist() == column.isna().tolist()
    assert fit(["a1", "a2"] * 10).encode(column).tolist() == [0] * 30


def test_fractions_are_no_identifiers():
    with pytest.raises(ValueError, match=r"Column 'x' is of kind 'identifier'.*fractions.*1\.5"):
        fit([1.0, 1.5] * 10)


@pytest.mark.parametrize("kind", ["text", "email"])
def test_numbers_are_no_text(kind):
    with pytest.raises(ValueError, match=rf"Column 'x' is of kind '{kind}', which takes strings"):
        fit([1, 2] * 10, kind)


def test_text_has_about_as_many_words_and_none_of_the_training_cells():
    rng = np.random.default_rng(0)
    counts = rng.integers(5, 16, 200)
    cells = [" ".join(["word"] * count) + str(row) for row, count in enumerate(counts)]
    drawn = made(fit(cells, "text"), 2000)
    assert drawn.str.split().str.len().mean() == pytest.approx(counts.mean(), rel=0.03)
    assert not drawn.str.contains("word").any()
    assert drawn.is_unique


FORMS = {
    "name": r"\w[\w'-]* \w[\w' -]*",
    "first_name": r"\w[\w'-]*",
    "last_name": r"\w[\w' -]*",
    "email": r"[\w.+-]+@[\w.-]+\.\w+",
    "phone": r"[(+\d][\d ()x.+-]{6,}",
    "address": r"[^\n]{8,}",
    "company": r".{3,}",
}


def test_every_personal_kind_is_tried_here():
    assert set(FORMS) == set(PERSONAL_KINDS)


@pytest.mark.parametrize("kind", FORMS)
def test_personal_data_look_like_such_and_follow_the_seed(kind):
    encoder = fit([f"cell {number}" for number in NUMBERS], kind)
    drawn = made(encoder, 1000)
    assert drawn.str.fullmatch(FORMS[kind]).all()
    assert drawn.equals(made(encoder, 1000))
    assert not drawn.equals(made(encoder, 1000, seed=1))
    if kind not in ("first_name", "last_name"):
        assert drawn.is_unique


def test_a_training_value_that_faker_knows_is_not_given_out():
    known = made(fit(["a", "b"], "email"), 5000, seed=3)
    encoder = fit(known, "email")
    again = made(encoder, 5000, seed=3)
    assert not set(again) & set(known)
    assert again.is_unique


def test_personal_data_that_repeat_come_back_repeating():
    companies = [f"company {number % 20}" for number in range(2000)]
    assert made(fit(companies, "company"), 2000).nunique() == 20
