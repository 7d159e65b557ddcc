"""Images from idx files, arrays and folders of pictures."""

import gzip
import struct

import numpy as np
import pytest

from skvae.datasets import load_digit_images, read_images


def idx(array, code=8):
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, size=(6, 5, 4), dtype=np.uint8)


@pytest.fixture
def save_picture():
    image = pytest.importorskip("PIL.Image")

    def save(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(array).save(path)

    return save


def test_the_digits_are_ink_between_0_and_1_with_their_labels():
    images, labels = load_digit_images()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # The digit 0 has no ink in its middle, the digit 1 has.
    middle = images[:, 3:5, 3:5].mean((1, 2))
    assert middle[labels == 0].mean() < 0.1 < 0.5 < middle[labels == 1].mean()


class TestIdx:
    @pytest.fixture
    def folder(self, tmp_path, images):
        for part, shift in (("train", 0), ("t10k", 1)):
            name = tmp_path / f"{part}-images-idx3-ubyte.gz"
            name.write_bytes(gzip.compress(idx(images + np.uint8(shift))))
            name = tmp_path / f"{part}-labels-idx1-ubyte"
            name.write_bytes(idx(np.arange(6, dtype=np.uint8) + np.uint8(shift)))
        return tmp_path

    @pytest.mark.parametrize("name", ["", "train-images-idx3-ubyte.gz"])
    @pytest.mark.parametrize(("part", "shift"), [("train", 0), ("test", 1)])
    def test_both_parts_are_read_with_the_labels_beside_them(
        self, folder, images, name, part, shift
    ):
        found, labels = read_images(folder / name, part=part)
        np.testing.assert_array_equal(found, images + np.uint8(shift))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(labels, np.arange(6) + shift)

    def test_a_file_alone_has_neither_labels_nor_a_test_part(self, tmp_path, images):
        path = tmp_path / "train-images.idx3"
        path.write_bytes(idx(images))
        found, labels = read_images(path)
        np.testing.assert_array_equal(found, images)
        assert labels is None
        assert read_images(path, part="test") is None

    @pytest.mark.parametrize(("code", "dtype"), [(0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4")])
    def test_numbers_of_more_bytes_come_in_their_order(self, tmp_path, code, dtype):
        array = np.arange(-30, 30).reshape(3, 4, 5).astype(dtype)
        (tmp_path / "a.idx").write_bytes(idx(array, code))
        found, _ = read_images(tmp_path / "a.idx")
        np.testing.assert_array_equal(found, array)
        assert found.dtype == dtype

    @pytest.mark.parametrize("cut", [3, 10, 50, -1])
    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_a_truncated_file_is_named(self, tmp_path, images, cut, pack):
        path = tmp_path / "images.idx"
        path.write_bytes(pack(idx(images))[:cut] if pack is gzip.compress else idx(images)[:cut])
        with pytest.raises(ValueError, match=r"images\.idx.*(truncated|damaged|does not begin)"):
            read_images(path)

    def test_a_file_with_too_much_in_it_is_named(self, tmp_path, images):
        (tmp_path / "a.idx").write_bytes(idx(images) + b"\0")
        with pytest.raises(ValueError, match=r"announces .*\(6, 5, 4\), 120 bytes, and 121 bytes"):
            read_images(tmp_path / "a.idx")

    def test_labels_of_another_number_are_refused(self, tmp_path, images):
        (tmp_path / "images-idx3").write_bytes(idx(images))
        (tmp_path / "labels-idx1").write_bytes(idx(np.arange(5, dtype=np.uint8)))
        with pytest.raises(ValueError, match=r"6 images and labels of shape \(5,\)"):
            read_images(tmp_path)


class TestArrays:
    def test_an_npy_file_is_one_part_without_labels(self, tmp_path, images):
        np.save(tmp_path / "a.npy", images)
        found, labels = read_images(tmp_path / "a.npy")
        np.testing.assert_array_equal(found, images)
        assert labels is None
        assert read_images(tmp_path / "a.npy", part="test") is None

    @pytest.mark.parametrize(
        ("image_key", "label_key"),
        [("images", "labels"), ("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("arr_0", None)],
    )
    def test_arrays_are_found_by_the_names_that_are_in_use(
        self, tmp_path, images, image_key, label_key
    ):
        arrays = {}
        for shift, part in enumerate(("train", "test") if "{}" in image_key else ("train",)):
            arrays[image_key.format(part)] = images + np.uint8(shift)
            if label_key:
                arrays[label_key.format(part)] = np.arange(6).reshape(6, 1) + shift
        np.savez(tmp_path / "a.npz", **arrays)
        for shift, part in enumerate(("train", "test")):
            found = read_images(tmp_path / "a.npz", part=part)
            if image_key.format(part) == image_key and part == "test":
                assert found is None
                continue
            np.testing.assert_array_equal(found[0], images + np.uint8(shift))
            if label_key:
                np.testing.assert_array_equal(found[1], np.arange(6) + shift)
            else:
                assert found[1] is None

    def test_an_archive_without_images_names_what_it_holds(self, tmp_path, images):
        np.savez(tmp_path / "a.npz", weights=images, y=np.arange(6))
        with pytest.raises(ValueError, match=r"holds the arrays \['weights', 'y'\], none of them"):
            read_images(tmp_path / "a.npz")

    @pytest.mark.parametrize("suffix", ["npy", "npz"])
    def test_a_truncated_file_is_named(self, tmp_path, images, suffix):
        path = tmp_path / f"a.{suffix}"
        np.save(path, images) if suffix == "npy" else np.savez(path, images=images)
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ValueError, match=rf"a\.{suffix}' is damaged"):
            read_images(path)

    def test_objects_are_not_unpickled(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([{}, {}]), allow_pickle=True)
        with pytest.raises(ValueError, match="holds no numbers"):
            read_images(tmp_path / "a.npy")

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((2, 6, 7, 3), (2, 3, 6, 7)),
            ((2, 3, 6, 7), (2, 3, 6, 7)),
            ((2, 6, 7, 1), (2, 6, 7)),
            ((2, 1, 6, 7), (2, 6, 7)),
        ],
    )
    def test_channels_come_first_and_a_single_one_is_dropped(self, tmp_path, shape, expected):
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        np.save(tmp_path / "a.npy", array)
        found, _ = read_images(tmp_path / "a.npy")
        assert found.shape == expected
        if shape == (2, 6, 7, 3):
            np.testing.assert_array_equal(found[1, 2], array[1, :, :, 2])

    @pytest.mark.parametrize("shape", [(6, 784), (6,), (0, 5, 4), (2, 3, 4, 5, 6)])
    def test_what_has_no_shape_of_images_is_refused(self, tmp_path, shape):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        with pytest.raises(ValueError, match="expected images of shape"):
            read_images(tmp_path / "a.npy")

    def test_words_are_no_images(self, tmp_path):
        np.save(tmp_path / "a.npy", np.full((2, 3, 4), "ink"))
        with pytest.raises(ValueError, match="expected numbers"):
            read_images(tmp_path / "a.npy")


class TestFolders:
    def test_pictures_come_in_the_order_of_their_names(self, tmp_path, images, save_picture):
        for i in (2, 0, 1):
            save_picture(tmp_path / f"{i}.png", images[i])
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / "._0.png").write_text("nor is this")
        found, labels = read_images(tmp_path)
        np.testing.assert_array_equal(found, images[:3])
        assert labels is None

    def test_folders_are_labels_and_parts(self, tmp_path, images, save_picture):
        for i, place in enumerate(("train/cat", "train/cat", "train/dog", "test/dog")):
            save_picture(tmp_path / place / f"{i}.png", images[i])
        found, labels = read_images(tmp_path)
        np.testing.assert_array_equal(found, images[:3])
        assert labels.tolist() == ["cat", "cat", "dog"]
        found, labels = read_images(tmp_path, part="test")
        np.testing.assert_array_equal(found, images[3:4])
        assert labels.tolist() == ["dog"]
        assert read_images(tmp_path / "train", part="test") is None

    def test_grey_pictures_among_coloured_ones_become_coloured(
        self, tmp_path, images, save_picture
    ):
        colours = np.stack([images[0], images[1], images[2]], axis=-1)
        save_picture(tmp_path / "0.png", colours)
        save_picture(tmp_path / "1.png", images[3])
        found, _ = read_images(tmp_path)
        assert found.shape == (2, 3, 5, 4)
        np.testing.assert_array_equal(found[0], images[:3])
        np.testing.assert_array_equal(found[1], np.stack([images[3]] * 3))

    def test_jpegs_serve(self, tmp_path, save_picture):
        smooth = np.linspace(0, 255, 64 * 48).reshape(64, 48).astype(np.uint8)
        save_picture(tmp_path / "0.JPEG", smooth)
        found, _ = read_images(tmp_path)
        assert np.abs(found[0].astype(int) - smooth).max() < 16

    def test_sizes_that_differ_are_named_with_their_files(self, tmp_path, images, save_picture):
        save_picture(tmp_path / "0.png", images[0])
        save_picture(tmp_path / "1.png", images[1][:, :3])
        with pytest.raises(ValueError, match=r"0\.png' is 4x5 pixels and .*1\.png' is 3x5"):
            read_images(tmp_path)

    def test_a_damaged_picture_is_named(self, tmp_path, images, save_picture):
        save_picture(tmp_path / "0.png", images[0])
        (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
        with pytest.raises(ValueError, match=r"1\.png' cannot be read as a picture"):
            read_images(tmp_path)

    def test_a_folder_without_pictures_says_what_it_looked_for(self, tmp_path):
        with pytest.raises(ValueError, match=r"holds no pictures \(\.png, \.jpg, \.jpeg\)"):
            read_images(tmp_path)

    def test_pictures_with_and_without_labels_do_not_mix(self, tmp_path, images, save_picture):
        save_picture(tmp_path / "0.png", images[0])
        save_picture(tmp_path / "cat" / "1.png", images[1])
        with pytest.raises(ValueError, match="the first have no labels"):
            read_images(tmp_path)


def test_a_path_that_leads_nowhere_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file or folder .*nowhere"):
        read_images(tmp_path / "nowhere")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("1,2,3\n")
    with pytest.raises(ValueError, match=r"a\.csv' is neither an idx file .* nor \.npy, nor \.npz"):
        read_images(tmp_path / "a.csv")


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(ValueError, match="part='validation', expected 'train' or 'test'"):
        read_images(tmp_path, part="validation")
