import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from skvae.spatial import Neighbourhoods, SpatialConsensus

SIDE = 36


def section(seed, side=SIDE):
    """Return features, places and layers of a section: a spot says little, its place more."""
    rng = np.random.default_rng(seed)
    row, column = np.divmod(np.arange(side * side), side)
    places = np.column_stack([column + row % 2 / 2, row * np.sqrt(3) / 2])
    layer = (3 * (row + 3 * np.sin(column / 6)) / side).clip(0, 2.9).astype(int)
    signal = np.random.default_rng(9).normal(size=(3, 25)) * 0.5
    X = signal[layer] + rng.normal(size=(side * side, 25)) * np.linspace(2, 0.7, 25)
    return X, places, layer


@pytest.fixture(scope="module")
def tissue():
    return section(0)


@pytest.fixture(scope="module")
def fitted(tissue):
    X, places, _ = tissue
    return SpatialConsensus(3, n_repeats=1, random_state=0).fit(X, coordinates=places)


def test_it_finds_layers_that_a_mixture_on_the_spots_alone_does_not(tissue, fitted):
    X, _, layer = tissue
    alone = SpatialConsensus(3, n_repeats=1, random_state=0).fit(X)
    assert adjusted_rand_score(layer, fitted.labels_) > 0.9
    assert adjusted_rand_score(layer, alone.labels_) < 0.5


def test_what_it_learnt_has_the_shapes_promised(tissue, fitted):
    assert fitted.proba_.shape == (SIDE * SIDE, 3)
    np.testing.assert_allclose(fitted.proba_.sum(axis=1), 1)
    np.testing.assert_array_equal(fitted.proba_.argmax(axis=1), fitted.labels_)
    assert np.all(np.diff(np.bincount(fitted.labels_)) <= 0)
    assert len(fitted.member_agreement_) == 45
    assert len(fitted.members_) == 27
    assert 0.5 < fitted.agreement_ <= 1
    assert fitted.width_factor_ == 1


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_domains_go_by_their_size_after_the_vote(seed):
    X, places, _ = section(seed, side=12)
    consensus = SpatialConsensus(7, n_repeats=1, n_starts=1, random_state=0)
    labels = consensus.fit(X, coordinates=places).labels_
    assert np.all(np.diff(np.bincount(labels, minlength=7)) <= 0)
    np.testing.assert_array_equal(consensus.predict(X, coordinates=places), labels)


def test_domains_of_few_noisy_spots_hardly_depend_on_the_seed():
    X, places, _ = section(3, side=16)
    one, other = (SpatialConsensus(3, n_repeats=1, random_state=seed) for seed in (0, 1))
    one.fit(X, coordinates=places)
    other.fit(X, coordinates=places)
    assert one.agreement_ < 0.8  # the mixtures themselves do depend on it
    assert adjusted_rand_score(one.labels_, other.labels_) > 0.9


def test_without_a_number_of_domains_it_chooses_one_and_keeps_the_curve(tissue, fitted):
    X, places, _ = tissue
    chosen = clone(fitted).set_params(n_clusters=None).fit(X, coordinates=places)
    best = chosen.selection_.stability[chosen.selection_.candidates == chosen.n_clusters_]
    assert chosen.n_clusters_ == chosen.selection_.n_clusters == chosen.proba_.shape[1]
    assert best > chosen.selection_.stability.max() - 0.1
    assert fitted.selection_ is None and fitted.n_clusters_ == 3


def test_predicting_the_training_slide_gives_its_labels(tissue, fitted):
    X, places, _ = tissue
    np.testing.assert_array_equal(fitted.predict_proba(X, coordinates=places), fitted.proba_)
    np.testing.assert_array_equal(fitted.predict(X, coordinates=places), fitted.labels_)


def test_a_new_slide_gets_the_same_label_ids_in_any_unit(tissue, fitted):
    layer = tissue[2]
    X, places, new_layer = section(1)
    predicted = fitted.predict(X, coordinates=places * 137 + 5000)
    name = [np.bincount(layer[fitted.labels_ == label]).argmax() for label in range(3)]
    assert np.mean(np.array(name)[predicted] == new_layer) > 0.9
    both = fitted.predict(
        np.vstack([X, tissue[0]]),
        coordinates=np.vstack([places * 137, tissue[1]]),
        slide=np.repeat(["new", "old"], len(X)),
    )
    np.testing.assert_array_equal(both, np.concatenate([predicted, fitted.labels_]))


def test_rotation_flip_and_scale_change_no_label(tissue, fitted):
    X, places, _ = tissue
    turned = places @ np.array([[0.6, 0.8], [0.8, -0.6]]) * 55
    again = clone(fitted).fit(X, coordinates=turned)
    assert np.mean(again.labels_ == fitted.labels_) > 0.995
    np.testing.assert_allclose(
        fitted.predict_proba(X, coordinates=turned), fitted.proba_, atol=1e-3
    )


def test_the_same_seed_gives_the_same_bits_and_leaves_numpy_alone(tissue, fitted):
    X, places, _ = tissue
    state = np.random.get_state()[1].copy()
    again = clone(fitted).fit(X, coordinates=places)
    np.testing.assert_array_equal(again.proba_, fitted.proba_)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_it_survives_pickle(tissue, fitted):
    X, places, _ = tissue
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X, coordinates=places), fitted.proba_)


def test_a_shift_of_the_features_changes_nothing(tissue, fitted):
    X, places, _ = tissue
    again = clone(fitted).fit(X + 100, coordinates=places)
    assert np.mean(again.labels_ == fitted.labels_) > 0.995


def test_mixtures_fitted_on_a_sample_label_all_spots(tissue, fitted):
    X, places, layer = tissue
    part = clone(fitted).set_params(max_fit_spots=500).fit(X, coordinates=places)
    assert len(part.labels_) == len(X)
    assert adjusted_rand_score(layer, part.labels_) > 0.9


def test_neighbourhoods_may_be_searched_beforehand(tissue, fitted):
    X, places, _ = tissue
    again = clone(fitted).fit(X, neighbourhoods=Neighbourhoods(places))
    np.testing.assert_array_equal(again.labels_, fitted.labels_)


def test_the_vote_can_be_left_out(tissue, fitted):
    X, places, _ = tissue
    rough = clone(fitted).set_params(refine=False).fit(X, coordinates=places)
    near = Neighbourhoods(places).nearest_matrix(18)
    voted = near @ rough.proba_ + rough.proba_
    np.testing.assert_allclose(voted / voted.sum(axis=1, keepdims=True), fitted.proba_, atol=1e-6)


@pytest.fixture(scope="module")
def image():
    """Return an image that tells the third layer from the others, clearly."""
    layer = section(0)[2]
    noise = np.random.default_rng(3).normal(size=(len(layer), 4))
    return 3.0 * (layer == 2)[:, None] + noise


def test_an_image_with_the_range_of_the_expression_is_joined(tissue, image):
    X, places, layer = tissue
    X = np.random.default_rng(5).normal(size=X.shape) + 1.0 * (layer == 0)[:, None]
    halves = SpatialConsensus(3, n_repeats=1, use_morphology=False, random_state=0)
    both = clone(halves).set_params(use_morphology="auto")
    halves.fit(X, coordinates=places, morphology=image)
    both.fit(X, coordinates=places, morphology=image)
    assert both.uses_morphology_ and not halves.uses_morphology_
    assert both.range_ratio_ == halves.range_ratio_ > 0.85
    assert adjusted_rand_score(layer, both.labels_) > 0.9
    assert adjusted_rand_score(layer, halves.labels_) < 0.8
    np.testing.assert_array_equal(
        both.predict(X, coordinates=places, morphology=image), both.labels_
    )
    in_another_unit = clone(both).fit(X, coordinates=places, morphology=1e5 * image)
    assert np.mean(in_another_unit.labels_ == both.labels_) > 0.995
    with pytest.raises(ValueError, match="morphology is missing"):
        both.predict(X, coordinates=places)
    with pytest.raises(ValueError, match="2 columns, but had 4 in fit"):
        both.predict(X, coordinates=places, morphology=image[:, :2])


def test_an_image_of_mere_texture_is_left_out(tissue, fitted):
    X, places, _ = tissue
    noise = np.random.default_rng(3).normal(size=(len(X), 4))
    texture = Neighbourhoods(places).gaussian_kernel(1.0) @ noise
    again = clone(fitted).fit(X, coordinates=places, morphology=texture)
    assert not again.uses_morphology_
    np.testing.assert_array_equal(again.labels_, fitted.labels_)
    np.testing.assert_array_equal(again.predict(X, coordinates=places), fitted.labels_)


@pytest.mark.parametrize("n_clusters", [1, 2, 12])
def test_few_odd_spots_are_borne(n_clusters):
    rng = np.random.default_rng(0)
    X = np.hstack([rng.normal(size=(12, 2)), np.ones((12, 1))])
    slide = [0] * 10 + [1, 2]
    places = np.vstack([np.zeros((4, 2)), rng.uniform(size=(8, 2))])
    consensus = SpatialConsensus(n_clusters, n_repeats=1, random_state=0)
    labels = consensus.fit_predict(X, coordinates=places, slide=slide)
    assert np.isfinite(consensus.proba_).all()
    assert labels.min() == 0 and labels.max() < n_clusters
    assert consensus.predict(X[:1], coordinates=places[:1]).shape == (1,)


def test_bad_input_is_named(tissue, fitted):
    X, places, _ = tissue
    with pytest.raises(ValueError, match=r"coordinates has 1296 rows, but X has 10"):
        SpatialConsensus().fit(X[:10], coordinates=places)
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=7"):
        SpatialConsensus().fit(X[:3], coordinates=places[:3])
    with pytest.raises(ValueError, match=r"X has 5 features, but .* expecting 25"):
        fitted.predict(X[:, :5], coordinates=places)
