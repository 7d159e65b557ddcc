"""Parameters of ``VAEEmbedder`` that do not go together, or with what they are used on."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from torch import nn

from skvae.models import MODELS
from skvae.models.zoo import check_hyper_parameters, check_model_name
from skvae.streams import RowStream

# What a module of one's own must bring.
MODEL_METHODS = (
    "training_loss",
    "build",
    "embed",
    "decode_mean",
    "draw_latents",
    "log_weights",
    "finalize",
)
# Parameters that it makes void.
MODEL_PARTS = (
    "model_params",
    "encoder",
    "decoder",
    "network",
    "hidden_layer_sizes",
    "activation",
    "likelihood",
)
# Parameters that make a model, by their names in its spec.
SPEC_PARAMETERS = {
    "model": "model",
    "model_params": "params",
    "n_components": "latent_dim",
    "network": "network",
    "hidden_layer_sizes": "hidden_layer_sizes",
    "activation": "activation",
    "likelihood": "likelihood",
}


def model_class(model: str | type[nn.Module] | nn.Module) -> type[nn.Module]:
    """Return the class that the parameter ``model`` stands for."""
    if isinstance(model, str):
        return MODELS[model]
    return model if isinstance(model, type) else type(model)


def check_combinations(params) -> None:
    """Refuse parameters that do not go together, or that the model does not take.

    ``params`` is the estimator, here and below; it is read and not changed.

    Raises
    ------
    ValueError, TypeError
        The message names the parameter and the way out.
    """
    if isinstance(params.model, nn.Module):
        _check_own_module(params)
    else:
        check_model_name(params.model)
        check_hyper_parameters(model_class(params.model), params.model_params or {})
    sizes = params.hidden_layer_sizes
    if sizes is not None and not all(isinstance(s, Integral) and s > 0 for s in sizes):
        raise ValueError(f"hidden_layer_sizes must be whole numbers above 0, got {sizes!r}.")


def _check_own_module(params) -> None:
    name_of_model = type(params.model).__name__
    for method in MODEL_METHODS:
        if not hasattr(params.model, method):
            raise TypeError(
                f"model={name_of_model} has no method {method!r}: derive it from "
                "skvae.models.VAE, AE or BaseAutoencoder."
            )
    defaults = type(params)().get_params()
    for name in MODEL_PARTS:
        value = getattr(params, name)
        if value is not None and value != defaults[name]:
            raise ValueError(
                f"{name}={value!r} was given, but model={name_of_model}(...) is a "
                f"module that brings its own. Leave {name} out, or give the class."
            )


def check_same_model(params, spec: dict) -> None:
    """Refuse to go on with a model, built from ``spec``, that the parameters no longer describe."""
    for name, key in SPEC_PARAMETERS.items():
        now, before = getattr(params, name), spec[key]
        if now == "auto" or now is None or isinstance(now, nn.Module):
            continue
        if isinstance(now, (list, tuple)):
            now, before = list(now), list(before or ())
        if now != before:
            raise ValueError(
                f"{name}={now!r}, but the model that is to go on was built with {before!r}. "
                "Fit anew with warm_start=False, or on a clone."
            )


def check_stream(params, stream: RowStream, y) -> None:
    """Refuse labels beside a stream, and to hold out rows of one that cannot be had by index."""
    if y is not None:
        raise ValueError("X is a stream, which brings its own labels: leave y out.")
    if params.early_stopping and not stream.is_indexed:
        raise ValueError(
            "early_stopping=True needs rows that can be held out: give X as an array or a "
            "map-style Dataset instead of batches."
        )


def check_labels(y, classes: np.ndarray) -> None:
    """Refuse labels of rows that are not among the classes that a model is built for."""
    others = np.setdiff1d(y, classes)
    if len(others):
        raise ValueError(
            f"y holds {others[:5].tolist()}, but the model is built for the classes "
            f"{classes.tolist()}. Name all that will come in the first call, partial_fit(X, y, "
            "classes=...), or fit anew, with warm_start=False."
        )


def check_rows_to_hold_out(params, n_rows: int) -> None:
    """Refuse to hold rows out of a single one."""
    if params.early_stopping and n_rows < 2:
        raise ValueError(
            "early_stopping=True holds rows out, but X has only 1. Give more rows, or set "
            "early_stopping=False."
        )


def check_at_least(name: str, value, minimum: int) -> int:
    """Return a whole number, or raise ValueError for what is none or is too small."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(
            f"{name}={value!r} was asked for, expected a whole number from {minimum} up."
        )
    return int(value)
