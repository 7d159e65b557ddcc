"""Densities over the latent space: ``fit(Z)``, ``sample(n_samples, random_state)``."""

from skvae.samplers.gaussian_mixture import GaussianMixtureSampler
from skvae.samplers.normal import NormalSampler

SAMPLERS = {"normal": NormalSampler, "gaussian_mixture": GaussianMixtureSampler}

__all__ = ["SAMPLERS", "GaussianMixtureSampler", "NormalSampler"]
