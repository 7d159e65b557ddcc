"""Small real data shipped with the package, simulators, and a reader of images: no network."""

from skvae.datasets._adult import load_adult
from skvae.datasets._digits import load_digit_images
from skvae.datasets._images import read_images
from skvae.datasets._spatial import make_spatial_domains

__all__ = ["load_adult", "load_digit_images", "make_spatial_domains", "read_images"]
