"""Which spots lie around which: neighbours, kernels and rings within slides."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from skvae.spatial.checks import check_coordinates, check_slide
from skvae.spatial.lattices import find_cells

# The widest kernel of the recipe, 1.6 spacings cut at three widths, holds 84 hexagonal neighbours.
MAX_NEIGHBORS = 90
# From here on memory counts: indices and distances of 90 neighbours take 720 bytes a spot.
LARGE = 200_000
MAX_NEIGHBORS_LARGE = 40
QUERY_ROWS = 65_536
# A kernel ends between two shells of the hexagonal and of the square lattice for the widths of
# the recipe; at exactly three widths a shell would be in or out by rounding.
CUT = 3.05
# Shells of a lattice are told apart, and spots at one distance held together, by this margin.
SHELL_MARGIN = 0.05
RING_SIZES = (6, 12, 18)
RING_BOUNDS = (0.0, 1.35, 2.35, 3.35)
REGULAR_SHARE = 0.9


class Neighbourhoods:
    """The neighbours of each spot on its slide, searched once and used at every width.

    Distances are counted in *spacings*: the spacing of a slide is the median over its spots of the
    mean distance to the 6 nearest. So nothing here depends on the unit of the coordinates, on
    their rotation or on a flip. Neighbours never cross slides.

    A slide is *regular* (a lattice) if over 90 % of its spots have their nearest neighbour within
    5 % of the median such distance. There, spots at one distance are taken or left together, so
    that neither rotation nor a small jitter chooses among them.

    Parameters
    ----------
    coordinates : array-like of shape (n_spots, 2) or (n_spots, 3)
        Where the spots lie, in any one unit.
    slide : array-like of shape (n_spots,) or None, default=None
        Slide of each spot: numbers or strings. None: all on one.
    max_neighbors : int or None, default=None
        Neighbours searched for each spot. None: 90, and 40 above 200,000 spots.

    Attributes
    ----------
    coordinates : float64 array of shape (n_spots, n_dimensions)
        The coordinates as given.
    slide_names : ndarray of shape (n_slides,)
        The distinct labels of slides.
    slides : int32 array of shape (n_spots,)
        Place of each spot's slide in ``slide_names``.
    spacings : float64 array of shape (n_slides,)
        Spacing of each slide, in the unit of the coordinates.
    regular : bool array of shape (n_slides,)
        Whether a slide's spots lie on a lattice.
    indices : int32 array of shape (n_spots, 1 + n_neighbors)
        The spot itself, then its neighbours by distance; -1 where a slide has too few.
    distances : float32 array of shape (n_spots, 1 + n_neighbors)
        Their distances in spacings; infinite where there is none.

    Raises
    ------
    ValueError
        Coordinates or slides of another shape or length, or missing ones.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial import Neighbourhoods
    >>> row, column = np.divmod(np.arange(100), 10)
    >>> around = Neighbourhoods(np.column_stack([column, row]))
    >>> around.regular
    array([ True])
    >>> around.nearest(4)[55].tolist() == [45, 54, 56, 65] or sorted(around.nearest(4)[55].tolist())
    [45, 54, 56, 65]
    >>> smooth = around.gaussian_kernel(1.25) @ np.ones(100)
    >>> bool(np.allclose(smooth, 1))
    True
    """

    def __init__(self, coordinates, slide=None, *, max_neighbors: int | None = None) -> None:
        self.coordinates = check_coordinates(coordinates)
        self.slide_names, self.slides = check_slide(slide, self.n_spots)
        if max_neighbors is None:
            max_neighbors = MAX_NEIGHBORS_LARGE if self.n_spots > LARGE else MAX_NEIGHBORS
        sizes = np.bincount(self.slides, minlength=len(self.slide_names))
        width = 1 + min(max_neighbors, max(sizes.max(initial=1) - 1, 0))
        self.indices = np.full((self.n_spots, width), -1, dtype=np.int32)
        self.distances = np.full((self.n_spots, width), np.inf, dtype=np.float32)
        self.spacings = np.ones(len(sizes))
        self.regular = np.zeros(len(sizes), dtype=bool)
        # Median distance to the nearest neighbour, in spacings.
        self._pitches = np.ones(len(sizes))
        # Whether a slide has more spots than were searched.
        self._truncated = sizes > width
        for place in range(len(sizes)):
            self._search(place, np.flatnonzero(self.slides == place))

    @classmethod
    def isolated(cls, n_spots: int) -> Neighbourhoods:
        """Return spots without any neighbour: for features whose places are not known."""
        around = cls(np.empty((0, 2)))
        around.coordinates = np.zeros((n_spots, 2))
        around.slides = np.zeros(n_spots, dtype=np.int32)
        around.indices = np.arange(n_spots, dtype=np.int32)[:, None]
        around.distances = np.zeros((n_spots, 1), dtype=np.float32)
        return around

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return len(self.coordinates)

    @property
    def slide_size(self) -> float:
        """Median number of spots on a slide."""
        return float(np.median(np.bincount(self.slides)))

    def _search(self, place: int, rows: np.ndarray) -> None:
        """Find the neighbours on one slide, then its spacing."""
        points = self.coordinates[rows]
        n_neighbors = min(self.indices.shape[1], len(rows)) - 1
        # The own place, without a query that could give a duplicate in its stead.
        self.indices[rows, 0], self.distances[rows, 0] = rows, 0.0
        if n_neighbors < 1:
            return
        columns = slice(1, 1 + n_neighbors)
        tree = cKDTree(points)
        near_means, nearest = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), QUERY_ROWS):
            part = np.arange(start, min(start + QUERY_ROWS, len(rows)))
            found, distances = _query_others(tree, points, part, n_neighbors)
            self.indices[rows[part], columns] = rows[found]
            self.distances[rows[part], columns] = distances
            near_means[part] = distances[:, :6].mean(axis=1)
            nearest[part] = distances[:, 0]
        self.spacings[place] = _positive_median(near_means)
        self.distances[rows, columns] /= np.float32(self.spacings[place])
        pitch = _positive_median(nearest)
        self._pitches[place] = pitch / self.spacings[place]
        self.regular[place] = np.mean(np.abs(nearest - pitch) <= 0.05 * pitch) > REGULAR_SHARE

    def nearest(self, n_neighbors: int) -> np.ndarray:
        """Return the nearest neighbours, int32 of shape (n_spots, n_neighbors), -1 for missing."""
        found = self.indices[:, 1 : 1 + n_neighbors]
        missing = n_neighbors - found.shape[1]
        return np.pad(found, [(0, 0), (0, missing)], constant_values=-1) if missing else found

    def nearest_matrix(self, n_neighbors: int) -> sparse.csr_array:
        """Return a (n_spots, n_spots) matrix of ones at each spot's nearest neighbours.

        On a regular slide with all that lie as far as the last of them.
        """
        last = min(n_neighbors, self.indices.shape[1] - 1)
        if last < 1:
            return self._matrix(np.zeros((self.n_spots, 1), dtype=np.float32), normalize=False)
        size = min(self.indices.shape[1], 2 * n_neighbors + 1)
        # A slide with fewer spots has no last neighbour: then all of them are within reach.
        reach = self.distances[:, last] * np.float32(1 + SHELL_MARGIN)
        near = self.distances[:, :size] <= reach[:, None]
        near &= np.isfinite(self.distances[:, :size])
        near[~self.regular[self.slides], last + 1 :] = False
        near[:, 0] = False
        return self._matrix(near.astype(np.float32), normalize=False)

    def gaussian_kernel(self, width: float) -> sparse.csr_array:
        """Return the matrix that replaces each spot by a Gaussian mean around it.

        Entry (i, j) is ``exp(-d² / (2 width²))`` at the distance d of the two, 0 beyond 3.05
        widths; the diagonal is 1 before rows are divided by their sum.

        Parameters
        ----------
        width : float
            Standard deviation of the kernel in spacings.

        Returns
        -------
        csr_array of shape (n_spots, n_spots)
            Float32; rows sum to 1.
        """
        return self._matrix(self._weights(width))

    def lag_matrix(self) -> sparse.csr_array:
        """Return the kernel of width 1 without its diagonal; an empty row stays 0."""
        weights = self._weights(1.0)
        weights[:, 0] = 0.0
        return self._matrix(weights)

    def _weights(self, width: float) -> np.ndarray:
        limit = np.full(self.n_spots, CUT * width, dtype=np.float32)
        # The last shell of a list that ended before the kernel did may be there in part only.
        last = self.distances[:, -1]
        cut_off = self._truncated[self.slides] & (last <= limit)
        limit[cut_off] = last[cut_off] * np.float32(0.999)
        weights = self.distances / np.float32(np.sqrt(2.0) * width)
        np.square(weights, out=weights)
        np.exp(-weights, out=weights)
        weights[self.distances > limit[:, None]] = 0.0
        return weights

    def ring_matrix(self, ring: int) -> sparse.csr_array:
        """Return the matrix that replaces each spot by the mean of ring 1, 2 or 3 around it.

        The rings are the nearest 6, the next 12 and the next 18; on a regular slide what lies
        within 1.35, 2.35 and 3.35 times the nearest distance. A spot without a neighbour in the
        ring keeps its own value.
        """
        size = min(self.indices.shape[1], 2 * sum(RING_SIZES))
        distances = self.distances[:, :size]
        inside = np.zeros(distances.shape, dtype=bool)
        first = 1 + sum(RING_SIZES[: ring - 1])
        inside[:, first : first + RING_SIZES[ring - 1]] = True
        regular = self.regular[self.slides]
        pitch = self._pitches[self.slides[regular], None]
        steps = distances[regular] / pitch
        inside[regular] = (steps > RING_BOUNDS[ring - 1]) & (steps <= RING_BOUNDS[ring])
        # Spots on top of each other are neighbours at distance 0.
        if ring == 1:
            inside[regular] |= steps == 0
        inside[:, 0] = False
        inside &= np.isfinite(distances)
        inside[~inside.any(axis=1), 0] = True
        return self._matrix(inside.astype(np.float32))

    def ring_means(self, X: np.ndarray) -> np.ndarray:
        """Return the means of X over rings 1, 2 and 3, shape (n_spots, 3, n_features)."""
        return np.stack([self.ring_matrix(ring) @ X for ring in (1, 2, 3)], axis=1)

    def lattice_cells(self) -> tuple[str, np.ndarray]:
        """Return the kind of lattice, "hex" or "square", and each spot's cell on it.

        Cells are int32 of shape (n_spots, 2), (row, column) on a square lattice and the axial
        (r, q) on a hexagonal one, which leaves no cell empty; see ``lattices.find_cells``.

        Raises
        ------
        ValueError
            Spots of some slide lie on neither lattice, or slides lie on different ones.
        """
        cells = np.zeros((self.n_spots, 2), dtype=np.int32)
        kinds = set()
        for place, name in enumerate(self.slide_names):
            rows = np.flatnonzero(self.slides == place)
            found = find_cells(self.coordinates[rows]) if self.regular[place] else None
            if found is None:
                raise ValueError(
                    f"the spots of slide {name} lie on no square or hexagonal lattice: windows "
                    "need one, rings work for any places"
                )
            kinds.add(found[0])
            cells[rows] = found[1]
        if len(kinds) > 1:
            raise ValueError(
                "slides lie on square and on hexagonal lattices: windows need one kind"
            )
        return kinds.pop(), cells

    def spread_sample(self, n_spots: int, rng: np.random.RandomState) -> np.ndarray:
        """Return the sorted rows of about ``n_spots`` spots that cover all slides evenly.

        Spots are lined up slide by slide along a Z-order curve, on which neighbours are near, and
        one is drawn at random from each stretch of equal length.
        """
        if n_spots >= self.n_spots:
            return np.arange(self.n_spots)
        order = np.lexsort([_z_order(self.coordinates), self.slides])
        bounds = np.linspace(0, self.n_spots, n_spots + 1)
        picked = np.floor(bounds[:-1] + rng.uniform(size=n_spots) * np.diff(bounds)).astype(int)
        return np.unique(order[picked])

    def _matrix(self, weights: np.ndarray, normalize: bool = True) -> sparse.csr_array:
        """Make a matrix of the weights of the first neighbours, leaving zeros out."""
        if normalize:
            totals = weights.sum(axis=1, keepdims=True)
            weights = weights / np.where(totals > 0, totals, 1)
        kept = weights > 0
        ends = np.cumsum(kept.sum(axis=1))
        starts = np.concatenate([[0], ends])
        indices = self.indices[:, : weights.shape[1]][kept]
        if starts[-1] <= np.iinfo(np.int32).max:
            starts = starts.astype(np.int32)
        return sparse.csr_array(
            (weights[kept], indices, starts), shape=(self.n_spots, self.n_spots)
        )


def _query_others(
    tree: cKDTree, points: np.ndarray, rows: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbours of some points, without the points themselves, and their distances."""
    distances, found = tree.query(points[rows], k=n_neighbors + 1)
    own = found == rows[:, None]
    # Among many duplicates a point may be missing from its own list: leave the last one out.
    own[~own.any(axis=1), -1] = True
    shape = (len(rows), n_neighbors)
    return found[~own].reshape(shape), distances[~own].reshape(shape)


def _positive_median(lengths: np.ndarray) -> float:
    """Return the median, of the positive lengths if it is 0 otherwise, and 1 if there are none."""
    median = float(np.median(lengths))
    if median > 0:
        return median
    positive = lengths[lengths > 0]
    return float(np.median(positive)) if len(positive) else 1.0


def _z_order(points: np.ndarray) -> np.ndarray:
    """Return each point's place on a Z-order curve of 2^16 steps a side."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(float((high - low).max()), np.finfo(float).tiny)
    steps = np.minimum((points - low) / side * 2**16, 2**16 - 1).astype(np.uint64)
    code = np.zeros(len(points), dtype=np.uint64)
    dimensions = points.shape[1]
    for bit in range(16):
        for axis in range(dimensions):
            digit = (steps[:, axis] >> np.uint64(bit)) & np.uint64(1)
            code |= digit << np.uint64(bit * dimensions + axis)
    return code
