"""Labelled sections as AnnData: real ones from a folder, and simulated ones.

Nothing but numpy, pandas, scipy and anndata is imported for the real ones, so that a peer's
environment can read them too.
"""

from pathlib import Path

import numpy as np
import pandas as pd

# Domains of the simulations by their number of spots.
SIZES = {2025: 5, 4096: 7}
# Of images of real sections: path below the folder, and where the scale of its pixels is.
IMAGES = {
    "151673": ("dlpfc/151673_tissue_lowres_image.png", "tissue_lowres_scalef"),
    "151676": ("dlpfc/151676_tissue_lowres_image.png", "tissue_lowres_scalef"),
    "A1": ("her2st/A1_HE_image_dark.jpg", "scale"),
}
# Where the spots lie on their array, if they do: row, column.
ARRAYS = {"dlpfc": ("array_row", "array_col"), "her2st": ("array_y", "array_x")}
FOLDERS = {
    "151673": ("dlpfc", "layer"),
    "151676": ("dlpfc", "layer"),
    "BZ5": ("starmap_mpfc", "domain"),
    "A1": ("her2st", "label"),
    "C1": ("her2st", "label"),
}
# The order of the tables; "layers" need no data.
SETS = (
    "151673",
    "151676",
    "151673+image",
    "BZ5",
    "hex2025",
    "hex4096",
    "muse2025",
    "muse4096",
    "muse2025+image",
    "muse4096+image",
    "A1",
    "C1",
    "A1+image",
    "layers",
    "layers+image",
)


def load(name, folder):
    """Return spots with ``obs["truth"]``, ``obsm["spatial"]`` and, if asked for, image features.

    ``obs["row"]`` and ``obs["column"]`` are places on an array, where there is one. Spots without
    a truth are clustered, and not scored.
    """
    section, _, image = name.partition("+")
    if section in FOLDERS:
        return _real(section, Path(folder), bool(image))
    if section.startswith("layers"):
        return _layers(bool(image))
    kind, size = section.rstrip("0123456789"), int(section.lstrip("hexmus"))
    return _simulated(kind, size, Path(folder), bool(image))


def _real(name, folder, with_image):
    import anndata

    place, column = FOLDERS[name]
    adata = anndata.read_h5ad(folder / place / f"{name}.h5ad")
    truth = adata.obs[column].astype(object).replace("undetermined", np.nan)
    adata.obs["truth"] = pd.Categorical(truth)
    for ours, theirs in zip(("row", "column"), ARRAYS.get(place, ()), strict=False):
        adata.obs[ours] = adata.obs[theirs]
    if with_image:
        adata.obsm["X_image"] = _image_features(adata, name, folder)
    return adata


def _image_features(adata, name, folder):
    """Describe the image around each spot: colours and textures, 15 components."""
    from PIL import Image
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    from skvae.spatial.morphology import patch_features

    path, key = IMAGES[name]
    factors = adata.uns.get("scalefactors", adata.uns.get("image"))
    places = np.asarray(adata.obsm["spatial"], dtype=float)
    # Spots of her2st are 100 µm wide and 200 µm apart.
    diameter = factors.get("spot_diameter_fullres", 0.5 * _pitch(places))
    pixels = np.asarray(Image.open(folder / path).convert("RGB"))
    found = patch_features(pixels, places, diameter / 2, float(factors[key]))
    return PCA(15, random_state=0).fit_transform(StandardScaler().fit_transform(found))


def _pitch(places):
    from scipy.spatial import cKDTree

    return float(np.median(cKDTree(places).query(places, 2)[0][:, 1]))


def _simulated(kind, size, folder, with_image):
    path = folder / "spatial_simulated" / f"sim_{kind}_{size}_K{SIZES[size]}_s0.npz"
    with np.load(path) as found:
        row, column = found["array_row"], found["array_col"]
        places = np.c_[column, row].astype(float)
        if kind == "hex":
            places *= [0.5, np.sqrt(3) / 2]
        X = found["X"].astype(np.float32)
        return _annotated(X, places, found["labels"], found["morph"] * 1.0, with_image, row, column)


def _layers(with_image):
    from skvae.datasets import make_spatial_domains

    tissue = make_spatial_domains(random_state=0)
    return _annotated(
        tissue.counts.astype(np.float32),
        tissue.coordinates,
        tissue.domains,
        tissue.morphology,
        with_image,
    )


def _annotated(X, places, labels, image, with_image, row=None, column=None):
    import anndata

    obs = pd.DataFrame({"truth": pd.Categorical(labels)}, index=map(str, range(len(X))))
    if row is not None:
        obs["row"], obs["column"] = row, column
    obsm = {"spatial": places, **({"X_image": image} if with_image else {})}
    return anndata.AnnData(X, obs=obs, obsm=obsm)


def slabs(n_spots, n_genes, path):
    """Write a tissue of many spots for the measurements of scaling, and return its file.

    The counts are sparse, as they come from instruments; a process that reads them has no need of
    the memory in which they were simulated.
    """
    import anndata
    from scipy import sparse

    from skvae.datasets import make_spatial_domains

    if not path.exists():
        tissue = make_spatial_domains(
            n_spots, 7, n_features=n_genes, lattice="free", morphology=False, random_state=0
        )
        X = sparse.csr_matrix(tissue.counts, dtype=np.float32)
        adata = anndata.AnnData(
            X,
            obs=pd.DataFrame(
                {"truth": pd.Categorical(tissue.domains)}, index=map(str, range(n_spots))
            ),
            obsm={"spatial": tissue.coordinates},
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        adata.write_h5ad(path)
    return path
