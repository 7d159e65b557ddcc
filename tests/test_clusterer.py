"""``AEStetikClusterer``: domains, their embedding, and what it owes scikit-learn."""

import pickle
import subprocess
import sys
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import (
    DBSCAN,
    AgglomerativeClustering,
    FeatureAgglomeration,
    KMeans,
    MiniBatchKMeans,
)
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import skvae
from skvae import AEStetikClusterer
from skvae.datasets import make_spatial_domains
from skvae.spatial import Neighbourhoods, consensus, fit_tied_mixture
from skvae.spatial.preprocessing import CountsPCA

# Defined by scikit-learn, but not called by its check_estimator.
UNCALLED_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_inplace_ensure_writeable",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


def quick(n_clusters=4, **params):
    """Return a clusterer that fits a small slice in a fraction of a second."""
    small = {"n_repeats": 1, "max_steps": 20, "device": "cpu", "random_state": 0}
    return AEStetikClusterer(**{"n_clusters": n_clusters, **small, **params})


@pytest.fixture(scope="module", autouse=True)
def few_mixtures():
    """Make 9 mixtures instead of 45: the recipe has tests of its own in test_spatial_consensus."""
    with pytest.MonkeyPatch.context() as patch:
        few = (("maf", 12), ("multispati", 15), ("pca", 15))
        patch.setattr(consensus, "PROJECTIONS", few)
        patch.setattr(consensus, "JOINT_PROJECTIONS", (("maf", 8), ("maf", 12), ("maf", 16)))
        yield


@pytest.fixture(scope="module")
def tissue():
    return make_spatial_domains(600, 4, n_features=120, signal=1.5, n_slides=2, random_state=0)


@pytest.fixture(scope="module")
def one(tissue):
    """Components, coordinates, image and domains of the first slide."""
    rows = tissue.slide == 0
    return SimpleNamespace(
        X=CountsPCA(15).fit_transform(tissue.counts[rows]),
        counts=tissue.counts[rows],
        coordinates=tissue.coordinates[rows],
        morphology=tissue.morphology[rows],
        domains=tissue.domains[rows],
    )


@pytest.fixture(scope="module")
def fitted(one):
    return quick().fit(one.counts, coordinates=one.coordinates)


def annotated(one):
    return SimpleNamespace(
        X=one.counts.copy(),
        obs=pd.DataFrame(index=range(len(one.counts))),
        obsm={"spatial": one.coordinates.copy(), "X_image": one.morphology.copy()},
    )


@pytest.fixture(
    scope="module",
    params=[
        KMeans(),
        MiniBatchKMeans(n_init=3),
        GaussianMixture(covariance_type="tied"),
        AgglomerativeClustering(),
        DBSCAN(eps=0.7),
        "bgm",
        "leiden",
    ],
    ids=str,
)
def found(one, request):
    if request.param == "leiden":
        pytest.importorskip("igraph")
    clusterer = quick(n_components=4, max_steps=150, clusterer=request.param)
    return clusterer.fit(one.counts, coordinates=one.coordinates)


class TestContract:
    @parametrize_with_checks([quick(3, max_steps=3)])
    def test_sklearn_finds_nothing(self, estimator, check):
        check(estimator)

    # They fit with names and transform without, on purpose.
    @pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
    @pytest.mark.parametrize("name", UNCALLED_CHECKS)
    def test_sklearn_finds_nothing_in_what_it_does_not_call(self, name):
        getattr(estimator_checks, name)("AEStetikClusterer", quick(3, max_steps=3))

    def test_the_default_preset_is_the_default(self):
        assert AEStetikClusterer.from_preset("default").get_params() == (
            AEStetikClusterer().get_params()
        )

    def test_a_seed_gives_the_same_bits_and_leaves_numpy_alone(self, one, fitted):
        before = np.random.get_state()[1].copy()
        again = clone(fitted).fit(one.counts, coordinates=one.coordinates)
        np.testing.assert_array_equal(again.embedding_, fitted.embedding_)
        np.testing.assert_array_equal(again.labels_, fitted.labels_)
        np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_importing_it_needs_none_of_the_heavy_packages():
    names = {"scanpy", "squidpy", "lightning", "torchvision", "anndata", "igraph", "matplotlib"}
    code = f"import sys, skvae.clusterer; sys.exit(bool({names} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


class TestDomains:
    def test_they_beat_the_mean_of_a_spot_and_its_six_neighbours(self):
        tissue = make_spatial_domains(900, 5, random_state=0)
        X = CountsPCA(15).fit_transform(tissue.counts)
        around = Neighbourhoods(tissue.coordinates)
        mean = (around.nearest_matrix(6) @ X + X) / 7
        floor = fit_tied_mixture(mean, 5, np.random.RandomState(0)).posteriors(mean).argmax(axis=1)
        clusterer = quick(5).fit(
            tissue.counts, coordinates=tissue.coordinates, morphology=tissue.morphology
        )
        found = adjusted_rand_score(tissue.domains, clusterer.labels_)
        assert found > adjusted_rand_score(tissue.domains, floor) + 0.1
        assert found > 0.8
        assert clusterer.consensus_.uses_morphology_
        assert 0 < clusterer.agreement_ <= 1

    def test_predict_on_the_training_spots_gives_their_labels_and_embedding(self, one, fitted):
        places = {"coordinates": one.coordinates}
        np.testing.assert_array_equal(fitted.predict(one.counts, **places), fitted.labels_)
        np.testing.assert_array_equal(fitted.transform(one.counts, **places), fitted.embedding_)
        proba = fitted.predict_proba(one.counts, **places)
        np.testing.assert_allclose(proba.sum(axis=1), 1)

    def test_a_new_slide_gets_the_same_ids(self, tissue, fitted):
        rows = tissue.slide == 1
        labels = fitted.predict(tissue.counts[rows], coordinates=tissue.coordinates[rows])
        # As most training spots of a label lie in one domain, so must those of the new slide.
        names = np.array(
            [
                np.bincount(tissue.domains[~rows][fitted.labels_ == label], minlength=4).argmax()
                for label in range(4)
            ]
        )
        assert np.mean(names[labels] == tissue.domains[rows]) > 0.7

    def test_rotation_flip_and_unit_of_the_coordinates_do_not_matter(self, one, fitted):
        turned = one.coordinates @ np.array([[0.0, -3.0], [-3.0, 0.0]])
        Z = fitted.transform(one.counts, coordinates=turned)
        np.testing.assert_allclose(Z, fitted.embedding_, atol=1e-4)

    def test_their_number_can_be_left_open(self, one):
        clusterer = quick(None).fit(one.X, coordinates=one.coordinates)
        assert 2 <= clusterer.n_clusters_ <= 12
        assert set(clusterer.labels_) <= set(range(clusterer.n_clusters_))

    def test_the_embedding_holds_them_better_than_the_components(self, one):
        clusterer = quick(max_steps=100).fit(one.X, coordinates=one.coordinates)

        def nearest_mean(Z):
            means = np.array([Z[clusterer.labels_ == k].mean(axis=0) for k in range(4)])
            distances = np.square(Z[:, None] - means).sum(axis=2)
            return np.mean(distances.argmin(axis=1) == clusterer.labels_)

        assert nearest_mean(clusterer.embedding_) > nearest_mean(one.X) + 0.1

    @pytest.mark.parametrize("flip", [1.0, -1.0])
    @pytest.mark.parametrize("angle", [0.3, 2.0])
    def test_a_turned_flipped_and_slightly_moved_slice_has_the_same_domains(
        self, one, fitted, angle, flip
    ):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        jitter = 0.01 * np.random.RandomState(0).uniform(-1, 1, size=one.coordinates.shape)
        turned = 55.0 * (one.coordinates + jitter) * [flip, 1.0] @ turn + 1000.0
        Z = fitted.transform(one.counts, coordinates=turned)
        assert np.abs(Z - fitted.embedding_).max() < 0.06 * fitted.embedding_.std()
        labels = fitted.predict(one.counts, coordinates=turned)
        assert np.mean(labels == fitted.labels_) > 0.99

    def test_slides_are_kept_apart(self, tissue):
        # They lie over each other: as one slide, neighbours would be of another tissue.
        given = {"coordinates": tissue.coordinates, "slide": tissue.slide}
        clusterer = quick().fit(tissue.counts, **given)
        first = tissue.slide == 0
        alone = clusterer.transform(tissue.counts[first], coordinates=tissue.coordinates[first])
        np.testing.assert_allclose(clusterer.embedding_[first], alone, atol=1e-5)


class TestClusterer:
    """Domains by a clusterer of the embedding."""

    def test_any_finds_the_domains(self, one, found):
        given, known = {"coordinates": one.coordinates}, found.labels_ >= 0
        assert known.mean() > 0.7
        teacher = found.consensus_.labels_
        assert adjusted_rand_score(teacher[known], found.labels_[known]) > 0.6
        sizes = np.bincount(found.labels_[known])
        assert (np.diff(sizes) <= 0).all()
        if isinstance(found.clusterer, DBSCAN):
            assert not known.all()
        else:
            assert known.all()
            assert len(sizes) == found.n_clusters_ == 4
        np.testing.assert_array_equal(found.predict(one.counts, **given), found.labels_)
        assert np.isfinite(found.score(one.counts, **given))

    def test_new_spots_fall_mostly_where_the_consensus_puts_them(self, tissue, fitted, found):
        rows = tissue.slide == 1
        X, given = tissue.counts[rows], {"coordinates": tissue.coordinates[rows]}
        labels, proba = found.predict(X, **given), found.predict_proba(X, **given)
        known = labels >= 0
        assert adjusted_rand_score(fitted.predict(X, **given)[known], labels[known]) > 0.45
        np.testing.assert_allclose(proba.sum(axis=1), known)

    @pytest.mark.parametrize("keeper", [joblib, skvae])
    def test_they_are_kept_with_it(self, one, found, keeper, tmp_path):
        write = joblib.dump if keeper is joblib else skvae.save
        write(found, tmp_path / "domains")
        again = keeper.load(tmp_path / "domains")
        labels = again.predict(one.counts, coordinates=one.coordinates)
        np.testing.assert_array_equal(labels, found.labels_)

    def test_noise_is_missing_in_an_annotated_table(self, one, found):
        adata = annotated(one)
        found.annotate(adata)
        noise = found.labels_ < 0
        np.testing.assert_array_equal(adata.obs["aestetik"].isna(), noise)
        np.testing.assert_array_equal(
            adata.obs["aestetik"][~noise].astype(int), found.labels_[~noise]
        )

    def test_the_one_given_is_not_touched_and_takes_the_number_of_domains_and_a_seed(self, one):
        mine = KMeans(2)
        clusterer = quick(3, clusterer=mine).fit(one.X)
        assert not hasattr(mine, "labels_")
        assert clusterer.clusterer_.n_clusters == clusterer.n_clusters_ == 3
        np.testing.assert_array_equal(clone(clusterer).fit(one.X).labels_, clusterer.labels_)
        clusterer.set_params(n_clusters=None).fit(one.X)
        assert clusterer.clusterer_.n_clusters == clusterer.n_clusters_ == 2
        assert clusterer.consensus_.n_clusters == 2

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"clusterer": KMeans}, "an instance .* instead of a class"),
            ({"clusterer": "louvain"}, "'clusterer' parameter"),
            ({"pseudo_labels": "clusterer"}, "pseudo_labels='clusterer' needs a clusterer"),
            ({"refine": "confident"}, "refine='confident' needs a clusterer"),
            ({"clusterer": DBSCAN(eps=1e-9)}, "all 600 spots noise"),
            ({"clusterer": PCA(2)}, r"clusterer=PCA.* neither predict nor .* such as KMeans"),
            ({"clusterer": FeatureAgglomeration()}, "neither predict nor a label of each spot"),
            ({"clusterer": LogisticRegression()}, "learns from labels, and there are none"),
        ],
    )
    def test_what_cannot_work_is_refused(self, one, params, message):
        with pytest.raises((ValueError, TypeError), match=message):
            quick(**params).fit(one.X, coordinates=one.coordinates)


class TestNetwork:
    """What the parameters of the network do."""

    def fitted(self, one, *, neighbourhood="rings", **params):
        small = {"rings": {}, "window": {"max_steps": 4, "window_size": 3}}[neighbourhood]
        clusterer = quick(neighbourhood=neighbourhood, **{**small, **params})
        return clusterer.fit(one.X, coordinates=one.coordinates, morphology=one.morphology)

    @pytest.mark.parametrize("neighbourhood", ["rings", "window"])
    def test_likelihoods_are_the_errors_of_the_reconstruction(self, one, neighbourhood):
        plain, laplace = (
            self.fitted(one, neighbourhood=neighbourhood, likelihood=likelihood)
            for likelihood in ("gaussian", "laplace")
        )
        assert (plain.model_.reconstruction, laplace.model_.reconstruction) == ("mse", "l1")
        assert np.abs(plain.embedding_ - laplace.embedding_).max() > 1e-3

    @pytest.mark.parametrize("neighbourhood", ["rings", "window"])
    def test_weights_are_those_of_the_terms(self, one, neighbourhood):
        clusterer = self.fitted(
            one,
            neighbourhood=neighbourhood,
            use_morphology=True,
            triplet_weight=0.5,
            modality_weights=(2.0, 3.0),
        )
        log = clusterer.history_.iloc[0]
        expected = (
            2.0 * log["reconstruction_expression"]
            + 3.0 * log["reconstruction_morphology"]
            + 0.5 * 2.0 * log["triplet_expression"]
        )
        assert log["loss"] == pytest.approx(expected, rel=1e-5)

    def test_triplets_draw_domains_together(self, one):
        def spread(triplet_weight):
            found = self.fitted(one, triplet_weight=triplet_weight, max_steps=100)
            Z, labels = found.embedding_, found.labels_
            return np.sqrt(np.mean([Z[labels == k].var(axis=0).sum() for k in range(4)])) / Z.std()

        assert spread(3.0) < 0.7 * spread(0.0)

    def test_contrast_draws_neighbours_together(self, one):
        def far(contrast_weight):
            found = self.fitted(
                one, contrast_weight=contrast_weight, triplet_weight=0.0, max_steps=100
            )
            Z = found.embedding_ / np.linalg.norm(found.embedding_, axis=1, keepdims=True)
            near = Neighbourhoods(one.coordinates).nearest(1)[:, 0]
            return np.mean(np.sum(Z * Z[near], axis=1)) - np.mean(Z @ Z.T)

        assert far(1.0) > 1.2 * far(0.0)

    def test_hidden_layers_and_more_parameters_of_the_network_are_the_users(self, one):
        found = self.fitted(one, hidden_layer_sizes=(8, 5), model_params={"margin": 2.0})
        widths = [layer.out_features for layer in found.model_.encoder if hasattr(layer, "weight")]
        assert widths == [8, 5, found.embedding_.shape[1]]
        assert found.model_.margin == 2.0
        window = self.fitted(
            one,
            neighbourhood="window",
            hidden_layer_sizes=[6],
            model_params={"n_encoders": 2, "kernel_size": 2, "dropout": 0.1},
        )
        assert window.model_.encoder.layers[0].out_channels == 12

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"modality_weights": (1.0,)}, r"modality_weights=\(1.0,\), expected two numbers"),
            ({"modality_weights": (0.0, 0.0)}, "modality_weights are both 0"),
            ({"hidden_layer_sizes": (0,)}, r"hidden_layer_sizes must be whole numbers.*\(0,\)"),
            ({"model_params": {"margins": 1}}, r"'margins'.*SpatialStudent.*mean 'margin'"),
            ({"model_params": {"latent_dim": 1}}, r"'latent_dim'.*follows from"),
            ({"model_params": {"margin": -1.0}}, "margin=-1.0"),
            ({"likelihood": "l1"}, "'likelihood' parameter"),
            ({"triplet_weight": -1.0}, "'triplet_weight' parameter"),
        ],
    )
    def test_impossible_ones_are_named_before_the_domains_are_sought(
        self, one, params, message, monkeypatch
    ):
        monkeypatch.delattr("skvae.clusterer.find_pseudo_labels")
        with pytest.raises(ValueError, match=message):
            self.fitted(one, **params)

    def test_fewer_components_than_were_asked_for_are_warned_of(self, one):
        with pytest.warns(UserWarning, match="n_components=60 .* It has 15 components") as caught:
            found = quick(n_components=60).fit(one.X, coordinates=one.coordinates)
        assert found.embedding_.shape[1] == 15
        assert [warning.filename for warning in caught] == [__file__]
        # The default of 16 is silent.
        assert quick().fit(one.X, coordinates=one.coordinates).embedding_.shape[1] == 15

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"window_size": 4}, "window_size=4, expected an odd number"),
            ({"window_size": 1}, "'window_size' parameter"),
            ({"hidden_layer_sizes": (4, 4)}, "expected one number for windows"),
            ({"contrast_weight": 1.0}, "contrast_weight=1.0 goes with neighbourhood='rings'"),
        ],
    )
    def test_what_windows_cannot_do_is_named(self, one, params, message):
        with pytest.raises(ValueError, match=message):
            self.fitted(one, neighbourhood="window", **params)


class TestWindows:
    """The window of lattice cells as neighbourhood."""

    def quick(self, **params):
        small = {"max_steps": 4, "window_size": 3, "hidden_layer_sizes": (8,)}
        return quick(neighbourhood="window", **{**small, **params})

    @pytest.mark.parametrize("lattice", ["hex", "square"])
    def test_they_learn_the_domains(self, lattice):
        tissue = make_spatial_domains(400, 3, lattice=lattice, signal=1.5, random_state=0)
        X, given = CountsPCA(10).fit_transform(tissue.counts), {"coordinates": tissue.coordinates}
        clusterer = self.quick(
            n_clusters=3, max_steps=60, hidden_layer_sizes=(16,), clusterer=KMeans(), refine=False
        ).fit(X, **given)
        # Not trained, it is below a half.
        assert adjusted_rand_score(clusterer.consensus_.labels_, clusterer.labels_) > 0.8
        np.testing.assert_array_equal(clusterer.transform(X, **given), clusterer.embedding_)
        np.testing.assert_array_equal(clusterer.predict(X, **given), clusterer.labels_)
        assert clusterer.model_.rows is None  # the spots stay out of the file

    def test_the_consensus_stays_what_labels_without_a_clusterer(self, one):
        given = {"coordinates": one.coordinates}
        rings = quick().fit(one.X, **given)
        windows = self.quick().fit(one.X, **given)
        np.testing.assert_array_equal(rings.labels_, windows.labels_)
        assert np.isfinite(windows.embedding_).all()

    def test_slides_are_kept_apart_and_one_spot_is_a_slide(self, tissue):
        given = {"coordinates": tissue.coordinates, "slide": tissue.slide}
        clusterer = self.quick().fit(tissue.counts, **given)
        first = tissue.slide == 0
        alone = clusterer.transform(tissue.counts[first], coordinates=tissue.coordinates[first])
        np.testing.assert_allclose(clusterer.embedding_[first], alone, atol=1e-5)
        single = clusterer.transform(tissue.counts[:1], coordinates=tissue.coordinates[:1])
        assert np.isfinite(single).all()
        slide = tissue.slide.copy()
        slide[3] = 7
        both = clusterer.transform(tissue.counts, coordinates=tissue.coordinates, slide=slide)
        lone = clusterer.transform(tissue.counts[3:4], coordinates=tissue.coordinates[3:4])
        np.testing.assert_allclose(both[3], lone[0], atol=1e-5)

    @pytest.mark.parametrize("given", [{}, {"coordinates": "free"}])
    def test_they_need_a_lattice(self, one, given):
        if given:
            given = {"coordinates": np.random.RandomState(0).uniform(size=(600, 2))}
        with pytest.raises(ValueError, match=r"(needs coordinates|lattice).*neighbourhood='rings'"):
            self.quick().fit(one.X, **given)


class TestInput:
    @pytest.mark.parametrize("names", [True, False])
    def test_columns_say_the_same_as_keywords(self, one, names):
        coordinates, morphology = [15, 16], list(range(17, 32))
        table = np.hstack([one.X, one.coordinates, one.morphology])
        if names:
            table = pd.DataFrame(table, columns=[f"c{place}" for place in range(32)])
            coordinates = [f"c{place}" for place in coordinates]
            morphology = [f"c{place}" for place in morphology]
        by_column = quick(coordinates_columns=coordinates, morphology_columns=morphology)
        by_keyword = quick().fit(one.X, coordinates=one.coordinates, morphology=one.morphology)
        by_column.fit(table)
        np.testing.assert_array_equal(by_column.embedding_, by_keyword.embedding_)
        np.testing.assert_array_equal(by_column.predict(table), by_keyword.labels_)

    def test_sparse_counts_say_the_same_as_dense_ones(self, one, fitted):
        clusterer = quick().fit(sparse.csr_array(one.counts), coordinates=one.coordinates)
        assert isinstance(clusterer.expression_pca_, CountsPCA)
        np.testing.assert_array_equal(clusterer.labels_, fitted.labels_)

    def test_an_annotated_table_says_the_same_and_is_left_alone(self, one):
        adata = annotated(one)
        clusterer = quick().fit(adata)
        assert set(adata.obsm) == {"spatial", "X_image"}
        assert adata.obs.shape[1] == 0
        arrays = quick().fit(one.counts, coordinates=one.coordinates, morphology=one.morphology)
        np.testing.assert_array_equal(clusterer.labels_, arrays.labels_)
        clusterer.annotate(adata, key="domain")
        np.testing.assert_array_equal(adata.obs["domain"].astype(int), clusterer.labels_)
        np.testing.assert_array_equal(adata.obsm["X_domain"], clusterer.embedding_)

    @pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
    def test_many_features_that_are_no_counts_are_reduced(self, one, container):
        X = container(np.log1p(one.counts))
        clusterer = quick().fit(X, coordinates=one.coordinates)
        assert clusterer.expression_pca_.n_components_ == 50
        np.testing.assert_array_equal(
            clusterer.predict(X, coordinates=one.coordinates), clusterer.labels_
        )

    def test_duplicated_spots_constant_features_and_a_slide_of_one_spot_are_no_trouble(self, one):
        coordinates, slide = one.coordinates.copy(), np.zeros(600, dtype=int)
        coordinates[1], slide[7] = coordinates[0], 1
        X = np.hstack([one.X, np.full((600, 1), 2.5)])
        clusterer = quick().fit(X, coordinates=coordinates, slide=slide)
        assert np.isfinite(clusterer.embedding_).all()
        constant = quick().fit(np.full((600, 3), 2.5), coordinates=coordinates)
        assert np.isfinite(constant.embedding_).all()
        assert clusterer.predict(X[:1], coordinates=coordinates[:1]).shape == (1,)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"coordinates": np.zeros((7, 2))}, "coordinates has 7 rows"),
            ({"coordinates": np.full((600, 2), np.nan)}, "coordinates holds NaN"),
            ({"coordinates": np.arange(600) % 4}, "labels of slides go into slide="),
            ({"morphology": np.full((600, 2), np.nan)}, "morphology holds NaN"),
            ({"slide": np.zeros(600)}, "slide was given without coordinates"),
            ({"coordinates": np.eye(600)[:, :2], "slide": [0] * 7}, "slide has 7 rows"),
            ({"morphology": np.zeros((7, 2))}, "morphology has 7 rows"),
            ({"coordinates": np.eye(600)[:, :1]}, r"\(600, 1\)"),
            ({"coordinates": sparse.csr_array(np.eye(600)[:, :2])}, "for coordinates.*toarray"),
            ({"coordinates": 3.0}, r"coordinates must have shape .* but their shape is \(\)"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, one, given, message):
        with pytest.raises((ValueError, TypeError), match=message):
            quick().fit(one.X, **given)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"coordinates": [["a", "b"]] * 600}, "coordinates must hold numbers.*'a'.*_columns="),
            ({"coordinates": [[0, 1]] * 599 + [[2]]}, "coordinates has rows of different lengths"),
            ({"coordinates": np.eye(600)[:, :2] * 1j}, "coordinates must hold numbers.*Complex"),
            ({"coordinates": np.eye(600)[:, :2] * 1e300}, r"reach 1e\+300.*larger unit"),
            ({"coordinates": np.eye(600)[:, :2] * 1e40}, r"reach 1e\+40.*larger unit"),
            ({"morphology": [["a"]] * 600}, "morphology must hold numbers"),
            ({"morphology": np.empty((600, 0))}, r"\(600, 0\)"),
            (
                {"coordinates": np.eye(600)[:, :2], "slide": pd.array([pd.NA] * 600, "string")},
                "slide holds 600 missing labels",
            ),
            ({"y": np.eye(600)[:, :2]}, "y of shape .* pass them as coordinates="),
        ],
    )
    @pytest.mark.parametrize("method", ["fit", "fit_predict", "fit_transform"])
    def test_what_a_newcomer_may_pass_by_mistake_is_named(self, one, method, given, message):
        with pytest.raises(ValueError, match=message):
            getattr(quick(), method)(one.X, **given)

    def test_constant_features_that_are_reduced_are_no_trouble(self, one):
        clusterer = quick().fit(np.full((600, 60), 2.5), coordinates=one.coordinates)
        assert np.isfinite(clusterer.embedding_).all()

    @pytest.mark.parametrize("change", [np.log1p, np.negative])
    def test_counts_are_asked_for_where_fit_had_them(self, one, fitted, change):
        with pytest.raises(ValueError, match="found from counts"):
            fitted.predict(change(one.counts), coordinates=one.coordinates)

    @pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
    def test_negative_counts_are_refused(self, one, container):
        counts = one.counts.astype(float)
        counts[3, 5] = -1
        with pytest.raises(ValueError, match=r"whole numbers.* 1 of them are negative"):
            quick().fit(container(counts), coordinates=one.coordinates)

    def test_names_of_spots_as_slides_are_warned_of(self, one):
        names = [f"spot {place}" for place in range(600)]
        with pytest.warns(UserWarning, match="no spot has a neighbour"):
            quick().fit(one.X, coordinates=one.coordinates, slide=names)

    def test_only_an_annotated_table_is_annotated(self, one, fitted):
        with pytest.raises(TypeError, match=r"adata must be an AnnData.*got ndarray"):
            fitted.annotate(one.counts)

    @pytest.mark.parametrize(
        "name", ["agreement_", "clusterer_", "consensus_", "expression_pca_", "morphology_pca_"]
    )
    def test_what_is_not_fitted_has_no_results(self, name):
        with pytest.raises(NotFittedError, match="AEStetikClusterer"):
            getattr(quick(), name)
        assert not hasattr(quick(), name)

    def test_sparse_features_that_stay_as_they_are_are_refused(self, one):
        with pytest.raises(ValueError, match=r"X is sparse.*X\.toarray"):
            quick().fit(sparse.csr_array(one.X), coordinates=one.coordinates)

    def test_other_columns_are_refused(self, one):
        table = pd.DataFrame(one.X).add_prefix("pc")
        clusterer = quick().fit(table)
        with pytest.raises(ValueError, match="feature names"):
            clusterer.predict(table.rename(columns={"pc3": "gene"}))

    def test_spots_that_all_lie_on_one_place_are_no_trouble(self, one):
        clusterer = quick().fit(one.X, coordinates=np.ones((600, 2)))
        assert np.isfinite(clusterer.embedding_).all()

    @pytest.mark.parametrize(("n_spots", "n_clusters"), [(1, 4), (1, 1), (1, None), (3, 4)])
    def test_too_few_spots_are_refused(self, one, n_spots, n_clusters):
        message = f"n_samples={n_spots} .*n_clusters={n_clusters}.*: lower n_clusters"
        with pytest.raises(ValueError, match=message):
            quick(n_clusters).fit(one.X[:n_spots], coordinates=one.coordinates[:n_spots])

    @pytest.mark.parametrize("n_clusters", [1, 2, None])
    def test_two_spots_are_enough(self, one, n_clusters):
        clusterer = quick(n_clusters).fit(one.X[:2], coordinates=one.coordinates[:2])
        assert clusterer.labels_.shape == (2,)
        assert np.isfinite(clusterer.embedding_).all()

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"coordinates_columns": ["x", "y"]}, "coordinates_columns holds 'x'"),
            ({"coordinates_columns": [0, 15]}, "coordinates_columns holds 15"),
            ({"coordinates_columns": [0, 1], "morphology_columns": [1]}, "columns of coordinates"),
            ({"morphology_columns": range(15)}, "no features"),
            ({"coordinates_columns": [3, -12]}, "names a column twice"),
            ({"coordinates_columns": [True, False]}, "holds True, which is no column"),
        ],
    )
    def test_wrong_columns_are_named(self, one, params, message):
        with pytest.raises(ValueError, match=message):
            quick(**params).fit(one.X)

    def test_coordinates_are_given_once(self, one):
        with pytest.raises(ValueError, match="use one of them"):
            quick(coordinates_columns=[0, 1]).fit(one.X, coordinates=one.coordinates)

    def test_predict_asks_for_what_fit_had(self, one, fitted):
        with pytest.raises(ValueError, match="coordinates is missing"):
            fitted.predict(one.counts)
        with pytest.raises(ValueError, match="119 features"):
            fitted.predict(one.counts[:, 1:], coordinates=one.coordinates)
        with pytest.raises(ValueError, match="fit had none"):
            quick().fit(one.X).transform(one.X, coordinates=one.coordinates)
        given = {"coordinates": one.coordinates, "morphology": one.morphology}
        both = quick(use_morphology=True).fit(one.X, **given)
        with pytest.raises(ValueError, match="morphology is missing"):
            both.transform(one.X, coordinates=one.coordinates)


class TestFailure:
    """What is left of an earlier fit."""

    @staticmethod
    def raising(error):
        def callback(log):
            raise error

        return [callback]

    @pytest.mark.parametrize("fault", ["refused", "late"])
    def test_a_fit_that_fails_leaves_the_one_before_whole(self, one, fault):
        clusterer = quick(3).fit(one.X, coordinates=one.coordinates)
        before = dict(vars(clusterer))
        labels = clusterer.labels_.copy()
        X, given = one.X[:, :9], {"coordinates": one.coordinates}
        if fault == "late":
            clusterer.set_params(callbacks=self.raising(RuntimeError("at the end of an epoch")))
        else:
            given["morphology"] = np.full((600, 2), np.nan)
        with pytest.raises((RuntimeError, ValueError), match=r"end of an epoch|NaN"):
            clusterer.fit(X, **given)
        clusterer.set_params(callbacks=None)
        assert {name for name in vars(clusterer) if vars(clusterer)[name] is not before[name]} <= {
            "callbacks"
        }
        np.testing.assert_array_equal(clusterer.predict(one.X, coordinates=one.coordinates), labels)

    def test_an_interrupt_is_passed_on_and_leaves_it_unfitted(self, one):
        clusterer = quick(3).fit(one.X, coordinates=one.coordinates)
        clusterer.set_params(callbacks=self.raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            clusterer.fit(one.X, coordinates=one.coordinates)
        with pytest.raises(NotFittedError):
            clusterer.predict(one.X, coordinates=one.coordinates)


class TestPersistence:
    @pytest.mark.parametrize("way", ["pickle", "save"])
    def test_a_copy_gives_the_same_bits(self, tissue, fitted, way, tmp_path):
        if way == "pickle":
            again = pickle.loads(pickle.dumps(fitted))
        else:
            skvae.save(fitted, tmp_path / "domains.skvae")
            again = skvae.load(tmp_path / "domains.skvae")
        rows = tissue.slide == 1
        X, given = tissue.counts[rows], {"coordinates": tissue.coordinates[rows]}
        np.testing.assert_array_equal(again.transform(X, **given), fitted.transform(X, **given))
        np.testing.assert_array_equal(
            again.predict_proba(X, **given), fitted.predict_proba(X, **given)
        )
        assert again.score(X, **given) == fitted.score(X, **given)

    def test_a_configuration_brings_its_parameters_back(self):
        clusterer = quick(None, coordinates_columns=("x", "y"))
        again = skvae.from_config(skvae.to_config(clusterer))
        assert again.get_params() == clusterer.get_params()

    def test_components_of_wide_features_are_saved_too(self, one, tmp_path):
        X, given = np.log1p(one.counts), {"coordinates": one.coordinates}
        clusterer = quick().fit(X, **given)
        skvae.save(clusterer, tmp_path / "domains.skvae")
        again = skvae.load(tmp_path / "domains.skvae")
        np.testing.assert_array_equal(again.transform(X, **given), clusterer.embedding_)


class TestRouting:
    def test_a_pipeline_and_a_search_hand_coordinates_on(self, one):
        with sklearn.config_context(enable_metadata_routing=True):
            pipeline = Pipeline([("pca", PCA(10, random_state=0)), ("domains", quick())])
            pipeline.fit(one.X, coordinates=one.coordinates)
            labels = pipeline.predict(one.X, coordinates=one.coordinates)
            np.testing.assert_array_equal(labels, pipeline["domains"].labels_)
            grid = {"domains__n_clusters": [3, 4]}
            search = GridSearchCV(pipeline, grid, cv=2, error_score="raise")
            search.fit(one.X, coordinates=one.coordinates)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_estimator_["domains"]._reader.is_spatial

    def test_columns_need_no_routing(self, one):
        table = np.hstack([one.coordinates, one.X])
        search = GridSearchCV(
            quick(coordinates_columns=[0, 1]), {"n_clusters": [3, 4]}, cv=2, error_score="raise"
        )
        assert np.isfinite(search.fit(table).cv_results_["mean_test_score"]).all()

    def test_the_score_weighs_spots(self, one, fitted):
        weight = (np.arange(600) < 200).astype(float)
        given = {"coordinates": one.coordinates}
        scored = fitted.mixture_.score_samples(fitted.embedding_)
        assert fitted.score(one.counts, **given) == pytest.approx(scored.mean())
        weighted = fitted.score(one.counts, sample_weight=weight, **given)
        assert weighted == pytest.approx(scored[:200].mean())
        with pytest.raises(ValueError, match="sample_weight"):
            fitted.score(one.counts, sample_weight=weight[:9], **given)
