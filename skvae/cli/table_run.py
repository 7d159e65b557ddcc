"""What the commands of tables do with a synthesizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skvae.cli.arguments import did_you_mean
from skvae.config import read_config
from skvae.persistence import load
from skvae.synthesizer import TVAESynthesizer


def fitted(
    table: pd.DataFrame,
    *,
    config: Path | None,
    preset: str | None,
    stated: Mapping[str, Any],
    verbose: bool,
) -> TVAESynthesizer:
    """Return a synthesizer that has learnt a table.

    Raises
    ------
    ValueError
        Parameters that cannot be used, or a configuration of another estimator.
    """
    if config is not None and preset is not None:
        raise ValueError("--config and --preset both choose the parameters: give one of them.")
    params: dict[str, Any] = {}
    if config is not None:
        name, params = read_config(config)
        if name != "TVAESynthesizer":
            raise ValueError(
                f"{str(config)!r} is a configuration of {name}, expected one of TVAESynthesizer."
            )
    params = {**params, **stated}
    known = sorted(TVAESynthesizer().get_params())
    for name in params:
        if name not in known:
            hint = did_you_mean(name, known) or f" It has {', '.join(known)}."
            raise ValueError(f"--param {name}: TVAESynthesizer has no such parameter.{hint}")
    synthesizer = TVAESynthesizer.from_preset(preset or "default", **params)
    synthesizer.set_params(verbose=int(verbose))
    return synthesizer.fit(table).set_params(verbose=0)


def load_model(path: Path) -> TVAESynthesizer:
    """Load a synthesizer that ``skvae fit`` or ``skvae.save`` wrote."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no model {str(path)!r}: skvae fit writes one.")
    estimator = load(path)
    if not isinstance(estimator, TVAESynthesizer):
        raise ValueError(
            f"{str(path)!r} holds a {type(estimator).__name__}, expected a TVAESynthesizer, as "
            "skvae fit writes it."
        )
    return estimator


def read_conditions(texts: Sequence[str], synthesizer: TVAESynthesizer) -> dict[Any, Any]:
    """Return the conditions that options state, as ``sample`` takes them.

    Parameters
    ----------
    texts : sequence of str
        ``COLUMN=VALUE``, ``COLUMN=A|B|C`` or ``COLUMN=LOW..HIGH``.
    synthesizer : TVAESynthesizer
        Fitted; the types of its columns say how values are read.

    Raises
    ------
    ValueError
        There is no such column, or a value is not of its type.
    """
    types = pd.DataFrame(synthesizer.sample(0)).dtypes
    by_text = {str(column): column for column in types.index}
    conditions: dict[Any, Any] = {}
    for text in texts:
        # The longest name, as names may hold the sign themselves.
        found = [name for name in by_text if text.startswith(f"{name}=")]
        if not found:
            hint = did_you_mean(text.partition("=")[0], by_text)
            raise ValueError(
                f"--where {text!r} names no column.{hint} Expected COLUMN=VALUE, COLUMN=A|B or "
                f"COLUMN=LOW..HIGH with one of {', '.join(by_text)}."
            )
        name = max(found, key=len)
        if by_text[name] in conditions:
            raise ValueError(
                f"--where names {name!r} twice: several values go into one, {name}=A|B."
            )
        conditions[by_text[name]] = _condition(name, text[len(name) + 1 :], types[by_text[name]])
    return conditions


def _condition(name: str, text: str, dtype: Any) -> Any:
    """Read what stands after the sign of equality."""
    is_text = isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(dtype)
    if text == "":
        return None
    if ".." in text and not is_text:
        ends = text.split("..")
        if len(ends) == 2:
            return tuple(_value(name, end, dtype) if end else None for end in ends)
    values = [_value(name, part, dtype) for part in text.split("|")]
    return values if len(values) > 1 else values[0]


def _value(name: str, text: str, dtype: Any) -> Any:
    try:
        if isinstance(dtype, pd.CategoricalDtype):
            return {str(level): level for level in dtype.categories}.get(text, text)
        if pd.api.types.is_bool_dtype(dtype):
            return {"true": True, "false": False}[text.lower()]
        if pd.api.types.is_numeric_dtype(dtype):
            return int(text) if text.lstrip("+-").isdecimal() else float(text)
        if pd.api.types.is_timedelta64_dtype(dtype):
            return pd.Timedelta(text)
        if pd.api.types.is_datetime64_any_dtype(dtype):
            return pd.Timestamp(text, tz=getattr(dtype, "tz", None))
    except (ValueError, KeyError):
        raise ValueError(
            f"--where {name}={text}: {text!r} is not of the column's type, {dtype}."
        ) from None
    return text


def describe(synthesizer: TVAESynthesizer) -> str:
    """Return what a fitted synthesizer is, in lines of text."""
    types = pd.DataFrame(synthesizer.sample(0)).dtypes
    columns = pd.DataFrame(
        {
            "column": [str(name) for name in types.index],
            "dtype": [str(dtype) for dtype in types],
            "kind": [synthesizer.transformer_.kinds_[name] for name in types.index],
        }
    )
    defaults = TVAESynthesizer().get_params()
    chosen = {
        name: value
        for name, value in synthesizer.get_params().items()
        if not np.array_equal(value, defaults[name]) and name != "verbose"
    }
    n_weights = sum(weight.numel() for weight in synthesizer.model_.parameters())
    lines = [
        f"{type(synthesizer).__name__}: {type(synthesizer.model_).__name__} of {n_weights:,} "
        "weights",
        f"{synthesizer.n_iter_} epochs, {synthesizer.n_steps_:,} steps; the loss fell from "
        f"{synthesizer.loss_curve_[0]:.2f} to {synthesizer.loss_curve_[-1]:.2f} nats a row",
        "parameters: "
        + (", ".join(f"{key}={value!r}" for key, value in chosen.items()) or "the defaults"),
        "",
        columns.to_string(index=False),
    ]
    return "\n".join(lines)
