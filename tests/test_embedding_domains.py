"""Domains by any clusterer: ids, votes, noise, and the domains of new spots."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN, AgglomerativeClustering, KMeans, SpectralClustering
from sklearn.decomposition import PCA
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae._clustering.embedding_domains import (
    EmbeddingDomains,
    labels_of,
    make_clusterer,
    own_number,
)
from skvae.spatial import Neighbourhoods

ISOLATED = Neighbourhoods.isolated(90)


def blobs(sizes=(20, 40, 30), scale=0.1):
    rng = np.random.RandomState(0)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return 3.0 * np.eye(3)[group] + scale * rng.normal(size=(len(group), 3)), group


def fitted(clusterer, Z, around=ISOLATED, rows=None, **params):
    domains = EmbeddingDomains(clusterer, **params)
    proba = domains.fit(Z, np.arange(len(Z)) if rows is None else rows, around)
    return domains, labels_of(proba)


@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans(3, n_init=3, random_state=0),
        GaussianMixture(3, random_state=0),
        AgglomerativeClustering(3),
        SpectralClustering(3, random_state=0),
        DBSCAN(eps=1.0),
    ],
)
def test_ids_go_by_size_and_new_rows_get_those_of_their_cluster(clusterer):
    Z, group = blobs()
    domains, labels = fitted(clusterer, Z)
    assert domains.n_clusters == 3
    np.testing.assert_array_equal(labels, np.array([2, 0, 1])[group])
    np.testing.assert_array_equal(labels_of(domains.proba(Z, ISOLATED)), labels)
    # In another order, and no two of one cluster next to each other.
    order = np.random.RandomState(1).permutation(len(Z))
    near = labels_of(domains.proba(Z[order] + 0.01, ISOLATED))
    np.testing.assert_array_equal(near, labels[order])


def test_a_part_of_the_rows_is_enough_to_put_all_into_domains():
    Z, group = blobs()
    domains, labels = fitted(AgglomerativeClustering(3), Z, rows=np.arange(0, 90, 3))
    np.testing.assert_array_equal(labels, np.array([2, 0, 1])[group])
    assert len(domains.known[0]) == 30


def line(labels):
    """Return an embedding of labels on a line of spots, and the neighbourhoods there."""
    places = np.arange(len(labels))[:, None] * [1.0, 0.0]
    return np.eye(3)[labels], Neighbourhoods(places)


def test_neighbours_vote_and_a_lone_spot_falls_in_with_them():
    Z, around = line([0] * 30 + [1] + [0] * 9 + [1] * 40)
    clusterer = KMeans(2, n_init=3, random_state=0)
    _, plain = fitted(clusterer, Z, around)
    _, refined = fitted(clusterer, Z, around, refine=True)
    assert plain[30] != plain[29]
    assert refined[30] == refined[29]
    assert refined[0] != refined[-1]


def test_fewer_vote_where_kernels_are_narrow():
    Z, around = line([0] * 30 + [1] * 4 + [0] * 30)
    clusterer = KMeans(2, n_init=3, random_state=0)
    _, wide = fitted(clusterer, Z, around, refine=True)
    _, narrow = fitted(clusterer, Z, around, refine=True, width_factor=0.5)
    assert (wide == 0).all()
    assert (narrow[31:33] == 1).all()


def test_noise_stays_noise_and_has_no_vote():
    labels = np.array([0] * 20 + [1] * 20)
    Z, around = line(labels)
    far = [5, 6, 7, 8, 9, 30]
    Z[far] += 10 * np.arange(1, 7)[:, None]
    domains, found = fitted(DBSCAN(eps=0.5), Z, around, refine=True)
    assert domains.n_clusters == 2
    np.testing.assert_array_equal(np.flatnonzero(found == -1), far)
    kept = np.setdiff1d(np.arange(40), far)
    # 16 of a cluster are fewer than 19: ids go by size.
    np.testing.assert_array_equal(found[kept], 1 - labels[kept])
    proba = domains.proba(Z, around)
    assert (proba[far] == 0).all()
    np.testing.assert_allclose(proba[kept].sum(axis=1), 1)


def test_nothing_but_noise_is_refused():
    Z, _ = blobs()
    with pytest.raises(ValueError, match=r"DBSCAN\(eps=1e-05\) calls all 90 spots noise.*eps"):
        fitted(DBSCAN(eps=1e-5), Z)


class Given:
    """A mixture with posteriors that are given: those in the columns of the embedding."""

    def fit(self, Z):
        return self

    def predict(self, Z):
        return Z.argmax(axis=1)

    def predict_proba(self, Z):
        return Z


def test_the_confident_of_the_paper_are_ten_nearest_with_a_posterior_above_nine_tenths():
    rng = np.random.RandomState(0)
    Z = rng.dirichlet([0.3, 0.2, 0.1], size=200)
    places, slide = rng.uniform(size=(200, 2)), np.arange(200) // 150
    domains, labels = fitted(Given(), Z, Neighbourhoods(places, slide), refine="confident")
    own, sure = Z.argmax(axis=1)[:, None] == domains.order, Z.max(axis=1) > 0.9
    for spot in range(200):
        voters = np.flatnonzero(sure & (slide == slide[spot]))
        distances = np.linalg.norm(places[voters] - places[spot], axis=1)
        ten = voters[np.argsort(distances)[:10]]
        assert labels[spot] == own[ten].sum(axis=0).argmax()
    assert (labels != own.argmax(axis=1)).any()


def test_without_confident_spots_of_two_domains_labels_stay():
    Z = np.full((90, 2), [0.6, 0.4])
    Z[:5] = [0.95, 0.05]
    Z[5:9] = [0.3, 0.7]
    _, labels = fitted(
        Given(), Z, Neighbourhoods(np.arange(90)[:, None] * [1.0, 0]), refine="confident"
    )
    np.testing.assert_array_equal(np.flatnonzero(labels), np.arange(5, 9))


def test_what_the_user_left_open_is_set_on_a_clone():
    rng = np.random.RandomState(0)
    mine = KMeans(2)
    clone = make_clusterer(mine, 5, rng)
    assert clone.n_clusters == 5
    assert isinstance(clone.random_state, int)
    assert (mine.n_clusters, mine.random_state) == (2, None)
    assert make_clusterer(KMeans(2, random_state=7), None, rng).get_params()["n_clusters"] == 2
    assert make_clusterer(KMeans(2, random_state=7), None, rng).random_state == 7
    assert make_clusterer(GaussianMixture(2), 5, rng).n_components == 5
    assert make_clusterer(SpectralClustering(2), 5, rng).n_components is None
    assert make_clusterer(DBSCAN(), 5, rng).eps == 0.5
    pipeline = make_pipeline(StandardScaler(), KMeans(2))
    assert isinstance(make_clusterer(pipeline, 5, rng)[-1].random_state, int)


def test_names_stand_for_the_clusterers_of_the_paper():
    bgm = make_clusterer("bgm", 5, np.random.RandomState(0))
    assert isinstance(bgm, BayesianGaussianMixture)
    wanted = {"n_components": 5, "covariance_type": "tied", "init_params": "random"}
    wanted |= {"max_iter": 1000, "n_init": 10}
    assert {name: getattr(bgm, name) for name in wanted} == wanted
    leiden = make_clusterer("leiden", 5, np.random.RandomState(0))
    assert (leiden.n_clusters, leiden.n_neighbors) == (5, 50)


@pytest.mark.parametrize(
    ("clusterer", "number"),
    [
        (KMeans(3), 3),
        (GaussianMixture(4), 4),
        (make_pipeline(PCA(2), KMeans(3)), 3),
        (make_pipeline(PCA(2), GaussianMixture(4)), 4),
        (make_pipeline(PCA(2), DBSCAN()), None),
        (DBSCAN(), None),
        ("leiden", None),
        ("bgm", None),
    ],
)
def test_the_own_number_of_a_clusterer_is_known_and_set(clusterer, number):
    assert own_number(clusterer) == number
    if number is not None:
        assert own_number(make_clusterer(clusterer, 7, np.random.RandomState(0))) == 7


def test_domains_go_by_size_where_many_votes_are_tied():
    rng = np.random.RandomState(0)
    places = np.stack(np.divmod(np.arange(200), 14), axis=1)
    Z, around = rng.normal(size=(200, 3)), Neighbourhoods(places)
    for seed in range(5):
        _, labels = fitted(
            KMeans(8, n_init=1, random_state=seed), Z, around, refine=True, width_factor=0.5
        )
        assert (np.diff(np.bincount(labels, minlength=8)) <= 0).all()
