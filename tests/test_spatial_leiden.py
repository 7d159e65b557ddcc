"""``Leiden``: communities of rows, as many as are asked for."""

import random
import sys

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from skvae.spatial.leiden import Leiden


def groups(n_groups=4):
    rng = np.random.RandomState(0)
    group = np.arange(60 * n_groups) % n_groups
    return 6.0 * np.eye(n_groups)[group] + rng.normal(size=(len(group), n_groups)), group


class TestWithIgraph:
    @pytest.fixture(autouse=True)
    def igraph(self):
        return pytest.importorskip("igraph")

    def test_groups_that_are_apart_are_communities(self):
        Z, group = groups()
        leiden = Leiden(n_neighbors=15, random_state=0).fit(Z)
        assert adjusted_rand_score(group, leiden.labels_) == 1
        assert leiden.resolution_ == 1

    @pytest.mark.parametrize("n_clusters", [4, 7])
    def test_the_resolution_is_searched_for_a_number_of_them(self, n_clusters):
        Z, group = groups()
        leiden = Leiden(n_clusters, n_neighbors=15, random_state=0).fit(Z)
        assert sorted(set(leiden.labels_)) == list(range(n_clusters))
        if n_clusters == 4:
            assert adjusted_rand_score(group, leiden.labels_) == 1
        again = Leiden(n_neighbors=15, resolution=leiden.resolution_, random_state=0).fit(Z)
        np.testing.assert_array_equal(again.labels_, leiden.labels_)

    def test_a_number_out_of_reach_gives_the_nearest(self):
        Z, _ = groups(2)
        leiden = Leiden(1, n_neighbors=5, random_state=0).fit(Z)
        # Two parts without a link between them.
        assert set(leiden.labels_) == {0, 1}

    def test_a_seed_gives_the_same_and_leaves_pythons_random_alone(self):
        Z = np.random.RandomState(0).normal(size=(300, 3))
        before = random.getstate()
        first, second = (Leiden(6, random_state=3).fit(Z).labels_ for _ in range(2))
        assert random.getstate() == before
        np.testing.assert_array_equal(first, second)


def test_without_igraph_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(ImportError, match=r"pip install 'skvae\[leiden\]'"):
        Leiden().fit(groups()[0])


def test_impossible_parameters_are_refused():
    with pytest.raises(ValueError, match="n_neighbors"):
        Leiden(n_neighbors=0).fit(groups()[0])
