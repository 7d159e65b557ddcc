"""What a fit learns from: a table read anew, or one that goes on with what is known."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

import skvae.models
from skvae._synthesis.table_model import model_spec
from skvae.constraints import ConstraintPlan
from skvae.tabular import TabularTransformer
from skvae.tabular.frames import read_table
from skvae.tabular.kinds import declared_kinds
from skvae.tabular.limits import release
from skvae.training import LastWeights, isolated_torch_seed

# Rows that whole-number weights may stand for.
MOST_ROWS = 20_000_000
# What changes with the table, and not with the parameters, in the arguments of the module.
_OF_THE_TABLE = ("cardinalities", "counts", "scores", "place_columns", "mode_widths")
# Parameters behind the others.
_PARAMETERS = {
    "latent_dim": "n_components",
    "hidden": "hidden_layer_sizes",
    "column_hidden": "column_layer_sizes",
    "embedding_dim": "embedding_dim",
    "first_columns": "condition_columns",
    "any_order": "column_order",
}
RELEASED = ("enforce_range", "enforce_rounding")
_ENCODING = (
    "numeric_encoding",
    "n_bins",
    "max_categories",
    "min_rows_per_value",
    "rare_category_min_count",
)


@dataclass
class Learnable:
    """A table as a model learns it.

    Attributes
    ----------
    seen : estimator or None
        Holds what the table shows of its shape and names; None if it is that of before.
    columns : Index
        Names of its columns.
    plan : ConstraintPlan or None
        What is done about constraints.
    transformer : TabularTransformer
        Fitted.
    encoded : EncodedTable
        The rows.
    weights : ndarray of shape (n_rows,) or None
        Their weights, of mean 1.
    """

    seen: Any
    columns: pd.Index
    plan: ConstraintPlan | None
    transformer: TabularTransformer
    encoded: Any
    weights: np.ndarray | None


class GrowingMixin:
    """Reading tables for a fit."""

    def _prepare(self, X, sample_weight, schema, seed: int) -> Learnable:
        """Read a table for a first fit; ``schema`` says what columns hold, if it is given."""
        seen = type(self)()  # keeps what the table shows of itself until it is accepted
        frame = read_table(seen, X, reset=True)
        columns = frame.columns
        frame, weights = weigh(frame, sample_weight)
        if schema is None:
            frame, weights = in_order_of_content(frame, weights)
        if isinstance(schema, TabularTransformer):
            transformer, plan = self._taken_over(schema, columns), None
            encoded = transformer.encode(frame, places=self._has_places)
        elif schema is not None:
            sample = _read_schema(seen, schema)
            plan, transformer, _ = self._fit_transformer(sample.set_axis(columns, axis=1), seed)
            encoded = self._encode(frame, plan, transformer)
        else:
            try:
                plan, transformer, encoded = self._fit_transformer(frame, seed)
            except (TypeError, ValueError):
                # The same error, with the rows where the user has them.
                self._fit_transformer(read_table(seen, X, reset=True), seed)
                raise
        if weights is not None:
            count_codes(transformer, encoded, weights, add=False)
        release(transformer, range_=not self.enforce_range, rounding=not self.enforce_rounding)
        return Learnable(seen, columns, plan, transformer, encoded, weights)

    def _prepare_more(self, X, sample_weight) -> Learnable:
        """Read a table for a fit that goes on, by the schema of the first one."""
        self._check_same_parameters()
        frame = read_table(self, X, reset=False)
        frame, weights = weigh(frame.set_axis(self._columns, axis=1), sample_weight)
        transformer = copy.deepcopy(self.transformer_)
        encoded = self._encode(frame, self._plan, transformer)
        count_codes(transformer, encoded, weights, add=True)
        return Learnable(None, self._columns, self._plan, transformer, encoded, weights)

    def _take_columns_of(self, seen, columns) -> None:
        """Adopt what was seen of the table's shape and names."""
        self.n_features_in_, self._container = seen.n_features_in_, seen._container
        self._columns = columns
        if hasattr(seen, "feature_names_in_"):
            self.feature_names_in_ = seen.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    @property
    def _has_places(self) -> bool:
        return self.decoder == "factorized"

    def _encode(self, frame: pd.DataFrame, plan: ConstraintPlan | None, transformer):
        if plan is not None:
            plan.check(frame)
            frame = plan.reduce(frame)
        return transformer.encode(frame, places=self._has_places)

    def _fit_transformer(self, frame: pd.DataFrame, seed: int):
        """Return plan, transformer and encoded rows."""
        plan = self._plan_for(frame)
        categorical, kinds = self.categorical_features, self.column_kinds
        if plan is not None:
            categorical = plan.categorical(categorical)
            kinds = plan.kinds(kinds, categorical)
            plan.refuse_computed(self.condition_columns, "condition_columns")
            frame = plan.reduce(frame)
        transformer = TabularTransformer(
            categorical,
            column_kinds=kinds,
            random_state=seed,
            **{name: getattr(self, name) for name in _ENCODING},
        )
        encoded = transformer.fit_encode(frame, places=self._has_places)
        return plan, transformer, encoded

    def _taken_over(self, schema: TabularTransformer, columns) -> TabularTransformer:
        """Return a copy of a fitted transformer that the user gave."""
        check_is_fitted(schema)
        names = [column.name for column in schema.schema_]
        if names != list(columns):
            raise ValueError(f"schema has the columns {names}, but X has {list(columns)}.")
        if self.constraints:
            raise ValueError(
                "schema is a TabularTransformer, which knows no constraints. Give a sample of the "
                "table as schema instead."
            )
        changed = self._changed_encoding(schema, columns)
        if changed:
            raise ValueError(
                f"{_in_words(changed)} is not what schema was fitted with. Give both the same."
            )
        return copy.deepcopy(schema)

    def _grown_model(self, spec: tuple[str, dict], once: bool):
        """Return a copy of the model under the new counts of a spec.

        A stream goes on from the weights of its last step, and not from their average.
        """
        with isolated_torch_seed(0):  # the weights are overwritten
            model = getattr(skvae.models, spec[0])(**spec[1])
        weights = dict(self.model_.state_dict())
        if once and getattr(self, "_last_weights", None):
            weights.update({n: torch.tensor(v) for n, v in self._last_weights.items()})
        # Codes that were never drawn may be, now that they have rows.
        weights.update({n: v for n, v in model.state_dict().items() if ".blocked" in f".{n}"})
        model.load_state_dict(weights)
        return model

    def _average_over_calls(self, model, n_steps: int, n_before: int) -> None:
        """Make the averaged weights of a pass those of all passes so far, in place."""
        if self.weight_averaging is None:
            return
        n_steps_in_all = n_before + n_steps
        decay = min(self.weight_averaging, (1 + n_steps_in_all) / (10 + n_steps_in_all))
        with torch.no_grad():
            for new, old in zip(model.parameters(), self.model_.parameters(), strict=True):
                new.lerp_(old.to(new), decay**n_steps)

    def _keep_course(self, result, n_before: int, last: LastWeights | None, moments: bool) -> None:
        """Keep what a fit that goes on begins with; ``moments`` says whether there may be one."""
        self._n_steps_in_all = n_before + result.n_steps
        self._last_weights = last and {n: t.numpy(force=True) for n, t in last.weights.items()}
        self._optimizer_state = None
        if moments:
            self._keep_moments(result)

    def _check_same_parameters(self) -> None:
        """Refuse to go on with a model that the parameters no longer describe."""
        changed = {}
        name, arguments = model_spec(self, self.transformer_)
        if name != self._spec[0]:
            changed["decoder"] = self.decoder
        else:
            for key, value in arguments.items():
                if key not in _OF_THE_TABLE and value != self._spec[1][key]:
                    changed[_PARAMETERS[key]] = getattr(self, _PARAMETERS[key])
        changed |= self._changed_encoding(self.transformer_, self._columns)
        for key in RELEASED:
            if getattr(self, key) != self._released[key]:
                changed[key] = getattr(self, key)
        if list(self.constraints or ()) != ([] if self._plan is None else self._plan.constraints):
            changed["constraints"] = self.constraints
        if changed:
            raise ValueError(
                f"{_in_words(changed)} is not what the model that is to go on was built with. Set "
                "it back, or fit anew: with warm_start=False, or on a clone."
            )

    def _changed_encoding(self, transformer: TabularTransformer, columns: pd.Index) -> dict:
        """Return the parameters that a fitted transformer contradicts."""
        changed = {
            key: getattr(self, key)
            for key in _ENCODING
            if getattr(self, key) != getattr(transformer, key)
        }
        # Columns that a constraint computes have no kind.
        known = transformer.kinds_
        for key, said in (
            ("categorical_features", declared_kinds(columns, self.categorical_features)),
            ("column_kinds", declared_kinds(columns, "auto", self.column_kinds)),
        ):
            names = {columns[position]: kind for position, kind in said.items()}
            if any(known.get(name, kind) != kind for name, kind in names.items()):
                changed[key] = getattr(self, key)
        return changed


def _in_words(parameters: dict) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in parameters.items())


def _read_schema(seen, schema) -> pd.DataFrame:
    """Return a sample of the table to come, which must have the columns of the batch."""
    try:
        return read_table(seen, schema, reset=False)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"schema, expected a sample of the table (with the columns of X) or a fitted "
            f"TabularTransformer: {error}"
        ) from error


def weigh(frame: pd.DataFrame, sample_weight) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Return the rows that count, and their weights of mean 1.

    Whole-number weights repeat rows, and no weights are left.

    Raises
    ------
    ValueError
        The weights are not one finite number from 0 up for each row, are all zero, or are whole
        numbers that stand for more rows than can be learnt.
    """
    if sample_weight is None:
        return frame, None
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"sample_weight holds what is no number ({error}), expected a weight for each row of X."
        ) from error
    if weights.shape != (len(frame),):
        raise ValueError(
            f"sample_weight has shape {weights.shape}, expected ({len(frame)},): a weight for each "
            "row of X."
        )
    if not np.isfinite(weights).all():
        raise ValueError(
            f"sample_weight contains NaN or infinity in {int((~np.isfinite(weights)).sum())} rows, "
            "expected finite weights; 0 leaves a row out."
        )
    if (weights < 0).any() or not weights.any():
        raise ValueError(
            "sample_weight holds negative numbers, or only zeros; expected weights from 0 up, "
            "and some above."
        )
    if not (weights == np.rint(weights)).all():
        return frame[weights > 0], weights[weights > 0] / weights[weights > 0].mean()
    if weights.sum() > MOST_ROWS:
        raise ValueError(
            f"sample_weight holds whole numbers, which count as repeated rows: {weights.sum():.3g} "
            f"of them, more than {MOST_ROWS:.0e}. For weights of rows relative to each other, "
            "divide them by their mean."
        )
    counts = weights.astype(np.int64)
    rows = np.repeat(np.arange(len(frame)), counts)
    return frame if (counts == 1).all() else frame.iloc[rows].reset_index(drop=True), None


def in_order_of_content(frame: pd.DataFrame, weights) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Return rows, and their weights, in an order that tells nothing of the one they came in.

    So that a fit does not depend on it, and a weight of three does what three equal rows do.
    """
    try:
        order = np.argsort(pd.util.hash_pandas_object(frame, index=False), kind="stable")
    except TypeError:
        return frame, weights  # cells that no encoder takes
    rows = frame.iloc[order.to_numpy()].reset_index(drop=True)
    return rows, None if weights is None else weights[order]


def count_codes(transformer: TabularTransformer, encoded, weights, *, add: bool) -> None:
    """Count the rows behind each code of a transformer, by their weights."""
    for column, counts in enumerate(transformer.code_counts_):
        found = np.bincount(encoded.codes[:, column], weights, len(counts))
        transformer.code_counts_[column] = counts + found if add else found
    for encoder, own in zip(transformer.encoders_, transformer.code_columns_, strict=True):
        if len(own) == 1:
            encoder.code_counts_ = transformer.code_counts_[own[0]]
