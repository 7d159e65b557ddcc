"""The models by name, and how one is put together."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from skvae.models.ada_gvae import AdaGVAE
from skvae.models.adversarial import VAEGAN, AdversarialAE
from skvae.models.autoencoder import AE
from skvae.models.conditional import ConditionalVAE
from skvae.models.core import BaseAutoencoder
from skvae.models.disentangled import BetaVAE, DisentangledBetaVAE
from skvae.models.flow_vae import IAFVAE, LinearFlowVAE
from skvae.models.hamiltonian import HVAE
from skvae.models.hrqvae import HRQVAE
from skvae.models.image_networks import ConvDecoder, ConvEncoder, ResNetDecoder, ResNetEncoder
from skvae.models.importance_weighted import CIWAE, IWAE, MIWAE, PIWAE
from skvae.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
)
from skvae.models.mlp import MLPDecoder, MLPEncoder
from skvae.models.mmd import WAE, InfoVAE
from skvae.models.ms_ssim import MSSSIMLikelihood
from skvae.models.poincare import PoincareVAE
from skvae.models.quantized import VQVAE
from skvae.models.regularized import RAE_GP, RAE_L2, DenoisingAE
from skvae.models.riemannian import RHVAE
from skvae.models.spherical import SphericalVAE
from skvae.models.total_correlation import BetaTCVAE, FactorVAE
from skvae.models.vae import VAE, check_features
from skvae.models.vamp import VAMP

MODELS: dict[str, Any] = {
    "aae": AdversarialAE,
    "ada_gvae": AdaGVAE,
    "ae": AE,
    "beta": BetaVAE,
    "beta_tc": BetaTCVAE,
    "ciwae": CIWAE,
    "conditional": ConditionalVAE,
    "denoising_ae": DenoisingAE,
    "disentangled_beta": DisentangledBetaVAE,
    "factor": FactorVAE,
    "hrq": HRQVAE,
    "hvae": HVAE,
    "iaf": IAFVAE,
    "info_mmd": InfoVAE,
    "iwae": IWAE,
    "linear_flow": LinearFlowVAE,
    "miwae": MIWAE,
    "piwae": PIWAE,
    "poincare": PoincareVAE,
    "rae_gp": RAE_GP,
    "rae_l2": RAE_L2,
    "rhvae": RHVAE,
    "spherical": SphericalVAE,
    "vae": VAE,
    "vae_gan": VAEGAN,
    "vamp": VAMP,
    "vq": VQVAE,
    "wae_mmd": WAE,
}

LIKELIHOODS: dict[str, Callable[[tuple[int, ...]], Likelihood]] = {
    "gaussian": lambda shape: GaussianLikelihood("optimal"),
    "gaussian_per_feature": lambda shape: GaussianLikelihood("learned", feature_shape=shape),
    "gaussian_unit": lambda shape: GaussianLikelihood(1.0),
    "laplace": lambda shape: LaplaceLikelihood(),
    "bernoulli": lambda shape: BernoulliLikelihood(),
    "ms_ssim": lambda shape: MSSSIMLikelihood(shape),
}

NETWORKS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "mlp": (MLPEncoder, MLPDecoder),
    "conv": (ConvEncoder, ConvDecoder),
    "resnet": (ResNetEncoder, ResNetDecoder),
}


def hyper_parameters(model: type[nn.Module]) -> dict[str, Any]:
    """Return a model's own parameters and their defaults, without networks and likelihood."""
    parameters = inspect.signature(model).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in ("likelihood", "n_classes")
    }


def is_conditional(model: type[nn.Module]) -> bool:
    """Whether a model is conditional on labels, which it then needs."""
    return "n_classes" in inspect.signature(model).parameters


def learns_from_labels(model: type[nn.Module]) -> bool:
    """Whether a model's training takes labels, if there are any."""
    return is_conditional(model) or issubclass(model, AdaGVAE)


def check_model_name(name: str | type[nn.Module]) -> None:
    """Raise ValueError for a name that the zoo does not hold; classes pass."""
    if not isinstance(name, str) or name in MODELS:
        return
    # "BetaVAE" and "beta_vae" are the class of "beta".
    plain = name.lower().replace("_", "").replace("-", "")
    classes = {cls.__name__.lower(): key for key, cls in MODELS.items()}
    near = [classes[plain]] if plain in classes else difflib.get_close_matches(name, MODELS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"model={name!r} is not in the zoo.{hint} It holds {sorted(MODELS)}; a module or a class "
        "of your own serves as well."
    )


def check_hyper_parameters(model: type[nn.Module], given: dict[str, Any]) -> None:
    """Raise ValueError for a parameter that a model does not have."""
    known = list(hyper_parameters(model))
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"model_params has {key!r}, which {model.__name__} does not take.{hint} It takes "
                f"{known}."
            )


def make_model(
    name: str | type[nn.Module],
    input_shape: Sequence[int],
    latent_dim: int,
    *,
    likelihood: Likelihood | None = None,
    network: str = "mlp",
    hidden_layer_sizes: Sequence[int] | None = None,
    activation: str | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    n_classes: int | None = None,
    **params: Any,
) -> BaseAutoencoder:
    """Put a model of the zoo together.

    Parameters
    ----------
    name : str or class
        A key of ``MODELS``, or a class with the same arguments.
    input_shape : sequence of int
        Shape of a row.
    latent_dim : int
        Size of the latent.
    likelihood : Likelihood, optional
        By default a Gaussian of the optimal variance.
    network : str, default="mlp"
        A key of ``NETWORKS``.
    hidden_layer_sizes : sequence of int, optional
        Widths or channels of the encoder's layers; the decoder's are the same in reverse. None
        takes the network's own.
    activation : {"relu", "silu", "gelu", "tanh"}, optional
        What follows each hidden layer. None takes the network's own.
    encoder, decoder : Module, optional
        Instead of the network's. The encoder gives features, to which the model adds the layer it
        needs; the decoder takes latents, (batch, latent_dim).
    n_classes : int, optional
        Number of classes of the labels that a conditional model takes.
    **params
        The model's own parameters.

    Returns
    -------
    BaseAutoencoder
        Not yet built.

    Raises
    ------
    ValueError
        The model does not take one of ``params``.

    Examples
    --------
    >>> from skvae.models import make_model
    >>> make_model("vae", (64,), 2, hidden_layer_sizes=(32,)).latent_dim
    2
    """
    cls = MODELS[name] if isinstance(name, str) else name
    check_hyper_parameters(cls, params)
    input_shape = tuple(input_shape)
    make_encoder, make_decoder = NETWORKS[network]
    forth: dict[str, Any] = {} if activation is None else {"activation": activation}
    back = dict(forth)
    if hidden_layer_sizes is not None:
        forth["hidden_layer_sizes"] = tuple(hidden_layer_sizes)
        back["hidden_layer_sizes"] = tuple(hidden_layer_sizes)[::-1]
    arguments: dict[str, Any] = dict(params)
    decoder_inputs = latent_dim
    if is_conditional(cls):
        arguments["n_classes"] = n_classes
        decoder_inputs += n_classes or 0
    if encoder is None:
        encoder = make_encoder(input_shape, **forth)
    if decoder is None:
        decoder = make_decoder(decoder_inputs, input_shape, **back)
    if likelihood is None:
        likelihood = GaussianLikelihood("optimal")
    if issubclass(cls, AE):
        # These take latents from the encoder, where the others add the posterior's layer.
        encoder = nn.Sequential(encoder, _CheckedFeatures(), nn.LazyLinear(latent_dim))
    if "latent_dim" in inspect.signature(cls).parameters:
        arguments["latent_dim"] = latent_dim
    if issubclass(cls, AdaGVAE):
        return cast(BaseAutoencoder, cls(VAE(encoder, decoder, latent_dim, likelihood=likelihood)))
    return cast(BaseAutoencoder, cls(encoder, decoder, likelihood=likelihood, **arguments))


class _CheckedFeatures(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        check_features(features)
        return features
