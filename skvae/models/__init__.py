"""Torch modules: the core, the likelihoods and the models."""

from skvae.models.ada_gvae import AdaGVAE, AdaGVAEOutput
from skvae.models.adversarial import VAEGAN, AdversarialAE
from skvae.models.autoencoder import AE, AEDecodeOutput, AEEncodeOutput, AEOutput
from skvae.models.autoregressive_tvae import AutoregressiveTVAE
from skvae.models.code_tables import (
    CategoricalHeads,
    CodeLayout,
    CodeTable,
    SegmentedSoftmax,
    draw_codes,
)
from skvae.models.conditional import ConditionalVAE
from skvae.models.core import (
    BaseAutoencoder,
    GaussianVAE,
    LossResult,
    ModelOutput,
    StepContext,
    kl_divergence_diag_gaussian,
    reparametrize,
)
from skvae.models.discriminator import MLPDiscriminator
from skvae.models.disentangled import BetaVAE, DisentangledBetaVAE
from skvae.models.factorized_tvae import FactorizedTVAE
from skvae.models.flow_vae import IAFVAE, FlowOutput, FlowVAE, LinearFlowVAE
from skvae.models.hamiltonian import HVAE, HVAEOutput
from skvae.models.hrqvae import HRQVAE, HRQVAEOutput
from skvae.models.image_networks import ConvDecoder, ConvEncoder, ResNetDecoder, ResNetEncoder
from skvae.models.importance_weighted import CIWAE, IWAE, MIWAE, PIWAE
from skvae.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    LikelihoodType,
    log_likelihood,
)
from skvae.models.mixed import MixedLikelihood
from skvae.models.mlp import MLPDecoder, MLPEncoder
from skvae.models.mmd import WAE, InfoVAE, maximum_mean_discrepancy
from skvae.models.ms_ssim import MSSSIMLikelihood
from skvae.models.poincare import PoincareOutput, PoincareVAE
from skvae.models.quantized import VQVAE, QuantizedAE, QuantizedEncodeOutput, QuantizedOutput
from skvae.models.regularized import RAE_GP, RAE_L2, DenoisingAE
from skvae.models.riemannian import RHVAE, KernelMetric
from skvae.models.spatial_student import STUDENT_TRAINING, SpatialStudent
from skvae.models.spatial_window import WINDOW_TRAINING, WindowAutoencoder, WindowOutput
from skvae.models.spherical import SphericalOutput, SphericalVAE
from skvae.models.tabular import TabularVAE
from skvae.models.total_correlation import BetaTCVAE, FactorVAE
from skvae.models.triplets import draw_triplets, triplet_loss
from skvae.models.vae import (
    VAE,
    FullyFactorizedGaussian,
    VAEDecodeOutput,
    VAEEncodeOutput,
    VAEOutput,
)
from skvae.models.vamp import VAMP
from skvae.models.zoo import LIKELIHOODS, MODELS, NETWORKS, hyper_parameters, make_model

__all__ = [
    "AE",
    "CIWAE",
    "HRQVAE",
    "HVAE",
    "IAFVAE",
    "IWAE",
    "LIKELIHOODS",
    "MIWAE",
    "MODELS",
    "NETWORKS",
    "PIWAE",
    "RAE_GP",
    "RAE_L2",
    "RHVAE",
    "STUDENT_TRAINING",
    "VAE",
    "VAEGAN",
    "VAMP",
    "VQVAE",
    "WAE",
    "WINDOW_TRAINING",
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
    "ConditionalVAE",
    "ConvDecoder",
    "ConvEncoder",
    "DenoisingAE",
    "DisentangledBetaVAE",
    "FactorVAE",
    "FactorizedTVAE",
    "FlowOutput",
    "FlowVAE",
    "FullyFactorizedGaussian",
    "GaussianLikelihood",
    "GaussianVAE",
    "HRQVAEOutput",
    "HVAEOutput",
    "InfoVAE",
    "KernelMetric",
    "LaplaceLikelihood",
    "Likelihood",
    "LikelihoodType",
    "LinearFlowVAE",
    "LossResult",
    "MLPDecoder",
    "MLPDiscriminator",
    "MLPEncoder",
    "MSSSIMLikelihood",
    "MixedLikelihood",
    "ModelOutput",
    "PoincareOutput",
    "PoincareVAE",
    "QuantizedAE",
    "QuantizedEncodeOutput",
    "QuantizedOutput",
    "ResNetDecoder",
    "ResNetEncoder",
    "SegmentedSoftmax",
    "SpatialStudent",
    "SphericalOutput",
    "SphericalVAE",
    "StepContext",
    "TabularVAE",
    "VAEDecodeOutput",
    "VAEEncodeOutput",
    "VAEOutput",
    "WindowAutoencoder",
    "WindowOutput",
    "draw_codes",
    "draw_triplets",
    "hyper_parameters",
    "kl_divergence_diag_gaussian",
    "log_likelihood",
    "make_model",
    "maximum_mean_discrepancy",
    "reparametrize",
    "triplet_loss",
]
