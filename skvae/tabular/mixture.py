"""Numbers as modes of a Gaussian mixture: the normalisation of the TVAE and CTGAN paper.

The only module that imports rdt.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from skvae.tabular.numeric import DOUBLE_PRECISION, find_decimals, present_values, round_to

# The mixture of a column is settled by this many rows; more only cost time.
MAX_FIT_ROWS = 10_000
# As in the paper's code: a mode is as wide as four standard deviations to each side.
WIDTH = 4.0


class MixtureEncoder:
    """Encode one numeric column by mode-specific normalisation [1]_ (section 4.2).

    A value ``c`` becomes a mode ``k`` of a Bayesian Gaussian mixture and its place within it,
    ``(c - mean_k) / (4 * std_k)``. The mixture is fitted by rdt's ``ClusterBasedNormalizer``.

    Parameters
    ----------
    min_rows_per_value : int
        Least number of training rows behind a mode. The range to which decoded values are clipped
        is the mean of this many extreme rows at either end.
    integer : bool, default=False
        Whether the column holds whole numbers only.
    max_modes : int, default=10
        Most modes that the mixture may have.
    random_state : int, default=0
        Which rows the mixture is fitted on, in tables longer than 10,000 rows.
    precision : float, default=2.2e-16
        Relative spacing of the numbers that the column's dtype holds.

    Attributes
    ----------
    means_, stds_ : ndarray of shape (n_modes,)
        The modes kept: weight above 0.005, and enough rows; none if fit saw too few values.
    n_codes_ : int
        Modes, and one more code if fit saw a missing cell.
    code_counts_ : ndarray of shape (n_codes_,)
        Training rows behind each code (set by ``TabularTransformer``).

    References
    ----------
    .. [1] Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling Tabular Data using
       Conditional GAN", NeurIPS 2019.
    """

    ordinal = False
    has_place = True

    def __init__(
        self,
        min_rows_per_value: int,
        *,
        integer: bool = False,
        max_modes: int = 10,
        random_state: int = 0,
        precision: float = DOUBLE_PRECISION,
    ):
        self.min_rows_per_value = min_rows_per_value
        self.integer = integer
        self.max_modes = max_modes
        self.random_state = random_state
        self.precision = precision

    def fit(self, values: np.ndarray) -> MixtureEncoder:
        """Fit the mixture to ``values``, float64 of shape (n_rows,) with NaN for missing."""
        present = present_values(values, self.min_rows_per_value)
        self.has_missing_ = len(present) < len(values)
        self.decimals_ = find_decimals(present, integer=self.integer, precision=self.precision)
        if len(present) == 0:
            self.means_ = self.stds_ = self._log_weights = np.empty(0)
            return self
        width = self.min_rows_per_value
        extremes = np.partition(present, [width - 1, len(present) - width])
        self.range_ = (_mean(extremes[:width]), _mean(extremes[-width:]))
        if len(present) > MAX_FIT_ROWS:
            rng = np.random.default_rng(self.random_state)
            present = rng.choice(present, MAX_FIT_ROWS, replace=False)
        if np.ptp(present) == 0:
            # A mixture of one point has no width of its own.
            self.means_, self.stds_ = present[:1].copy(), np.ones(1)
            self._log_weights = np.zeros(1)
        else:
            self._fit_mixture(present)
        return self

    def _fit_mixture(self, present: np.ndarray) -> None:
        # Imported here: it takes a second, and only this encoding needs it.
        from rdt.transformers.numerical import ClusterBasedNormalizer

        # Scaled, so that neither the mixture's prior nor its tolerances see the column's unit; in
        # two steps, so that the squares of huge numbers do not overflow.
        largest = np.abs(present).max()
        shares = present / largest
        centre, scale = shares.mean(), shares.std()
        normalizer = ClusterBasedNormalizer(
            max_clusters=min(len(present), self.max_modes), weight_threshold=0.005
        )
        normalizer.fit(pd.DataFrame({"x": (shares - centre) / scale}), "x")
        mixture = normalizer._bgm_transformer
        kept = normalizer.valid_component_indicator
        kept = kept & (mixture.weights_ * len(present) >= self.min_rows_per_value)
        kept[mixture.weights_.argmax()] = True
        self.means_ = (mixture.means_.ravel()[kept] * scale + centre) * largest
        self.stds_ = np.sqrt(mixture.covariances_.ravel()[kept]) * scale * largest
        self._log_weights = np.log(mixture.weights_[kept])

    @property
    def n_codes_(self) -> int:
        """Number of codes."""
        return len(self.means_) + int(self.has_missing_)

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None):
        """Return codes, int64, and places in [-0.99, 0.99], both of shape (n_rows,).

        With ``rng`` the mode is drawn by its responsibility, as in the paper; without, it is the
        most probable one.
        """
        absent = np.isnan(values)
        if len(self.means_) == 0:
            return np.zeros(len(values), np.int64), np.zeros(len(values))
        present = np.where(absent, self.means_[0], values)
        scores = self._log_weights - np.log(self.stds_) - 0.5 * self._standardise(present) ** 2
        if rng is not None:
            # Adding Gumbel noise and taking the largest draws from the responsibilities.
            scores += rng.gumbel(size=scores.shape)
        codes = scores.argmax(axis=1)
        places = (present - self.means_[codes]) / self.mode_widths_[codes]
        if absent.any():
            fallback = self.n_codes_ - 1 if self.has_missing_ else int(self.code_counts_.argmax())
            codes = np.where(absent, fallback, codes)
            places = np.where(absent, 0.0, places)
        return codes, np.clip(places, -0.99, 0.99)

    def _standardise(self, values: np.ndarray) -> np.ndarray:
        distances = (values[:, None] - self.means_) / self.stds_
        return distances.clip(-1e150, 1e150)  # their squares must not overflow

    def decode(self, codes: np.ndarray, places: np.ndarray, earlier=None) -> np.ndarray:
        """Return the values behind codes and places; NaN for missing cells."""
        n_modes = len(self.means_)
        if n_modes == 0:
            return np.full(len(codes), np.nan)
        mode = np.minimum(codes, n_modes - 1)
        values = np.clip(places, -1, 1) * self.mode_widths_[mode] + self.means_[mode]
        values = round_to(np.clip(values, *self.range_), self.decimals_)
        return np.where(codes >= n_modes, np.nan, values)

    @property
    def mode_widths_(self) -> np.ndarray:
        """What one unit of a mode's place is in the units of the column, of shape (n_modes,)."""
        return WIDTH * self.stds_

    def mode_places(self, values: np.ndarray) -> np.ndarray:
        """Place of each value in every mode, not clipped, of shape (n_rows, n_modes)."""
        return np.nan_to_num(self._standardise(values) / WIDTH)


def _mean(values: np.ndarray) -> float:
    """Mean; of equal values that very value, which their sum only nearly gives."""
    return float(np.clip(values.mean(), values.min(), values.max()))
