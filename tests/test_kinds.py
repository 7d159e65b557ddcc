import pandas as pd
import pytest

from skvae.tabular.kinds import KINDS, declared_kinds

COLUMNS = pd.Index(["age", "when", 7])


@pytest.mark.parametrize("nothing", [(), ("auto",), (None,), ([], {}), ("auto", None)])
def test_nothing_is_declared_by_default(nothing):
    assert declared_kinds(COLUMNS, *nothing) == {}


def test_columns_are_named_by_label_and_else_by_position():
    assert declared_kinds(COLUMNS, [7], {0: "identifier"}) == {2: "categorical", 0: "identifier"}
    assert declared_kinds(COLUMNS, [False, True, False]) == {1: "categorical"}


def test_a_kind_may_be_said_twice_but_not_two_kinds():
    assert declared_kinds(COLUMNS, ["age"], {"age": "categorical"}) == {0: "categorical"}
    with pytest.raises(ValueError, match=r"Column 'age' is 'categorical' by.*and 'numeric' by"):
        declared_kinds(COLUMNS, ["age"], {"age": "numeric"})


def test_a_misspelt_kind_is_met_with_the_list():
    with pytest.raises(ValueError, match=r"column_kinds\['age'\] is 'identifer', expected") as info:
        declared_kinds(COLUMNS, column_kinds={"age": "identifer"})
    assert all(repr(kind) in str(info.value) for kind in KINDS)


@pytest.mark.parametrize("item", ["Age", 3, -1, 1.5])
def test_a_column_that_is_not_there_is_met_with_the_list(item):
    message = rf"column_kinds names {item!r}, which is not a column.*\['age', 'when', 7\]"
    with pytest.raises(ValueError, match=message):
        declared_kinds(COLUMNS, column_kinds={item: "text"})
