"""Gaps of rows that constraints bind: whole rows drawn around the known cells, and weighted.

The model knows the reduced table, in which a column may be what it is beyond others. Where such a
column is known and the others are not, nothing the model knows is given. Rows are therefore drawn
without it, and then one of the cells that were drawn gives way so that it comes out as it is;
each row is weighted by how likely that makes it (importance resampling, Rubin 1988).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from skvae._synthesis.known_cells import blocks
from skvae.constraints import ConstraintPlan
from skvae.constraints.columns import with_known
from skvae.constraints.known import (
    Absorber,
    agreeing,
    complete,
    refuse_broken,
    refuse_row,
    ways,
)
from skvae.constraints.rules import Predicate
from skvae.constraints.steps import Combination, Derivation
from skvae.models import AutoregressiveTVAE
from skvae.models.core import log_density_gaussian
from skvae.models.given import ColumnReader, Draws, chunks
from skvae.models.particles import systematic
from skvae.tabular import MixtureEncoder, QuantileEncoder
from skvae.tabular.conditions import supported
from skvae.tabular.made import MadeEncoder

# Draws of each row whose gaps are bound, and how often they are made before a row is given up.
BOUND_DRAWS, MAX_ATTEMPTS = 128, 10
# What a cell that its column cannot come to hold costs: it is taken where there is no other.
NEVER_SEEN = 1e4


@dataclass
class Candidates:
    """Whole rows around known cells, as many for each row of a table.

    Attributes
    ----------
    rows : int64 array of shape (n_rows,)
        Which rows of the table.
    table : DataFrame of n_rows * n_candidates rows
        The candidates, row after row.
    weight : float64 array of shape (n_rows, n_candidates)
        Their weights, which sum to 1 in each row.
    """

    rows: np.ndarray
    table: pd.DataFrame
    weight: np.ndarray


@dataclass
class _Known:
    """What the model is told of rows with gaps: codes and places, and codes that may come."""

    codes: np.ndarray
    places: np.ndarray
    allowed: dict[int, np.ndarray]

    def intervals(self, rows: np.ndarray, device) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Return the places that each code may take in some rows: all or none."""
        found = {}
        for column, flags in self.allowed.items():
            high = torch.from_numpy(np.where(flags[rows], np.inf, -np.inf).astype(np.float32))
            found[column] = (-high.to(device), high.to(device))
        return found


class BoundCellsMixin:
    """Filling gaps under constraints."""

    def _fill_bound(self, frame: pd.DataFrame, n_draws: int, rng) -> list[pd.DataFrame]:
        """Return as many tables of whole rows around the known cells of a table with gaps."""
        generator = torch.Generator().manual_seed(rng.randint(2**31 - 1))
        order = np.random.default_rng(rng.randint(2**31 - 1))
        parts, rows = [], []
        for found in self._candidates(frame, n_draws, rng):
            n_rows, n_candidates = found.weight.shape
            chosen = systematic(
                torch.from_numpy(found.weight.ravel()),
                torch.full((n_rows,), n_candidates),
                torch.full((n_rows,), n_draws),
                generator,
            )
            chosen = order.permuted(chosen.view(n_rows, n_draws).numpy(), axis=1)
            parts.append(found.table.iloc[chosen.ravel()])
            rows.append(
                np.repeat(found.rows, n_draws) * n_draws + np.tile(np.arange(n_draws), n_rows)
            )
        if not parts:
            return [frame] * n_draws
        table = pd.concat(parts, ignore_index=True).iloc[np.argsort(np.concatenate(rows))]
        tables = [table.iloc[draw::n_draws].set_axis(frame.index) for draw in range(n_draws)]
        if not self._asks_all:
            for table in tables:
                self._make_anew(table, np.random.default_rng(rng.randint(2**31 - 1)))
        return tables

    def _mended(self, summary, frame, tables, readers) -> pd.DataFrame:
        """Return a summary of tables; where it breaks a constraint, the nearest of their rows."""
        gaps = frame.isna()
        columns = dict(summary.items())
        summary = pd.DataFrame({**columns, **with_known(columns, frame)}, copy=False)
        broken = np.flatnonzero(~self._keeps(summary, gaps))
        if not len(broken):
            return summary
        distance = np.zeros((len(tables), len(broken)))
        for name in summary.columns:
            drawn = [table[name].iloc[broken] for table in tables]
            middle = summary[name].iloc[broken]
            if name in readers:
                read, _ = readers[name]
                apart = np.stack([np.abs(read(column) - read(middle)) for column in drawn])
                distance += apart / max(apart.mean(), 1e-300)
            else:
                middle = middle.astype(object).to_numpy()
                distance += np.stack([c.astype(object).to_numpy() != middle for c in drawn])
        rows = distance.argmin(axis=0) * len(broken) + np.arange(len(broken))
        nearest = pd.concat([table.iloc[broken] for table in tables]).iloc[rows]
        place = np.arange(len(summary))
        place[broken] = len(summary) + np.arange(len(broken))
        return pd.concat([summary, nearest]).iloc[place]

    def _make_anew(self, table: pd.DataFrame, rng: np.random.Generator) -> None:
        """Give rows, in place, cells of the columns that are made anew."""
        transformer = self.transformer_
        for schema, encoder in zip(transformer.schema_, transformer.encoders_, strict=True):
            if isinstance(encoder, MadeEncoder):
                cells = encoder.decode(np.zeros(len(table), np.int64), rng)
                table[schema.name] = pd.Series(cells).set_axis(table.index)

    @property
    def _asks_all(self) -> bool:
        """Whether a constraint may look at any cell, also at those that are made anew."""
        return any(isinstance(constraint, Predicate) for constraint in self._plan.constraints)

    def _candidates(self, frame: pd.DataFrame, n_draws: int, rng) -> Iterator[Candidates]:
        """Yield weighted rows around the known cells of each row, at least ``n_draws`` of them.

        Raises
        ------
        ValueError
            The known cells of a row break a constraint, or none of its draws keeps to them all.
        """
        plan = self._plan
        refuse_broken(plan, frame)
        known = self._known_of(frame)
        groups = alike(plan, frame)
        waiting = np.arange(len(frame))
        for attempt in range(MAX_ATTEMPTS):
            done = [np.empty(0, np.int64)]
            for rows, found_ways in groups:
                rows = np.intersect1d(rows, waiting)
                if not len(rows):
                    continue
                few = attempt == 0 and found_ways == [()] and n_draws < BOUND_DRAWS
                n = n_draws if few else BOUND_DRAWS
                for part in blocks(np.full(len(rows), n * self.model_.n_columns)):
                    found = self._weigh(frame, known, rows[part], found_ways, n, rng, whole=few)
                    done.append(found.rows)
                    if len(found.rows):
                        yield found
            waiting = np.setdiff1d(waiting, np.concatenate(done))
            if not len(waiting):
                return
        first = frame.index[waiting[:1]].tolist()[0]
        raise ValueError(
            f"Row {first!r} found no cells for its gaps that keep to "
            f"{plan.constraints} in {MAX_ATTEMPTS * BOUND_DRAWS} draws, nor did "
            f"{len(waiting) - 1} others of {len(frame)}. Its known cells may contradict each "
            "other: correct them, or drop the row."
        )

    def _known_of(self, frame: pd.DataFrame) -> _Known:
        """Return what the model is told of rows that will have no gap.

        Raises
        ------
        ValueError
            The known cells of a row stand in no combination, or there are too many of those.
        """
        codes, places = self._encode_known(self._plan.reduce_gaps(frame))
        self._settle_alone(codes)
        allowed = {}
        for step in self._plan.steps_:
            if isinstance(step, Combination):
                flags = self._allowed(step, frame)
                if flags is not None:
                    allowed[self._position(step.name_)] = flags
        return _Known(codes, places, allowed)

    def _allowed(self, step: Combination, frame: pd.DataFrame) -> np.ndarray | None:
        """Return which codes of a combination go with each row; None if all do."""
        gaps = frame[step.replaces].isna().any(axis=1).to_numpy()
        if not gaps.any():
            return None
        position = self._position(step.name_)
        if position in self.transformer_.splits_:
            raise ValueError(
                f"{step!r} has {len(step.counts_)} combinations, and beyond max_categories="
                f"{self.max_categories} they are coded in several steps, which known cells do not "
                f"reach. Fit with max_categories={len(step.counts_) + 2}."
            )
        encoder = self.transformer_.encoders_[position]
        labels = pd.to_numeric(pd.Series(encoder.levels_), errors="coerce").to_numpy(float)
        stored = ~np.isnan(labels)
        agree = agreeing(step, frame[gaps])
        lost = np.flatnonzero(gaps)[~agree.any(axis=1)]
        if len(lost):
            refuse_row(frame, int(lost[0]), step, step.replaces)
        allowed = np.ones((len(frame), encoder.n_codes_), bool)
        allowed[gaps] = False
        inner = np.zeros((int(gaps.sum()), encoder.n_codes_), bool)
        inner[:, : len(labels)][:, stored] = agree[:, labels[stored].astype(int)]
        allowed[gaps] = inner
        return allowed

    def _position(self, name) -> int:
        return [schema.name for schema in self.transformer_.schema_].index(name)

    def _settle_alone(self, codes: np.ndarray) -> None:
        """Say that a column is not kept by itself: what it is computed from will be there."""
        for step in self._plan.steps_:
            if isinstance(step, Derivation) and step.has_alone_:
                position = self._position(step.alone_name_)
                codes[:, position] = self.transformer_.encoders_[position].n_codes_ - 1

    def _weigh(self, frame, known: _Known, rows, found_ways, n_draws, rng, *, whole) -> Candidates:
        """Draw candidates for rows whose gaps are bound alike; of rows that have any (or all)."""
        device = next(self.model_.parameters()).device
        seed = rng.randint(2**31 - 1)
        draws = self._draw_missing(
            known.codes[rows],
            known.places[rows],
            n_draws,
            torch.Generator(device).manual_seed(seed),
            known.intervals(rows, device),
        )
        generator = np.random.default_rng(seed)
        given = frame.iloc[np.repeat(rows, n_draws)].reset_index(drop=True)
        drawn = self.transformer_.decode(
            draws.codes.cpu().numpy(), draws.places.cpu().numpy(), generator, made=self._asks_all
        )
        gaps = given.isna()
        free = torch.from_numpy(np.repeat(known.codes[rows] < 0, n_draws, axis=0)).to(device)
        score = self._scorer(draws, free)
        tables, weights = [], []
        for way in found_ways:
            table = complete(self._plan, drawn, given, way, generator)
            weight = score(table, way) if way else np.zeros(len(table))
            held = self._keeps(table, gaps)
            tables.append(table)
            weights.append(np.where(held, weight, -np.inf).reshape(len(rows), n_draws))
        return _gathered(rows, tables, np.stack(weights), whole)

    def _keeps(self, table: pd.DataFrame, filled: pd.DataFrame) -> np.ndarray:
        """Return whether rows keep to all constraints, and to combinations of filled cells."""
        plan = self._plan
        held = np.ones(len(table), bool)
        for constraint in plan.constraints:
            held &= constraint.holds(table)
        for step in [*plan.steps_, *plan.checked_]:
            if isinstance(step, Combination):
                held &= step.holds(table) | ~filled[step.replaces].any(axis=1).to_numpy()
        return held

    def _scorer(self, draws: Draws, free: torch.Tensor) -> Callable:
        """Return what tells by how much the model holds rows for likelier than their draws were.

        The columns that gave way count in the rows as what they are, and not in the draws.
        """
        ordered = isinstance(self.model_, AutoregressiveTVAE)
        reader = ColumnReader(self.model_, self.temperature) if ordered else None
        old = self._log_cells(reader, draws.z, draws.codes, free) if ordered else None

        def score(table: pd.DataFrame, way: tuple[Absorber, ...]) -> np.ndarray:
            reduced = self._plan.reduce(table)
            cells = self._read_known(reduced)
            codes, _ = self._codes_of(reduced, cells)
            self._settle_alone(codes)
            moved = [self._position(a.column) for a in way if a.column is not None]
            lost = (codes[:, moved] < 0).any(axis=1)
            codes = torch.from_numpy(codes).to(draws.codes)
            codes = torch.where(codes < 0, draws.codes, codes)
            if old is None:
                log_weight = self._log_cells_factorized(draws.z, codes, moved, cells)
            else:
                log_weight = self._log_cells(reader, draws.z, codes, free).sum(1) - old.sum(1)
                log_weight += old[:, moved].sum(1)
            log_weight = log_weight.double().cpu().numpy()
            for column in moved:
                encoder = self.transformer_.encoders_[column]
                if isinstance(encoder, QuantileEncoder):
                    code = codes[:, column].cpu().numpy()
                    log_weight += encoder.log_measure(cells[column], code)
                if self.transformer_.schema_[column].name in self._columns:
                    log_weight[~supported(encoder, cells[column])] -= NEVER_SEEN
            return np.where(lost, -np.inf, log_weight)

        return score

    @torch.no_grad()
    def _log_cells(self, reader: ColumnReader, z, codes, free) -> torch.Tensor:
        """Return the log probability of each code given those before, of (n_rows, n_columns)."""
        model = self.model_
        never = {c: flags.to(z.device) for c, flags in self._never_missing().items()}
        out = torch.empty(codes.shape, device=z.device)
        seen = torch.full_like(codes, model.layout.size)
        for place, column in enumerate(model.sequence):
            for part in chunks(None, len(z)):
                logits = reader.logits(column, z[part], seen[part])
                if column in never:
                    shut = free[part, column, None] & never[column]
                    logits = logits.masked_fill(shut, -torch.inf)
                found = logits.log_softmax(1).gather(1, codes[part, column, None])
                out[part, column] = found.squeeze(1)
            seen[:, place] = codes[:, column] + model.offsets[column]
        return out

    @torch.no_grad()
    def _log_cells_factorized(self, z, codes, columns, cells) -> torch.Tensor:
        """Return the log density of the cells of some columns given the latents, summed."""
        model = self.model_
        total = z.new_zeros(len(z))
        for part in chunks(None, len(z)):
            logits, means = model.decode(z[part])
            logits = (logits + model.softmax.blocked) / self.temperature
            segments = logits.split(model.cardinalities, dim=1)
            for column in columns:
                log_prob = segments[column].log_softmax(1)
                encoder = self.transformer_.encoders_[column]
                if isinstance(encoder, MixtureEncoder) and len(encoder.means_):
                    index = model.place_columns.tolist().index(column)
                    places = torch.from_numpy(encoder.mode_places(cells[column][part]))
                    log_var = 2 * model.sigma[index].log()
                    widths = torch.from_numpy(encoder.mode_widths_).to(log_prob).log()
                    density = log_density_gaussian(places.to(z), means[:, [index]], log_var)
                    modes = log_prob[:, : len(widths)] + density - widths
                    total[part] += modes.logsumexp(1)
                else:
                    total[part] += log_prob.gather(1, codes[part, column, None]).squeeze(1)
        return total


def alike(plan: ConstraintPlan, frame: pd.DataFrame) -> list[tuple[np.ndarray, list]]:
    """Return rows, those together whose known cells can be made to agree in the same ways."""
    names = {name for step in plan.steps_ for name in (*step.replaces, *step.needs)}
    columns = [name for name in frame.columns if name in names]
    patterns, group = np.unique(frame[columns].isna().to_numpy(), axis=0, return_inverse=True)
    found: dict = {}
    for rank, gaps in enumerate(patterns):
        missing = {name for name, gap in zip(columns, gaps, strict=True) if gap}
        options = ways(plan, missing)
        key = tuple(tuple((a.step.moved, a.column) for a in way) for way in options)
        found.setdefault(key, (options, []))[1].append(rank)
    return [
        (np.flatnonzero(np.isin(group.ravel(), ranks)), options)
        for options, ranks in found.values()
    ]


def _gathered(rows, tables, log_weight: np.ndarray, whole: bool) -> Candidates:
    """Join the tables of several ways, for rows with a candidate that holds; or with no other."""
    n_ways, n_rows, n_draws = log_weight.shape
    log_weight = log_weight.transpose(1, 0, 2).reshape(n_rows, -1)
    held = log_weight > -np.inf
    good = np.flatnonzero(held.all(axis=1) if whole else held.any(axis=1))
    table = pd.concat(tables, ignore_index=True) if n_ways > 1 else tables[0]
    place = np.arange(len(table)).reshape(n_ways, n_rows, n_draws).transpose(1, 0, 2)
    table = table.iloc[place.reshape(n_rows, -1)[good].ravel()]
    weight = np.exp(log_weight[good] - log_weight[good].max(axis=1, keepdims=True, initial=-np.inf))
    return Candidates(rows[good], table, weight / weight.sum(axis=1, keepdims=True))
