"""Square and hexagonal lattices: the cell of each spot, and windows of cells around it."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

HEX, SQUARE = "hex", "square"
# Angle between the two axes of a lattice, and so the symmetry of its bonds.
_FOLDS = {HEX: 6, SQUARE: 4}
# Bonds longer than this, in nearest distances, lead past the first ring.
BOND = 1.2
# Mean agreement of bonds with the best direction, 1 on a perfect lattice.
MIN_ORDER = 0.8
# Spots must lie this near to their cell, in steps of the lattice.
MAX_OFFSET = 0.3


def find_cells(coordinates: np.ndarray) -> tuple[str, np.ndarray] | None:
    """Find the lattice that the spots of one slide lie on, at any rotation and scale.

    Parameters
    ----------
    coordinates : float array of shape (n_spots, 2)
        Where the spots lie.

    Returns
    -------
    kind : {"hex", "square"}
        Which lattice.
    cells : int32 array of shape (n_spots, 2)
        The cell of each spot. On a square lattice (row, column); on a hexagonal one the axial
        coordinates (r, q), in which a spot lies at ``q + r/2`` to the right and ``r √3/2`` up.

    None is returned if the spots lie on neither, or two of them in one cell.

    Notes
    -----
    The bonds to the first ring, at angles θ, give the kind and the direction of the lattice: the
    mean of ``exp(i n θ)`` has length 1 for n = 6 on a hexagonal and for n = 4 on a square lattice.
    Then axes and origin are fitted to spots further and further out by least squares.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial.lattices import find_cells
    >>> row, column = np.divmod(np.arange(30), 6)
    >>> kind, cells = find_cells(np.column_stack([column, row]) * 55.0)
    >>> kind, np.ptp(cells, axis=0).tolist()
    ('square', [4, 5])
    """
    if coordinates.shape[1] != 2 or len(coordinates) < 4:
        return None
    distances, found = cKDTree(coordinates).query(coordinates, k=min(7, len(coordinates)))
    pitch = np.median(distances[:, 1])
    bonded = (distances[:, 1:] > 0) & (distances[:, 1:] <= BOND * pitch)
    bonds = (coordinates[found[:, 1:]] - coordinates[:, None])[bonded]
    if len(bonds) == 0:
        return None
    angles = np.arctan2(bonds[:, 1], bonds[:, 0])
    orders = {kind: np.exp(1j * fold * angles).mean() for kind, fold in _FOLDS.items()}
    kind = max(orders, key=lambda name: abs(orders[name]))
    if abs(orders[kind]) < MIN_ORDER:
        return None
    # The axis nearest to the x axis, and the next one counter-clockwise.
    turn = np.angle(orders[kind]) / _FOLDS[kind] + np.array([0, 2 * np.pi / _FOLDS[kind]])
    axes = pitch * np.stack([np.cos(turn), np.sin(turn)])
    cells = _index(coordinates, axes)
    if cells is None or len(np.unique(cells, axis=0)) < len(cells):
        return None
    return kind, cells


def _index(coordinates: np.ndarray, axes: np.ndarray) -> np.ndarray | None:
    """Count steps along the axes (columns of a 2 x 2 matrix); None where spots lie off cells."""
    centre = coordinates.mean(axis=0)
    start = coordinates[np.square(coordinates - centre).sum(axis=1).argmin()]
    offsets = coordinates - start
    radii = np.sqrt(np.square(offsets).sum(axis=1))
    pitch = np.linalg.norm(axes[:, 0])
    reach = 8 * pitch
    origin = np.zeros(2)
    while True:
        steps = np.linalg.solve(axes, (offsets - origin).T).T
        cells = np.rint(steps)
        if reach > radii.max():
            break
        near = radii <= reach
        design = np.column_stack([cells[near], np.ones(near.sum())])
        solution, _, rank, _ = np.linalg.lstsq(design, offsets[near], rcond=None)
        if rank == 3:
            axes, origin = solution[:2].T, solution[2]
        reach *= 2
    on_cell = np.abs(steps - cells).max(axis=1) <= MAX_OFFSET
    if on_cell.mean() < 0.99:
        return None
    # (row, column): steps along the second axis, then along the first.
    cells = cells[:, ::-1].astype(np.int32)
    return cells - cells.min(axis=0)


def window_indices(cells: np.ndarray, width: int, slides: np.ndarray | None = None) -> np.ndarray:
    """Return which spots fill the window of width x width cells around each spot.

    Parameters
    ----------
    cells : int array of shape (n_spots, 2)
        Row and column of each spot. With the array coordinates of Visium as they are, half of the
        cells are empty; with axial ones (``visium_cells``) none.
    width : int
        Odd.
    slides : int array of shape (n_spots,) or None
        Windows stay on the slide.

    Returns
    -------
    int32 array of shape (n_spots, width * width)
        Row by row; -1 for a cell without a spot. Of spots in one cell the first is taken.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.spatial.lattices import window_indices
    >>> window_indices(np.array([[0, 0], [0, 1], [1, 1]]), 3).tolist()[0]
    [-1, -1, -1, -1, 0, 1, -1, -1, 2]
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"the width of a window must be odd, so that it has a middle: got {width}")
    reach = width // 2
    places = np.asarray(cells, dtype=np.int64)
    places = places - places.min(axis=0, initial=0) + reach
    n_rows, n_columns = places.max(axis=0, initial=0) + reach + 1
    keys = places[:, 0] * n_columns + places[:, 1]
    if slides is not None:
        keys = keys + np.asarray(slides, dtype=np.int64) * (n_rows * n_columns)
    taken, first = np.unique(keys, return_index=True)
    window = np.full((len(keys), width * width), -1, dtype=np.int32)
    for cell in range(width * width):
        down, right = cell // width - reach, cell % width - reach
        wanted = keys + down * n_columns + right
        place = np.minimum(np.searchsorted(taken, wanted), len(taken) - 1)
        window[:, cell] = np.where(taken[place] == wanted, first[place], -1)
    return window


def visium_cells(array_row: np.ndarray, array_col: np.ndarray) -> np.ndarray:
    """Return axial cells (r, q), int32 of shape (n_spots, 2), of Visium's array coordinates.

    There ``array_col`` moves in steps of two, shifted by one in every other row: q is
    ``(array_col - array_row) / 2`` and r is ``array_row``.
    """
    row, column = np.asarray(array_row), np.asarray(array_col)
    return np.column_stack([row, (column - row) // 2]).astype(np.int32)


def visium_places(array_row: np.ndarray, array_col: np.ndarray) -> np.ndarray:
    """Return where Visium's array coordinates lie, (n_spots, 2), one spot a unit from the next."""
    row, column = np.asarray(array_row, dtype=float), np.asarray(array_col, dtype=float)
    return np.column_stack([column / 2, row * np.sqrt(3) / 2])
