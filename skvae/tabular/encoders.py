"""Which encoder a column gets, what its codes rank, and what the user is told about it."""

from __future__ import annotations

import numpy as np

from skvae._warnings import warn_user
from skvae.tabular.categorical import CategoricalEncoder
from skvae.tabular.encoded import mean_ranks
from skvae.tabular.kinds import PERSONAL_KINDS
from skvae.tabular.made import IdentifierEncoder, PersonalEncoder, TextEncoder
from skvae.tabular.mixture import MixtureEncoder
from skvae.tabular.numeric import QuantileEncoder
from skvae.tabular.schema import ColumnSchema

_MADE = {"identifier": IdentifierEncoder, "text": TextEncoder}
_MADE |= dict.fromkeys(PERSONAL_KINDS, PersonalEncoder)


def make_encoder(params, schema: ColumnSchema, seed: int):
    """Return the encoder of one column, not fitted.

    ``params`` is the ``TabularTransformer``, read and not changed.
    """
    if schema.kind == "categorical":
        return CategoricalEncoder(
            schema, getattr(params, category_threshold(params)), params.max_categories
        )
    if not schema.is_number:
        return _MADE[schema.kind](schema, params.min_rows_per_value, seed)
    if params.numeric_encoding == "mixture":
        return MixtureEncoder(
            params.min_rows_per_value,
            integer=schema.integer,
            random_state=seed,
            precision=schema.precision,
        )
    return QuantileEncoder(
        params.n_bins,
        params.min_rows_per_value,
        params.rows_per_bin,
        integer=schema.integer,
        precision=schema.precision,
    )


def category_threshold(params) -> str:
    """Return the name of the parameter that says how many rows a stored category takes."""
    rare = params.rare_category_min_count
    return "min_rows_per_value" if rare is None else "rare_category_min_count"


def code_scores(encoder, column, codes: np.ndarray) -> np.ndarray | None:
    """Return the mean rank of the cells behind each code, None for a column without an order."""
    if not encoder.ordinal:
        return None
    if isinstance(encoder, CategoricalEncoder):
        # Neither what is rare nor what is missing has a place in the order.
        order = np.where(codes < len(encoder.levels_), codes, np.nan)
    else:
        missing = encoder.has_missing_ & (codes == encoder.n_codes_ - 1)
        order = np.where(missing, np.nan, column)
    return mean_ranks(order, codes, encoder.code_counts_)


def warn_of_guesses(schemas: list[ColumnSchema]) -> None:
    """Say which columns are made anew without the user's word for it."""
    guessed = {schema.name: schema.kind for schema in schemas if schema.guessed}
    if guessed:
        warn_user(
            f"These columns are not learnt, but made anew, for what their cells look like: "
            f"{guessed}. If that is right, say column_kinds={guessed} and this warning goes; if "
            "not, give another kind there, such as 'numeric' or 'categorical'."
        )


def warn_of_fresh_labels(params, encoders: list, schemas: list[ColumnSchema]) -> None:
    """Say which columns of strings hold mostly what may not be reproduced."""
    names = [
        schema.name
        for schema, encoder in zip(schemas, encoders, strict=True)
        if getattr(encoder, "fresh_labels_", False)
    ]
    if names:
        threshold = category_threshold(params)
        warn_user(
            f"Columns {names} hold mostly values found in fewer than {threshold}="
            f"{getattr(params, threshold)} rows, as identifiers and free text do. Such values are "
            "not learnt; fresh labels stand in their place. Name their kind in column_kinds "
            f"('identifier', 'text', 'name', ...), drop the columns, or lower {threshold} to let "
            "the values through."
        )
