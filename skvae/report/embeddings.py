"""Pictures of embeddings, reconstructions and tissue domains."""

from __future__ import annotations

import math

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from skvae.report._columns import ACCENT, REAL
from skvae.report._matplotlib import draw_groups, one_axes, pyplot, strip


class LatentSpaceDisplay:
    """Rows as points of the latent space, in two dimensions.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        Latents, at least two components. Of more than two the first two principal ones are drawn.
    labels : array-like of shape (n_samples,), optional
        Classes, or numbers, that give the points their colours.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        What they are on.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import VAEEmbedder
    >>> from skvae.report import LatentSpaceDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> embedder = VAEEmbedder(n_components=2, max_epochs=2, random_state=0).fit(X[:300])
    >>> display = LatentSpaceDisplay.from_estimator(embedder, X[:300], y[:300])
    >>> display.ax_.get_xlabel()
    'latent 1'
    """

    def __init__(self, embedding, labels=None) -> None:
        self.embedding = embedding
        self.labels = labels

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, ax=None) -> LatentSpaceDisplay:
        """Embed rows with a fitted estimator and draw them.

        Parameters
        ----------
        estimator : transformer
            Fitted; its ``transform`` gives the latents.
        X : table or array
            Rows, as the estimator takes them.
        y : array-like of shape (n_samples,), optional
            Classes or numbers for the colours.
        ax : matplotlib Axes, optional
            Axes to draw on.
        """
        return cls(estimator.transform(X), y).plot(ax=ax)

    def plot(self, *, ax=None, size: float = 8.0) -> LatentSpaceDisplay:
        """Draw on `ax`, or on a new figure, points of that size."""
        Z = np.asarray(self.embedding, dtype=float)
        if Z.ndim != 2 or Z.shape[1] < 2:
            raise ValueError(
                f"embedding must have two dimensions and at least two columns, not shape {Z.shape}."
            )
        if self.labels is not None and len(self.labels) != len(Z):
            raise ValueError(f"there are {len(Z)} rows but {len(self.labels)} labels.")
        names = ["latent 1", "latent 2"]
        if Z.shape[1] > 2:
            pca = PCA(2, random_state=0)
            Z = pca.fit_transform(Z)
            shares = 100 * pca.explained_variance_ratio_
            names = [f"component {k + 1} ({share:.0f} %)" for k, share in enumerate(shares)]
        self.figure_, self.ax_ = one_axes(ax, figsize=(6.2, 5.0))
        if self.labels is None:
            self.ax_.scatter(*Z.T, s=size, color=ACCENT, linewidths=0)
        else:
            draw_groups(self.ax_, Z, self.labels, size=size)
        self.ax_.set(xlabel=names[0], ylabel=names[1])
        strip(self.ax_)
        return self


class ReconstructionDisplay:
    """Rows over what is left of them after encoding and decoding.

    Parameters
    ----------
    originals, reconstructions : array-like of one shape
        Images, (n, height, width) or (n, channels, height, width), or rows of numbers,
        (n, n_features), which are drawn as curves.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        Of shape (2, n) for images, originals above; (1, n) for curves.
    figure_ : matplotlib Figure
        What they are on.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import VAEEmbedder
    >>> from skvae.report import ReconstructionDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> embedder = VAEEmbedder(n_components=4, max_epochs=2, random_state=0).fit(X[:300])
    >>> display = ReconstructionDisplay.from_estimator(embedder, X[:6], image_shape=(8, 8))
    >>> display.axes_.shape
    (2, 6)
    """

    def __init__(self, originals, reconstructions) -> None:
        self.originals = originals
        self.reconstructions = reconstructions

    @classmethod
    def from_estimator(
        cls, estimator, X, *, image_shape: tuple[int, ...] | None = None, n_rows: int = 10
    ) -> ReconstructionDisplay:
        """Reconstruct the first rows with a fitted estimator and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted, with a method ``reconstruct``, such as ``VAEEmbedder``.
        X : array
            Rows or images, as the estimator takes them.
        image_shape : tuple of int, optional
            What flattened images are folded into. By default the estimator's ``image_shape``.
        n_rows : int, default=10
            Rows drawn, at most.
        """
        X = X[:n_rows]
        pair = [np.asarray(X, dtype=float), np.asarray(estimator.reconstruct(X), dtype=float)]
        shape = image_shape or getattr(estimator, "image_shape", None)
        if shape is not None and pair[0][0].size != math.prod(shape):
            raise ValueError(f"rows of {pair[0][0].size} numbers do not fold into {tuple(shape)}.")
        shape = pair[0].shape[1:] if shape is None else tuple(shape)
        return cls(*(rows.reshape(len(X), *shape) for rows in pair)).plot()

    def plot(self, *, cmap: str = "gray") -> ReconstructionDisplay:
        """Draw on a new figure."""
        pair = [np.asarray(rows, dtype=float) for rows in (self.originals, self.reconstructions)]
        if pair[0].shape != pair[1].shape or pair[0].ndim not in (2, 3, 4) or not len(pair[0]):
            raise ValueError(
                "originals and reconstructions must be images or rows of one shape, not "
                f"{pair[0].shape} and {pair[1].shape}."
            )
        n = len(pair[0])
        if pair[0].ndim == 2:
            self._draw_curves(pair, n)
            return self
        self.figure_, self.axes_ = pyplot().subplots(
            2, n, figsize=(0.9 * n + 1.2, 2.1), squeeze=False, layout="constrained"
        )
        low, high = min(pair[0].min(), 0.0), max(pair[0].max(), 1e-12)
        for row, images in zip(self.axes_, pair, strict=True):
            for ax, image in zip(row, images, strict=True):
                ax.imshow(_as_picture((image - low) / (high - low)), cmap=cmap, vmin=0.0, vmax=1.0)
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
        for ax, label in zip(self.axes_[:, 0], ("original", "reconstruction"), strict=True):
            ax.set_ylabel(label, rotation=0, ha="right", va="center")
        return self

    def _draw_curves(self, pair: list[np.ndarray], n: int) -> None:
        self.figure_, self.axes_ = pyplot().subplots(
            1, n, figsize=(2.2 * n, 2.0), squeeze=False, sharey=True, layout="constrained"
        )
        for ax, original, reconstruction in zip(self.axes_[0], *pair, strict=True):
            ax.plot(original, REAL, linewidth=2.5, label="original")
            ax.plot(reconstruction, ACCENT, linewidth=1.2, label="reconstruction")
            ax.set_xlabel("feature")
            strip(ax)
        handles, labels = self.axes_[0, 0].get_legend_handles_labels()
        self.figure_.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)


class SpatialDomainsDisplay:
    """Domains of a tissue at the places of its spots.

    Parameters
    ----------
    coordinates : array-like of shape (n_spots, 2)
        Places, as in an image: the second coordinate grows downwards.
    labels : array-like of shape (n_spots,)
        The domain of each spot.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the spots.
    figure_ : matplotlib Figure
        What they are on.

    Examples
    --------
    >>> from skvae.datasets import make_spatial_domains
    >>> from skvae.report import SpatialDomainsDisplay
    >>> tissue = make_spatial_domains(300, n_domains=3, random_state=0)
    >>> display = SpatialDomainsDisplay.from_predictions(tissue.coordinates, tissue.domains)
    >>> display.ax_.get_aspect()
    1.0
    """

    def __init__(self, coordinates, labels) -> None:
        self.coordinates = coordinates
        self.labels = labels

    @classmethod
    def from_predictions(cls, coordinates, labels, *, ax=None) -> SpatialDomainsDisplay:
        """Draw labels, predicted or true, at their places."""
        return cls(coordinates, labels).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator, coordinates, *, ax=None) -> SpatialDomainsDisplay:
        """Draw the ``labels_`` of a fitted clusterer at the places of the spots of its fit."""
        if not hasattr(estimator, "labels_"):
            raise ValueError(f"{type(estimator).__name__} has no labels_ yet: fit it first.")
        return cls(coordinates, estimator.labels_).plot(ax=ax)

    @classmethod
    def from_annotated(cls, adata, *, key: str = "aestetik", ax=None) -> SpatialDomainsDisplay:
        """Draw the domains in ``adata.obs[key]`` at the places in ``adata.obsm["spatial"]``."""
        return cls(adata.obsm["spatial"], adata.obs[key]).plot(ax=ax)

    def plot(self, *, ax=None) -> SpatialDomainsDisplay:
        """Draw on `ax`, or on a new figure."""
        places = np.asarray(self.coordinates, dtype=float)
        labels = np.asarray(self.labels)
        if places.ndim != 2 or places.shape[1] < 2 or len(places) != len(labels) or not len(labels):
            raise ValueError(
                "coordinates must have one row of two numbers for each label; got shape "
                f"{places.shape} and {len(labels)} labels."
            )
        self.figure_, self.ax_ = one_axes(ax, figsize=(6.4, 5.4))
        self.ax_.set_aspect("equal")
        draw_groups(self.ax_, places[:, :2], labels, size=_spot_size(places[:, :2]))
        self.ax_.invert_yaxis()
        self.ax_.set(xticks=[], yticks=[])
        self.ax_.spines[:].set_visible(False)
        return self


def _as_picture(image: np.ndarray) -> np.ndarray:
    """Channels last, and none where there is only one, as matplotlib draws images."""
    if image.ndim == 2:
        return image
    if len(image) not in (3, 4):
        return image.mean(axis=0)
    return np.clip(image.transpose(1, 2, 0), 0.0, 1.0)


def _spot_size(places: np.ndarray) -> float:
    """Area of a marker, in square points, at which neighbouring spots nearly touch."""
    if len(places) < 2:
        return 36.0
    gaps, _ = NearestNeighbors(n_neighbors=2).fit(places).kneighbors()
    extent = max(np.ptp(places, axis=0).max(), 1e-12)
    points_per_unit = 330.0 / extent
    return float(np.clip(0.9 * np.median(gaps[:, 0]) * points_per_unit, 1.0, 24.0) ** 2)
