"""What a condition asks of a column that this cannot hold, and what it can hold instead."""

from __future__ import annotations

import difflib

import numpy as np
import pandas as pd

from skvae.tabular.categorical import CategoricalEncoder
from skvae.tabular.mixture import MixtureEncoder
from skvae.tabular.numeric import QuantileEncoder

# Values shown in an error.
N_SHOWN = 5


def read_values(schema, values, label: str) -> np.ndarray:
    """Return the user's values of a numeric column as float64, as the column is stored.

    Raises
    ------
    ValueError
        They are not what the column holds.
    """
    cells = pd.Series(list(values))
    try:
        if schema.kind != "numeric":
            # Dates may be given as text.
            cells = cells.astype(schema.dtype)
        return schema.read_numbers(cells)
    except (ValueError, TypeError) as error:
        kind = "numbers" if schema.kind == "numeric" else f"{schema.kind} cells ({schema.dtype})"
        raise ValueError(
            f"{label} asks for {shown(values)} of type {type(values[0]).__name__}, but the column "
            f"holds {kind}. Give such."
        ) from error


def refuse_booleans(encoder, values, label: str) -> None:
    """Raise for True and False, which Python takes for 1 and 0, in a column of other values."""
    held = "numbers"
    if isinstance(encoder, CategoricalEncoder):
        if encoder.content_ in ("boolean", "mixed", "categories"):
            return
        held = f"values such as {shown(encoder.levels_[:1])}"
    wrong = [value for value in values if isinstance(value, (bool, np.bool_))]
    if wrong:
        raise ValueError(
            f"{label} asks for {_plain(wrong[0])!r}, a boolean, but the column holds {held}. "
            "Give one of those."
        )


def unsupported_cells(encoder, schema, cells: list) -> str:
    """Return the message for fixed cells that no row can hold."""
    return (
        f"the conditions on {schema.name!r} hold {shown(cells)}, which no row can have. "
        f"{what_there_is(encoder, schema, cells[0])}"
    )


def shown(values) -> str:
    """Return the first few values, as they are written."""
    values = list(values)
    more = f" and {len(values) - N_SHOWN} more" if len(values) > N_SHOWN else ""
    return ", ".join(repr(_plain(value)) for value in values[:N_SHOWN]) + more


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def what_there_is(encoder, schema, wanted) -> str:
    """Say which values that a column can hold are closest to what is wanted."""
    if isinstance(encoder, CategoricalEncoder):
        levels = list(encoder.levels_)
        close = difflib.get_close_matches(str(wanted), [str(level) for level in levels], N_SHOWN, 0)
        close = [level for name in close for level in levels if str(level) == name]
        return f"The closest of its {len(levels)} values are {shown(close[:N_SHOWN])}."
    if not isinstance(encoder, (QuantileEncoder, MixtureEncoder)):
        return "The column is made anew and not learnt: only its missing cells can be asked for."
    ends = [end for end in (wanted if isinstance(wanted, tuple) else (wanted,)) if end is not None]
    close = closest_numbers(encoder, read_values(schema, ends, schema.name))
    cells = pd.Series(schema.write_numbers(close)).tolist()
    return f"The closest that it can hold are {shown(cells)}."


def closest_numbers(encoder, values: np.ndarray) -> np.ndarray:
    """Return the numbers next to some, below and above, that a column can hold."""
    if isinstance(encoder, MixtureEncoder):
        ends = np.array(encoder.range_ if len(encoder.means_) else [])
        return np.unique(ends)
    found = []
    for value in values:
        stored = encoder.atoms_
        found += [stored[stored <= value][-1:], stored[stored >= value][:1]]
        if encoder.n_bins_:
            near = np.clip(value, encoder.knots_[0], encoder.knots_[-1])
            found.append(encoder._snap(np.array([near])))
    return np.unique(np.concatenate(found))
