"""Torch modules: the core, the likelihoods and the models."""

from skvae.models.ada_gvae import AdaGVAE, AdaGVAEOutput
from skvae.models.adversarial import VAEGAN, AdversarialAE, MLPDiscriminator
from skvae.models.autoencoder import AE, AEDecodeOutput, AEEncodeOutput, AEOutput
from skvae.models.code_tables import (
    CategoricalHeads,
    CodeLayout,
    CodeTable,
    SegmentedSoftmax,
    draw_codes,
)
from skvae.models.core import (
    BaseAutoencoder,
    GaussianVAE,
    LossResult,
    ModelOutput,
    StepContext,
    kl_divergence_diag_gaussian,
    reparametrize,
)
from skvae.models.disentangled import BetaVAE, DisentangledBetaVAE
from skvae.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    LikelihoodType,
    log_likelihood,
)
from skvae.models.mlp import MLPDecoder, MLPEncoder
from skvae.models.tabular import AutoregressiveTVAE, FactorizedTVAE, TabularVAE
from skvae.models.total_correlation import BetaTCVAE, FactorVAE
from skvae.models.vae import (
    VAE,
    FullyFactorizedGaussian,
    VAEDecodeOutput,
    VAEEncodeOutput,
    VAEOutput,
)
from skvae.models.zoo import LIKELIHOODS, MODELS, NETWORKS, hyper_parameters, make_model

__all__ = [
    "AE",
    "LIKELIHOODS",
    "MODELS",
    "NETWORKS",
    "VAE",
    "VAEGAN",
    "AEDecodeOutput",
    "AEEncodeOutput",
    "AEOutput",
    "AdaGVAE",
    "AdaGVAEOutput",
    "AdversarialAE",
    "AutoregressiveTVAE",
    "BaseAutoencoder",
    "BernoulliLikelihood",
    "BetaTCVAE",
    "BetaVAE",
    "CategoricalHeads",
    "CodeLayout",
    "CodeTable",
    "DisentangledBetaVAE",
    "FactorVAE",
    "FactorizedTVAE",
    "FullyFactorizedGaussian",
    "GaussianLikelihood",
    "GaussianVAE",
    "LaplaceLikelihood",
    "Likelihood",
    "LikelihoodType",
    "LossResult",
    "MLPDecoder",
    "MLPDiscriminator",
    "MLPEncoder",
    "ModelOutput",
    "SegmentedSoftmax",
    "StepContext",
    "TabularVAE",
    "VAEDecodeOutput",
    "VAEEncodeOutput",
    "VAEOutput",
    "draw_codes",
    "hyper_parameters",
    "kl_divergence_diag_gaussian",
    "log_likelihood",
    "make_model",
    "reparametrize",
]
