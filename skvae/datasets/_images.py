"""Images and their labels from idx files, arrays of numpy, and folders of pictures."""

import gzip
import math
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
PARTS = ("train", "test")
# The third byte of an idx file.
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# What stands for "train" in the name of an idx file of the other part.
_TEST_NAMES = ("t10k", "test")
# What arrays in an npz file are called.
_IMAGE_KEYS = ("images", "x", "X", "data")
_LABEL_KEYS = ("labels", "label", "y", "target", "targets")


def read_images(path, *, part="train"):
    """Read images, and their labels where there are any.

    Parameters
    ----------
    path : str or path-like
        One of

        - an idx file as MNIST has it, compressed by gzip or not, beside it maybe the labels
          (``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte.gz``) and the test part
          (``t10k-...`` or ``test-...``), or the folder of these files;
        - an ``.npy`` file;
        - an ``.npz`` file with an array ``images``, ``x``, ``X`` or ``data``, and maybe ``labels``,
          ``y`` or ``target``; or with such names after ``train_`` and ``test_``, or before
          ``_train`` and ``_test``;
        - a folder of PNG or JPEG pictures of one size, or of folders of them, whose names are then
          the labels; folders ``train`` and ``test`` above are the parts.
    part : {"train", "test"}, default="train"
        Which part of data that come in two; data that do not are one part, ``"train"``.

    Returns
    -------
    images : ndarray of shape (n, height, width) or (n, channels, height, width)
        Of uint8 where the source is, and otherwise of the source's type. Channels that come last
        are moved.
    labels : ndarray of shape (n,) or None
        Numbers, or names of folders.
    None
        In place of both, for the part ``"test"`` of data that have none.

    Raises
    ------
    FileNotFoundError
        There is nothing at ``path``.
    ValueError
        What is there are no images, is damaged, or the pictures differ in size.
    ImportError
        Pictures are to be read without pillow, which the extra ``plot`` brings.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skvae.datasets import read_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "noise.npz")
    ...     np.savez(path, images=np.zeros((5, 8, 6), np.uint8), labels=np.arange(5))
    ...     images, labels = read_images(path)
    >>> images.shape, labels
    ((5, 8, 6), array([0, 1, 2, 3, 4]))
    """
    path = Path(path)
    if part not in PARTS:
        raise ValueError(f"part={part!r}, expected 'train' or 'test'.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r}.")
    found = _read_folder(path, part) if path.is_dir() else _read_file(path, part)
    if found is None:
        return None
    images, labels = found
    images = _channels_first(images, path)
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape == (len(images), 1):
            labels = labels[:, 0]
        if labels.shape != (len(images),):
            raise ValueError(
                f"{str(path)!r} has {len(images)} images and labels of shape {labels.shape}: "
                "expected a label for each."
            )
    return images, labels


def _read_file(path, part):
    with open(path, "rb") as file:
        start = file.read(4)
    if start.startswith(b"PK"):
        return _read_npz(path, part)
    if start.startswith(b"\x93NUM"):
        with _opened(path) as array:
            return (array, None) if part == "train" else None
    if start.startswith((b"\x1f\x8b", b"\0\0")):
        return _read_idx_family(path, part)
    raise ValueError(
        f"{str(path)!r} is neither an idx file (.gz or not), nor .npy, nor .npz. Pictures are read "
        "from the folder that they are in."
    )


@contextmanager
def _opened(path):
    """Open what numpy wrote; a damaged file, or one of objects, is an error that names it."""
    try:
        with open(path, "rb") as file:
            yield np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is damaged, or holds no numbers: {error}") from None


def _read_npz(path, part):
    with _opened(path) as arrays:
        names = arrays.files
    found = [_name_in(names, keys, part) for keys in (_IMAGE_KEYS, _LABEL_KEYS)]
    if found[0] is None and part == "test":
        return None
    if found[0] is None and len(names) == 1:
        found[0] = names[0]
    if found[0] is None:
        raise ValueError(
            f"{str(path)!r} holds the arrays {names}, none of them called 'images', 'x', 'X' or "
            "'data', or such a name with 'train_' before it or '_train' after it."
        )
    with _opened(path) as arrays:
        return tuple(None if name is None else arrays[name] for name in found)


def _name_in(names, keys, part):
    """Return which of an archive's arrays is the one looked for."""
    wanted = [form.format(key, part) for key in keys for form in ("{1}_{0}", "{0}_{1}")]
    if part == "train":
        wanted += keys
    return next((name for name in wanted if name in names), None)


def _read_idx_family(path, part):
    """Read an idx file and its labels, or those of the part that stands beside it."""
    if part == "test":
        names = [path.name.replace("train", test) for test in _TEST_NAMES if "train" in path.name]
        path = next((path.with_name(name) for name in names if path.with_name(name).exists()), None)
        if path is None:
            return None
    images = _read_idx(path)
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    beside = path.with_name(name)
    other = path.with_name(name.removesuffix(".gz") if name.endswith(".gz") else name + ".gz")
    labels = next((file for file in (beside, other) if file != path and file.exists()), None)
    return images, None if labels is None else _read_idx(labels)


def _read_idx(path):
    """Read an array of the format of MNIST: type, sizes and numbers, the first byte first."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{str(path)!r} is truncated or damaged: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{str(path)!r} does not begin as an idx file does.")
    n_axes = content[3]
    start = 4 + 4 * n_axes
    if len(content) < start:
        raise ValueError(f"{str(path)!r} is truncated: it ends within its header.")
    shape = np.frombuffer(content, ">u4", n_axes, offset=4).tolist()
    dtype = np.dtype(_IDX_TYPES[content[2]])
    n_bytes = len(content) - start
    if n_bytes != math.prod(shape) * dtype.itemsize:
        fault = "truncated" if n_bytes < math.prod(shape) * dtype.itemsize else "damaged"
        raise ValueError(
            f"{str(path)!r} is {fault}: its header announces numbers of shape {tuple(shape)}, "
            f"{math.prod(shape) * dtype.itemsize} bytes, and {n_bytes} bytes follow."
        )
    return (
        np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
    )


def _read_folder(folder, part):
    """Read a folder of idx files, or of pictures."""
    idx = sorted(file for file in folder.glob("*images*idx*") if file.is_file())
    if idx:
        train = [file for file in idx if "train" in file.name] or idx
        if len(train) > 1:
            raise ValueError(
                f"{str(folder)!r} holds {[file.name for file in train]}: name the file to read."
            )
        return _read_idx_family(train[0], part)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        folder = folder / part
    elif part == "test":
        return None
    files, labels = _pictures(folder)
    return _read_pictures(files), labels


def _pictures(folder):
    """Return the pictures in a folder, and the names of the folders in it that they are in."""

    def within(pattern):
        return sorted(
            file
            for file in folder.glob(pattern)
            if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")
        )

    files, nested = within("*"), within("*/*")
    if files and nested:
        raise ValueError(
            f"{str(folder)!r} holds pictures, and folders of pictures such as "
            f"{nested[0].parent.name!r}: the first have no labels. Put all into folders, or none."
        )
    if not files and not nested:
        raise ValueError(
            f"{str(folder)!r} holds no pictures ({', '.join(PICTURE_SUFFIXES)}), neither directly "
            "nor in folders one level down, and no idx files."
        )
    return (files, None) if files else (nested, np.array([file.parent.name for file in nested]))


def _read_pictures(files):
    """Read pictures of one size; all are grey if all files are, and RGB otherwise."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ImportError(
            "To read PNG and JPEG needs pillow: pip install skvae[plot] brings it."
        ) from None
    pictures = []
    for file in files:
        try:
            with Image.open(file) as opened:
                # As the camera was held; transparency is left out.
                picture = ImageOps.exif_transpose(opened)
                grey = picture.mode in ("1", "L", "LA")
                pictures.append(np.asarray(picture.convert("L" if grey else "RGB")))
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{str(file)!r} cannot be read as a picture: {error}") from None
        if pictures[-1].shape[:2] != pictures[0].shape[:2]:
            sizes = ["{1}x{0}".format(*pictures[i].shape) for i in (0, -1)]
            raise ValueError(
                f"The pictures differ in size: {str(files[0])!r} is {sizes[0]} pixels and "
                f"{str(file)!r} is {sizes[1]}. Bring all to one size first."
            )
    if any(picture.ndim == 3 for picture in pictures):
        pictures = [p if p.ndim == 3 else np.repeat(p[:, :, None], 3, axis=2) for p in pictures]
    return np.stack(pictures)


def _channels_first(images, path):
    """Check the shape of images; move channels that come last, and drop a single one."""
    if images.dtype.kind not in "buif":
        raise ValueError(f"{str(path)!r} holds values of type {images.dtype}, expected numbers.")
    if images.ndim == 4 and images.shape[1] not in (1, 3, 4) and images.shape[3] in (1, 3, 4):
        images = np.ascontiguousarray(np.moveaxis(images, 3, 1))
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            f"{str(path)!r} holds an array of shape {images.shape}, expected images of shape "
            "(n, height, width) or (n, channels, height, width). Flat rows take a reshape first, "
            "such as X.reshape(-1, 28, 28)."
        )
    return images
