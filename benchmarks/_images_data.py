"""The images of the benchmark: MNIST in its own idx files, and the digits of scikit-learn."""

import gzip
from pathlib import Path

import numpy as np

N_TEST = 5000


def mnist(folder):
    """Return the train and test images of MNIST, uint8 of shape (n_images, 784)."""
    return tuple(
        _idx(Path(folder) / f"{part}-images-idx3-ubyte.gz").reshape(-1, 784)
        for part in ("train", "t10k")
    )


def binarised_mnist(folder):
    """Return all train images and the first test images, each pixel a Bernoulli draw made once."""
    rng = np.random.default_rng(0)
    train, test = (
        (rng.random(images.shape, np.float32) * 255 < images).astype(np.float32)
        for images in mnist(folder)
    )
    return train, test[:N_TEST]


def digits():
    """Return the 8 x 8 digits of scikit-learn in [0, 1], float32, and their labels."""
    from sklearn.datasets import load_digits

    rows, labels = load_digits(return_X_y=True)
    return (rows / 16).astype(np.float32), labels


def _idx(path):
    """Read an idx file of bytes: a magic number that tells the dimensions, sizes, values."""
    with gzip.open(path) as file:
        content = file.read()
    n_dimensions = content[3]
    sizes = np.frombuffer(content, ">i4", n_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_dimensions).reshape(sizes)
