"""Which network a clusterer's parameters ask for, the view of spots it takes, and its training."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

import skvae.models
from skvae._clustering.rings import RingView
from skvae._clustering.windows import WindowView, find_lattice
from skvae._warnings import warn_user
from skvae.models.spatial_base import check_weights
from skvae.spatial.neighbourhoods import Neighbourhoods
from skvae.training import TrainingConfig

# What the networks call the errors that a likelihood of fixed scale comes down to.
RECONSTRUCTIONS = {"gaussian": "mse", "laplace": "l1"}


def check_network_params(params: Mapping[str, Any]) -> None:
    """Raise ValueError for parameters of the network that do not go together."""
    check_weights("modality_weights", params["modality_weights"])
    if not any(params["modality_weights"]):
        raise ValueError("modality_weights are both 0: give one of them a weight.")
    sizes = params["hidden_layer_sizes"]
    if not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be whole numbers above 0, got {sizes!r}.")
    if params["neighbourhood"] == "rings":
        return
    if len(sizes) != 1:
        raise ValueError(
            f"hidden_layer_sizes={sizes!r}, expected one number for windows: the channels between "
            "the convolutions."
        )
    if params["window_size"] % 2 == 0:
        raise ValueError(
            f"window_size={params['window_size']!r}, expected an odd number: the spot is in the "
            "middle."
        )
    if params["contrast_weight"]:
        raise ValueError(
            f"contrast_weight={params['contrast_weight']!r} goes with neighbourhood='rings' only: "
            "set it to 0."
        )


def check_places(around: Neighbourhoods, is_spatial: bool, neighbourhood: str) -> None:
    """Raise ValueError if windows are asked for where spots lie on no lattice."""
    if neighbourhood == "rings":
        return
    if not is_spatial:
        raise ValueError(
            f"neighbourhood={neighbourhood!r} needs coordinates: pass them, or take "
            "neighbourhood='rings'."
        )
    find_lattice(around)


def make_view(
    features: np.ndarray, around: Neighbourhoods, width_factor: float, params: Mapping[str, Any]
) -> RingView | WindowView:
    """Return spots as the network sees them.

    Parameters
    ----------
    features : float32 array of shape (n_spots, n_features)
        Centred features.
    around : Neighbourhoods
        Of the same spots.
    width_factor : float
        By which kernels are narrowed.
    params : dict
        Parameters of the clusterer.
    """
    if params["neighbourhood"] == "rings":
        return RingView(features, around, width_factor)
    paper = params["neighbourhood"] == "paper_window"
    return WindowView(features, around, params["window_size"], paper=paper)


def network_spec(
    params: Mapping[str, Any], n_expression: int, n_morphology: int
) -> tuple[str, dict[str, Any]]:
    """Return the name of the network that parameters ask for, and the arguments to build it with.

    Parameters
    ----------
    params : dict
        Parameters of the clusterer.
    n_expression : int
        Features of the expression.
    n_morphology : int
        Features of the image.

    Raises
    ------
    ValueError
        ``model_params`` has a name that the network does not take.
    """
    view = _view_class(params)
    arguments = {
        **view.arguments(params, n_expression + n_morphology),
        "reconstruction": RECONSTRUCTIONS[params["likelihood"]],
        "n_features": n_expression,
        "n_morphology_features": n_morphology,
    }
    known = list(inspect.signature(getattr(skvae.models, view.network)).parameters)
    free = [name for name in known if name not in arguments]
    more = params["model_params"] or {}
    for name in more:
        if name not in free:
            near = difflib.get_close_matches(str(name), free, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"model_params has {name!r}, which is no parameter of {view.network} or follows "
                f"from those of the clusterer.{hint} It takes {free}."
            )
    return view.network, {**arguments, **more}


def _view_class(params: Mapping[str, Any]) -> type[RingView] | type[WindowView]:
    return RingView if params["neighbourhood"] == "rings" else WindowView


def warn_of_fewer_components(n_components: int, latent_dim: int, default: int) -> None:
    """Warn if the embedding is smaller than was asked for, and not merely left at the default."""
    if latent_dim < n_components != default:
        warn_user(
            f"n_components={n_components} was asked for, but with neighbourhood='rings' the "
            "embedding has no more components than the network sees features, of X and of the "
            f"image, or what they are reduced to. It has {latent_dim} components. Lower "
            f"n_components to {latent_dim}, or give more features."
        )


def training_config(view: RingView | WindowView, params: Mapping[str, Any]) -> TrainingConfig:
    """Return how the network of a view is trained; ``params`` are those of the clusterer."""
    return TrainingConfig(
        **{
            **view.training(params["max_steps"]),
            "n_epochs": params["max_steps"],  # passes are cut by the number of steps
            "max_steps": params["max_steps"],
            "batch_size": params["batch_size"],
            "learning_rate": params["learning_rate"],
        }
    )
