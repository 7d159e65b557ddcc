import numpy as np
import pytest

from skvae.spatial import Neighbourhoods, visium_cells, visium_places, window_indices
from skvae.spatial.lattices import find_cells


def visium(n_rows=20, n_columns=20):
    row, place = np.divmod(np.arange(n_rows * n_columns), n_columns)
    return row, 2 * place + row % 2


def step_lengths(kind, cells):
    """Return the distances between spots that their cells say."""
    down, right = cells[:, 0].astype(float), cells[:, 1].astype(float)
    if kind == "hex":
        right, down = right + down / 2, down * np.sqrt(3) / 2
    places = np.column_stack([right, down])
    return np.linalg.norm(places[:, None] - places, axis=2)


@pytest.mark.parametrize("kind", ["hex", "square"])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.7])
def test_cells_tell_the_distances_of_a_jittered_rotated_lattice_with_holes(kind, angle):
    rng = np.random.default_rng(0)
    row, column = visium()
    places = visium_places(row, column) if kind == "hex" else np.argwhere(np.ones((20, 20)))
    places = places[rng.uniform(size=400) < 0.9].astype(float)
    turned = places @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    found, cells = find_cells(137 * turned + rng.normal(0, 1.5, turned.shape))
    assert found == kind
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.testing.assert_allclose(step_lengths(kind, cells), distances, atol=1e-9)


def test_a_wide_lattice_whose_pitch_is_known_badly_is_counted_through():
    places = visium_places(*visium(6, 800))
    stretched = places * 100 + np.random.default_rng(0).normal(0, 2, places.shape)
    kind, cells = find_cells(stretched)
    np.testing.assert_allclose(
        step_lengths(kind, cells)[0], np.linalg.norm(places - places[0], axis=1), atol=1e-9
    )


def test_free_places_and_two_spots_in_a_cell_are_no_lattice():
    assert find_cells(np.random.default_rng(0).uniform(size=(300, 2))) is None
    grid = np.argwhere(np.ones((9, 9))).astype(float)
    assert find_cells(np.vstack([grid, grid[:1]])) is None
    with pytest.raises(ValueError, match=r"slide 0 lie on no square or hexagonal lattice"):
        Neighbourhoods(np.random.default_rng(0).uniform(size=(300, 2))).lattice_cells()


def test_slides_on_different_lattices_are_refused():
    grid, comb = np.argwhere(np.ones((9, 9))), visium_places(*visium(9, 9))
    around = Neighbourhoods(np.vstack([grid, comb]), np.repeat([0, 1], 81))
    with pytest.raises(ValueError, match="square and on hexagonal"):
        around.lattice_cells()


def test_the_cells_of_neighbourhoods_start_anew_on_each_slide():
    grid = np.argwhere(np.ones((9, 9))).astype(float)
    kind, cells = Neighbourhoods(np.vstack([grid, 3 * grid]), np.repeat([0, 1], 81)).lattice_cells()
    assert kind == "square"
    np.testing.assert_array_equal(cells[:81], cells[81:])


def test_a_window_holds_the_spots_of_its_cells_row_by_row():
    cells = np.argwhere(np.ones((5, 7)))
    window = window_indices(cells, 3)
    assert window.dtype == np.int32
    assert window[2 * 7 + 3].tolist() == [9, 10, 11, 16, 17, 18, 23, 24, 25]
    assert window[0].tolist() == [-1, -1, -1, -1, 0, 1, -1, 7, 8]
    # The last column has no neighbour in the first one of the next row.
    assert window[6].tolist() == [-1, -1, -1, 5, 6, -1, 12, 13, -1]


def test_windows_stay_on_the_slide():
    cells = np.tile(np.argwhere(np.ones((3, 3))), (2, 1))
    window = window_indices(cells, 3, np.repeat([0, 1], 9))
    assert window[4].tolist() == list(range(9))
    assert window[13].tolist() == list(range(9, 18))


def test_axial_cells_leave_no_cell_of_a_window_empty():
    row, column = visium()
    middle = 10 * 20 + 10
    axial = window_indices(visium_cells(row, column), 7)[middle]
    array = window_indices(np.column_stack([row, column]), 7)[middle]
    assert np.sum(axial >= 0) == 49
    assert np.sum(array >= 0) == 25
    kind, cells = find_cells(visium_places(row, column))
    assert kind == "hex"
    expected = visium_cells(row, column)
    np.testing.assert_array_equal(cells, expected - expected.min(axis=0))


def test_a_window_without_a_middle_is_refused():
    with pytest.raises(ValueError, match=r"must be odd.*got 4"):
        window_indices(np.zeros((1, 2), dtype=int), 4)
