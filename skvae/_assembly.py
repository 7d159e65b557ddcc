"""From parameters and rows to a torch module for ``VAEEmbedder``."""

from __future__ import annotations

import copy

import numpy as np
import torch

from skvae.models import LIKELIHOODS, make_model

# Columns of one unit, such as pixels or principal components, spread no more than this many times
# as much as the median one.
MAX_SPREAD = 30


def choose_likelihood(likelihood, rows: np.ndarray):
    """Return the likelihood that a parameter stands for, given flat rows."""
    if likelihood != "auto":
        return likelihood
    binary = rows.min() != rows.max() and bool(np.isin(rows, (0, 1)).all())
    return "bernoulli" if binary else "gaussian"


def choose_scale(scale: str | None, likelihood, variance: np.ndarray, image: bool) -> str | None:
    """Return how rows are scaled, "global", "per_feature" or None.

    Parameters
    ----------
    scale : {"auto", "global", "per_feature"} or None
        What was asked for.
    likelihood : str or Likelihood
        What the decoder says of the data.
    variance : ndarray of shape (n_features,)
        Of the data.
    image : bool
        Whether rows are images.

    Raises
    ------
    ValueError
        The likelihood does not bear the scale asked for.
    """
    if scale == "auto":
        if likelihood not in ("gaussian", "gaussian_per_feature", "laplace"):
            return None
        varying = variance[variance > 0]
        common_unit = (
            image or not len(varying) or (variance.max() <= MAX_SPREAD**2 * np.median(varying))
        )
        return "global" if common_unit else "per_feature"
    if scale is not None and likelihood == "bernoulli":
        raise ValueError(f"scale={scale!r} takes data out of [0, 1]: take scale='auto'.")
    return scale


def assemble(spec: dict, sample: torch.Tensor) -> torch.nn.Module:
    """Build the module of a spec, from torch's default generator.

    Parameters
    ----------
    spec : dict
        ``model`` (a name, class or module), ``input_shape``, ``latent_dim``, ``likelihood`` (a
        name or module), ``network``, ``hidden_layer_sizes``, ``activation``, ``encoder`` and
        ``decoder`` (a module, function or None), ``n_classes`` and ``params``.
    sample : Tensor of shape (batch, *input_shape)
        Rows to build it on.
    """
    if isinstance(spec["model"], torch.nn.Module):
        model = copy.deepcopy(spec["model"])
    else:
        model = _from_parts(spec)
    try:
        model.float().build(sample)  # whatever torch's default type is
    except RuntimeError as error:
        own = [part for part in ("encoder", "decoder") if spec[part] is not None]
        if not own:
            raise
        raise ValueError(
            f"{' and '.join(own)} cannot be used: {str(error).splitlines()[0]}. The encoder gets "
            f"rows of shape (batch, {', '.join(map(str, sample.shape[1:]))}) and gives features "
            f"(batch, n); the decoder gets latents (batch, {_decoder_inputs(spec)}) and gives "
            "rows of the first shape."
        ) from error
    # Built-in decoders begin with the mean row, or with the frequencies of ones.
    if hasattr(getattr(model, "decoder", None), "start_at"):
        model.decoder.start_at(model.likelihood.start(sample))
    return model


def _from_parts(spec: dict) -> torch.nn.Module:
    shape, likelihood, network = spec["input_shape"], spec["likelihood"], spec["network"]
    if isinstance(likelihood, str):
        likelihood = LIKELIHOODS[likelihood](shape)
    if network == "auto":
        network = "mlp" if len(shape) == 1 else "conv"
    return make_model(
        spec["model"],
        shape,
        spec["latent_dim"],
        likelihood=copy.deepcopy(likelihood),
        network=network,
        hidden_layer_sizes=spec["hidden_layer_sizes"],
        activation=spec["activation"],
        encoder=_made(spec["encoder"], shape),
        decoder=_made(spec["decoder"], _decoder_inputs(spec), shape),
        n_classes=spec["n_classes"],
        **spec["params"],
    )


def _decoder_inputs(spec: dict) -> int:
    return spec["latent_dim"] + (spec["n_classes"] or 0)


def _made(network, *arguments):
    """Return a copy of a module, or what a function makes of the arguments."""
    if network is None or isinstance(network, torch.nn.Module):
        return copy.deepcopy(network)
    return network(*arguments)
