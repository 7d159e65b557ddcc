import numpy as np

from skvae.tabular.encoded import mean_ranks


def ranks(order, codes, n_codes):
    codes = np.array(codes)
    counts = np.bincount(codes, minlength=n_codes)
    return mean_ranks(np.array(order, dtype=float), codes, counts)


def test_a_code_scores_the_mean_rank_of_its_cells():
    scores = ranks([10, 20, 30, 1000], [0, 0, 1, 2], 3)
    np.testing.assert_allclose(scores, [0.25, 0.625, 0.875])


def test_ties_share_their_ranks():
    np.testing.assert_allclose(ranks([5, 5, 5, 5], [0, 0, 1, 1], 2), [0.5, 0.5])


def test_a_code_without_rows_lies_between_its_neighbours():
    scores = ranks([1, 2, 3, 4], [0, 0, 2, 2], 3)
    np.testing.assert_allclose(scores, [0.25, 0.5, 0.75])


def test_cells_without_an_order_score_the_middle_and_take_no_rank():
    scores = ranks([1, 2, np.nan, np.nan], [0, 1, 2, 2], 3)
    np.testing.assert_allclose(scores, [0.25, 0.75, 0.5])
    np.testing.assert_allclose(ranks([np.nan, np.nan], [0, 0], 1), [0.5])


def test_scores_stay_off_zero_and_one():
    scores = ranks(np.arange(10_000), np.arange(10_000), 10_000)
    assert scores.min() == 0.001
    assert scores.max() == 0.999
