"""What a fitted synthesizer says when part of a row is known: samples, missing cells, shares."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skvae.models import AutoregressiveTVAE
from skvae.models.enumeration import code_log_proba, propose_latents
from skvae.models.given import Draws, draw_given
from skvae.models.particles import Evidence
from skvae.tabular import CategoricalEncoder, MixtureEncoder, QuantileEncoder
from skvae.tabular.conditions import (
    Condition,
    parse_condition,
    parse_conditions,
    position_of,
    supported,
    unsupported_cells,
)
from skvae.tabular.copies import copied_from
from skvae.tabular.frames import restore_container
from skvae.tabular.splits import split_codes

# Latents, at least, for all rows that share a condition; and for one row of a table of them.
MIN_POOL, MIN_ROW_POOL = 256, 16
# Particles for each row whose missing cells are drawn, and draws that are summed up in one value.
IMPUTE_PARTICLES, SUMMED_DRAWS = 128, 128
# Latents for each row behind a probability.
PROBA_LATENTS = 32
# Cells of the tables of particles, or of candidates, that are held in memory at a time.
MAX_CELLS = 2_000_000


class ConditionalMixin:
    """Sampling under conditions, imputation and conditional probabilities of a synthesizer."""

    def impute(self, X, *, n_draws=None, method="draw", random_state=None):
        """Fill the missing cells of a table.

        Cells that are there come back as they are, to the bit. Rows are filled each by itself:
        from p(missing cells | the cells that are there), by particles whose first columns were
        drawn before the later ones were looked at.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            A table with the columns of fit.
        n_draws : int or None, default=None
            How many times to fill the table (multiple imputation): a list of as many tables comes
            back. None gives one table.
        method : {"draw", "mode", "mean"}, default="draw"
            What a cell is filled with: a draw; the most probable category, or the median of a
            number; or the most probable category, or the mean of a number. The first keeps the
            spread of the column, the others are best guesses cell by cell.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws; None continues the stream that fit began.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_rows, n_columns), or list of them
            In the container and dtypes that fit saw, under the index of ``X``.

        Raises
        ------
        ValueError
            Other columns than in fit, or several draws of a ``method`` that has one answer.

        Examples
        --------
        >>> from skvae import TVAESynthesizer
        >>> from skvae.datasets import load_adult
        >>> table = load_adult().head(500)
        >>> synthesizer = TVAESynthesizer(max_epochs=2, random_state=0).fit(table)
        >>> gaps = table.mask(table == "Private")
        >>> filled = synthesizer.impute(gaps, random_state=0)
        >>> int(gaps.isna().sum().sum()) > 0, int(filled.isna().sum().sum())
        (True, 0)
        """
        check_is_fitted(self)
        if method not in ("draw", "mode", "mean"):
            raise ValueError(f"method={method!r}, expected 'draw', 'mode' or 'mean'.")
        if n_draws is not None and (
            not isinstance(n_draws, Integral) or isinstance(n_draws, bool) or n_draws < 1
        ):
            raise ValueError(f"n_draws={n_draws!r}, expected a whole number from 1 up, or None.")
        if n_draws is not None and method != "draw":
            raise ValueError(
                f"n_draws={n_draws} asks for several tables, but method={method!r} has one answer. "
                "Take method='draw', or n_draws=None."
            )
        self._check_known("impute")
        frame, _ = self._read(X)
        rng = self._rng_of(random_state)
        absent = frame.isna().to_numpy()
        rows = np.flatnonzero(absent.any(axis=1))
        n_filled = SUMMED_DRAWS if method != "draw" else n_draws or 1
        tables = self._fill(frame, rows, absent, n_filled, rng)
        if method == "draw":
            filled = [
                restore_container(self, self._put(frame, rows, absent, table)) for table in tables
            ]
            return filled if n_draws is not None else filled[0]
        summary = self._summarise(tables, method)
        return restore_container(self, self._put(frame, rows, absent, summary))

    def conditional_proba(self, X, column, *, random_state=0):
        """Return how probable each value of a column is, given the other cells of each row.

        The model's joint p(x) of the row with each value in turn, normalised. Cells of other
        columns that are missing are averaged over; what ``column`` holds is not looked at, and
        it may be left out of ``X``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            A table with the columns of fit.
        column : hashable
            Name of a categorical column, or of a numeric one whose few values all repeat.
        random_state : int, RandomState instance or None, default=0
            Seeds the latents that the joint is averaged over.

        Returns
        -------
        proba : DataFrame of shape (n_rows, n_values)
            One column for each value, in their order, under the index of ``X``; rows sum to 1.

        Raises
        ------
        ValueError
            There is no such column, or it has not just a few values.

        Examples
        --------
        >>> from skvae import TVAESynthesizer
        >>> from skvae.datasets import load_adult
        >>> table = load_adult().head(500)
        >>> synthesizer = TVAESynthesizer(max_epochs=2, random_state=0).fit(table)
        >>> synthesizer.conditional_proba(table, "income").shape
        (500, 2)
        """
        check_is_fitted(self)
        self._check_known("conditional_proba")
        position = position_of(self.transformer_, column, "column")
        values = self._values_of(position)
        if isinstance(X, pd.DataFrame) and column not in X.columns:
            X = X.reindex(columns=[schema.name for schema in self.transformer_.schema_])
        frame, _ = self._read(X)
        rng = self._rng_of(random_state)
        codes, places = self._encode_known(frame)
        codes[:, position] = -1
        proba = np.empty((len(frame), self.transformer_.encoders_[position].n_codes_))
        step = max(1, MAX_CELLS // (PROBA_LATENTS * max(16, proba.shape[1])))
        for start in range(0, len(codes), step):
            rows = slice(start, start + step)
            proba[rows] = self._code_proba(codes[rows], places[rows], position, rng)
        counts = np.asarray(self.transformer_.encoders_[position].code_counts_, float)
        n_values = len(values)
        shares = proba[:, :n_values]
        if isinstance(self.transformer_.encoders_[position], CategoricalEncoder):
            shares = _share_out(proba, counts, n_values)
        shares = shares / shares.sum(axis=1, keepdims=True)
        return pd.DataFrame(shares, index=frame.index, columns=values)

    # ----- sampling -----

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
        if isinstance(self.model_, AutoregressiveTVAE):
            pool = -(-pool // 4)  # they double twice on the way, or are latents only
        parts = []
        for groups in _blocks(pool * self.model_.n_columns):
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
                )
            )
        return Draws(*(torch.cat([getattr(part, name) for part in parts]) for name in DRAWN))

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

    # ----- evidence -----

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

    def _known_evidence(self, codes, places, never=None) -> Evidence:
        """Return known cells as evidence, one group a row."""
        device = next(self.model_.parameters()).device
        tensors = (torch.from_numpy(array).to(device) for array in (codes, places))
        return Evidence(*tensors, never={c: flag.to(device) for c, flag in (never or {}).items()})

    def _read_known(self, frame):
        """Return the cells of each column; NaN in numeric columns of which nothing is known."""
        cells = []
        for position, schema in enumerate(self.transformer_.schema_):
            column = frame.iloc[:, position]
            numeric = _is_numeric(self.transformer_.encoders_[position])
            if numeric and column.isna().all():
                cells.append(np.full(len(column), np.nan))
            elif numeric:
                cells.append(schema.read_numbers(column))
            else:
                cells.append(column)
        return cells

    def _codes_of(self, frame, cells) -> tuple[np.ndarray, np.ndarray]:
        """Return codes, -1 where a cell is missing or tells nothing, and places."""
        codes = np.full(frame.shape, -1, np.int64)
        places = np.zeros(frame.shape, np.float32)
        absent = frame.isna().to_numpy()
        for position, encoder in enumerate(self.transformer_.encoders_):
            if absent[:, position].all():
                continue
            if isinstance(encoder, QuantileEncoder):
                source = copied_from(encoder, cells[position], cells)
                code, places[:, position] = encoder.encode(cells[position], source)
            elif isinstance(encoder, MixtureEncoder):
                code, places[:, position] = encoder.encode(cells[position])
            else:
                code = encoder.encode(cells[position])
            # A code without training rows has no probability worth the name.
            tells = ~absent[:, position] & (np.asarray(encoder.code_counts_)[code] > 0)
            codes[:, position] = np.where(tells, code, -1)
        known = split_codes(self.transformer_.splits_, codes, places)
        return known.codes, known.places

    def _encode_known(self, frame):
        return self._codes_of(frame, self._read_known(frame))

    def _refuse_unsupported(self, frame, cells) -> None:
        """Raise for fixed cells that no row can hold."""
        for position, (encoder, schema) in enumerate(
            zip(self.transformer_.encoders_, self.transformer_.schema_, strict=True)
        ):
            column = frame.iloc[:, position]
            if column.isna().all():
                continue
            if _is_numeric(encoder):
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

    # ----- imputation -----

    def _fill(self, frame, rows, absent, n_draws, rng) -> list[pd.DataFrame]:
        """Return as many tables of drawn rows, in the order of ``rows``."""
        codes, places = self._encode_known(frame.iloc[rows])
        drawn = [np.empty((n_draws, *codes.shape), kind) for kind in (np.int64, np.float32)]
        seed = rng.randint(2**31 - 1)
        device = next(self.model_.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        size = np.full(len(rows), IMPUTE_PARTICLES * self.model_.n_columns)
        for part in _blocks(size):
            draws = self._draw_missing(codes[part], places[part], n_draws, generator)
            for out, tensor in zip(drawn, draws, strict=True):
                out[:, part] = (
                    tensor.cpu().numpy().reshape(-1, n_draws, codes.shape[1]).swapaxes(0, 1)
                )
        generators = np.random.default_rng(seed).spawn(n_draws)
        return [
            self.transformer_.decode(*cells, generator)
            for *cells, generator in zip(*drawn, generators, strict=True)
        ]

    def _draw_missing(self, codes, places, n_draws, generator):
        """Return codes and places of whole rows, ``n_draws`` for each."""
        evidence = self._known_evidence(codes, places, self._never_missing())
        z, log_weight = propose_latents(
            self.model_,
            evidence.codes,
            evidence.places,
            self._code_counts(),
            IMPUTE_PARTICLES,
            generator,
        )
        sizes = torch.full((len(codes),), IMPUTE_PARTICLES, device=z.device)
        draws = draw_given(
            self.model_,
            z,
            sizes,
            evidence,
            torch.full_like(sizes, n_draws),
            log_weight=log_weight,
            temperature=self.temperature,
            generator=generator,
        )
        return draws.codes, draws.places

    def _never_missing(self) -> dict[int, torch.Tensor]:
        """Return the codes that a filled cell does not take: its being missing."""
        never = {}
        for position, encoder in enumerate(self.transformer_.encoders_):
            if encoder.has_missing_ and encoder.n_codes_ > 1:
                flags = torch.zeros(self.model_.cardinalities[position], dtype=torch.bool)
                split = self.transformer_.splits_.get(position)
                flags[-1 if split is None else split.rank_[-1]] = True
                never[position] = flags
        return never

    def _put(self, frame, rows, absent, table, wanted=False):
        """Return a copy of ``frame`` with the missing cells of some rows from ``table``."""
        columns = {}
        for position, schema in enumerate(self.transformer_.schema_):
            column = frame.iloc[:, position]
            gaps = absent[rows, position]
            if wanted and gaps.all():
                columns[position] = table.iloc[:, position].array
                continue
            columns[position] = _filled(column, rows[gaps], table.iloc[gaps, position], schema)
        filled = pd.DataFrame(columns, index=frame.index, copy=False)
        filled.columns = pd.Index([schema.name for schema in self.transformer_.schema_])
        return filled

    def _summarise(self, tables, method) -> pd.DataFrame:
        """Return one table of the most frequent categories, and medians or means of numbers."""
        columns = {}
        for position, schema in enumerate(self.transformer_.schema_):
            drawn = [table.iloc[:, position] for table in tables]
            if _is_numeric(self.transformer_.encoders_[position]):
                values = np.stack([schema.read_numbers(column) for column in drawn])
                if method == "mean":
                    middle = values.mean(axis=0)
                else:
                    middle = np.quantile(values, 0.5, axis=0, method="inverted_cdf")
                columns[position] = schema.write_numbers(middle)
            else:
                columns[position] = _most_frequent(drawn)
        summary = pd.DataFrame(columns, copy=False)
        summary.columns = tables[0].columns
        return summary

    # ----- probabilities -----

    def _values_of(self, position: int) -> list:
        """Return the values of a column that has a few."""
        encoder, schema = self.transformer_.encoders_[position], self.transformer_.schema_[position]
        told = position not in self.transformer_.splits_
        if isinstance(encoder, CategoricalEncoder) and told and not encoder.fresh_labels_:
            return list(encoder.levels_)
        if isinstance(encoder, QuantileEncoder) and encoder.n_bins_ == 0:
            return pd.Series(schema.write_numbers(encoder.atoms_)).tolist()
        raise ValueError(
            f"Column {schema.name!r} has more values than can be told one by one. "
            "Draw them with impute(X, n_draws=...)."
        )

    def _code_counts(self) -> list[torch.Tensor]:
        device = next(self.model_.parameters()).device
        return [
            torch.from_numpy(np.asarray(counts, np.float32)).to(device)
            for counts in self.transformer_.code_counts_
        ]

    def _code_proba(self, codes, places, position, rng) -> np.ndarray:
        """Return the probability of each code of a column, of shape (n_rows, n_codes)."""
        device = next(self.model_.parameters()).device
        generator = torch.Generator(device).manual_seed(int(rng.randint(2**31 - 1)))
        log_proba = code_log_proba(
            self.model_,
            torch.from_numpy(codes).to(device),
            torch.from_numpy(places).to(device),
            position,
            self._code_counts(),
            n_latents=PROBA_LATENTS,
            never={c: flags.to(device) for c, flags in self._never_missing().items()},
            generator=generator,
        )
        return log_proba.exp().double().cpu().numpy()

    # ----- the rest -----

    def _settle(self, frame, settlers, rows=None) -> None:
        """Move numbers to where their conditions hold exactly."""
        for position, settle in settlers.items():
            if not _is_numeric(self.transformer_.encoders_[position]):
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
            warnings.warn(
                f"Conditions on {names} left {effective[poor].min():.0f} effective particles for "
                f"{int(counts[poor][effective[poor].argmin()])} row(s): rows may repeat each "
                "other, or follow the conditions of columns that come before loosely. Raise "
                "n_particles, name the columns in condition_columns at fit, or fit with "
                "column_order='random'.",
                UserWarning,
                stacklevel=4,
            )

    def _rng_of(self, random_state):
        return self._sample_rng if random_state is None else check_random_state(random_state)


DRAWN = ("codes", "places", "z", "effective")


def _is_numeric(encoder) -> bool:
    return isinstance(encoder, (QuantileEncoder, MixtureEncoder))


def _is_inner(encoder, code: int) -> bool:
    """Return whether a code stands for more than one number."""
    if isinstance(encoder, QuantileEncoder):
        return len(encoder.atoms_) <= code < len(encoder.atoms_) + encoder.n_bins_
    return isinstance(encoder, MixtureEncoder) and code < len(encoder.means_)


def _blocks(cells: np.ndarray):
    """Yield slices of groups that have, together, about as many cells as memory is for."""
    block = np.cumsum(cells) // MAX_CELLS
    bounds = np.flatnonzero(np.diff(block)) + 1
    for start, stop in zip([0, *bounds], [*bounds, len(cells)], strict=True):
        yield slice(int(start), int(stop))


def _whole(shares: np.ndarray, total: int) -> np.ndarray:
    """Return whole numbers that sum to ``total``, as near to the shares as can be."""
    exact = shares / shares.sum() * total
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[largest] += 1
    return counts


def _share_out(proba: np.ndarray, counts: np.ndarray, n_levels: int) -> np.ndarray:
    """Return levels' probabilities with that of the rare ones, which are decoded as levels."""
    shares = proba[:, :n_levels].copy()
    if proba.shape[1] > n_levels and counts[:n_levels].sum():
        shares += proba[:, [n_levels]] * counts[:n_levels] / counts[:n_levels].sum()
    return shares


def _filled(column: pd.Series, rows: np.ndarray, values: pd.Series, schema):
    """Return an array of the column with values put at some rows, in the dtype of fit."""
    if column.dtype == schema.dtype:
        array = column.array.copy()
        array[rows] = values.array
        return array
    cells = column.astype(object).array.copy()
    cells[rows] = values.astype(object).array
    written = pd.Series(cells).astype(schema.dtype)
    same = (written.astype(object).array == cells) | pd.isna(cells)
    if not np.asarray(same, bool).all():
        return pd.Series(cells).infer_objects().array  # the dtype of fit does not hold them
    return written.array


def _most_frequent(drawn: list[pd.Series]):
    """Return the cell that most of several columns have, row by row."""
    codes, values = pd.factorize(pd.concat(drawn, ignore_index=True))
    votes = codes.reshape(len(drawn), -1)
    n_rows = votes.shape[1]
    table = np.zeros((n_rows, len(values)), np.int32)
    for vote in votes:
        table[np.arange(n_rows), vote] += 1
    cells = pd.Series(values.take(table.argmax(axis=1)))
    return cells.astype(drawn[0].dtype).array
