"""Small real data shipped with the package, and a reader of images: no network."""

from skvae.datasets._adult import load_adult
from skvae.datasets._digits import load_digit_images
from skvae.datasets._images import read_images

__all__ = ["load_adult", "load_digit_images", "read_images"]
