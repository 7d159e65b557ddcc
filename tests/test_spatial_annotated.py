"""AnnData by its looks: a stand-in without the package, and the real one where it is installed."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

import skvae
from skvae import AEStetikClusterer
from skvae.datasets import make_spatial_domains
from skvae.spatial.annotated import (
    annotate,
    is_annotated,
    order_genes,
    read_annotated,
    read_totals,
)

N_SPOTS = 12
N_GENES = 60


def make_adata(obsm=(), obs=(), X="counts", **others):
    """Return what looks like an AnnData; by default with counts and pixels only."""
    rng = np.random.default_rng(0)
    index = [f"spot{i}" for i in range(N_SPOTS)]
    arrays = {"spatial": rng.uniform(0, 100, (N_SPOTS, 2)), **dict(obsm)}
    return SimpleNamespace(
        X=sparse.csr_matrix(rng.poisson(1.0, (N_SPOTS, 9))) if isinstance(X, str) else X,
        obs=pd.DataFrame(dict(obs), index=index),
        obsm={name: array for name, array in arrays.items() if array is not None},
        layers=others.get("layers", {}),
    )


def block(n_features, value=0.0):
    return np.full((N_SPOTS, n_features), value)


class TestFeatures:
    def test_components_come_before_counts_and_the_transcriptomic_ones_before_the_others(self):
        adata = make_adata()
        assert read_annotated(adata).X is adata.X
        adata.obsm["X_pca"] = block(3)
        assert read_annotated(adata).X.shape == (N_SPOTS, 3)
        adata.obsm["X_pca_transcriptomics"] = block(4)
        assert read_annotated(adata).X.shape == (N_SPOTS, 4)

    def test_the_user_may_name_a_key_a_layer_or_x(self):
        adata = make_adata({"X_pca": block(3), "X_scVI": block(5)}, layers={"counts": block(9, 2)})
        assert read_annotated(adata, representation="X_scVI").X.shape == (N_SPOTS, 5)
        assert read_annotated(adata, representation="counts").X[0, 0] == 2
        assert read_annotated(adata, representation="X").X is adata.X

    def test_a_frame_becomes_an_array_and_whole_numbers_stay_whole(self):
        adata = make_adata({"X_pca": pd.DataFrame(block(3))}, X=np.ones((N_SPOTS, 4), dtype=int))
        assert isinstance(read_annotated(adata).X, np.ndarray)
        assert read_annotated(adata, representation="X").X.dtype.kind == "i"

    def test_a_key_that_is_not_there_is_an_error_that_says_what_is(self):
        with pytest.raises(KeyError, match=r"'X_scvi' is not in adata: obsm holds \['spatial'\]"):
            read_annotated(make_adata(), representation="X_scvi")

    def test_an_empty_x_is_an_error_that_says_what_was_looked_for(self):
        with pytest.raises(KeyError, match=r"adata.X is empty, and obsm has none of \['X_pca_tr"):
            read_annotated(make_adata(X=None))


class TestCoordinates:
    def test_pixels_come_first(self):
        adata = make_adata(obs={"array_row": range(N_SPOTS), "array_col": range(N_SPOTS)})
        np.testing.assert_array_equal(read_annotated(adata).coordinates, adata.obsm["spatial"])

    @pytest.mark.parametrize("names", [("array_row", "array_col"), ("y_array", "x_array")])
    def test_rows_and_columns_of_a_square_array_stand_in_for_them(self, names):
        row, column = np.divmod(np.arange(N_SPOTS), 4)
        adata = make_adata({"spatial": None}, {names[0]: row, names[1]: column})
        np.testing.assert_array_equal(read_annotated(adata).coordinates, np.c_[column, row])

    def test_the_array_of_visium_is_stretched_to_its_hexagons(self):
        row, step = np.divmod(np.arange(100), 10)
        column = 2 * step + row % 2
        adata = make_adata({"spatial": None}, X=np.ones((100, 2)))
        adata.obs = pd.DataFrame({"array_row": row, "array_col": column})
        places = read_annotated(adata).coordinates
        distances = cKDTree(places).query(places[45], 8)[0]
        np.testing.assert_allclose(distances[1:7], distances[1])
        assert distances[7] > 1.5 * distances[1]

    def test_the_user_may_name_a_key_or_two_columns(self):
        xy = {"x": np.arange(12.0), "y": -np.arange(12.0)}
        adata = make_adata({"um": block(3, 7)}, xy)
        assert read_annotated(adata, coordinates="um").coordinates.tolist() == block(3, 7).tolist()
        assert read_annotated(adata, coordinates=["x", "y"]).coordinates[3].tolist() == [3, -3]

    def test_without_any_the_error_says_where_was_looked(self):
        adata = make_adata({"spatial": None, "X_pca": block(2)}, {"layer": range(N_SPOTS)})
        with pytest.raises(KeyError) as error:
            read_annotated(adata)
        for part in ("obsm['spatial']", "'array_row'", "'x_array'", "['X_pca']", "['layer']"):
            assert part in str(error.value)

    @pytest.mark.parametrize(
        ("named", "error", "message"),
        [
            ("um", KeyError, "coordinates='um' is not in adata"),
            (["x", "y"], KeyError, r"looked for in obs\['x'\]"),
            (["x", "y", "z"], ValueError, "expected a key of obsm or two columns of obs"),
            ("names", ValueError, r"obsm\['names'\] of adata does not hold numbers"),
            ("line", ValueError, r"has shape \(12,\), expected 2 axes"),
        ],
    )
    def test_wrong_names_are_errors(self, named, error, message):
        adata = make_adata({"names": np.full((N_SPOTS, 2), "a"), "line": np.arange(12)})
        with pytest.raises(error, match=message):
            read_annotated(adata, coordinates=named)


class TestMorphology:
    def test_there_is_none_by_itself(self):
        assert read_annotated(make_adata()).morphology is None

    def test_a_key_of_the_usual_names_is_found_and_may_be_left(self):
        adata = make_adata({"X_image": block(2), "X_pca_morphology": block(6)})
        assert read_annotated(adata).morphology.shape == (N_SPOTS, 6)
        assert read_annotated(adata, image_representation="X_image").morphology.shape[1] == 2
        assert read_annotated(adata, image_representation=False).morphology is None

    def test_a_key_that_is_not_there_is_an_error(self):
        with pytest.raises(KeyError, match="image_representation='X_resnet' is not in adata"):
            read_annotated(make_adata(), image_representation="X_resnet")


class TestSlides:
    def test_the_first_column_with_several_names_tells_them(self):
        several = pd.Categorical(list("ab" * 6))
        adata = make_adata(obs={"library_id": "one", "batch": several, "sample": range(N_SPOTS)})
        assert read_annotated(adata).slide.tolist() == list("ab" * 6)
        assert read_annotated(adata, slide_key="sample").slide.tolist() == list(range(N_SPOTS))

    def test_one_slide_is_none(self):
        adata = make_adata(obs={"library_id": "one"})
        assert read_annotated(adata).slide is None
        assert read_annotated(adata, slide_key="library_id").slide is None

    def test_a_spot_without_a_slide_is_an_error(self):
        adata = make_adata(obs={"batch": ["a", None] * 6})
        with pytest.raises(ValueError, match=r"obs\['batch'\] is to name .* 6 of 12 are missing"):
            read_annotated(adata)

    def test_a_column_that_is_not_there_is_an_error(self):
        with pytest.raises(KeyError, match=r"The slides are looked for in obs\['donor'\]"):
            read_annotated(make_adata(), slide_key="donor")


def test_totals_are_read_where_there_are_any():
    assert read_totals(make_adata()) is None
    adata = make_adata(obs={"sum_umi": np.arange(N_SPOTS), "mine": 3})
    assert read_totals(adata).tolist() == list(range(N_SPOTS))
    assert read_totals(adata, "mine").tolist() == [3] * N_SPOTS
    with pytest.raises(KeyError, match=r"The totals are looked for in obs\['umi'\]"):
        read_totals(adata, "umi")


def test_what_is_annotated_is_told_by_its_attributes():
    assert is_annotated(make_adata())
    assert is_annotated(SimpleNamespace(tables={}))
    assert not is_annotated(pd.DataFrame({"a": [1]}))
    assert not is_annotated(np.ones((2, 2)))


def test_the_one_table_of_a_spatialdata_is_read():
    adata = make_adata()
    assert read_annotated(SimpleNamespace(tables={"table": adata})).X is adata.X
    with pytest.raises(ValueError, match=r"holds the tables \['a', 'b'\], expected one"):
        read_annotated(SimpleNamespace(tables={"a": adata, "b": adata}))


def test_reading_changes_nothing():
    adata = make_adata({"X_pca": pd.DataFrame(block(3))}, {"batch": list("ab" * 6)})
    before = copy.deepcopy(adata)
    read_annotated(adata)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert adata.obsm.keys() == before.obsm.keys()
    pd.testing.assert_frame_equal(adata.obsm["X_pca"], before.obsm["X_pca"])
    assert np.array_equal(adata.obsm["spatial"], before.obsm["spatial"])
    assert (adata.X != before.X).nnz == 0


class TestAnnotate:
    def test_it_writes_categories_embedding_and_probabilities(self):
        adata = make_adata()
        labels = np.arange(N_SPOTS) % 3
        assert annotate(adata, labels, block(2, 1), block(3, 1 / 3), key="domain") is adata
        assert adata.obs["domain"].tolist() == [str(label) for label in labels]
        assert adata.obs["domain"].cat.categories.tolist() == ["0", "1", "2"]
        assert adata.obsm["X_domain"].tolist() == block(2, 1).tolist()
        assert adata.obsm["domain_proba"].shape == (N_SPOTS, 3)

    def test_the_probabilities_name_domains_that_this_slice_lacks(self):
        adata = annotate(make_adata(), np.zeros(N_SPOTS, dtype=int), proba=block(11))
        assert adata.obs["aestetik"].cat.categories.tolist() == [str(i) for i in range(11)]
        assert "X_aestetik" not in adata.obsm

    def test_categories_stand_in_the_order_of_numbers(self):
        adata = annotate(make_adata(), np.arange(N_SPOTS))
        assert adata.obs["aestetik"].cat.categories[-2:].tolist() == ["10", "11"]

    def test_what_is_written_is_a_copy(self):
        embedding = block(2)
        adata = annotate(make_adata(), np.zeros(N_SPOTS, dtype=int), embedding)
        embedding[:] = 9
        assert adata.obsm["X_aestetik"].max() == 0

    def test_rows_of_other_spots_are_an_error_and_nothing_is_written(self):
        adata = make_adata()
        with pytest.raises(ValueError, match="'X_aestetik' has 5 rows, and adata 12 spots"):
            annotate(adata, np.zeros(N_SPOTS), np.zeros((5, 2)))
        assert list(adata.obs) == []
        assert list(adata.obsm) == ["spatial"]


def test_anndata_is_not_imported():
    code = "import sys, skvae.spatial.annotated; sys.exit('anndata' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class TestGenes:
    def test_they_are_named_where_the_features_are_genes(self):
        adata = make_adata({"X_pca": block(3)}, layers={"counts": np.ones((N_SPOTS, 9))})
        adata.var_names = pd.Index(list("ABCDEFGHI"))
        assert read_annotated(adata).gene_names is None
        for key in ("X", "counts"):
            names = read_annotated(adata, representation=key).gene_names
            assert names.tolist() == list("ABCDEFGHI")

    @pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_array])
    def test_columns_are_put_in_the_order_expected_and_others_left_out(self, kind):
        X = order_genes(kind(np.arange(6).reshape(2, 3)), ["A", "B", "C"], ["C", "A"])
        X = X.toarray() if sparse.issparse(X) else X
        assert X.tolist() == [[2, 0], [5, 3]]

    def test_genes_that_are_missing_or_several_are_errors(self):
        X = np.ones((2, 3))
        with pytest.raises(ValueError, match=r"1 of the 2 genes of fit .* such as \['D'\]"):
            order_genes(X, ["A", "B", "C"], ["A", "D"])
        with pytest.raises(
            ValueError, match=r"'B' names several: call adata.var_names_make_unique"
        ):
            order_genes(X, ["A", "B", "B"], ["A", "B"])
        assert order_genes(X, ["A", "B", "B"], ["A", "B", "B"]) is X


class TestTheRealOne:
    @pytest.fixture
    def adata(self):
        anndata = pytest.importorskip("anndata")
        fake = make_adata({"X_pca": block(3)}, {"batch": list("ab" * 6)})
        return anndata.AnnData(fake.X.astype(float), obs=fake.obs, obsm=fake.obsm)

    def test_it_is_read_and_annotated(self, adata):
        X, coordinates, morphology, slide, _ = read_annotated(adata)
        assert (X.shape, coordinates.shape, morphology) == ((N_SPOTS, 3), (N_SPOTS, 2), None)
        assert slide.tolist() == list("ab" * 6)
        annotate(adata, np.arange(N_SPOTS) % 2, X)
        assert adata.obs["aestetik"].cat.categories.tolist() == ["0", "1"]
        assert adata.obsm["X_aestetik"].shape == (N_SPOTS, 3)

    def test_a_part_of_it_is_read(self, adata):
        part = adata[adata.obs["batch"] == "a"]
        found = read_annotated(part, representation="X")
        assert sparse.issparse(found.X)
        assert found.X.shape == (6, 9)
        assert found.slide is None
        assert type(read_annotated(part).X) is np.ndarray

    def test_a_file_that_backs_it_is_read(self, adata, tmp_path):
        import anndata

        adata.write_h5ad(tmp_path / "spots.h5ad")
        backed = anndata.read_h5ad(tmp_path / "spots.h5ad", backed="r")
        found = read_annotated(backed, representation="X").X
        assert (found != adata.X).nnz == 0
        backed.file.close()


@pytest.fixture(scope="module")
def tissue():
    return make_spatial_domains(200, 3, n_features=N_GENES, signal=2.0, n_slides=2, random_state=0)


@pytest.fixture(scope="module")
def real(tissue):
    anndata = pytest.importorskip("anndata")
    n_spots = len(tissue.domains)
    return anndata.AnnData(
        sparse.csr_matrix(tissue.counts, dtype=np.float32),
        obs=pd.DataFrame(
            {
                "sample": pd.Categorical(tissue.slide.astype(str)),
                "total_counts": tissue.counts.sum(axis=1),
            },
            index=[f"spot{i}" for i in range(n_spots)],
        ),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)]),
        obsm={"spatial": tissue.coordinates, "X_image": tissue.morphology},
        layers={"twice": 2 * tissue.counts},
        uns={"note": "mine"},
    )


def quick():
    return AEStetikClusterer(3, n_repeats=1, max_steps=10, device="cpu", random_state=0)


@pytest.fixture(scope="module")
def fitted(real):
    return quick().fit(real.copy())


class TestFittingTheRealOne:
    """``AEStetikClusterer`` on real AnnData."""

    def test_it_is_what_the_arrays_in_it_are(self, real, tissue, fitted):
        arrays = quick().fit(
            real.X.toarray(),
            coordinates=tissue.coordinates,
            morphology=tissue.morphology,
            slide=tissue.slide,
        )
        np.testing.assert_array_equal(fitted.labels_, arrays.labels_)
        assert fitted.consensus_.n_morphology_features_ > 0

    @pytest.mark.parametrize("form", ["csc", "dense", "integers", "view"])
    def test_its_form_changes_nothing(self, real, fitted, form):
        other = real.copy()
        if form == "view":
            other = other[np.arange(len(other))]
        else:
            other.X = {
                "csc": sparse.csc_matrix,
                "dense": lambda X: X.toarray(),
                "integers": lambda X: X.astype(np.int64),
            }[form](other.X)
        np.testing.assert_array_equal(fitted.predict(other), fitted.labels_)
        np.testing.assert_allclose(fitted.transform(other), fitted.embedding_, atol=1e-4)

    def test_a_file_that_backs_it_will_do(self, real, fitted, tmp_path):
        import anndata

        real.write_h5ad(tmp_path / "spots.h5ad")
        backed = anndata.read_h5ad(tmp_path / "spots.h5ad", backed="r")
        np.testing.assert_array_equal(fitted.predict(backed), fitted.labels_)
        assert backed.isbacked
        backed.file.close()

    def test_nothing_but_annotate_changes_it(self, real, fitted):
        used, before = real.copy(), real.copy()
        quick().fit(used)
        for method in ("predict", "predict_proba", "transform", "score"):
            getattr(fitted, method)(used)
        assert (used.X != before.X).nnz == 0
        pd.testing.assert_frame_equal(used.obs, before.obs)
        pd.testing.assert_frame_equal(used.var, before.var)
        assert set(used.obsm) == set(before.obsm)
        for key in before.obsm:
            np.testing.assert_array_equal(used.obsm[key], before.obsm[key])
        np.testing.assert_array_equal(used.layers["twice"], before.layers["twice"])
        assert dict(used.uns) == dict(before.uns)

    def test_annotate_writes_what_predict_and_transform_return(self, real, fitted, tmp_path):
        import anndata

        part = real[real.obs["sample"] == "1"].copy()
        assert fitted.annotate(part, key="domain") is part
        assert part.obs["domain"].astype(int).tolist() == fitted.predict(part).tolist()
        assert part.obs["domain"].cat.categories.tolist() == ["0", "1", "2"]
        np.testing.assert_array_equal(part.obsm["X_domain"], fitted.transform(part))
        np.testing.assert_array_equal(part.obsm["domain_proba"], fitted.predict_proba(part))
        part.write_h5ad(tmp_path / "annotated.h5ad")
        again = anndata.read_h5ad(tmp_path / "annotated.h5ad")
        assert again.obs["domain"].tolist() == part.obs["domain"].tolist()

    def test_genes_of_another_slice_are_found_by_their_names(self, real, fitted, tmp_path):
        order = np.random.default_rng(0).permutation(N_GENES)
        np.testing.assert_array_equal(fitted.predict(real[:, order]), fitted.labels_)
        skvae.save(fitted, tmp_path / "clusterer.skvae")
        again = skvae.load(tmp_path / "clusterer.skvae")
        np.testing.assert_array_equal(again.predict(real[:, order]), fitted.labels_)
        others = real.copy()
        others.var_names = [f"gene{i + 5}" for i in range(N_GENES)]
        with pytest.raises(ValueError, match="5 of the 60 genes of fit are not in adata"):
            fitted.predict(others)

    def test_components_are_taken_before_counts(self, real):
        with_components = real.copy()
        with_components.obsm["X_pca"] = np.random.default_rng(0).normal(size=(400, 7))
        clusterer = quick()
        assert clusterer.fit(with_components).n_features_in_ == 7
        assert clusterer.expression_pca_ is None
