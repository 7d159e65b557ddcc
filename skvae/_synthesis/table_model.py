"""From the parameters of ``TVAESynthesizer`` and an encoded table to a module and its training."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Integral

import torch

from skvae.models import TabularVAE, reparametrize
from skvae.samplers import SAMPLERS
from skvae.tabular import MixtureEncoder, TabularTransformer
from skvae.tabular.conditions import position_of
from skvae.training import TrainingConfig, steps_per_epoch

# Steps after which the learning rate of a stream has fallen by the root of two.
HALVING_STEPS = 100


def check_combinations(params) -> None:
    """Raise ValueError for parameters of the estimator that do not go together."""
    if params.decoder == "autoregressive" and params.numeric_encoding == "mixture":
        raise ValueError(
            "numeric_encoding='mixture' needs decoder='factorized'; the autoregressive decoder "
            "takes numeric_encoding='quantile'."
        )
    if params.decoder == "factorized":
        if params.condition_columns is not None:
            raise ValueError(
                f"condition_columns={params.condition_columns!r} needs "
                "decoder='autoregressive': the factorized decoder draws all columns at once. "
                "Conditions on any of them are met without naming them."
            )
        if params.column_order == "random":
            raise ValueError("column_order='random' needs decoder='autoregressive'.")
    for name in ("hidden_layer_sizes", "column_layer_sizes"):
        sizes = getattr(params, name)
        if len(sizes) == 0 or not all(isinstance(s, Integral) and s > 0 for s in sizes):
            raise ValueError(f"{name} must be whole numbers above 0, got {sizes!r}.")
    if len(set(params.column_layer_sizes)) > 1:
        raise ValueError(
            f"column_layer_sizes must be equal, got {params.column_layer_sizes!r}: the layers "
            "of a column's network are residual."
        )


def model_spec(params, transformer: TabularTransformer) -> tuple[str, dict]:
    """Return name and arguments of the torch module for a fitted transformer.

    ``params`` is the estimator, read and not changed.
    """
    shared = {
        "cardinalities": transformer.cardinalities_.tolist(),
        "counts": transformer.code_counts_,
        "latent_dim": params.n_components,
        "hidden": tuple(params.hidden_layer_sizes),
    }
    if params.decoder == "autoregressive":
        return "AutoregressiveTVAE", {
            **shared,
            "scores": transformer.code_scores_,
            "column_hidden": tuple(params.column_layer_sizes),
            "embedding_dim": params.embedding_dim,
            "first_columns": _positions(params.condition_columns, transformer),
            "any_order": params.column_order == "random",
        }
    widths = {
        own[0]: encoder.mode_widths_
        for own, encoder in zip(transformer.code_columns_, transformer.encoders_, strict=True)
        if isinstance(encoder, MixtureEncoder) and len(encoder.means_)
    }
    return "FactorizedTVAE", {
        **shared,
        "place_columns": list(widths),
        "mode_widths": list(widths.values()),
    }


def _positions(names, transformer: TabularTransformer) -> list[int]:
    """Return the code columns of condition columns, each once."""
    columns = dict.fromkeys(
        position_of(transformer, name, "condition_columns") for name in names or ()
    )
    return [code for column in columns for code in transformer.code_columns_[column]]


def training_config(params, n_rows: int, n_codes: int, n_steps_before: int = 0) -> TrainingConfig:
    """Return how a fit trains on so many rows, whose columns have so many codes together.

    ``n_steps_before`` are those that the model has seen in earlier fits.
    """
    n_epochs = params.max_epochs
    if n_epochs == "auto":
        n_epochs = automatic_epochs(n_rows, n_codes, params.batch_size)
    total = n_epochs * steps_per_epoch(n_rows, params.batch_size)
    if params.max_steps is not None:
        total = min(total, params.max_steps)
    cosine = params.learning_rate_schedule == "cosine"
    return TrainingConfig(
        n_epochs=n_epochs,
        max_steps=params.max_steps,
        batch_size=params.batch_size,
        optimizer=params.optimizer,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        betas=(0.9, 0.99) if params.optimizer == "adamw" else (0.9, 0.999),
        schedule=params.learning_rate_schedule,
        warmup_steps=min(100, total // 10) if cosine else 0,
        beta=params.beta,
        # A longer warm-up lets the rate rise to many nats, which must then be unlearnt.
        beta_warmup_steps=0 if n_steps_before or params.free_nats == 0 else 30,
        free_nats=params.free_nats,
        average_decay=params.weight_averaging,
        max_grad_norm=params.max_grad_norm,
        n_iter_no_change=params.n_iter_no_change if params.early_stopping else None,
        tol=params.tol,
    )


def pass_config(params, n_rows: int, n_codes: int, n_steps_before: int) -> TrainingConfig:
    """Return how one pass over a batch of a stream trains, of which nobody knows the end.

    The learning rate is constant in a pass, and falls with the root of the steps made before.
    """
    config = training_config(params, n_rows, n_codes, n_steps_before)
    rate = params.learning_rate
    if params.learning_rate_schedule == "cosine":
        rate /= math.sqrt(1 + n_steps_before / HALVING_STEPS)
    return replace(
        config,
        n_epochs=1,
        learning_rate=rate,
        schedule="constant",
        warmup_steps=0 if n_steps_before else min(30, config.warmup_steps),
    )


def automatic_epochs(n_rows: int, n_codes: int, batch_size: int) -> int:
    """Return the passes over a table: more steps where it has more codes, within bounds.

    At least 12 passes and at most 20; but below 16,000 rows the upper bound falls towards 10, as
    few rows are soon learnt by heart.
    """
    steps = 1200 + n_codes / 2
    most = min(20, 10 + n_rows / 1600)
    return round(min(max(steps * batch_size / n_rows, 12), most))


def fit_sampler(name: str, model: TabularVAE, data, seed: int):
    """Fit the density of the latents of (at most 10,000) training rows."""
    sampler = SAMPLERS[name]()
    if "random_state" in sampler.get_params():
        sampler.set_params(random_state=seed)
    device = data[0].device
    generator = torch.Generator(device).manual_seed(seed)
    # From all over the table, which may be sorted.
    rows = torch.randperm(len(data[0]), generator=generator, device=device)[:10_000]
    batch = tuple(tensor[rows] for tensor in data)
    with torch.no_grad():
        Z = reparametrize(*model.encode(batch), generator)
    return sampler.fit(Z.cpu().numpy())
