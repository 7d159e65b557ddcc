"""``to_config`` and ``from_config``: an estimator's parameters as JSON.

A configuration says how to fit, and nothing of what was learnt; a fitted model is saved by
``skvae.save``. The presets are such files too.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import InvalidParameterError

from skvae._files import open_replacement
from skvae.persistence import ESTIMATORS

FORMAT = "skvae config"
FORMAT_VERSION = 1

# Constraints that are plain values; the function of a Predicate is none.
CONSTRAINTS = ("FixedCombinations", "Inequality", "Range", "Total")

_KEYS = ("format", "format_version", "skvae", "estimator", "params")


def to_config(estimator, path=None) -> dict:
    """Write an estimator's parameters as a dictionary of plain JSON, and to a file if asked to.

    Parameters
    ----------
    estimator : estimator of skvae
        Fitted or not: only its parameters are written. All of them are, so that a run can be
        repeated by a version with other defaults.
    path : str or path-like, default=None
        A JSON file to write; one that is there is replaced, and only once the new one is whole.

    Returns
    -------
    config : dict
        What ``from_config`` reads: the ``format`` and its ``format_version``, the version of
        ``skvae``, the name of the ``estimator``, and its ``params`` in the order of its signature.
        Arrays and tuples are lists in it, and a constraint is a dictionary with its name under
        ``"constraint"``.

    Raises
    ------
    TypeError
        The estimator is not one of skvae, or JSON cannot hold the value of a parameter: callbacks,
        predicates, torch modules, ``RandomState`` instances, NaN and infinity.

    See Also
    --------
    from_config : The way back.
    save : Keep a fitted model.

    Examples
    --------
    >>> import skvae
    >>> synthesizer = skvae.TVAESynthesizer(hidden_layer_sizes=(64, 64), random_state=0)
    >>> config = skvae.to_config(synthesizer)
    >>> config["estimator"], config["params"]["hidden_layer_sizes"]
    ('TVAESynthesizer', [64, 64])
    >>> skvae.from_config(config).get_params() == synthesizer.get_params()
    True
    """
    name = type(estimator).__name__
    if name not in ESTIMATORS or type(estimator) is not _class(name):
        raise TypeError(
            f"estimator is {estimator!r}, expected an instance of {_either(ESTIMATORS)}."
        )
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "skvae": version("skvae"),
        "estimator": name,
        "params": {
            key: _to_json(getattr(estimator, key), key, name)
            for key in _parameters(type(estimator))
        },
    }
    if path is not None:
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with open_replacement(path) as file:
            file.write(text.encode("utf-8"))
    return config


def from_config(source):
    """Build the estimator that a configuration describes.

    Parameters
    ----------
    source : str, path-like or dict
        A JSON file, or its content. Parameters that it leaves out take their defaults.

    Returns
    -------
    estimator
        Not fitted. Lists come back as tuples, at any depth.

    Raises
    ------
    ValueError
        The file is not JSON, is not a configuration or is of a later format; it names an
        estimator, a key or a parameter that does not exist; or a parameter's value is not one
        that the estimator takes, which is a ``TypeError`` too.
    TypeError
        ``source`` is neither a path nor a dictionary, or a value in it is not plain JSON.

    See Also
    --------
    to_config : Write a configuration.

    Examples
    --------
    >>> import skvae
    >>> config = {
    ...     "format": "skvae config",
    ...     "format_version": 1,
    ...     "estimator": "TVAESynthesizer",
    ...     "params": {"n_components": 8, "hidden_layer_sizes": [64, 64]},
    ... }
    >>> skvae.from_config(config)
    TVAESynthesizer(hidden_layer_sizes=(64, 64), n_components=8)
    """
    name, params = read_config(source)
    estimator = _class(name)(**params)
    try:
        estimator._validate_params()
    except InvalidParameterError as error:
        raise InvalidParameterError(f"{_label(source)}: {error}") from None
    return estimator


def read_config(source) -> tuple[str, dict[str, Any]]:
    """Return the estimator's name and the parameters that a configuration states.

    Their names are checked, their values are not.
    """
    where = _label(source)
    config = source if isinstance(source, Mapping) else _read_json(source)
    if not isinstance(config, Mapping) or config.get("format") != FORMAT:
        raise ValueError(
            f"{where} is not what skvae.to_config writes: a dictionary with 'format': {FORMAT!r}, "
            "'format_version', 'estimator' and 'params'."
        )
    _check_format_version(config, where)
    _refuse_unknown(config, _KEYS, f"{where}: unknown key")
    missing = [key for key in ("estimator", "params") if key not in config]
    if missing:
        raise ValueError(f"{where}: {missing[0]!r} is missing.")
    name, params = config["estimator"], config["params"]
    _refuse_unknown([name], ESTIMATORS, f"{where}: unknown estimator", list_known=True)
    if not isinstance(params, Mapping):
        raise ValueError(f"{where}: 'params' is {params!r}, expected a dictionary of parameters.")
    _refuse_unknown(params, _parameters(_class(name)), f"{where}: {name} has no parameter")
    return name, {key: _to_tuples(_to_json(params[key], key, where)) for key in params}


def _class(name: str) -> type:
    return getattr(import_module(ESTIMATORS[name]), name)


def _parameters(cls: type) -> list[str]:
    return list(inspect.signature(cls).parameters)


def _label(source) -> str:
    if isinstance(source, Mapping):
        return "The configuration"
    if isinstance(source, (str, os.PathLike)):
        return repr(os.fspath(source))
    raise TypeError(f"source is {source!r}, expected a path or a dictionary.")


def _read_json(path) -> Any:
    with open(path, encoding="utf-8-sig") as file:  # some editors begin a file with a mark
        try:
            return json.load(file, object_pairs_hook=_without_repeats)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r} is not valid JSON: {error}.") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; the parser would let the last of two equal keys win."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"the key {key!r} stands twice in one object")
    return dict(pairs)


def _check_format_version(config: Mapping, where: str) -> None:
    found = config.get("format_version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ValueError(f"{where}: 'format_version' is {found!r}, expected {FORMAT_VERSION}.")
    if found > FORMAT_VERSION:
        writer = f" by skvae {config['skvae']}" if "skvae" in config else ""
        raise ValueError(
            f"{where} is in format version {found}, written{writer}, but skvae {version('skvae')} "
            f"reads versions up to {FORMAT_VERSION}: update skvae."
        )


def _refuse_unknown(
    found: Iterable, known: Iterable[str], problem: str, *, list_known: bool = False
) -> None:
    """Raise an error for names that are not known, with the nearest one that is."""
    known = list(known)
    for name in found:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        if list_known or not near:
            hint += f" There is {_either(known)}."
        raise ValueError(f"{problem} {name!r}.{hint}")


def _either(names: Iterable[str]) -> str:
    *rest, last = map(repr, names)
    return f"{', '.join(rest)} or {last}" if rest else last


def _to_json(value: Any, name: str, where: str) -> Any:
    """Return the value of a parameter as plain JSON."""
    if isinstance(value, (np.ndarray, np.generic, pd.Index, pd.Series)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if type(value).__name__ in CONSTRAINTS and is_dataclass(value):
        fields = {key: _to_json(item, name, where) for key, item in vars(value).items()}
        return {"constraint": type(value).__name__, **fields}
    if isinstance(value, (list, tuple, range)):
        return [_to_json(item, name, where) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _to_json(item, name, where) for key, item in value.items()}
    raise TypeError(
        f"{where}: {name!r} holds {value!r}, which JSON cannot. Use finite numbers, strings, "
        "booleans, None, and lists or string-keyed dictionaries of them; or leave it at its "
        f"default here, and set it after from_config, with set_params({name}=...)."
    )


def _to_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_to_tuples(item) for item in value)
    if isinstance(value, dict) and value.get("constraint") in CONSTRAINTS:
        fields = {key: _to_tuples(item) for key, item in value.items() if key != "constraint"}
        constraint = getattr(import_module("skvae.constraints"), value["constraint"])
        try:
            return constraint(**fields)
        except TypeError as error:
            raise ValueError(f"{constraint.__name__} cannot be made of {fields}: {error}") from None
    if isinstance(value, dict):
        return {key: _to_tuples(item) for key, item in value.items()}
    return value
