"""A simulator of layered tissue, seen by the expression of genes and by an image."""

import numpy as np
from sklearn.utils import Bunch, check_random_state

# The lattices, and the width of a cell of each for a height of 1.
_LATTICES = {"hex": 2 / np.sqrt(3), "square": 1.0, "free": 1.0}
_N_CELL_TYPES = 8
_CELLS_PER_SPOT = 4
# How much of the difference between two domains is left to the modality that confuses them.
_CONFUSED = 0.45
# Directions of a spot's picture, and the components they are mixed into.
_N_LOOKS, _N_IMAGE_FEATURES = 6, 15
# Rows made at a time: the rates are wide, and are floats.
_BLOCK = 20_000


def make_spatial_domains(
    n_spots=2025,
    n_domains=5,
    *,
    lattice="hex",
    n_features=500,
    signal=1.0,
    n_slides=1,
    morphology=True,
    random_state=None,
):
    """Simulate slices of a tissue whose domains are curved layers.

    A spot catches a few cells of eight types. A domain is a mixture of types, so a spot alone says
    little about its domain, and its neighbourhood much. Genes and image each tell only some of the
    borders between layers well: every second one is faint in the genes, the others are faint in
    the image.

    Parameters
    ----------
    n_spots : int, default=2025
        Spots in each slice, at least one for each domain.
    n_domains : int, default=5
        Number of layers.
    lattice : {"hex", "square", "free"}, default="hex"
        How spots lie: on a hexagonal or a square lattice with 1 between nearest neighbours, or
        at will with one to a unit of area, as cells do.
    n_features : int, default=500
        Number of genes.
    signal : float, default=1.0
        How far the domains differ in both modalities, from 0, not at all.
    n_slides : int, default=1
        Number of slices. They share domains, cell types and genes, and nothing tells one from the
        other but the course of the layers.
    morphology : bool, default=True
        Whether to simulate the features of an image, too.
    random_state : int, RandomState instance or None, default=None
        Seeds the tissue and all that is drawn.

    Returns
    -------
    tissue : :class:`~sklearn.utils.Bunch`
        counts : ndarray of shape (n_slides * n_spots, n_features)
            Counts of the genes, of int32.
        coordinates : ndarray of shape (n_slides * n_spots, 2)
            Place of each spot, x and y. Each slice begins at the origin: slices lie over each
            other.
        morphology : ndarray of shape (n_slides * n_spots, 15) or None
            Features of the image at each spot.
        domains : ndarray of shape (n_slides * n_spots,)
            The layer that each spot is in, 0 to ``n_domains - 1``.
        slide : ndarray of shape (n_slides * n_spots,)
            The slice that each spot is on, 0 to ``n_slides - 1``.

    Raises
    ------
    ValueError
        A number is too small, or the lattice is none of the three.

    Notes
    -----
    With the defaults, a Gaussian mixture on means of spots and their six neighbours has an adjusted
    Rand index of .3 to .6 by the genes, and of .8 to .9 by genes and image.

    Examples
    --------
    >>> from skvae.datasets import make_spatial_domains
    >>> tissue = make_spatial_domains(900, n_domains=4, random_state=0)
    >>> tissue.counts.shape, tissue.coordinates.shape, tissue.morphology.shape
    ((900, 500), (900, 2), (900, 15))
    >>> sorted(set(tissue.domains.tolist()))
    [0, 1, 2, 3]
    """
    _check(n_spots, n_domains, lattice, n_features, signal, n_slides)
    # scikit-learn takes numpy's global state for None, and moves it on: that is the user's.
    rng = np.random.RandomState() if random_state is None else check_random_state(random_state)
    # Relative widths of the layers; narrow ones are hard.
    shares = rng.uniform(0.6, 1.4, n_domains)
    mixtures = _cell_type_mixtures(n_domains, signal, rng)
    profiles = _gene_profiles(n_features, rng)
    looks = _image_looks(n_domains, signal, rng)
    slices = []
    for slide in range(n_slides):
        coordinates = _places(n_spots, lattice, rng)
        domains = _layers(coordinates, shares, rng)
        slices.append(
            {
                "counts": _counts(_cells(domains, mixtures, rng), profiles, rng),
                "coordinates": coordinates,
                "morphology": _image_features(domains, *looks, rng) if morphology else None,
                "domains": domains,
                "slide": np.full(n_spots, slide),
            }
        )
    return Bunch(
        **{
            key: None if slices[0][key] is None else np.concatenate([part[key] for part in slices])
            for key in slices[0]
        }
    )


def _check(n_spots, n_domains, lattice, n_features, signal, n_slides):
    numbers = {"n_domains": n_domains, "n_features": n_features, "n_slides": n_slides}
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name}={number!r}, expected 1 or more.")
    if n_spots < n_domains:
        raise ValueError(f"n_spots={n_spots!r}, expected at least n_domains={n_domains!r}.")
    if not 0 <= signal < np.inf:
        raise ValueError(f"signal={signal!r}, expected a number from 0.")
    if lattice not in _LATTICES:
        raise ValueError(f"lattice={lattice!r}, expected one of {list(_LATTICES)}.")


def _places(n_spots, lattice, rng):
    """Return spots row by row in about a square, the last row unfinished."""
    n_columns = max(1, round(np.sqrt(n_spots / _LATTICES[lattice])))
    row, column = np.divmod(np.arange(n_spots), n_columns)
    x, y = column.astype(float), row.astype(float)
    if lattice == "hex":
        x += 0.5 * (row % 2)
        y *= np.sqrt(3) / 2
    elif lattice == "free":
        x += rng.uniform(size=n_spots)
        y += rng.uniform(size=n_spots)
    return np.column_stack([x, y])


def _layers(coordinates, shares, rng):
    """Cut a slice into bands that bend: arcs around a far point, with waves in them."""
    place = coordinates / max(1.0, coordinates.max()) - 0.5
    centre = rng.uniform([-0.3, -1.6], [0.3, -1.0])
    offset = place - centre
    depth = np.hypot(*offset.T)
    angle = np.arctan2(*offset.T)
    depth += 0.04 * np.sin(rng.uniform(5, 9) * angle + rng.uniform(0, 2 * np.pi))
    # Ranks, so that every layer is there.
    n_spots, n_domains = len(place), len(shares)
    ends = np.round(np.cumsum(shares) / shares.sum() * (n_spots - n_domains))
    ends = ends.astype(int) + np.arange(1, n_domains + 1)
    domains = np.empty(n_spots, dtype=np.int64)
    domains[np.argsort(depth, kind="stable")] = np.searchsorted(
        ends, np.arange(n_spots), side="right"
    )
    return domains


def _confuse(values, first):
    """Bring rows ``first`` and ``first + 1``, the two after them, and so on, close together."""
    values = values.copy()
    for i in range(first, len(values) - 1, 2):
        mean = values[i : i + 2].mean(axis=0)
        values[i : i + 2] = mean + _CONFUSED * (values[i : i + 2] - mean)
    return values


def _cell_type_mixtures(n_domains, signal, rng):
    """Return the shares of the cell types in each domain."""
    logits = _confuse(rng.normal(size=(n_domains, _N_CELL_TYPES)), first=0)
    shares = np.exp(signal * logits)
    return shares / shares.sum(axis=1, keepdims=True)


def _gene_profiles(n_features, rng):
    """Return how much of a cell's RNA falls to each gene, for each cell type."""
    base = rng.normal(scale=1.0, size=n_features)
    markers = rng.uniform(size=(_N_CELL_TYPES, n_features)) < 0.2
    profiles = np.exp(base + markers * rng.normal(scale=1.0, size=markers.shape))
    return profiles / profiles.sum(axis=1, keepdims=True)


def _cells(domains, mixtures, rng):
    """Draw how many cells of each type fall into each spot."""
    cells = np.empty((len(domains), mixtures.shape[1]), dtype=np.int64)
    for domain, mixture in enumerate(mixtures):
        members = domains == domain
        cells[members] = rng.multinomial(_CELLS_PER_SPOT, mixture, size=members.sum())
    return cells


def _counts(cells, profiles, rng):
    """Draw negative binomial counts of the RNA of the cells in each spot."""
    n_genes = profiles.shape[1]
    counts = np.empty((len(cells), n_genes), dtype=np.int32)
    for start in range(0, len(cells), _BLOCK):
        block = cells[start : start + _BLOCK]
        depth = n_genes * rng.lognormal(mean=-0.4, sigma=0.4, size=len(block))
        rates = (depth / _CELLS_PER_SPOT)[:, None] * (block @ profiles)
        counts[start : start + _BLOCK] = rng.poisson(rng.gamma(2.0, rates / 2.0))
    return counts


def _image_looks(n_domains, signal, rng):
    """Return the mean look of each domain, and how looks mix into features."""
    looks = _confuse(rng.normal(size=(n_domains, _N_LOOKS)), first=1)
    return 0.7 * signal * looks, rng.normal(size=(_N_LOOKS, _N_IMAGE_FEATURES)) / np.sqrt(_N_LOOKS)


def _image_features(domains, looks, mixing, rng):
    spots = looks[domains] + rng.normal(size=(len(domains), _N_LOOKS))
    return spots @ mixing + rng.normal(scale=0.3, size=(len(domains), mixing.shape[1]))
