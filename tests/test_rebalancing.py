"""Rows of each combination of values: margins met to the row, ratios of odds kept."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from skvae._synthesis import rebalancing
from skvae._synthesis.rebalancing import joint_counts, read_shares, whole
from skvae.tabular import TabularTransformer


def margins_of(table):
    return [
        table.sum(tuple(other for other in range(table.ndim) if other != axis))
        for axis in range(table.ndim)
    ]


class TestJointCounts:
    @pytest.mark.parametrize("shape", [(2, 2), (5, 3), (2, 3, 4), (3, 3, 3, 2)])
    @pytest.mark.parametrize("n_rows", [1, 7, 1000])
    def test_margins_are_met_to_the_row(self, shape, n_rows):
        rng = np.random.default_rng(len(shape) + n_rows)
        table = rng.poisson(rng.gamma(0.5, 60, shape))
        margins = [whole(rng.dirichlet(np.ones(size)), n_rows) for size in shape]
        found = joint_counts(table, margins)
        assert (found >= 0).all()
        for own, wanted in zip(margins_of(found), margins, strict=True):
            np.testing.assert_array_equal(own, wanted)

    def test_ratios_of_odds_are_kept(self):
        table = np.array([[4000, 300, 200], [100, 500, 800]])
        found = joint_counts(
            table, [np.array([50_000, 50_000]), np.array([20_000, 30_000, 50_000])]
        )
        ratios = [
            part[0, :2] * part[1, 1:] / (part[1, :2] * part[0, 1:]) for part in (table, found)
        ]
        np.testing.assert_allclose(ratios[1], ratios[0], rtol=0.03)

    def test_margins_by_nature_leave_the_table_as_it_is(self):
        table = np.random.default_rng(0).integers(50, 900, (4, 3))
        np.testing.assert_allclose(joint_counts(table, margins_of(table)), table, atol=1)

    def test_combinations_that_never_come_are_only_taken_where_they_must_be(self):
        table = np.array([[500, 0], [300, 200]])
        assert joint_counts(table, [np.array([90, 10]), np.array([95, 5])])[0, 1] == 0
        forced = joint_counts(table, [np.array([100, 0]), np.array([50, 50])])
        np.testing.assert_array_equal(forced, [[50, 50], [0, 0]])

    def test_memory_grows_with_the_combinations_only(self):
        rng = np.random.default_rng(0)
        table = rng.poisson(20, (120, 120))
        margins = [whole(rng.dirichlet(np.ones(120)), 3000) for _ in range(2)]
        tracemalloc.start()
        found = joint_counts(table, margins)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(found.sum(1), margins[0])
        assert peak < 240 * table.size * 8 / 2


def test_too_many_combinations_are_refused_with_a_way_out(monkeypatch):
    monkeypatch.setattr(rebalancing, "MAX_COMBINATIONS", 8)
    table = pd.DataFrame({"a": list("pqrs") * 50, "b": list("ttuv") * 50})
    transformer = TabularTransformer().fit(table)
    shares = {"a": {"p": 0.1, "q": 0.1, "r": 0.1}, "b": {"t": 0.5, "u": 0.1}}
    with pytest.raises(ValueError, match=r"rebalance .* 4 x 3 values.* 12 combinations.* fewer"):
        read_shares(transformer, shares, [])
    assert len(read_shares(transformer, {"a": shares["a"]}, [])) == 1
    del shares["a"]["q"], shares["a"]["r"]
    assert len(read_shares(transformer, shares, [])) == 2


def test_whole_numbers_are_next_to_the_shares():
    assert whole(np.array([0.335, 0.335, 0.33]), 10).tolist() == [4, 3, 3]
    assert whole(np.array([1.0, 0.0]), 3).tolist() == [3, 0]
    assert whole(np.array([0.5, 0.5]), 0).tolist() == [0, 0]
