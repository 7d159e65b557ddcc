"""Counts to principal components, and what they owe scikit-learn."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skvae.spatial.preprocessing import CountsPCA, looks_like_counts

# Defined by scikit-learn, but not called by its check_estimator.
UNCALLED_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_inplace_ensure_writeable",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


def draw_counts(n_spots=120, n_genes=40, seed=0):
    """Return counts with two strong programmes of genes."""
    rng = np.random.default_rng(seed)
    programme = np.exp(rng.normal(size=(n_spots, 2)) @ rng.normal(size=(2, n_genes)))
    return rng.poisson(programme * rng.lognormal(size=(n_spots, 1)))


@pytest.fixture(scope="module")
def counts():
    return draw_counts()


@parametrize_with_checks([CountsPCA()])
def test_check_estimator(estimator, check):
    check(estimator)


# They fit with names and transform without, and the other way round, on purpose.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize("name", UNCALLED_CHECKS)
def test_it_passes_the_checks_that_check_estimator_leaves_out(name):
    getattr(estimator_checks, name)("CountsPCA", CountsPCA())


class TestTheFormula:
    def test_it_is_the_pca_of_log1p_of_the_counts_brought_to_the_median_sum(self, counts):
        total = counts.sum(axis=1, keepdims=True)
        logs = np.log1p(counts / total * np.median(total))
        expected = PCA(5, svd_solver="full").fit(logs)
        pca = CountsPCA(5).fit(counts)
        np.testing.assert_allclose(pca.transform(counts), expected.transform(logs), atol=1e-8)
        np.testing.assert_allclose(pca.explained_variance_, expected.explained_variance_)
        np.testing.assert_allclose(
            pca.explained_variance_ratio_, expected.explained_variance_ratio_
        )
        assert pca.median_total_ == np.median(total)

    def test_many_genes_give_the_exact_components_too(self):
        counts = draw_counts(60, 1_000)
        total = counts.sum(axis=1, keepdims=True)
        pca = CountsPCA(8).fit(counts)
        logs = np.log1p(counts / total * np.median(total))[:, pca.genes_]
        expected = PCA(8, svd_solver="full").fit_transform(logs)
        np.testing.assert_allclose(pca.transform(counts), expected, atol=1e-6)

    def test_the_depth_of_a_spot_does_not_move_it(self, counts):
        pca = CountsPCA(5).fit(counts)
        np.testing.assert_allclose(pca.transform(7 * counts), pca.transform(counts))

    def test_a_given_total_takes_the_place_of_the_sum_of_the_genes_at_hand(self, counts):
        some, total = counts[:, :30], counts.sum(axis=1)
        pca = CountsPCA(5).fit(some, total=total)
        logs = np.log1p(some / total[:, None] * np.median(total))
        expected = PCA(5, svd_solver="full").fit_transform(logs)
        np.testing.assert_allclose(pca.transform(some, total=total), expected, atol=1e-8)

    def test_new_spots_go_through_the_median_and_the_mean_of_the_training_spots(self, counts):
        pca = CountsPCA(5).fit(counts)
        together = pca.transform(counts)
        np.testing.assert_allclose(pca.transform(counts[:7] * 3), together[:7])
        assert np.abs(pca.transform(counts[:7]).mean(axis=0)).max() > 0.1

    def test_an_empty_spot_is_as_one_in_which_no_gene_is_seen(self, counts):
        pca = CountsPCA(5).fit(counts)
        empty = pca.transform(np.zeros((1, counts.shape[1])))
        np.testing.assert_allclose(empty[0], -pca.mean_ @ pca.components_.T)


class TestSparseCounts:
    @pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
    def test_they_give_the_numbers_of_dense_counts(self, counts, container):
        dense = CountsPCA(5).fit_transform(counts)
        assert np.array_equal(CountsPCA(5).fit_transform(container(counts)), dense)

    def test_stored_zeros_and_entries_in_pieces_change_nothing(self, counts):
        pieces = sparse.csr_array(counts.astype(float))
        data = np.concatenate([pieces.data - 1, np.ones(pieces.nnz)])
        rows = np.repeat(np.arange(len(counts)), np.diff(pieces.indptr))
        order = np.argsort(np.tile(rows, 2), kind="stable")
        pieces = sparse.csr_array(
            (data[order], np.tile(pieces.indices, 2)[order], 2 * pieces.indptr), shape=counts.shape
        )
        before = pieces.copy()
        result = CountsPCA(5).fit_transform(pieces)
        np.testing.assert_allclose(result, CountsPCA(5).fit_transform(counts), atol=1e-9)
        assert np.array_equal(pieces.data, before.data)
        assert np.array_equal(pieces.indices, before.indices)

    def test_stored_zeros_are_not_seen(self):
        counts = np.ones((40, 4))
        counts[:, 1] = np.arange(40) % 3
        stored = sparse.csr_array(counts)
        stored.data[stored.indices == 2] = 0
        assert CountsPCA(2).fit(stored).genes_.tolist() == [0, 1, 3]

    def test_the_matrix_is_never_made_dense(self, counts, monkeypatch):
        def refuse(*args, **kwargs):
            raise AssertionError("made dense")

        for cls in (sparse.csr_array, sparse.csr_matrix):
            monkeypatch.setattr(cls, "toarray", refuse)
            monkeypatch.setattr(cls, "todense", refuse)
        many = sparse.csr_matrix(np.tile(counts, 20))
        assert CountsPCA(5).fit_transform(many).shape == (120, 5)


class TestWhichGenes:
    def test_genes_seen_in_few_spots_are_left_out(self):
        counts = np.ones((400, 3), dtype=int)
        counts[:, 0] = np.arange(400) % 5
        counts[:, 2] = 0
        counts[:9, 2] = 1
        assert CountsPCA(2).fit(counts).genes_.tolist() == [0, 1]
        counts[9, 2] = 1
        assert CountsPCA(2).fit(counts).genes_.tolist() == [0, 1, 2]

    def test_in_few_spots_a_twentieth_of_them_is_enough(self):
        counts = np.ones((60, 3), dtype=int)
        counts[:, 0] = np.arange(60) % 5
        counts[2:, 1] = 0
        counts[3:, 2] = 0
        assert CountsPCA(2).fit(counts).genes_.tolist() == [0, 2]

    def test_of_very_many_genes_those_of_largest_log_variance_stay(self):
        counts = np.random.default_rng(0).poisson(3.0, size=(30, 6_001))
        total = counts.sum(axis=1, keepdims=True)
        variances = np.log1p(counts / total * np.median(total)).var(axis=0)
        pca = CountsPCA(3).fit(counts)
        assert len(pca.genes_) == 3_000
        dropped = np.setdiff1d(np.arange(6_001), pca.genes_)
        assert variances[dropped].max() <= variances[pca.genes_].min()
        assert np.all(np.diff(pca.genes_) > 0)
        assert len(CountsPCA(3).fit(counts[:, 1:]).genes_) == 6_000

    @pytest.mark.parametrize(("n_top", "n_kept"), [(7, 7), (None, 40), (400, 40)])
    def test_the_user_may_say_how_many(self, counts, n_top, n_kept):
        assert len(CountsPCA(3, n_top_genes=n_top).fit(counts).genes_) == n_kept


class TestDeterminism:
    def test_two_fits_agree_to_the_bit(self):
        counts = draw_counts(80, 700)
        first, second = (CountsPCA(10).fit_transform(counts) for _ in range(2))
        assert np.array_equal(first, second)

    def test_signs_do_not_depend_on_the_order_of_the_spots(self):
        counts = draw_counts(80, 700)
        order = np.random.default_rng(0).permutation(80)
        shuffled = CountsPCA(5).fit_transform(counts[order])
        np.testing.assert_allclose(shuffled, CountsPCA(5).fit_transform(counts)[order], atol=1e-7)

    def test_the_largest_entry_of_a_component_is_positive(self, counts):
        components = CountsPCA(5).fit(counts).components_
        largest = np.abs(components).argmax(axis=1)
        assert (components[np.arange(5), largest] > 0).all()

    def test_the_global_random_state_is_left_alone(self, counts):
        np.random.seed(0)
        before = np.random.get_state()[1].copy()
        CountsPCA(5, subsample=50).fit(counts)
        assert np.array_equal(np.random.get_state()[1], before)

    def test_a_subsample_of_the_spots_finds_nearly_the_same_components(self):
        counts = draw_counts(2_000, 40)
        whole, part = CountsPCA(2).fit(counts), CountsPCA(2, subsample=800).fit(counts)
        assert not np.array_equal(whole.components_, part.components_)
        overlap = np.linalg.svd(whole.components_ @ part.components_.T, compute_uv=False)
        assert overlap.min() > 0.98
        assert part.transform(counts).shape == (2_000, 2)
        assert np.array_equal(CountsPCA(2, subsample=800).fit(counts).components_, part.components_)


def test_there_are_fewer_components_than_spots_and_no_more_than_genes(counts):
    assert CountsPCA().fit_transform(counts[:12]).shape == (12, 11)
    assert CountsPCA().fit_transform(counts).shape == (120, 40)
    many = draw_counts(6, 2_000)
    assert np.isfinite(CountsPCA().fit_transform(many)).all()
    assert CountsPCA().fit(many).n_components_ == 5


def test_a_pickle_gives_the_same_numbers(counts):
    pca = CountsPCA(5).fit(counts)
    again = pickle.loads(pickle.dumps(pca))
    assert np.array_equal(again.transform(counts), pca.transform(counts))


def test_a_pipeline_hands_the_totals_on(counts):
    total = 2 * counts.sum(axis=1) + np.arange(120)
    expected = CountsPCA(3).fit_transform(counts, total=total)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(CountsPCA(3), StandardScaler(with_std=False))
        assert np.allclose(pipeline.fit_transform(counts, total=total), expected)
        assert np.allclose(pipeline.transform(counts, total=total), expected)


class TestErrors:
    def test_negative_counts(self, counts):
        with pytest.raises(ValueError, match="Negative values in data passed to CountsPCA"):
            CountsPCA().fit(counts - 1)

    def test_nothing_but_zeros(self):
        with pytest.raises(ValueError, match="nothing but zeros"):
            CountsPCA().fit(np.zeros((5, 3)))

    def test_no_gene_in_enough_spots(self):
        counts = np.eye(200, 5)
        with pytest.raises(ValueError, match=r"None of the 5 genes is seen in 10 spots or more"):
            CountsPCA().fit(counts)
        assert CountsPCA(2, min_spots=1).fit(counts).n_components_ == 2

    @pytest.mark.parametrize(
        ("total", "message"),
        [
            (np.ones(119), "total has 119 entries, expected one for each of 120 spots"),
            (np.where(np.arange(120) == 4, 0.0, 9.0), "total is 0 in spot 4, whose counts"),
            (np.where(np.arange(120) == 4, -1.0, 9.0), "total is -1 in spot 4"),
            (np.where(np.arange(120) == 4, np.nan, 9.0), "total contains NaN"),
        ],
    )
    def test_totals_that_do_not_fit(self, counts, total, message):
        with pytest.raises(ValueError, match=message):
            CountsPCA().fit(counts, total=total)

    def test_totals_at_one_time_only(self, counts):
        total = counts.sum(axis=1)
        with pytest.raises(ValueError, match="total is None, and in fit it was given"):
            CountsPCA().fit(counts, total=total).transform(counts)
        with pytest.raises(ValueError, match="total is given, and in fit it was None"):
            CountsPCA().fit(counts).transform(counts, total=total)

    def test_transform_before_fit(self, counts):
        with pytest.raises(NotFittedError):
            CountsPCA().transform(counts)


@pytest.mark.parametrize(
    ("X", "answer"),
    [
        ([[0, 1], [2, 3]], True),
        (np.array([[0.0, 2.0]], dtype=np.float32), True),
        (np.array([[1, 2]], dtype=np.uint16), True),
        (sparse.csr_matrix([[0.0, 3.0]]), True),
        (sparse.lil_array([[0.0, 3.0]]), True),
        (pd.DataFrame({"gene": [1, 0], "other": [0.0, 4.0]}), True),
        (np.array([[0.0, 2.5]]), False),
        (np.array([[0.0, -2.0]]), False),
        (np.array([[0, -2]]), False),
        (np.array([[0.0, np.nan]]), False),
        (np.array([[0.0, np.inf]]), False),
        (np.array([[True, False]]), False),
        (np.array([["a", "b"]]), False),
        (sparse.csr_matrix([[0.0, -3.0]]), False),
    ],
)
def test_counts_are_finite_whole_numbers_from_zero(X, answer):
    assert looks_like_counts(X) is answer
