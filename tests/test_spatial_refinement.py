import numpy as np

from skvae.spatial import Neighbourhoods, refine_labels, vote


def line(n_spots):
    return Neighbourhoods(np.column_stack([np.arange(n_spots), np.zeros(n_spots)]))


def test_the_majority_of_a_spot_and_its_neighbours_decides():
    labels = np.array(["a", "a", "b", "a", "a", "b", "b", "b"])
    refined = refine_labels(labels, line(8), n_neighbors=2)
    assert "".join(refined) == "aaaaabbb"


def test_a_spot_keeps_its_label_in_a_tie():
    # Its two neighbours differ from it and from each other.
    assert refine_labels(np.array([0, 0, 2, 1, 1]), line(5), n_neighbors=2)[2] == 2
    # Of two neighbours one agrees with it.
    labels = np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(refine_labels(labels, line(6), n_neighbors=2), labels)


def test_votes_never_cross_slides():
    around = Neighbourhoods([[0.0, 0], [1, 0], [2, 0], [1, 0.1]], [0, 0, 0, 1])
    assert refine_labels([5, 5, 5, 7], around).tolist() == [5, 5, 5, 7]


def test_votes_are_the_mean_posteriors_of_a_spot_and_its_neighbours():
    posteriors = np.random.default_rng(0).dirichlet(np.ones(3), size=30)
    around = Neighbourhoods(np.random.default_rng(1).uniform(size=(30, 2)))
    expected = posteriors[around.indices[:, :7]].mean(axis=1)
    np.testing.assert_allclose(vote(posteriors, around.nearest_matrix(6)), expected)
