"""What constraints do to a synthesizer: it learns another table, and draws rows until they fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from skvae.constraints import ConstraintPlan
from skvae.constraints.resampling import draw_valid, redraw_broken
from skvae.tabular.frames import read_table


class ConstrainedMixin:
    """Reading and drawing tables under the constraints of a synthesizer.

    ``_plan`` is what is done about them, None if there are none.
    """

    def _plan_for(self, frame: pd.DataFrame) -> ConstraintPlan | None:
        """Return what is done about the constraints on a table."""
        if not self.constraints:
            return None
        least = self.rare_category_min_count
        return ConstraintPlan(
            self.constraints,
            min_rows=self.min_rows_per_value,
            min_count=self.min_rows_per_value if least is None else least,
            enforce_range=self.enforce_range,
            enforce_rounding=self.enforce_rounding,
        ).fit(frame)

    def _read(self, X) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return a table as the user knows it, and as the transformer does."""
        frame = read_table(self, X, reset=False)
        if self._container[0] == "array":
            frame = frame.set_axis(self._columns, axis=1)  # a later table may bring names
        return frame, frame if self._plan is None else self._plan.reduce(frame)

    def _decode(self, Z: np.ndarray, seed: int, *, argmax: bool, centre: bool = False):
        """DataFrame of rows for latents; with ``centre``, numbers from the middle of modes."""
        device = next(self.model_.parameters()).device
        generator = torch.Generator(device).manual_seed(int(seed))
        latents = torch.from_numpy(np.ascontiguousarray(Z, dtype=np.float32)).to(device)
        codes, places = self.model_.sample_columns(
            latents,
            generator=generator,
            argmax=argmax,
            centre=centre,
            temperature=self.temperature,
        )
        rng = np.random.default_rng(seed)
        frame = self.transformer_.decode(codes.cpu().numpy(), places.cpu().numpy(), rng)
        return frame if self._plan is None else self._plan.restore(frame, rng)

    def _sample_constrained(self, n_rows, conditions, rebalance, n_particles, rng):
        """Return a DataFrame of rows that keep to the constraints, and to conditions."""
        plan = self._plan
        if isinstance(conditions, pd.DataFrame):
            known = plan.reduce_known(conditions)

            def draw_at(places):
                frame = self._sample_given(1, known.iloc[places], rebalance, n_particles, rng)
                return plan.restore(frame, np.random.default_rng(rng.randint(2**31 - 1)))

            rows = draw_at(np.arange(len(known)))
            rows = redraw_broken(rows.reset_index(drop=True), draw_at, plan)
            return rows.set_axis(conditions.index, axis=0)
        others = {}
        if isinstance(conditions, Mapping):
            computed = {name for step in plan.steps_ for name in step.replaces}
            others = {name: wanted for name, wanted in conditions.items() if name in computed}
            conditions = {n: wanted for n, wanted in conditions.items() if n not in computed}

        def draw(n):
            if conditions or rebalance is not None:
                frame = self._sample_given(n, conditions, rebalance, n_particles, rng)
                return plan.restore(frame, np.random.default_rng(rng.randint(2**31 - 1)))
            Z = self.sampler_.sample(n, random_state=rng)
            return self._decode(Z, rng.randint(2**31 - 1), argmax=self.decoding == "argmax")

        return self._with_own_identifiers(draw_valid(draw, plan.under(others), n_rows), rng)

    def _with_own_identifiers(self, rows: pd.DataFrame, rng) -> pd.DataFrame:
        """Make identifiers anew that stand twice though they should not, in several draws."""
        transformer = self.transformer_
        for schema, encoder in zip(transformer.schema_, transformer.encoders_, strict=True):
            if schema.kind != "identifier" or encoder.distinct_share_ < 1:
                continue
            if rows[schema.name].dropna().duplicated().any():
                codes = encoder.encode(rows[schema.name])
                generator = np.random.default_rng(rng.randint(2**31 - 1))
                rows[schema.name] = encoder.decode(codes, generator)
                if not self._plan.holds(rows).all():
                    raise ValueError(
                        f"Column {schema.name!r} is an identifier, made anew for all rows, and a "
                        "constraint on it leaves too few. Leave the column out of the constraint, "
                        "or name another kind for it in column_kinds."
                    )
        return rows
