"""Torch modules: the core, the likelihoods and the models."""

from skvae.models.code_tables import (
    CategoricalHeads,
    CodeLayout,
    CodeTable,
    SegmentedSoftmax,
    draw_codes,
)
from skvae.models.core import (
    GaussianVAE,
    LossResult,
    VAEOutput,
    kl_divergence_diag_gaussian,
    reparametrize,
)
from skvae.models.tabular import AutoregressiveTVAE, FactorizedTVAE, TabularVAE

__all__ = [
    "AutoregressiveTVAE",
    "CategoricalHeads",
    "CodeLayout",
    "CodeTable",
    "FactorizedTVAE",
    "GaussianVAE",
    "LossResult",
    "SegmentedSoftmax",
    "TabularVAE",
    "VAEOutput",
    "draw_codes",
    "kl_divergence_diag_gaussian",
    "reparametrize",
]
