"""Rows that a fitted synthesizer draws under conditions, and in shares."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch

from skvae._synthesis.known_cells import KnownCellsMixin, blocks, is_numeric
from skvae._synthesis.rebalancing import joint_counts, read_shares, whole
from skvae._warnings import warn_user
from skvae.models import AutoregressiveTVAE
from skvae.models.given import Draws, draw_given
from skvae.models.lookahead import Lookahead, Pilots
from skvae.models.particles import Evidence, Spelling
from skvae.samplers import NormalSampler
from skvae.tabular import CategoricalEncoder
from skvae.tabular.asked_values import refuse_booleans, unsupported_cells
from skvae.tabular.conditions import (
    parse_conditions,
    position_of,
    supported,
)
from skvae.tabular.splits import join_codes

# Latents, at least, for all rows that share a condition; and for one row of a table of them.
MIN_POOL, MIN_ROW_POOL = 256, 16
# Pilots of a model, and the most groups that look ahead.
N_PILOTS, MAX_STEERED = 20_000, 32
# Temperature, device and pilots, by model.
_PILOTS: WeakKeyDictionary = WeakKeyDictionary()
# Rows drawn to see how rebalanced columns go together.
N_JOINT = 5000
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
        groups, counts = [[]], np.array([n_samples])
        if rebalance is not None:
            groups, counts = self._balanced(rebalance, shared, n_samples, n_particles, rng)
        evidence = self._evidence(shared, groups)
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
        self._settle(frame, shared)
        group = np.repeat(np.arange(len(counts)), counts)[order]
        for rank, conditions in enumerate(groups):
            self._settle(frame, conditions, group == rank)
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
            pool = self._few(pool, ahead, evidence)
        elif isinstance(self.model_, AutoregressiveTVAE):
            pool = -(-pool // 4)  # they double twice on the way, or are latents only
        parts = []
        for groups in blocks(pool * self.model_.n_columns):
            n_latents = int(pool[groups].sum())
            Z = np.empty((0, self.model_.latent_dim))
            if n_latents:
                Z = self.sampler_.sample(n_latents, random_state=rng)
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
        ordered = isinstance(model, AutoregressiveTVAE)
        if not ordered or self.decoding == "argmax" or len(evidence) > MAX_STEERED:
            return None
        device = next(model.parameters()).device
        found = _PILOTS.get(model)
        if found is None or found[0] != (self.temperature, device):
            z = torch.from_numpy(self.sampler_.sample(N_PILOTS, random_state=0)).to(device)
            codes, _ = model.sample_columns(
                z.float(),
                generator=torch.Generator(device).manual_seed(0),
                temperature=self.temperature,
            )
            normal = isinstance(self.sampler_, NormalSampler)
            pilots = Pilots(z if normal else None, codes.to(torch.int32))
            found = _PILOTS[model] = (self.temperature, device), pilots
        return Lookahead(model, found[1], evidence)

    def _few(self, pool, ahead: Lookahead, evidence: Evidence):
        """Return how many of the particles do where they look ahead.

        Copies of a particle have the same cells as far as the last of the evidence, and differ
        in those after it: the fewer cells they share, the fewer particles do.
        """
        last = max((ahead.order.index(column) for column in evidence.known_columns), default=0)
        fixed = (evidence.codes >= 0).all(0).tolist()
        shared = sum(not fixed[column] for column in ahead.order[: last + 1]) / len(ahead.order)
        return np.ceil(pool * (1 + 2 * shared**2) / 8).astype(np.int64)

    def _balanced(self, rebalance, shared, n_samples, n_particles, rng):
        """Return the conditions of each combination of rebalanced values, and its rows."""
        columns = read_shares(self.transformer_, rebalance, shared)
        found = [conditions for conditions, _ in columns]
        counts = [whole(shares, n_samples) for _, shares in columns]
        if len(columns) == 1:
            joint = counts[0]
        else:
            n_rows = np.array([N_JOINT])
            seed = rng.randint(2**31 - 1)
            draws = self._draw(
                self._evidence(shared, [[]]), n_rows, n_rows * n_particles, rng, seed
            )
            joint = joint_counts(self._count_together(draws, found), counts)
        kept = np.flatnonzero(joint) if n_samples else [0]
        groups = list(itertools.product(*found))
        return [groups[rank] for rank in kept], joint.ravel()[kept]

    def _count_together(self, draws: Draws, found) -> np.ndarray:
        """Return how many drawn rows fulfil each combination of conditions on columns."""
        transformer = self.transformer_
        codes = join_codes(
            transformer.splits_,
            transformer.code_columns_,
            draws.codes.cpu().numpy(),
            np.random.default_rng(0),
        )
        table = np.zeros([len(conditions) for conditions in found], np.int64)
        held = [
            np.stack([c.high > c.low for c in conditions])[:, codes[:, conditions[0].column]]
            for conditions in found
        ]
        # A code that stands for rare levels is among none.
        rows = np.logical_and.reduce([of_column.any(0) for of_column in held])
        np.add.at(table, tuple(of_column[:, rows].argmax(0) for of_column in held), 1)
        return table

    def _evidence(self, shared, groups) -> Evidence:
        """Return what conditions say: some of all rows, others of each group."""
        device = next(self.model_.parameters()).device
        n_columns = self.model_.n_columns
        evidence = Evidence(
            torch.full((len(groups), n_columns), -1, device=device),
            torch.zeros(len(groups), n_columns, device=device),
        )
        for condition in shared:
            if condition.code is None:
                self._know_partly(evidence, [condition])
                continue
            own = self.transformer_.code_columns_[condition.column]
            split = self.transformer_.splits_.get(condition.column)
            code = np.array([condition.code])
            digits = code if split is None else split.split(code)[0]
            evidence.codes[:, own] = torch.from_numpy(digits).to(device)
            evidence.places[:, condition.column] = condition.place
        for conditions in zip(*groups, strict=True):
            self._know_partly(evidence, conditions)
        return evidence

    def _know_partly(self, evidence: Evidence, conditions) -> None:
        """Put conditions on a column, one for all groups or one for each, into evidence."""
        device, column = evidence.codes.device, conditions[0].column
        low, high = (np.stack([getattr(c, end) for c in conditions]) for end in ("low", "high"))
        split = self.transformer_.splits_.get(column)
        if split is None:
            bounds = torch.from_numpy(low).to(device), torch.from_numpy(high).to(device)
            evidence.intervals[column] = bounds
            return
        if not isinstance(self.model_, AutoregressiveTVAE):
            name = self.transformer_.schema_[column].name
            raise ValueError(
                f"Several values of {name!r} were asked for, which has {low.shape[1]} codes, above "
                f"max_categories={self.max_categories}: that needs decoder='autoregressive'. Ask "
                f"for one value at a time, or fit with max_categories={low.shape[1]}."
            )
        counts = np.asarray(self.transformer_.encoders_[column].code_counts_)
        shares = [
            torch.from_numpy(share).to(device)
            for share in split.shares_of((high > low) & (counts > 0), counts)
        ]
        own = self.transformer_.code_columns_[column]
        first = shares[0][:, 0]
        evidence.intervals[column] = torch.zeros_like(first), first
        for rank in range(1, len(own)):
            evidence.spelled[own[rank]] = Spelling(
                own[:rank], [self.model_.cardinalities[c] for c in own[:rank]], shares[rank]
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
                if column.dtype.kind not in "iuf":
                    label = f"conditions[{schema.name!r}]"
                    refuse_booleans(encoder, column.dropna().unique(), label)
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

    def _settle(self, frame, conditions, rows=None) -> None:
        """Move numbers to where their conditions hold exactly."""
        for condition in conditions:
            position = condition.column
            if not is_numeric(self.transformer_.encoders_[position]) or (
                condition.span is None and condition.members is None
            ):
                continue
            schema = self.transformer_.schema_[position]
            values = schema.read_numbers(frame.iloc[:, position])
            settled = condition.settle(values)
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
