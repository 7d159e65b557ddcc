"""The simulator of layered tissue is as hard as it is meant to be, and no harder."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skvae.datasets import make_spatial_domains


def components(counts):
    total = counts.sum(axis=1, keepdims=True)
    logs = np.log1p(counts / total * np.median(total))
    return PCA(15, random_state=0).fit_transform(logs)


def k_means(tissue, X):
    labels = KMeans(5, n_init=3, random_state=0).fit_predict(X)
    return adjusted_rand_score(tissue.domains, labels)


def smoothed(tissue, X, n_neighbors=6):
    """Score a tied mixture of the means of spots and their neighbours."""
    _, near = cKDTree(tissue.coordinates).query(tissue.coordinates, n_neighbors + 1)
    mixture = GaussianMixture(5, covariance_type="tied", n_init=3, random_state=0)
    return adjusted_rand_score(tissue.domains, mixture.fit_predict(X[near].mean(axis=1)))


@pytest.fixture(scope="module", params=[0, 1, 2])
def seen(request):
    """Return a tissue, and its genes, its image and both, on one scale."""
    tissue = make_spatial_domains(1600, random_state=request.param)
    genes = components(tissue.counts)
    image = tissue.morphology
    return tissue, genes, image, np.hstack([genes / genes.std(), image / image.std()])


class TestHowHardItIs:
    def test_a_spot_alone_says_little_and_its_neighbourhood_much(self, seen):
        tissue, genes, _, both = seen
        alone, near = k_means(tissue, genes), smoothed(tissue, genes, 18)
        assert alone < 0.25
        assert near > alone + 0.25
        assert k_means(tissue, both) < 0.35
        assert smoothed(tissue, both) > 0.7

    def test_genes_and_image_together_tell_more_than_either(self, seen):
        tissue, genes, image, both = seen
        alone = max(smoothed(tissue, genes), smoothed(tissue, image))
        assert smoothed(tissue, both) > alone + 0.05

    def test_each_modality_sees_every_second_border_faintly(self):
        steps = {"genes": [], "image": []}
        for seed in range(5):
            tissue = make_spatial_domains(1_000, 6, signal=2.0, random_state=seed)
            looks = {"genes": components(tissue.counts), "image": tissue.morphology}
            for name, X in looks.items():
                means = np.array([X[tissue.domains == k].mean(axis=0) for k in range(6)])
                steps[name].append(np.linalg.norm(np.diff(means, axis=0), axis=1))
        genes, image = (np.mean(steps[name], axis=0) for name in ("genes", "image"))
        assert genes[::2].max() < 0.8 * genes[1::2].min()
        assert image[1::2].max() < 0.8 * image[::2].min()

    def test_without_signal_there_is_nothing_to_find(self):
        tissue = make_spatial_domains(900, signal=0, random_state=0)
        both = np.hstack([components(tissue.counts), tissue.morphology])
        assert abs(smoothed(tissue, both)) < 0.05

    def test_more_signal_is_easier(self):
        easy, hard = (make_spatial_domains(900, signal=s, random_state=0) for s in (2.0, 0.7))
        assert smoothed(easy, components(easy.counts)) > 0.1 + smoothed(
            hard, components(hard.counts)
        )

    def test_slices_share_their_domains(self):
        tissue = make_spatial_domains(900, n_slides=2, signal=2.0, random_state=0)
        image = [tissue.morphology[tissue.slide == slide] for slide in (0, 1)]
        domains = [tissue.domains[tissue.slide == slide] for slide in (0, 1)]
        means = [
            np.array([X[d == k].mean(axis=0) for k in range(5)])
            for X, d in zip(image, domains, strict=True)
        ]
        # No batch: what differs between slices is far less than what differs between domains.
        assert np.linalg.norm(means[0] - means[1], axis=1).max() < 0.5
        assert np.linalg.norm(means[0][1:] - means[0][:-1], axis=1).min() > 1.0
        assert not np.array_equal(domains[0], domains[1])


class TestPlaces:
    @pytest.mark.parametrize(("lattice", "n_near"), [("hex", 6), ("square", 4)])
    def test_inner_spots_of_a_lattice_have_their_neighbours_at_distance_one(self, lattice, n_near):
        places = make_spatial_domains(900, lattice=lattice, n_features=2).coordinates
        distances = cKDTree(places).query(places, 8)[0][:, 1:]
        inner = np.all((places > 1.5) & (places < places.max(axis=0) - 1.5), axis=1)
        assert inner.sum() > 500
        np.testing.assert_allclose(distances[inner, :n_near], 1.0)
        assert (distances[inner, n_near:] > 1.4).all()

    def test_free_spots_lie_at_will_with_one_to_a_unit_of_area(self):
        places = make_spatial_domains(2_500, lattice="free", n_features=2).coordinates
        distances = cKDTree(places).query(places, 2)[0][:, 1]
        assert distances.std() > 0.25 * distances.mean()
        assert distances.min() > 0
        assert np.prod(np.ptp(places, axis=0)) == pytest.approx(2_500, rel=0.05)

    @pytest.mark.parametrize("lattice", ["hex", "square", "free"])
    def test_the_slice_is_about_a_square(self, lattice):
        width, height = np.ptp(
            make_spatial_domains(2_000, lattice=lattice, n_features=2).coordinates, axis=0
        )
        assert width == pytest.approx(height, rel=0.1)

    def test_domains_are_coherent_layers(self):
        tissue = make_spatial_domains(2_025, n_features=2, random_state=3)
        near = cKDTree(tissue.coordinates).query(tissue.coordinates, 7)[1][:, 1:]
        assert (tissue.domains[near] == tissue.domains[:, None]).mean() > 0.8
        # Layers touch the next ones only.
        assert np.abs(np.diff(tissue.domains[near], axis=1)).max() <= 2


class TestTheBunch:
    def test_shapes_types_and_order_of_the_slices(self):
        tissue = make_spatial_domains(50, 3, n_slides=2, n_features=20, random_state=0)
        assert tissue.counts.shape == (100, 20)
        assert tissue.counts.dtype == np.int32
        assert tissue.counts.min() == 0
        assert tissue.coordinates.shape == (100, 2)
        assert tissue.morphology.shape == (100, 15)
        assert tissue.slide.tolist() == [0] * 50 + [1] * 50
        for slide in (0, 1):
            assert set(tissue.domains[tissue.slide == slide]) == {0, 1, 2}

    def test_without_an_image(self):
        assert make_spatial_domains(50, morphology=False).morphology is None

    def test_the_smallest_tissue_has_each_domain_once(self):
        tissue = make_spatial_domains(4, 4, n_features=1)
        assert sorted(tissue.domains) == [0, 1, 2, 3]
        assert make_spatial_domains(1, 1).domains.tolist() == [0]

    def test_the_seed_tells_all_and_the_global_state_is_left_alone(self):
        np.random.seed(0)
        before = np.random.get_state()[1].copy()
        first, again, other, _ = (
            make_spatial_domains(60, 3, random_state=seed) for seed in (0, 0, 1, None)
        )
        assert np.array_equal(np.random.get_state()[1], before)
        for key in first:
            assert np.array_equal(first[key], again[key]), key
        assert not np.array_equal(first.counts, other.counts)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_spots": 3}, "n_spots=3, expected at least n_domains=5"),
        ({"n_domains": 0}, "n_domains=0, expected 1 or more"),
        ({"n_slides": 0}, "n_slides=0, expected 1 or more"),
        ({"n_features": 0}, "n_features=0, expected 1 or more"),
        ({"signal": -1}, "signal=-1, expected a number from 0"),
        ({"lattice": "cubic"}, r"lattice='cubic', expected one of \['hex', 'square', 'free'\]"),
    ],
)
def test_what_cannot_be_simulated_is_an_error(params, message):
    with pytest.raises(ValueError, match=message):
        make_spatial_domains(**params)
