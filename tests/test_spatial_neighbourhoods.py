import numpy as np
import pytest

from skvae.spatial import Neighbourhoods


def square(side):
    row, column = np.divmod(np.arange(side * side), side)
    return np.column_stack([column, row]).astype(float)


def hexagonal(side):
    places = square(side)
    places[:, 0] += places[:, 1] % 2 / 2
    places[:, 1] *= np.sqrt(3) / 2
    return places


def free(n_spots, seed=0):
    return np.random.default_rng(seed).uniform(size=(n_spots, 2))


def rotate(places, angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return places @ np.array([[cos, sin], [-sin, cos]])


def test_neighbours_are_those_of_a_search_by_brute_force():
    places = free(60)
    around = Neighbourhoods(places)
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.testing.assert_array_equal(around.indices, np.argsort(distances, axis=1))
    spacing = np.median(np.sort(distances, axis=1)[:, 1:7].mean(axis=1))
    assert around.spacings[0] == pytest.approx(spacing)
    np.testing.assert_allclose(around.distances * spacing, np.sort(distances, axis=1), rtol=1e-6)


def test_indices_and_distances_take_four_bytes_each():
    around = Neighbourhoods(free(200))
    assert (around.indices.dtype, around.distances.dtype) == (np.int32, np.float32)
    assert around.indices.shape == (200, 91)


def test_neighbours_never_cross_slides_and_each_slide_has_its_own_spacing():
    places = np.vstack([square(6), square(6) * 5])
    slide = np.repeat(["b", "a"], 36)
    around = Neighbourhoods(places, slide)
    alone = Neighbourhoods(places[36:])
    assert list(around.slide_names) == ["a", "b"]
    assert around.spacings[0] == pytest.approx(5 * around.spacings[1])
    found = around.indices[36:]
    assert set(np.unique(found)) <= {-1, *range(36, 72)}
    np.testing.assert_array_equal(around.distances[36:], alone.distances)
    X = np.arange(72.0)
    np.testing.assert_allclose(
        (around.gaussian_kernel(1.0) @ X)[36:], alone.gaussian_kernel(1.0) @ X[36:], rtol=1e-6
    )


def test_the_kernel_is_a_normalised_gaussian_cut_off_at_three_widths():
    places = free(80)
    around = Neighbourhoods(places)
    distances = np.linalg.norm(places[:, None] - places, axis=2) / around.spacings[0]
    expected = np.exp(-(distances**2) / (2 * 1.25**2)) * (distances <= 3.05 * 1.25)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(around.gaussian_kernel(1.25).toarray(), expected, atol=1e-6)


def test_the_lag_matrix_is_the_kernel_without_its_diagonal():
    around = Neighbourhoods(free(80))
    expected = around.gaussian_kernel(1.0).toarray()
    np.fill_diagonal(expected, 0)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(around.lag_matrix().toarray(), expected, atol=1e-6)


def test_rings_of_a_hexagonal_lattice_hold_6_12_and_18_spots():
    around = Neighbourhoods(hexagonal(13))
    middle = 6 * 13 + 6
    sizes = [np.diff(around.ring_matrix(ring).indptr)[middle] for ring in (1, 2, 3)]
    assert sizes == [6, 12, 18]
    # At the corner fewer, never spots from further out.
    assert np.diff(around.ring_matrix(1).indptr)[0] in (2, 3)


def test_rings_of_free_places_hold_the_nearest_6_the_next_12_and_the_next_18():
    around = Neighbourhoods(free(80))
    assert not around.regular[0]
    X = np.arange(80.0)[:, None]
    expected = [X[around.indices[:, a:b]].mean(axis=1) for a, b in ((1, 7), (7, 19), (19, 37))]
    np.testing.assert_allclose(around.ring_means(X), np.stack(expected, axis=1), rtol=1e-6)


@pytest.mark.parametrize("places", [square(12), hexagonal(12), free(144)])
@pytest.mark.parametrize("angle", [0.3, np.pi / 2, 2.0])
def test_rotation_flip_scale_and_shift_change_no_smoothing(places, angle):
    X = np.random.default_rng(1).normal(size=(144, 3))
    moved = rotate(places, angle) * np.array([-7.3, 7.3]) + 100
    before, after = Neighbourhoods(places), Neighbourhoods(moved)
    for width in (1.0, 1.25, 1.6):
        np.testing.assert_allclose(
            after.gaussian_kernel(width) @ X, before.gaussian_kernel(width) @ X, atol=1e-5
        )
    np.testing.assert_allclose(after.ring_means(X), before.ring_means(X), atol=1e-5)
    np.testing.assert_allclose(
        after.nearest_matrix(18) @ X, before.nearest_matrix(18) @ X, atol=1e-4
    )


@pytest.mark.parametrize("places", [square(12), hexagonal(12)])
def test_a_small_jitter_of_a_lattice_chooses_no_other_neighbours(places):
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, size=places.shape)
    before, after = Neighbourhoods(places), Neighbourhoods(places + jitter)
    assert (before.nearest_matrix(18) != after.nearest_matrix(18)).nnz == 0
    for ring in (1, 2, 3):
        assert abs(before.ring_matrix(ring) - after.ring_matrix(ring)).max() < 1e-6
    assert abs(before.gaussian_kernel(1.6) - after.gaussian_kernel(1.6)).max() < 2e-3


def test_fewer_neighbours_searched_leave_a_shorter_kernel_of_whole_shells():
    around = Neighbourhoods(hexagonal(15), max_neighbors=40)
    middle = 7 * 15 + 7
    # 36 lie within three steps; 4 of the 6 at the next distance are left out.
    assert np.diff(around.gaussian_kernel(1.6).indptr)[middle] == 37


def test_a_spot_without_neighbours_keeps_its_own_value():
    around = Neighbourhoods([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]], ["a", "a", "b"])
    X = np.array([[1.0], [2.0], [7.0]])
    assert (around.gaussian_kernel(1.0) @ X)[2] == 7
    assert around.ring_means(X)[2].ravel().tolist() == [7, 7, 7]
    assert (around.lag_matrix() @ X)[2] == 0
    assert around.nearest(3).tolist() == [[1, -1, -1], [0, -1, -1], [-1, -1, -1]]
    assert Neighbourhoods([[3.0, 4.0]]).indices.tolist() == [[0]]


def test_isolated_spots_have_no_neighbours():
    around = Neighbourhoods.isolated(4)
    X = np.arange(4.0)
    np.testing.assert_array_equal(around.gaussian_kernel(1.6) @ X, X)
    assert around.lag_matrix().nnz == around.nearest_matrix(6).nnz == 0
    assert around.slide_size == 4


@pytest.mark.parametrize("copies", [2, 120])
def test_duplicated_spots_are_neighbours_but_never_of_themselves(copies):
    places = np.vstack([np.repeat([[0.5, 0.5]], copies, axis=0), free(100)])
    around = Neighbourhoods(places)
    np.testing.assert_array_equal(around.indices[:, 0], np.arange(len(places)))
    assert not np.any(around.indices[:, 1:] == np.arange(len(places))[:, None])
    smooth = around.gaussian_kernel(1.0) @ np.ones(len(places))
    np.testing.assert_allclose(smooth, 1, rtol=1e-5)


def test_spots_all_in_one_place_are_averaged():
    around = Neighbourhoods(np.zeros((5, 2)))
    assert around.spacings[0] == 1
    np.testing.assert_allclose(around.gaussian_kernel(1.0) @ np.arange(5.0), 2)
    np.testing.assert_allclose(around.ring_means(np.arange(5.0)[:, None])[0, 0], 2.5)


def test_places_in_three_dimensions_work():
    around = Neighbourhoods(np.random.default_rng(0).uniform(size=(50, 3)))
    np.testing.assert_allclose(around.gaussian_kernel(1.0) @ np.ones(50), 1, rtol=1e-5)


def test_a_sample_covers_slides_and_tissue_evenly():
    places, slide = np.vstack([square(40), square(20)]), np.repeat([0, 1], [1600, 400])
    rows = Neighbourhoods(places, slide).spread_sample(200, np.random.RandomState(0))
    assert len(rows) == len(set(rows)) and np.all(np.diff(rows) > 0)
    assert abs(np.sum(rows >= 1600) - 40) <= 1
    quarters = np.bincount((places[rows[rows < 1600]] >= 20) @ [1, 2], minlength=4)
    assert quarters.min() >= 38  # by chance alone one in two draws has less


@pytest.mark.parametrize(
    ("coordinates", "message"),
    [
        (np.arange(5), r"must have shape \(n_spots, 2\).*labels of slides go into slide="),
        (np.zeros((5, 4)), r"their shape is \(5, 4\)"),
        ([[0, 0], [np.nan, 1], [2, np.inf]], "NaN or infinity in 2 rows, the first of them row 1"),
    ],
)
def test_bad_coordinates_are_named(coordinates, message):
    with pytest.raises(ValueError, match=message):
        Neighbourhoods(coordinates)


@pytest.mark.parametrize(
    ("slide", "message"),
    [
        (["a", "b"], "slide has 2 rows, but there are 3 spots"),
        ([["a"]] * 3, "one label per spot"),
        (np.array(["a", None, "b"], dtype=object), "1 missing labels, the first in row 1"),
        ([1.0, 2.0, np.nan], "1 missing labels, the first in row 2"),
    ],
)
def test_bad_slides_are_named(slide, message):
    with pytest.raises(ValueError, match=message):
        Neighbourhoods(np.zeros((3, 2)), slide)
