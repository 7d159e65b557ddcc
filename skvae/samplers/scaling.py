"""Latents brought to one scale."""

from __future__ import annotations

import numpy as np


def standardize(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bring each dimension to mean 0 and standard deviation 1.

    Parameters
    ----------
    Z : array of shape (n_samples, latent_dim)
        Latents.

    Returns
    -------
    standard : array of shape (n_samples, latent_dim)
        ``(Z - mean) / scale``, and 0 where the scale is.
    mean, scale : array of shape (latent_dim,)
        The scale of a dimension that does not vary is 0: ``standard * scale + mean`` brings all
        dimensions back.
    """
    mean = Z.mean(axis=0)
    # Rounding gives what does not vary a tiny deviation.
    scale = np.where(np.ptp(Z, axis=0) > 0, Z.std(axis=0), 0.0)
    standard = np.divide(Z - mean, scale, out=np.zeros_like(Z), where=scale > 0)
    return standard, mean, scale
