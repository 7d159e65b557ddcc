import numpy as np
import pytest

from skvae.spatial import Neighbourhoods, choose_n_clusters
from skvae.spatial.number_of_clusters import pick_stable


@pytest.mark.parametrize(
    ("stability", "place"),
    [
        ([0.99, 0.6, 0.91, 0.7], 2),  # the last of two maxima within .1
        ([0.99, 0.6, 0.85, 0.7], 0),  # the other is too low
        ([0.7, 0.75, 0.8, 0.78], 2),
        ([0.95, 0.92, 0.9, 0.88], 0),  # high, but no maximum
        ([0.5], 0),
        ([0.9, 0.7, 0.6, 0.85], 0),  # rising at its end: no maximum yet
        ([0.7, 0.6, 0.8], 2),
        ([1.0, 1.0, 0.3], 1),
        ([0.9, 0.92, 0.915, 0.7], 2),  # the end of a plateau
    ],
)
def test_the_last_local_maximum_near_the_best_is_picked(stability, place):
    assert pick_stable(np.array(stability)) == place


def test_it_finds_as_many_domains_as_there_are_and_shows_the_curve():
    rng = np.random.default_rng(0)
    row, column = np.divmod(np.arange(1600), 40)
    # Neither of one size nor in one line: no smaller number of domains suggests itself.
    domain = 2 * (row > 14) + (column > 22)
    X = rng.normal(size=(4, 20))[domain] * 0.9 + rng.normal(size=(1600, 20))
    around = Neighbourhoods(np.column_stack([column, row]))
    chosen = choose_n_clusters(X, around, np.random.RandomState(0), candidates=range(3, 8))
    assert chosen.n_clusters == 4
    assert chosen.candidates.tolist() == [3, 4, 5, 6, 7]
    assert chosen.stability.argmax() == 1
    assert chosen.stability.max() <= 1


def test_domains_that_an_image_tells_apart_agree_better_with_it():
    rng = np.random.default_rng(0)
    row, column = np.divmod(np.arange(1600), 40)
    X = rng.normal(size=(1600, 12)) + 1.5 * (row > 14)[:, None] * (np.arange(12) < 4)
    image = rng.normal(size=(1600, 4)) + 1.5 * (column > 22)[:, None]
    around = Neighbourhoods(np.column_stack([column, row]))
    without, joined = (
        choose_n_clusters(
            X, around, np.random.RandomState(0), morphology=part, candidates=[4]
        ).stability[0]
        for part in (None, image)
    )
    assert joined > without + 0.2


def test_no_more_clusters_than_spots_are_tried():
    X = np.random.default_rng(0).normal(size=(4, 3))
    chosen = choose_n_clusters(X, Neighbourhoods.isolated(4), np.random.RandomState(0))
    assert chosen.candidates.tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match="fewer spots"):
        choose_n_clusters(X[:1], Neighbourhoods.isolated(1), np.random.RandomState(0))
