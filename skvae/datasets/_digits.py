"""The handwritten digits that come with scikit-learn, as pictures."""

import numpy as np
from sklearn.datasets import load_digits


def load_digit_images():
    """Load scikit-learn's handwritten digits as pictures.

    Returns
    -------
    images : float32 array of shape (1797, 8, 8)
        Ink between 0 and 1.
    labels : int64 array of shape (1797,)
        The digits, 0 to 9.

    References
    ----------
    E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine
    Learning Repository. https://doi.org/10.24432/C50P49

    Examples
    --------
    >>> from skvae.datasets import load_digit_images
    >>> images, labels = load_digit_images()
    >>> images.shape, images.max(), labels[:4]
    ((1797, 8, 8), np.float32(1.0), array([0, 1, 2, 3]))
    """
    digits = load_digits()
    return (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
