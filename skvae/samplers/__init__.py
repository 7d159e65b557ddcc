"""Densities over the latent space: ``fit(Z)``, ``sample(n_samples, random_state)``."""

from skvae.samplers.codes import CodesSampler
from skvae.samplers.flows import (
    InverseAutoregressiveFlowSampler,
    MaskedAutoregressiveFlowSampler,
)
from skvae.samplers.gaussian_mixture import GaussianMixtureSampler
from skvae.samplers.hypersphere import HypersphereSampler
from skvae.samplers.kernel_density import KernelDensitySampler
from skvae.samplers.manifold import ManifoldSampler
from skvae.samplers.normal import NormalSampler
from skvae.samplers.poincare_disk import PoincareDiskSampler
from skvae.samplers.two_stage import TwoStageSampler
from skvae.samplers.vamp import VampSampler

SAMPLERS = {
    "normal": NormalSampler,
    "gaussian_mixture": GaussianMixtureSampler,
    "kde": KernelDensitySampler,
    "two_stage": TwoStageSampler,
    "maf": MaskedAutoregressiveFlowSampler,
    "iaf": InverseAutoregressiveFlowSampler,
    "codes": CodesSampler,
    "vamp": VampSampler,
    "hypersphere": HypersphereSampler,
    "poincare_disk": PoincareDiskSampler,
    "rhvae_manifold": ManifoldSampler,
}

__all__ = [
    "SAMPLERS",
    "CodesSampler",
    "GaussianMixtureSampler",
    "HypersphereSampler",
    "InverseAutoregressiveFlowSampler",
    "KernelDensitySampler",
    "ManifoldSampler",
    "MaskedAutoregressiveFlowSampler",
    "NormalSampler",
    "PoincareDiskSampler",
    "TwoStageSampler",
    "VampSampler",
]
