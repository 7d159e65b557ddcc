import numpy as np
from sklearn.metrics import adjusted_rand_score

from skvae.spatial.agreement import align, pairwise_ari


def test_pairwise_indices_are_those_of_scikit_learn():
    labelings = np.random.default_rng(0).integers(4, size=(5, 60))
    labelings[1] = labelings[0]
    labelings[2] = 0
    expected = [[adjusted_rand_score(one, other) for other in labelings] for one in labelings]
    np.testing.assert_allclose(pairwise_ari(labelings, 4), expected, atol=1e-12)


def test_alignment_undoes_any_order_of_clusters():
    rng = np.random.default_rng(0)
    posteriors = rng.dirichlet(np.full(4, 0.2), size=100)
    orders = [rng.permutation(4) for _ in range(5)]
    columns, mean = align([posteriors[:, order] for order in orders], reference=2)
    for order, column in zip(orders, columns, strict=True):
        np.testing.assert_array_equal(order[column], orders[2])
    np.testing.assert_allclose(mean, posteriors[:, orders[2]])
