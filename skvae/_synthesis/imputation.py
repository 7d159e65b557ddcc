"""What a fitted synthesizer says of the cells that a row lacks: draws, and probabilities."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from skvae._synthesis.known_cells import MAX_CELLS, KnownCellsMixin, blocks, is_numeric
from skvae.models.enumeration import code_log_proba, propose_latents
from skvae.models.given import draw_given
from skvae.tabular import CategoricalEncoder, QuantileEncoder
from skvae.tabular.conditions import position_of
from skvae.tabular.frames import restore_container

# Particles for each row whose missing cells are drawn, and draws that are summed up in one value.
IMPUTE_PARTICLES, SUMMED_DRAWS = 128, 128
# Latents for each row behind a probability.
PROBA_LATENTS = 32


class ImputationMixin(KnownCellsMixin):
    """Imputation and conditional probabilities of a synthesizer."""

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

    def _fill(self, frame, rows, absent, n_draws, rng) -> list[pd.DataFrame]:
        """Return as many tables of drawn rows, in the order of ``rows``."""
        codes, places = self._encode_known(frame.iloc[rows])
        drawn = [np.empty((n_draws, *codes.shape), kind) for kind in (np.int64, np.float32)]
        seed = rng.randint(2**31 - 1)
        device = next(self.model_.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        size = np.full(len(rows), IMPUTE_PARTICLES * self.model_.n_columns)
        for part in blocks(size):
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

    def _summarise(self, tables, method) -> pd.DataFrame:
        """Return one table of the most frequent categories, and medians or means of numbers."""
        columns = {}
        for position, schema in enumerate(self.transformer_.schema_):
            drawn = [table.iloc[:, position] for table in tables]
            if is_numeric(self.transformer_.encoders_[position]):
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


def _share_out(proba: np.ndarray, counts: np.ndarray, n_levels: int) -> np.ndarray:
    """Return levels' probabilities with that of the rare ones, which are decoded as levels."""
    shares = proba[:, :n_levels].copy()
    if proba.shape[1] > n_levels and counts[:n_levels].sum():
        shares += proba[:, [n_levels]] * counts[:n_levels] / counts[:n_levels].sum()
    return shares


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
