"""The images that the command line trains on, and those that it holds out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from skvae.datasets import load_digit_images, read_images

# Of data that do not come in two parts every tenth image is held out, and of no data more.
HELD_OUT_SHARE = 10
MAX_HELD_OUT = 1000


@dataclass(frozen=True)
class ImageSet:
    """Images between 0 and 1, and their labels where there are any.

    Parameters
    ----------
    pixels : float32 array of shape (n, height, width) or (n, channels, height, width)
        The images.
    labels : array of shape (n,) or None
        Their labels.
    """

    pixels: np.ndarray
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Any) -> ImageSet:
        """Return some of the images."""
        return ImageSet(self.pixels[index], None if self.labels is None else self.labels[index])

    def spread(self, n: int) -> ImageSet:
        """Return up to n images from all over the set, which may be sorted."""
        index = np.linspace(0, len(self) - 1, min(n, len(self))).round().astype(int)
        return self.take(index)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these images from others."""
        content = np.ascontiguousarray(self.pixels)
        return {
            "images": len(self),
            "shape": list(self.pixels.shape[1:]),
            "sha256": hashlib.sha256(content.tobytes()).hexdigest(),
        }


def load_parts(path: str | None) -> tuple[ImageSet, ImageSet]:
    """Return the images to train on and those held out, of a path or of the built-in digits.

    Raises
    ------
    ValueError
        There is but one image, or the values have no evident black and white.
    """
    everything = _load(path, "train")
    if everything is None:
        raise ValueError(f"{path!r} holds no images to train on.")
    test = _load(path, "test")
    if test is not None:
        if test.pixels.shape[1:] != everything.pixels.shape[1:]:
            raise ValueError(
                f"The images of {path!r} have shape {everything.pixels.shape[1:]} in its training "
                f"part and {test.pixels.shape[1:]} in its test part."
            )
        return everything, test.take(slice(MAX_HELD_OUT))
    if len(everything) < 2:
        raise ValueError(f"{path!r} holds one image: training takes two at least.")
    step = max(HELD_OUT_SHARE, len(everything) // MAX_HELD_OUT)
    held_out = np.zeros(len(everything), bool)
    # From the end, so that short data keep their first images.
    held_out[-1::-step] = True
    return everything.take(~held_out), everything.take(held_out)


def load_images(path: str) -> ImageSet:
    """Return the test part of data that have one, and all images of others."""
    images = _load(path, "test") or _load(path, "train")
    assert images is not None  # the training part is always there
    return images


def _load(path: str | None, part: str) -> ImageSet | None:
    if path is None:
        return ImageSet(*load_digit_images()) if part == "train" else None
    found = read_images(path, part=part)
    if found is None:
        return None
    images, labels = found
    return ImageSet(_between_0_and_1(images, path), labels)


def _between_0_and_1(images: np.ndarray, path: str) -> np.ndarray:
    """Return images as floats, white being the largest value that their type is made for."""
    if images.dtype in (np.uint8, np.uint16):
        white = float(np.iinfo(images.dtype).max)
    elif not np.isfinite(images).all():
        raise ValueError(f"{path!r} holds values that are NaN or infinite.")
    elif images.min() >= 0 and images.max() <= 255:
        white = 1.0 if images.max() <= 1 else 255.0
    else:
        raise ValueError(
            f"{path!r} holds {images.dtype} values from {images.min():g} to {images.max():g}: "
            "expected uint8, uint16, or numbers in [0, 1] or [0, 255]."
        )
    return images.astype(np.float32) / np.float32(white)
