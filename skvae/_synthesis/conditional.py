"""Rows that a fitted synthesizer draws under conditions, and in shares."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch

from skvae._synthesis.known_cells import KnownCellsMixin, blocks, is_numeric
from skvae._warnings import warn_user
from skvae.models import AutoregressiveTVAE
from skvae.models.given import Draws, draw_given
from skvae.models.lookahead import Lookahead, Pilots
from skvae.models.particles import Evidence
from skvae.samplers import NormalSampler
from skvae.tabular import CategoricalEncoder, MixtureEncoder, QuantileEncoder
from skvae.tabular.conditions import (
    Condition,
    parse_condition,
    parse_conditions,
    position_of,
    supported,
    unsupported_cells,
)

# Latents, at least, for all rows that share a condition; and for one row of a table of them.
MIN_POOL, MIN_ROW_POOL = 256, 16
# Pilots of a model, and the most groups that look ahead.
N_PILOTS, MAX_STEERED = 20_000, 32
# Temperature and pilots, by model.
_PILOTS: WeakKeyDictionary = WeakKeyDictionary()
# What is joined of the draws of several groups.
DRAWN = ("codes", "places", "z", "effective")


class ConditionalMixin(KnownCellsMixin):
    """Sampling of a synthesizer under conditions."""

    def _sample_given(self, n_samples, conditions, rebalance, n_particles, rng):
        """Rows under conditions; see ``sample``."""
        if isinstance(conditions, pd.DataFrame):
            if rebalance is not None:
                raise ValueError(
                    "rebalance cannot be combined with a table of conditions, which says what "
                    "each row holds. Give conditions as a dict."
                )
            return self._sample_rows(n_samples, conditions, n_particles, rng)
        if conditions is not None and not isinstance(conditions, Mapping):
            raise ValueError(
                f"conditions are of type {type(conditions).__name__}, expected a dict of column "
                "to value, list or range, or a DataFrame with one row of fixed cells per sample."
            )
        shared = parse_conditions(self.transformer_, conditions or {})
        alternatives, counts = [None], np.array([n_samples])
        if rebalance is not None:
            alternatives, counts = self._alternatives(rebalance, shared, n_samples)
        evidence = self._evidence(shared, alternatives)
        pool = np.maximum(counts * n_particles, np.where(counts > 0, MIN_POOL, 0))
        seed = rng.randint(2**31 - 1)
        draws = self._draw(evidence, counts, pool, rng, seed)
        self._warn_of_few(draws.effective.cpu().numpy(), counts, list(conditions or rebalance))
        # Rows of a group, and copies of a particle, come out side by side.
        order = np.random.default_rng(seed).permutation(n_samples)
        frame = self.transformer_.decode(
            draws.codes.cpu().numpy()[order],
            draws.places.cpu().numpy()[order],
            np.random.default_rng(seed),
        )
        settled = {}
        group = np.repeat(np.arange(len(counts)), counts)[order]
        for condition in shared:
            settled[condition.column] = condition.settle
        self._settle(frame, settled)
        for rank, condition in enumerate(alternatives):
            if condition is not None and condition.members is not None:
                self._settle(frame, {condition.column: condition.settle}, group == rank)
        return frame

    def _sample_rows(self, n_samples, table, n_particles, rng):
        """Return one row for each row of fixed cells."""
        if n_samples not in (1, len(table)):
            raise ValueError(
                f"n_samples={n_samples} with conditions of {len(table)} rows: a table of "
                "conditions makes one row each. Leave n_samples out."
            )
        for name in table.columns:
            position_of(self.transformer_, name)
        names = [schema.name for schema in self.transformer_.schema_]
        frame = table.reindex(columns=names)
        cells = self._read_known(frame)
        self._refuse_unsupported(frame, cells)
        codes, places = self._codes_of(frame, cells)
        # Rows alike in their fixed cells are drawn together.
        key = codes if isinstance(self.model_, AutoregressiveTVAE) else np.c_[codes, places]
        _, first, group = np.unique(key, axis=0, return_index=True, return_inverse=True)
        group = group.ravel()
        counts = np.bincount(group, minlength=len(first))
        evidence = self._known_evidence(codes[first], places[first])
        pool = np.maximum(counts * n_particles, MIN_ROW_POOL * 4)
        seed = rng.randint(2**31 - 1)
        draws = self._draw(evidence, counts, pool, rng, seed)
        self._warn_of_few(draws.effective.cpu().numpy(), counts, list(table.columns))
        order = np.argsort(np.argsort(group, kind="stable"), kind="stable")
        drawn = self.transformer_.decode(
            draws.codes.cpu().numpy()[order],
            draws.places.cpu().numpy()[order],
            np.random.default_rng(seed),
        )
        rows = np.arange(len(frame))
        return self._put(frame, rows, frame.isna().to_numpy(), drawn, wanted=True)

    def _draw(self, evidence: Evidence, counts, pool, rng, seed) -> Draws:
        """Draw rows from latents of the fitted density, groups by groups."""
        device = next(self.model_.parameters()).device
        generator = torch.Generator(device).manual_seed(int(seed))
        ahead = self._look_ahead(evidence)
        if ahead is not None:
            pool = self._few(pool, evidence)
        elif isinstance(self.model_, AutoregressiveTVAE):
            pool = -(-pool // 4)  # they double twice on the way, or are latents only
        parts = []
        for groups in blocks(pool * self.model_.n_columns):
            n_latents = int(pool[groups].sum())
            Z = self.sampler_.sample(n_latents, random_state=rng) if n_latents else np.empty((0, 0))
            z = torch.from_numpy(np.ascontiguousarray(Z, dtype=np.float32)).to(device)
            parts.append(
                draw_given(
                    self.model_,
                    z,
                    torch.from_numpy(pool[groups]).to(device),
                    evidence.take(groups),
                    torch.from_numpy(counts[groups]).to(device),
                    temperature=self.temperature,
                    generator=generator,
                    argmax=self.decoding == "argmax",
                    lookahead=None if ahead is None else ahead.take(groups),
                )
            )
        return Draws(*(torch.cat([getattr(part, name) for part in parts]) for name in DRAWN))

    def _look_ahead(self, evidence: Evidence) -> Lookahead | None:
        """Return what the evidence says of the columns before it, where that is worth while."""
        model = self.model_
        one_order = isinstance(model, AutoregressiveTVAE) and not model.any_order
        if not one_order or self.decoding == "argmax" or len(evidence) > MAX_STEERED:
            return None
        found = _PILOTS.get(model)
        if found is None or found[0] != self.temperature:
            device = next(model.parameters()).device
            z = torch.from_numpy(self.sampler_.sample(N_PILOTS, random_state=0)).to(device)
            codes, _ = model.sample_columns(
                z.float(),
                generator=torch.Generator(device).manual_seed(0),
                temperature=self.temperature,
            )
            normal = isinstance(self.sampler_, NormalSampler)
            found = _PILOTS[model] = self.temperature, Pilots(z if normal else None, codes)
        return Lookahead(model, found[1], evidence)

    def _few(self, pool, evidence: Evidence):
        """Return how many of the particles do where they look ahead.

        Copies of a row still differ in the columns after the evidence: the more of these there
        are, the fewer particles do.
        """
        sequence = self.model_.sequence
        last = max((sequence.index(column) for column in evidence.known_columns), default=0)
        seen = (last + 1) / len(sequence)
        return np.ceil(pool * (1 + 2 * seen**2) / 8).astype(np.int64)

    def _alternatives(self, rebalance, shared, n_samples):
        """Return a condition for each share of a rebalanced column, and the rows of each."""
        if not isinstance(rebalance, Mapping) or len(rebalance) != 1:
            raise ValueError(
                f"rebalance={rebalance!r}, expected a dict of one column to the shares of its "
                "values, such as {'income': {'>50K': 0.5}}."
            )
        ((name, shares),) = rebalance.items()
        column = position_of(self.transformer_, name, "rebalance")
        if not isinstance(shares, Mapping) or not shares:
            raise ValueError(f"rebalance[{name!r}]={shares!r}, expected a dict of value to share.")
        if any(condition.column == column for condition in shared):
            raise ValueError(f"{name!r} stands both in conditions and in rebalance. Keep one.")
        for value, share in shares.items():
            if not isinstance(share, Real) or not 0 <= share <= 1:
                raise ValueError(
                    f"rebalance[{name!r}][{value!r}]={share!r}, expected a share from 0 to 1."
                )
        rest = 1.0 - sum(shares.values())
        if rest < -1e-9:
            raise ValueError(
                f"the shares of rebalance[{name!r}] sum to {1 - rest:g}, expected at most 1."
            )
        found = [parse_condition(self.transformer_, column, value) for value in shares]
        encoder = self.transformer_.encoders_[column]
        others = Condition(
            column,
            np.full(encoder.n_codes_, -np.inf, np.float32),
            np.full(encoder.n_codes_, np.inf, np.float32),
        )
        for condition in found:
            if condition.code is not None and _is_inner(encoder, condition.code):
                raise ValueError(
                    f"rebalance[{name!r}] names a number among the rare ones of the column. "
                    "Name values that repeat, or give a range in conditions."
                )
            taken = condition.high > condition.low
            others.low[taken], others.high[taken] = np.inf, -np.inf
        if isinstance(encoder, CategoricalEncoder) and encoder.has_unknown_:
            others.low[len(encoder.levels_)] = np.inf  # it is decoded as one of the levels
        left = (others.high > others.low) & (np.asarray(encoder.code_counts_) > 0)
        if rest > 1e-9 and not left.any():
            raise ValueError(
                f"rebalance[{name!r}] names all values of the column, but the shares sum to "
                f"{1 - rest:g}, expected 1."
            )
        counts = _whole(np.array([*shares.values(), max(rest, 0.0)]), n_samples)
        if not left.any():
            return found, counts[:-1]
        return [*found, others], counts

    def _evidence(self, shared, alternatives) -> Evidence:
        """Return what conditions say, for one group per alternative."""
        device = next(self.model_.parameters()).device
        n_groups, n_columns = len(alternatives), self.model_.n_columns
        codes = np.full((n_groups, n_columns), -1, np.int64)
        places = np.zeros((n_groups, n_columns), np.float32)
        intervals = {}
        for condition in shared:
            if condition.code is not None:
                codes[:, condition.column] = condition.code
                places[:, condition.column] = condition.place
            else:
                intervals[condition.column] = (condition.low[None], condition.high[None])
        if alternatives[0] is not None:
            intervals[alternatives[0].column] = tuple(
                np.stack([getattr(condition, end) for condition in alternatives])
                for end in ("low", "high")
            )
        bounds = {
            column: (torch.from_numpy(low).to(device), torch.from_numpy(high).to(device))
            for column, (low, high) in intervals.items()
        }
        return Evidence(
            torch.from_numpy(codes).to(device), torch.from_numpy(places).to(device), bounds
        )

    def _refuse_unsupported(self, frame, cells) -> None:
        """Raise for fixed cells that no row can hold."""
        for position, (encoder, schema) in enumerate(
            zip(self.transformer_.encoders_, self.transformer_.schema_, strict=True)
        ):
            column = frame.iloc[:, position]
            if column.isna().all():
                continue
            if is_numeric(encoder):
                good = supported(encoder, cells[position])
            elif isinstance(encoder, CategoricalEncoder):
                code = encoder.encode(column)
                good = column.isna().to_numpy() | (code < len(encoder.levels_))
            else:
                good = column.isna().to_numpy()
            if not good.all():
                raise ValueError(
                    unsupported_cells(encoder, schema, column[~good].drop_duplicates().tolist())
                )

    def _settle(self, frame, settlers, rows=None) -> None:
        """Move numbers to where their conditions hold exactly."""
        for position, settle in settlers.items():
            if not is_numeric(self.transformer_.encoders_[position]):
                continue
            schema = self.transformer_.schema_[position]
            values = schema.read_numbers(frame.iloc[:, position])
            settled = settle(values)
            if rows is not None:
                settled = np.where(rows, settled, values)
            frame.isetitem(position, schema.write_numbers(settled))

    def _warn_of_few(self, effective, counts, names) -> None:
        """Warn where so few particles carry the weight that rows are near copies of each other."""
        poor = (counts > 0) & (effective < np.maximum(counts, 8) / 4)
        if poor.any():
            warn_user(
                f"Conditions on {names} left {effective[poor].min():.0f} effective particles for "
                f"{int(counts[poor][effective[poor].argmin()])} row(s): rows may repeat each "
                "other, or follow the conditions of columns that come before loosely. Raise "
                "n_particles, name the columns in condition_columns at fit, or fit with "
                "column_order='random'."
            )


def _is_inner(encoder, code: int) -> bool:
    """Return whether a code stands for more than one number."""
    if isinstance(encoder, QuantileEncoder):
        return len(encoder.atoms_) <= code < len(encoder.atoms_) + encoder.n_bins_
    return isinstance(encoder, MixtureEncoder) and code < len(encoder.means_)


def _whole(shares: np.ndarray, total: int) -> np.ndarray:
    """Return whole numbers that sum to ``total``, as near to the shares as can be."""
    exact = shares / shares.sum() * total
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[largest] += 1
    return counts
