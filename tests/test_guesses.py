import numpy as np
import pandas as pd
import pytest

from skvae.datasets import load_adult
from skvae.tabular import infer_schema

RNG = np.random.default_rng(0)
UNIQUE = RNG.permutation(10**5)[:300]


def kind_of(cells, name="x"):
    return infer_schema(pd.DataFrame({name: pd.Series(cells)}))[0].kind


@pytest.mark.parametrize("name", ["id", "ID", "user_id", "userId", "order key", "uuid", "pk"])
def test_unique_integers_of_a_keys_name_are_identifiers(name):
    assert kind_of(UNIQUE, name) == "identifier"
    assert kind_of([*UNIQUE[:-1], UNIQUE[0]], name) == "numeric"  # one comes twice
    assert kind_of(UNIQUE.astype(float), name) == "numeric"
    assert kind_of(UNIQUE[:19], name) == "numeric"


@pytest.mark.parametrize("name", ["x", "paid", "humid", "monkey", "valid", "grid", "period", 3])
def test_unique_integers_of_another_name_are_measurements(name):
    assert kind_of(UNIQUE, name) == "numeric"


@pytest.mark.parametrize("start", [0, 1, 100, 1001, 20_000])
def test_integers_that_count_the_rows_are_identifiers_in_any_order(start):
    assert kind_of(start + RNG.permutation(200)) == "identifier"
    assert kind_of(start + np.arange(99)) == "numeric"
    assert kind_of(start + np.delete(np.arange(200), 150)) == "numeric"


def test_years_and_ranks_of_few_rows_are_measurements():
    assert kind_of(np.arange(1901, 2021)) == "numeric"
    assert kind_of(np.arange(1, 51)) == "numeric"


def test_wide_integers_are_identifiers_or_if_they_repeat_often_categories():
    wide = RNG.integers(2**60, 2**63 - 1, 400)
    assert kind_of(wide) == "identifier"
    assert kind_of(np.append(wide, wide)) == "identifier"
    assert kind_of(RNG.choice(wide[:20], 400)) == "categorical"


def test_a_sentinel_does_not_make_amounts_identifiers():
    amounts = RNG.integers(0, 100, 400)
    amounts[:3] = -(2**63)
    with pytest.raises(ValueError, match="Column 'x' holds integers spread over more than"):
        kind_of(amounts)


@pytest.mark.parametrize(
    "cells",
    [
        [f"CUST-{number:06d}" for number in UNIQUE],
        [f"item{number}" for number in UNIQUE],
        [f"{number:08x}-{number % 4096:04x}" for number in UNIQUE],
        [f"{number}/24" for number in UNIQUE],
        [f"{number:07d}" for number in UNIQUE],
    ],
    ids=lambda cells: cells[0],
)
def test_unique_strings_of_one_pattern_are_identifiers(cells):
    assert kind_of(cells) == "identifier"
    assert kind_of(pd.Series(cells, dtype="string")) == "identifier"
    assert kind_of(cells[:-1] + cells[:1]) == "categorical"


@pytest.mark.parametrize(
    "cells",
    [
        [f"{number / 1e5:.5f}" for number in UNIQUE],
        [f"{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}" for n in UNIQUE],
        [f"{number} Main Street" for number in UNIQUE],
        ["".join(word) for word in RNG.choice(list("abcdefgh"), (300, 9))],
        [f"{'ab' * (n % 5)}{n}" for n in UNIQUE],
    ],
    ids=lambda cells: cells[0],
)
def test_other_unique_strings_are_not(cells):
    assert kind_of(cells) == "categorical"


def test_mail_addresses_and_international_numbers_are_personal():
    emails = [f"user{number}@mail.example.org" for number in UNIQUE]
    assert kind_of(emails) == "email"
    assert kind_of(emails[:-10] + ["none"] * 10) == "email"
    assert kind_of(["info@example.org", "help@example.org"] * 150) == "categorical"
    assert kind_of([f"+49 (0)30 {number:06d}" for number in UNIQUE]) == "phone"


def test_names_are_those_of_persons_only_in_a_column_of_that_name():
    words = ["".join(word).title() for word in RNG.choice(list("abcdefgh"), (300, 9))]
    names = [f"Braund, Mr. {word}" for word in words]
    assert kind_of(names, "full_name") == kind_of(names, "Name") == "name"
    assert kind_of(names, "ship") == "categorical"
    assert kind_of(words, "name") == "categorical"


def test_long_texts_are_text_and_labels_are_not():
    texts = [f"it was rainy and we saw number {number} go by" for number in UNIQUE]
    assert kind_of(texts) == "text"
    assert kind_of(texts[:100] * 3) == "categorical"
    assert kind_of([f"no. {number} a" for number in UNIQUE]) == "categorical"


def test_no_column_of_adult_is_anything_but_a_number_or_a_category():
    kinds = {schema.kind for schema in infer_schema(load_adult())}
    assert kinds == {"numeric", "categorical"}


@pytest.mark.parametrize(
    ("kind", "cells", "natural"),
    [
        ("numeric", ["a", "b"], "categorical"),
        ("datetime", ["a", "b"], "categorical"),
        ("datetime", [1, 2], "numeric"),
        ("timedelta", [1.0, 2.0], "numeric"),
        ("time", [1.0, 2.0], "numeric"),
        ("numeric", pd.to_datetime(["2020-01-01", "2020-01-02"]), "datetime"),
    ],
)
def test_a_kind_that_the_cells_do_not_go_with_is_refused(kind, cells, natural):
    message = rf"column_kinds\['x'\] is '{kind}', but the column holds what is {natural}.*Convert"
    with pytest.raises(ValueError, match=message):
        infer_schema(pd.DataFrame({"x": cells}), column_kinds={"x": kind})


def test_a_pandas_category_is_always_one():
    table = pd.DataFrame({"x": pd.Categorical([f"k{number}" for number in UNIQUE])})
    assert infer_schema(table)[0].kind == "categorical"
    with pytest.raises(ValueError, match=r"column_kinds\['x'\] is 'identifier'.*pandas category"):
        infer_schema(table, column_kinds={"x": "identifier"})


def test_what_the_user_says_beats_the_guess_and_is_not_marked_as_one():
    table = pd.DataFrame({"id": UNIQUE})
    assert infer_schema(table)[0].guessed
    for kind in ("numeric", "identifier"):
        schema = infer_schema(table, column_kinds={"id": kind})[0]
        assert (schema.kind, schema.guessed) == (kind, False)
