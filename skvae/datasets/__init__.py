"""Small real tables shipped with the package: no network, no extra dependency."""

from skvae.datasets._adult import load_adult

__all__ = ["load_adult"]
