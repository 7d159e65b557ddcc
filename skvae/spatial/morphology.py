"""What an H&E image shows around each spot: colours of the stains, and texture."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage

from skvae.spatial.checks import check_coordinates

# Optical densities of haematoxylin and eosin in red, green and blue (Ruifrok & Johnston, table 1).
_HAEMATOXYLIN = (0.650, 0.704, 0.286)
_EOSIN = (0.072, 0.990, 0.105)
# Windows around a spot, in radii.
_WINDOWS = (1.0, 2.0)
# An image is reduced until a radius has no more pixels than twice this.
_RADIUS_PIXELS = 8.0
# Widths of the filters behind gradients and blobs, in pixels, and how far these see.
_GRADIENT_WIDTH, _BLOB_WIDTH = 1.0, 1.5
_FILTER_REACH = 8
# In less spread than this, what steps of 8 bits make, there is no shape.
_LEAST_SPREAD = 2e-3
_STAINS = ("haematoxylin", "eosin", "residual")
FEATURE_NAMES = tuple(
    f"{name}_{window:g}r"
    for window in _WINDOWS
    for name in (
        *(f"{stain}_{moment}" for stain in _STAINS for moment in ("mean", "std", "skewness")),
        "gradient",
        "coherence",
        "blobs",
    )
)


def separate_stains(image) -> np.ndarray:
    """Take the colours of an H&E image apart into what each stain absorbs [1]_.

    The optical density of a pixel, ``-log10`` of the light that comes through, is a sum of one
    vector for each stain; the third vector is orthogonal to those of the two stains.

    Parameters
    ----------
    image : array-like of shape (..., 3)
        Red, green and blue: uint8, or floats from 0 to 1. A fourth channel is left out.

    Returns
    -------
    stains : float32 array of shape (..., 3)
        Amounts of haematoxylin and of eosin, and the residual, in units of optical density.

    References
    ----------
    .. [1] A. C. Ruifrok and D. A. Johnston (2001). Quantification of histochemical staining by
       color deconvolution. Analytical and Quantitative Cytology and Histology 23, 291-299.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial.morphology import separate_stains
    >>> white, purple = [255, 255, 255], [90, 60, 150]
    >>> separate_stains(np.array([white, purple], dtype=np.uint8)).round(1)[:, 0]
    array([0. , 0.7], dtype=float32)
    """
    image = np.asarray(image)
    light = np.asarray(image[..., :3], dtype=np.float32)
    if image.dtype == np.uint8:
        light = light / 255
    # Half a step of 8 bits: black is not infinitely dense.
    density = -np.log10(np.maximum(light, 0.5 / 255))
    vectors = np.array([_HAEMATOXYLIN, _EOSIN, np.cross(_HAEMATOXYLIN, _EOSIN)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return density @ np.linalg.inv(vectors).astype(np.float32)


def patch_features(
    image,
    coordinates,
    radius: float,
    scale: float = 1.0,
    *,
    feature_extractor: Callable[[np.ndarray], np.ndarray] | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """Describe the image around each spot by a few numbers, without any network.

    In a square window of one and in one of two radii around each spot: mean, standard deviation
    and skewness of the two stains and of the residual (``separate_stains``); of the density of
    haematoxylin, which stains nuclei, the strength of its gradient, how far gradients agree in
    their direction (the structure tensor [1]_), and the strength of its blobs. To turn the image
    by a right angle or to mirror it changes nothing.

    Parameters
    ----------
    image : array-like of shape (height, width, 3) or (height, width, 4)
        Red, green and blue: uint8, or floats from 0 to 1.
    coordinates : array-like of shape (n_spots, 2)
        Place of each spot, x to the right and y down, in pixels of the full image.
    radius : float
        Radius of a spot, in the same pixels. With a Visium AnnData half of its
        ``spot_diameter_fullres``.
    scale : float, default=1.0
        Pixels of ``image`` to a pixel of the full one: with Visium ``tissue_hires_scalef`` or
        ``tissue_lowres_scalef``.
    feature_extractor : callable, optional
        Your own network instead: takes patches of shape (n, side, side, channels), cut by
        ``cut_patches``, and returns features of shape (n, n_features).
    batch_size : int, default=256
        How many patches it gets at a time.

    Returns
    -------
    features : float64 array of shape (n_spots, n_features)
        Columns are called ``FEATURE_NAMES``, unless they are your extractor's. They have scales
        of their own: put a ``StandardScaler`` and a ``PCA`` behind them.

    Raises
    ------
    ValueError
        The image is no colour image, or spots lie outside it.

    Notes
    -----
    Windows end where the image does. An image of more than 16 pixels to a radius is reduced first.
    All windows are summed at once from tables of cumulated sums, so that the time grows with the
    image, and hardly with the number of spots and their radius.

    References
    ----------
    .. [1] J. Bigün and G. H. Granlund (1987). Optimal orientation detection of linear symmetry.
       First International Conference on Computer Vision, 433-438.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial.morphology import patch_features
    >>> image = np.random.default_rng(0).integers(0, 256, size=(60, 80, 3), dtype=np.uint8)
    >>> patch_features(image, [[10, 20], [70, 50]], radius=5).shape
    (2, 24)
    >>> means = patch_features(
    ...     image, [[10, 20], [70, 50]], radius=5, feature_extractor=lambda p: p.mean(axis=(1, 2))
    ... )
    >>> means.shape
    (2, 3)
    """
    image, places = _check(image, coordinates, radius, scale)
    if feature_extractor is not None:
        return _extract(image, places, radius * scale, feature_extractor, batch_size)
    radius = radius * scale
    factor = max(1, int(radius / _RADIUS_PIXELS))
    image, places = _crop(image, places, max(_WINDOWS) * radius, factor)
    # The middle of the first pixel of the reduced image lies at (factor - 1) / 2 of the old ones.
    places = (places - (factor - 1) / 2) / factor
    stains = separate_stains(_reduce(image, factor))
    bounds = [_bounds(places, window * radius / factor, stains.shape) for window in _WINDOWS]
    columns = [_colour(stains, bounds), _texture(stains[..., 0], bounds)]
    return np.concatenate([np.hstack(blocks) for blocks in zip(*columns, strict=True)], axis=1)


def cut_patches(image, coordinates, radius: float, scale: float = 1.0) -> np.ndarray:
    """Cut a square patch out of the image around each spot.

    Parameters
    ----------
    image, coordinates, radius, scale
        As for ``patch_features``.

    Returns
    -------
    patches : ndarray of shape (n_spots, side, side, channels)
        Of the image's type; ``side`` is odd. Beyond the image its last pixels repeat.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial.morphology import cut_patches
    >>> image = np.zeros((60, 80, 3), dtype=np.uint8)
    >>> cut_patches(image, [[10, 20], [79, 59]], radius=5).shape
    (2, 11, 11, 3)
    """
    image, places = _check(image, coordinates, radius, scale)
    return _cut(image, places, radius * scale)


def _check(image, coordinates, radius, scale):
    """Return the image as an array, and the places in its own pixels."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or 0 in image.shape:
        raise ValueError(
            f"image has shape {image.shape}, expected (height, width, 3), or 4 with transparency."
        )
    is_float = image.dtype.kind == "f"
    if not (image.dtype == np.uint8 or is_float) or (is_float and not 0 <= image.max() <= 1):
        raise ValueError(
            f"image holds {image.dtype} up to {image.max():g}, expected uint8, or floats from 0 "
            "to 1."
        )
    for name, number in (("radius", radius), ("scale", scale)):
        if not 0 < number < np.inf:
            raise ValueError(f"{name}={number!r}, expected a positive number.")
    places = check_coordinates(coordinates)[:, :2] * scale
    height, width = image.shape[:2]
    outside = ((places < -0.5) | (places > np.array([width, height]) - 0.5)).any(axis=1)
    if outside.any():
        spot = int(outside.argmax())
        raise ValueError(
            f"{outside.sum()} of {len(places)} spots lie outside the image of {width} x {height} "
            f"pixels, the first at x={places[spot, 0]:g}, y={places[spot, 1]:g}: coordinates are "
            f"(x, y), and scale={scale:g} is pixels of this image to a pixel of theirs."
        )
    return image, places


def _cut(image, places, radius):
    reach = max(1, round(radius))
    steps = np.arange(-reach, reach + 1)
    columns, rows = np.rint(places).astype(int).T
    rows = np.clip(rows[:, None] + steps, 0, image.shape[0] - 1)
    columns = np.clip(columns[:, None] + steps, 0, image.shape[1] - 1)
    return image[rows[:, :, None], columns[:, None, :]]


def _extract(image, places, radius, extractor, batch_size):
    """Let the user's function describe the patches, some at a time."""
    parts = []
    for start in range(0, len(places), batch_size):
        batch = _cut(image, places[start : start + batch_size], radius)
        part = np.asarray(extractor(batch), dtype=np.float64)
        if part.ndim != 2 or len(part) != len(batch):
            raise ValueError(
                f"feature_extractor returned shape {part.shape} for {len(batch)} patches, expected "
                f"({len(batch)}, n_features)."
            )
        parts.append(part)
    return np.concatenate(parts)


def _crop(image, places, margin, factor):
    """Leave out what no window and no filter reaches, in whole blocks of pixels."""
    margin += factor * _FILTER_REACH
    low = np.maximum(np.floor((places.min(axis=0) - margin) / factor), 0).astype(int) * factor
    high = (np.ceil((places.max(axis=0) + margin) / factor).astype(int) + 1) * factor
    return image[low[1] : high[1], low[0] : high[0]], places - low


def _reduce(image, factor):
    """Average blocks of pixels; those at the far edges may be incomplete."""
    if factor == 1:
        return image
    starts = [np.arange(0, length, factor) for length in image.shape[:2]]
    sums = np.add.reduceat(image[..., :3], starts[0], axis=0, dtype=np.float32)
    sums = np.add.reduceat(sums, starts[1], axis=1)
    counts = [
        np.diff(np.append(start, length))
        for start, length in zip(starts, image.shape[:2], strict=True)
    ]
    unit = 255 if image.dtype == np.uint8 else 1
    return sums / (unit * counts[0][:, None, None] * counts[1][None, :, None])


def _bounds(places, radius, shape):
    """Return the first and the last + 1 row and column of each window, at least one pixel."""
    limits = np.array([shape[1], shape[0]])
    first = np.clip(np.rint(places - radius), 0, limits - 1).astype(int)
    last = np.clip(np.rint(places + radius), first, limits - 1).astype(int) + 1
    return first[:, 1], last[:, 1], first[:, 0], last[:, 0]


def _window_means(values, bounds) -> Iterator[np.ndarray]:
    """Yield the mean of an image's values in each spot's window, for each size of window."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    np.cumsum(values, axis=0, out=table[1:, 1:])
    np.cumsum(table[1:, 1:], axis=1, out=table[1:, 1:])
    for top, bottom, left, right in bounds:
        sums = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        yield sums / ((bottom - top) * (right - left))


def _colour(stains, bounds):
    """Return mean, standard deviation and skewness of the stains, for each size of window."""
    blocks = [[] for _ in bounds]
    for channel in range(stains.shape[2]):
        values = stains[..., channel].astype(np.float64)
        powers = [_window_means(values**power, bounds) for power in (1, 2, 3)]
        for block, first, second, third in zip(blocks, *powers, strict=True):
            spread = np.sqrt(np.maximum(second - first**2, 0))
            skewness = third - 3 * first * second + 2 * first**3
            skewness /= np.maximum(spread, _LEAST_SPREAD) ** 3
            block += [first, spread, skewness]
    return [np.column_stack(block) for block in blocks]


def _texture(density, bounds):
    """Return energy and coherence of gradients, and energy of blobs, for each size of window."""
    down, right = np.gradient(ndimage.gaussian_filter(density, _GRADIENT_WIDTH))
    blobs = ndimage.gaussian_laplace(density, _BLOB_WIDTH)
    maps = (down**2, right**2, down * right, blobs**2)
    blocks = []
    for means in zip(*(_window_means(values, bounds) for values in maps), strict=True):
        down2, right2, mixed, blob = means
        energy = down2 + right2
        # The structure tensor: its eigenvalues differ by this, and their sum is the energy.
        gap = np.sqrt((down2 - right2) ** 2 + 4 * mixed**2)
        coherence = gap / np.maximum(energy, 1e-9)
        blocks.append(np.column_stack([np.sqrt(energy), coherence, np.sqrt(blob)]))
    return blocks
