"""Find the domains of one section in a fresh process, and write down how well and at what cost.

Usage: ``python _spatial_worker.py SPEC.json``, where the spec is written by ``_spatial.py``.
Runs in an environment of AESTETIK's own, too.
"""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import _worker

PACKAGES = (
    "skvae", "aestetik", "scanpy", "torch", "scikit-learn", "numpy", "pandas", "anndata",
)  # fmt: skip


@dataclass
class Method:
    """A method made ready to be timed: everything it imports is imported."""

    fit: Callable[[], object]  # returns labels
    describe: Callable[[], dict] = field(default=dict)


def floor(adata, n_domains, seed):
    """Mean of each spot and its 6 nearest, then a mixture of Gaussians with one covariance."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(n_domains, covariance_type="tied", n_init=10, random_state=seed)
    return Method(lambda: mixture.fit_predict(_smoothed(adata)))


def smoothed_kmeans(adata, n_domains, seed):
    """The same means, clustered by k-means."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(n_domains, n_init=10, random_state=seed)
    return Method(lambda: kmeans.fit_predict(_smoothed(adata)))


def consensus(adata, n_domains, seed):
    """What labels spots in skvae, without the network."""
    from skvae import AEStetikClusterer  # noqa: F401 (so that the import is not timed)
    from skvae.spatial import SpatialConsensus
    from skvae.spatial.annotated import read_annotated, read_totals
    from skvae.spatial.preprocessing import CountsPCA, looks_like_counts

    model = SpatialConsensus(n_domains, random_state=seed)

    def fit():
        spots = read_annotated(adata)
        if looks_like_counts(spots.X):
            X = CountsPCA().fit_transform(spots.X, total=read_totals(adata))
        else:
            X = _pca(spots.X, 50)
        model.fit(X, coordinates=spots.coordinates, morphology=spots.morphology)
        return model.labels_

    return Method(fit, lambda: {"agreement": model.agreement_})


def skvae(adata, n_domains, seed):
    """``AEStetikClusterer`` as it is, and what other clusterers make of its embedding."""
    from skvae import AEStetikClusterer

    model = AEStetikClusterer(n_domains, random_state=seed)

    def describe():
        from sklearn.cluster import KMeans
        from sklearn.mixture import GaussianMixture

        clusterers = {
            "kmeans": KMeans(n_domains, n_init=10, random_state=seed),
            "mixture": GaussianMixture(
                n_domains, covariance_type="tied", n_init=10, random_state=seed
            ),
        }
        truth = adata.obs["truth"]
        return {
            "agreement": model.agreement_,
            "uses_morphology": bool(model.consensus_.uses_morphology_),
            **{
                f"ari_of_{name}": scores(truth, clusterer.fit_predict(model.embedding_))["ari"]
                for name, clusterer in clusterers.items()
            },
        }

    return Method(lambda: model.fit(adata).labels_, describe)


def skvae_paper(adata, n_domains, seed):
    """AESTETIK's own algorithm and defaults, by ``AEStetikClusterer``."""
    from skvae import AEStetikClusterer

    model = AEStetikClusterer.from_preset("paper", n_clusters=n_domains, random_state=seed)
    return Method(lambda: model.fit(adata).labels_)


def aestetik(adata, n_domains, seed):
    """AESTETIK 0.3.1 with its defaults, but for the weight of an image where there is none."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import numpy as np
    from aestetik import AESTETIK
    from aestetik.utils.utils_transcriptomics import preprocess_adata

    # It writes checkpoints and logs into the current folder.
    os.chdir(tempfile.mkdtemp())
    with_image = "X_image" in adata.obsm
    model = AESTETIK(
        n_cluster=n_domains,
        morphology_weight=1.5 if with_image else 0.0,
        random_state=seed,
    )
    names = {"x_array": "column", "y_array": "row"}
    for theirs, ours in names.items():
        adata.obs[theirs] = adata.obs[ours].astype(int)
    if with_image:
        adata.obsm["X_pca_morphology"] = np.asarray(adata.obsm["X_image"])

    def fit():
        if _whole(adata.X):
            found = preprocess_adata(adata).obsm["X_pca"]
        else:
            found = _pca(adata.X, 15)
        adata.obsm["X_pca_transcriptomics"] = found
        if not with_image:
            adata.obsm["X_pca_morphology"] = found  # it wants one, whatever its weight
        return model.fit(adata).labels_.astype(int)

    return Method(fit)


METHODS = {
    "floor": floor,
    "smoothed-kmeans": smoothed_kmeans,
    "consensus": consensus,
    "skvae": skvae,
    "skvae-paper": skvae_paper,
    "aestetik": aestetik,
}


def _whole(X):
    values = X.data if hasattr(X, "indptr") else X
    return bool((values == values.round()).all() and (values >= 0).all())


def _pca(X, n_components):
    from sklearn.decomposition import PCA

    return PCA(n_components, svd_solver="arpack", random_state=0).fit_transform(X)


def _smoothed(adata):
    """Means over each spot and its 6 nearest of 15 components, and of the image's if there is one.

    Components are of log1p of counts to 10,000 a spot; genes in less than 10 spots, or a twentieth
    of them, are left out, and of more than 6,000 the 3,000 that vary most are kept. An image has
    the total variance of the components.
    """
    import numpy as np
    from scipy import sparse
    from scipy.spatial import cKDTree

    X = adata.X
    if _whole(X):
        X = sparse.csr_matrix(X, dtype=np.float64)
        total = np.asarray(adata.obs.get("sum_umi", X.sum(axis=1))).ravel()
        X = X[:, X.getnnz(axis=0) >= min(10, X.shape[0] // 20)]
        X = X.multiply(1e4 / np.maximum(total, 1)[:, None]).log1p().toarray()
        if X.shape[1] > 6_000:
            X = X[:, np.argsort(-X.var(axis=0))[:3_000]]
    Z = _pca(X, 15)
    if "X_image" in adata.obsm:
        image = np.asarray(adata.obsm["X_image"])
        Z = np.hstack([Z, image * np.sqrt(Z.var(axis=0).sum() / image.var(axis=0).sum())])
    _, near = cKDTree(adata.obsm["spatial"]).query(adata.obsm["spatial"], 7)
    return Z[near].mean(axis=1)


def scores(truth, labels):
    """Adjusted Rand index and normalised mutual information, over spots with a truth."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known = truth.notna().to_numpy()
    pair = truth[known], labels[known]
    return {
        "ari": float(adjusted_rand_score(*pair)),
        "nmi": float(normalized_mutual_info_score(*pair)),
    }


def domains(spec):
    """Cluster one section."""
    import _spatial_data

    adata = _spatial_data.load(spec["set"], spec["data"])
    truth = adata.obs["truth"].copy()
    n_domains = truth.cat.categories.size
    method = METHODS[spec["method"]](adata, n_domains, spec["seed"])
    return {**_cost(method.fit, truth), **method.describe(), "n_spots": len(truth)}


def scaling(spec):
    """Cluster a simulated tissue of many spots."""
    import anndata

    adata = anndata.read_h5ad(spec["path"])
    truth = adata.obs["truth"].copy()
    method = METHODS[spec["method"]](adata, truth.cat.categories.size, spec["seed"])
    return {**_cost(method.fit, truth), "n_genes": adata.n_vars}


def transfer(spec):
    """Fit on one section and predict another, on the genes that both measured."""
    import _spatial_data

    from skvae import AEStetikClusterer

    one, other = (_spatial_data.load(name, spec["data"]) for name in (spec["set"], spec["onto"]))
    genes = one.var_names.intersection(other.var_names)
    one, other = one[:, genes].copy(), other[:, genes].copy()
    n_domains = one.obs["truth"].cat.categories.size
    model = AEStetikClusterer(n_domains, random_state=spec["seed"])
    fitted = _cost(lambda: model.fit(one).labels_, one.obs["truth"])
    predicted = _cost(lambda: model.predict(other), other.obs["truth"])
    return {
        "n_genes": len(genes),
        "ari_fitted": fitted["ari"],
        "fit_cpu_s": fitted["cpu_s"],
        "ari_predicted": predicted["ari"],
        "nmi_predicted": predicted["nmi"],
        "predict_cpu_s": predicted["cpu_s"],
        "predicts_its_labels": bool((model.predict(one) == model.labels_).all()),
    }


def _cost(fit, truth):
    record = {"rss_before_mb": _worker.memory_mb("VmRSS"), "load_average": os.getloadavg()[0]}
    labels, record["cpu_s"], record["wall_s"] = _worker.timed(fit)
    return {**record, "peak_mb": _worker.memory_mb("VmHWM"), **scores(truth, labels)}


def main(path):
    spec = json.loads(Path(path).read_text())
    _worker.limit_threads(spec["threads"])
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    try:
        record = {"domains": domains, "scaling": scaling, "transfer": transfer}[spec["task"]](spec)
    except Exception as error:
        traceback.print_exc()
        record = {"error": f"{type(error).__name__}: {error}"}
    record["versions"] = _worker.versions(PACKAGES)
    Path(spec["out"]).write_text(json.dumps(record))
    return int("error" in record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
