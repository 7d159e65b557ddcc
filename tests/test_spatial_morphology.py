"""What is read off an image around each spot."""

import numpy as np
import pytest

from skvae.spatial.morphology import FEATURE_NAMES, cut_patches, patch_features, separate_stains

NAMES = list(FEATURE_NAMES)


def stained(amounts):
    """Return the 8-bit colours of given amounts of haematoxylin and eosin."""
    vectors = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.rint(255 * 10 ** -(np.asarray(amounts) @ vectors)).astype(np.uint8)


@pytest.fixture(scope="module")
def image():
    """A noisy image that is blue at the left and pink at the right."""
    rng = np.random.default_rng(0)
    amounts = rng.gamma(4.0, 0.05, size=(90, 120, 2))
    amounts[:, :60, 0] += 0.4
    amounts[:, 60:, 1] += 0.4
    return stained(amounts)


@pytest.fixture(scope="module")
def places():
    return np.random.default_rng(1).uniform(0, 89, size=(40, 2)) * [119 / 89, 1]


def column(features, name):
    return features[:, NAMES.index(name)]


class TestStains:
    def test_they_are_taken_apart(self):
        amounts = np.array([[0.3, 0.0], [0.0, 0.5], [0.4, 0.2], [0.0, 0.0]])
        found = separate_stains(stained(amounts))
        np.testing.assert_allclose(found[:, :2], amounts, atol=0.01)
        np.testing.assert_allclose(found[:, 2], 0, atol=0.01)

    def test_what_neither_stain_absorbs_is_the_residual(self):
        vectors = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        residual = np.cross(*vectors) / np.linalg.norm(np.cross(*vectors))
        density = [0.4, 0.3, 0.1] @ np.vstack([vectors, residual])
        np.testing.assert_allclose(separate_stains(10**-density), [0.4, 0.3, 0.1], atol=1e-5)

    def test_bytes_and_floats_with_or_without_transparency_agree(self, image):
        expected = separate_stains(image)
        np.testing.assert_allclose(separate_stains(image / 255), expected, atol=1e-5)
        opaque = np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2)
        assert np.array_equal(separate_stains(opaque), expected)

    def test_black_is_finite(self):
        assert np.isfinite(separate_stains(np.zeros((2, 2, 3), dtype=np.uint8))).all()


class TestColour:
    @pytest.mark.parametrize(("window", "reach"), [("1r", 4), ("2r", 8)])
    def test_the_moments_are_those_of_the_pixels_in_the_window(self, image, window, reach):
        stains = separate_stains(image).astype(float)
        (features,) = patch_features(image, [[30, 40]], radius=4)
        inside = stains[40 - reach : 41 + reach, 30 - reach : 31 + reach].reshape(-1, 3)
        found = dict(zip(NAMES, features, strict=True))
        for i, stain in enumerate(("haematoxylin", "eosin", "residual")):
            mean, std = inside[:, i].mean(), inside[:, i].std()
            skewness = ((inside[:, i] - mean) ** 3).mean() / max(std, 2e-3) ** 3
            assert found[f"{stain}_mean_{window}"] == pytest.approx(mean, abs=1e-6)
            assert found[f"{stain}_std_{window}"] == pytest.approx(std, rel=1e-4)
            assert found[f"{stain}_skewness_{window}"] == pytest.approx(skewness, abs=1e-4)

    def test_it_tells_the_two_halves_of_the_image_apart(self, image, places):
        features = patch_features(image, places, radius=4)
        left = column(features, "haematoxylin_mean_1r") > column(features, "eosin_mean_1r")
        far = np.abs(places[:, 0] - 60) > 5
        assert far.sum() > 30
        assert np.array_equal(left[far], places[far, 0] < 60)

    def test_a_window_ends_where_the_image_does(self, image):
        stains = separate_stains(image)
        corner = patch_features(image, [[119, 89]], radius=4)
        expected = stains[85:, 115:, 1].mean()
        assert column(corner, "eosin_mean_1r")[0] == pytest.approx(expected, abs=1e-6)

    def test_a_flat_image_has_no_spread_and_no_texture(self):
        flat = np.full((30, 30, 3), 120, dtype=np.uint8)
        features = patch_features(flat, [[15, 15], [0, 0]], radius=4)
        assert np.isfinite(features).all()
        for name in ("haematoxylin_std_1r", "eosin_skewness_2r", "gradient_1r", "blobs_2r"):
            np.testing.assert_allclose(column(features, name), 0, atol=2e-3)


class TestTexture:
    def texture(self, density):
        amounts = np.stack([density, np.zeros_like(density)], axis=-1)
        (features,) = patch_features(stained(amounts), [[30, 30]], radius=10)
        return dict(zip(NAMES, features, strict=True))

    def test_stripes_are_coherent_and_a_grid_is_not(self):
        wave = 0.5 + 0.3 * np.sin(np.arange(61) * 2 * np.pi / 8)
        stripes = self.texture(np.tile(wave, (61, 1)))
        grid = self.texture((wave[:, None] + wave) / 2)
        assert stripes["coherence_1r"] > 0.95
        assert grid["coherence_1r"] < 0.1
        oblique = np.add.outer(np.arange(61), np.arange(61)) * 2 * np.pi / 12
        assert self.texture(0.5 + 0.3 * np.sin(oblique))["coherence_1r"] > 0.95

    def test_sharper_changes_are_stronger_gradients(self):
        x = np.arange(61) * 2 * np.pi
        wide, narrow = (np.tile(0.5 + 0.3 * np.sin(x / p), (61, 1)) for p in (24, 8))
        assert self.texture(narrow)["gradient_1r"] > 1.5 * self.texture(wide)["gradient_1r"]

    def test_the_gradient_of_a_ramp_is_its_slope(self):
        ramp = np.tile(np.linspace(0, 0.6, 61), (61, 1))
        assert self.texture(ramp)["gradient_1r"] == pytest.approx(0.01, rel=0.1)

    def test_nuclei_are_blobs_and_a_ramp_is_none(self):
        rows, columns = np.indices((61, 61))
        nuclei = 0.6 * ((rows % 10 - 5) ** 2 + (columns % 10 - 5) ** 2 < 8)
        ramp = np.tile(np.linspace(0, 0.6, 61), (61, 1))
        assert self.texture(nuclei)["blobs_1r"] > 20 * self.texture(ramp)["blobs_1r"]


class TestGeometry:
    def test_turning_or_mirroring_all_changes_nothing(self, image):
        places = np.random.default_rng(2).integers(0, [120, 90], size=(30, 2)).astype(float)
        expected = patch_features(image, places, radius=4)
        mirrored = np.column_stack([119 - places[:, 0], places[:, 1]])
        turned = np.column_stack([places[:, 1], 119 - places[:, 0]])
        for changed, new in ((image[:, ::-1], mirrored), (np.rot90(image), turned)):
            np.testing.assert_allclose(
                patch_features(changed, new, radius=4), expected, atol=1e-4, rtol=1e-4
            )

    def test_scale_brings_full_pixels_to_those_of_the_image(self, image, places):
        expected = patch_features(image, places, radius=4)
        scaled = patch_features(image, places / 0.25, radius=16, scale=0.25)
        np.testing.assert_allclose(scaled, expected)

    @pytest.mark.parametrize("enlarged", [1, 5])
    def test_a_spot_does_not_feel_the_others(self, image, places, enlarged):
        large = image.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
        where = places * enlarged
        expected = patch_features(large, where, radius=4 * enlarged)
        for spot in range(0, 40, 8):
            alone = patch_features(large, where[[spot]], radius=4 * enlarged)
            np.testing.assert_allclose(alone[0], expected[spot], atol=1e-6)

    @pytest.mark.parametrize("kind", ["uint8", "float"])
    @pytest.mark.parametrize("corner", [0, 2])
    def test_a_large_image_is_reduced_to_the_same_features(self, image, kind, corner):
        rng = np.random.default_rng(3)
        places = rng.integers(0, [120, 90], size=(30, 2)).astype(float)
        large = image.repeat(3, axis=0).repeat(3, axis=1)
        large = large / 255 if kind == "float" else large
        # Three by three pixels are one: whichever of them a spot is in.
        found = patch_features(large, 3 * places + corner, radius=24)
        np.testing.assert_allclose(found, patch_features(image, places, radius=8), atol=1e-4)

    def test_spots_far_narrower_than_a_pixel_still_have_one(self, image):
        features = patch_features(image, [[10, 10]], radius=0.1)
        expected = separate_stains(image)[10, 10, 0]
        assert column(features, "haematoxylin_mean_1r")[0] == pytest.approx(expected, abs=1e-6)


class TestPatches:
    def test_they_are_cut_around_the_spots_and_repeat_the_edge(self, image):
        patches = cut_patches(image, [[30, 40], [0, 0]], radius=3)
        assert patches.shape == (2, 7, 7, 3)
        assert patches.dtype == np.uint8
        assert np.array_equal(patches[0], image[37:44, 27:34])
        assert np.array_equal(patches[1, 3:, 3:], image[:4, :4])
        assert np.array_equal(patches[1, 0, 0], image[0, 0])

    def test_an_extractor_of_ones_own_gets_them_a_few_at_a_time(self, image, places):
        sizes = []

        def extractor(patches):
            sizes.append(len(patches))
            return patches.reshape(len(patches), -1)[:, :5]

        features = patch_features(
            image, places / 0.25, 12, 0.25, feature_extractor=extractor, batch_size=16
        )
        assert sizes == [16, 16, 8]
        expected = cut_patches(image, places, radius=3).reshape(40, -1)[:, :5]
        assert np.array_equal(features, expected)
        assert features.dtype == np.float64

    def test_what_it_returns_must_have_a_row_for_each(self, image, places):
        with pytest.raises(ValueError, match=r"returned shape \(3,\) for 40 patches"):
            patch_features(image, places, 4, feature_extractor=lambda patches: np.zeros(3))


def test_every_column_has_a_name(image, places):
    assert patch_features(image, places, radius=4).shape == (40, len(FEATURE_NAMES))
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)


def test_the_image_is_left_as_it_is(image, places):
    before = image.copy()
    patch_features(image, places, radius=4)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((20, 20))}, r"image has shape \(20, 20\), expected \(height"),
        ({"image": np.full((20, 20, 3), 7.0)}, "image holds float64 up to 7, expected uint8"),
        ({"image": np.zeros((20, 20, 3), dtype=int)}, "image holds int64 up to 0"),
        ({"coordinates": [[5, 5], [5, 25]]}, "1 of 2 spots lie outside the image of 20 x 20"),
        ({"coordinates": [[5, np.nan]]}, "coordinates holds NaN"),
        ({"coordinates": [5, 5]}, r"coordinates must have shape"),
        ({"radius": 0}, "radius=0, expected a positive number"),
        ({"scale": -1.0}, r"scale=-1.0, expected a positive number"),
    ],
)
def test_bad_input_is_an_error(change, message):
    params = {
        "image": np.zeros((20, 20, 3), dtype=np.uint8),
        "coordinates": [[5.0, 5.0]],
        "radius": 3,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        patch_features(**params)
