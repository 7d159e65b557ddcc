"""What a fitted synthesizer fills the cells with that a row lacks."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from skvae._synthesis.bound_cells import BoundCellsMixin
from skvae._synthesis.known_cells import KnownCellsMixin, _filled, blocks, is_numeric
from skvae._synthesis.missing_rates import missing_codes
from skvae.constraints.known import number_readers, refuse_broken
from skvae.models.enumeration import propose_latents
from skvae.models.given import Draws, draw_given
from skvae.tabular.frames import restore_container

# Particles for each row whose missing cells are drawn, and draws that are summed up in one value.
IMPUTE_PARTICLES, SUMMED_DRAWS = 128, 128


class ImputationMixin(BoundCellsMixin, KnownCellsMixin):
    """Imputation of a synthesizer."""

    def impute(self, X, *, n_draws=None, method="draw", random_state=None):
        """Fill the missing cells of a table.

        Cells that are there come back as they are, to the bit. Rows are filled each by itself:
        from p(missing cells | the cells that are there), by particles whose first columns were
        drawn before the later ones were looked at. Each row keeps to all constraints: what gives
        way to a known cell that they bind is drawn by how likely that makes the row.

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
            Other columns than in fit, or several draws of a ``method`` that has one answer; or the
            known cells of a row, complete or not, break a constraint.

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
        frame, _ = self._read(X)
        rng = self._rng_of(random_state)
        gaps = frame.isna().to_numpy()
        rows = np.flatnonzero(gaps.any(axis=1))
        n_filled = SUMMED_DRAWS if method != "draw" else n_draws or 1
        if self._plan is None:
            tables = self._fill(frame.iloc[rows], n_filled, rng)
        else:
            refuse_broken(self._plan, frame)
            tables = self._fill_bound(frame.iloc[rows], n_filled, rng)
        if method != "draw" and not len(rows):
            tables = tables[:1]
        elif method != "draw":
            tables = [self._summarise(frame.iloc[rows], tables, method)]
        filled = [restore_container(self, _fill_in(frame, rows, gaps, table)) for table in tables]
        return filled if n_draws is not None else filled[0]

    def _fill(self, frame, n_draws, rng) -> list[pd.DataFrame]:
        """Return as many tables of drawn rows around the known cells of a table."""
        codes, places = self._encode_known(frame)
        drawn = [np.empty((n_draws, *codes.shape), kind) for kind in (np.int64, np.float32)]
        seed = rng.randint(2**31 - 1)
        device = next(self.model_.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        size = np.full(len(codes), IMPUTE_PARTICLES * self.model_.n_columns)
        for part in blocks(size):
            draws = self._draw_missing(codes[part], places[part], n_draws, generator)
            for out, tensor in zip(drawn, (draws.codes, draws.places), strict=True):
                out[:, part] = (
                    tensor.cpu().numpy().reshape(-1, n_draws, codes.shape[1]).swapaxes(0, 1)
                )
        generators = np.random.default_rng(seed).spawn(n_draws)
        return [
            self.transformer_.decode(*cells, generator)
            for *cells, generator in zip(*drawn, generators, strict=True)
        ]

    def _draw_missing(self, codes, places, n_draws, generator, intervals=None) -> Draws:
        """Return whole rows around known cells, ``n_draws`` for each."""
        evidence = self._known_evidence(codes, places, self._never_missing())
        evidence.intervals = intervals or {}
        z, log_weight = propose_latents(
            self.model_,
            evidence.codes,
            evidence.places,
            self._code_counts(),
            IMPUTE_PARTICLES,
            generator,
        )
        sizes = torch.full((len(codes),), IMPUTE_PARTICLES, device=z.device)
        return draw_given(
            self.model_,
            z,
            sizes,
            evidence,
            torch.full_like(sizes, n_draws),
            log_weight=log_weight,
            temperature=self.temperature,
            generator=generator,
        )

    def _never_missing(self) -> dict[int, torch.Tensor]:
        """Return the codes that a filled cell does not take: its being missing."""
        never = {}
        for position, code in missing_codes(self.transformer_).items():
            never[position] = torch.zeros(self.model_.cardinalities[position], dtype=torch.bool)
            never[position][code] = True
        return never

    def _summarise(self, frame, tables, method) -> pd.DataFrame:
        """Return one table of the most frequent categories, and medians or means of numbers.

        Under constraints, of a row whose summary breaks one the drawn row next to it.
        """
        readers = self._number_readers()
        columns = {}
        for name in tables[0].columns:
            drawn = [table[name] for table in tables]
            if name not in readers:
                columns[name] = _most_frequent(drawn)
                continue
            read, write = readers[name]
            values = np.stack([read(column) for column in drawn])
            if method == "mean":
                middle = values.mean(axis=0)
            else:
                middle = np.quantile(values, 0.5, axis=0, method="inverted_cdf")
            columns[name] = write(middle)
        summary = pd.DataFrame(columns, index=frame.index, copy=False)
        return summary if self._plan is None else self._mended(summary, frame, tables, readers)

    def _number_readers(self) -> dict:
        """Return what reads the numbers of a column, and what writes them, by its name."""
        readers = {
            schema.name: (schema.read_numbers, schema.write_numbers)
            for schema, encoder in zip(
                self.transformer_.schema_, self.transformer_.encoders_, strict=True
            )
            if is_numeric(encoder)
        }
        return readers if self._plan is None else {**readers, **number_readers(self._plan)}

    def _code_counts(self) -> list[torch.Tensor]:
        device = next(self.model_.parameters()).device
        return [
            torch.from_numpy(np.asarray(counts, np.float32)).to(device)
            for counts in self.transformer_.code_counts_
        ]


def _fill_in(frame: pd.DataFrame, rows, gaps, table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of ``frame`` with the gaps of some rows filled from ``table``."""
    columns = {}
    for position, name in enumerate(table.columns):
        column, own = frame.iloc[:, position], gaps[rows, position]
        columns[position] = _filled(column, rows[own], table[name][own], table[name])
    out = pd.DataFrame(columns, index=frame.index, copy=False)
    out.columns = table.columns
    return out


def _most_frequent(drawn: list[pd.Series]):
    """Return the cell that most of several columns have, row by row."""
    codes, values = pd.factorize(pd.concat(drawn, ignore_index=True), use_na_sentinel=False)
    votes = codes.reshape(len(drawn), -1)
    n_rows = votes.shape[1]
    table = np.zeros((n_rows, len(values)), np.int32)
    for vote in votes:
        table[np.arange(n_rows), vote] += 1
    cells = pd.Series(values.take(table.argmax(axis=1)))
    return cells.astype(drawn[0].dtype).array
