"""From the parameters of ``VAEEmbedder`` and rows to a torch module and its training."""

from __future__ import annotations

import copy

import numpy as np
import torch

from skvae._embedding.checks import model_class
from skvae.models import LIKELIHOODS, make_model
from skvae.models.zoo import is_conditional, learns_from_labels
from skvae.rows import Labels, RowFormat
from skvae.streams import RowStream
from skvae.training import TrainingConfig

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


def plan_model(
    params, row_format: RowFormat, rows: np.ndarray, y, stream: RowStream | None, classes
) -> tuple[dict, Labels | None]:
    """Decide what depends on the data: scaling, likelihood and labels.

    Parameters
    ----------
    params : VAEEmbedder
        Read and not changed.
    row_format : RowFormat
        Of the rows; it gets their centre and scale.
    rows : ndarray of shape (n_rows, n_features)
        The rows, or those kept of a stream.
    y : array-like of shape (n_rows,) or None
        Their labels.
    stream : RowStream or None
        Where the rows are from, with the moments and the labels of all.
    classes : array-like of shape (n_classes,) or None
        All labels there will be, where ``y`` may hold some only.

    Returns
    -------
    spec : dict
        What ``assemble`` builds a module from. Modules among the parameters are copied.
    labels : Labels or None
        None counted yet but those of a stream; None where the model does not learn from them.

    Raises
    ------
    ValueError
        The model needs labels and there are none, or the likelihood does not bear the scale.
    """
    likelihood = choose_likelihood(params.likelihood, rows)
    if stream is None:
        mean, variance = rows.mean(0, dtype=np.float64), rows.var(0, dtype=np.float64)
    else:
        mean, variance = stream.mean, stream.variance
    image = len(row_format.input_shape) == 3
    row_format.set_scale(mean, variance, choose_scale(params.scale, likelihood, variance, image))
    kind = model_class(params.model)
    conditional, labels = is_conditional(kind), None
    if conditional and y is None:
        raise ValueError(f"model={params.model!r} needs labels: fit(X, y).")
    if y is not None and learns_from_labels(kind):
        if stream is not None:
            labels = Labels(stream.classes, stream.counts)
        else:
            labels = Labels(np.unique(np.asarray(y if classes is None else classes)))
    sizes = params.hidden_layer_sizes
    spec = {
        "model": params.model if isinstance(params.model, type) else copy.deepcopy(params.model),
        "input_shape": row_format.input_shape,
        "latent_dim": params.n_components,
        "likelihood": copy.deepcopy(likelihood),
        "network": params.network,
        "hidden_layer_sizes": None if sizes is None else tuple(int(s) for s in sizes),
        "activation": params.activation,
        "encoder": copy.deepcopy(params.encoder),
        "decoder": copy.deepcopy(params.decoder),
        "n_classes": len(labels.classes) if conditional else None,
        "params": {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in (params.model_params or {}).items()
        },
    }
    return spec, labels


def training_config(params, n_epochs: int | None) -> TrainingConfig:
    """Return how a fit trains, or the ``n_epochs`` of a call of ``partial_fit``.

    ``params`` is the estimator, read and not changed.
    """
    once = n_epochs is not None
    return TrainingConfig(
        n_epochs=n_epochs or params.max_epochs,
        batch_size=params.batch_size,
        optimizer="adamw",
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        betas=(0.9, 0.999),
        schedule="constant" if once else params.learning_rate_schedule,
        warmup_steps=0 if once else 50,
        warmup_share=0.1,
        beta_warmup_share=0.0 if once else params.beta_warmup,
        average_decay=None if once else params.weight_averaging,
        max_grad_norm=params.max_grad_norm,
        n_iter_no_change=params.n_iter_no_change if params.early_stopping else None,
        tol=params.tol,
        precision=params.precision,
        compile=params.compile,
    )


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
