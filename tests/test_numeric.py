import numpy as np
import pytest
from scipy import stats

from skvae.tabular import QuantileEncoder
from skvae.tabular.numeric import find_decimals


def fitted(values, n_bins=128, min_rows_per_value=5, **kwargs):
    """An encoder fitted to values, with the code counts that the transformer sets."""
    values = np.asarray(values, dtype=np.float64)
    encoder = QuantileEncoder(n_bins, min_rows_per_value, **kwargs).fit(values)
    codes, places = encoder.encode(values)
    encoder.code_counts_ = np.bincount(codes, minlength=encoder.n_codes_)
    return encoder, codes, places


def sampled(encoder, n_rows, seed=0):
    """Values drawn as a perfect model would: codes by frequency, places evenly."""
    rng = np.random.default_rng(seed)
    frequencies = encoder.code_counts_ / encoder.code_counts_.sum()
    codes = rng.choice(encoder.n_codes_, size=n_rows, p=frequencies)
    return encoder.decode(codes, rng.random(n_rows))


@pytest.fixture(scope="module")
def normal():
    return np.random.default_rng(0).normal(size=20_000)


def test_few_distinct_values_are_atoms_and_come_back_exactly():
    values = np.repeat([0.1, 0.3, 1 / 3, 7.0], [5, 10, 20, 40])
    encoder, codes, places = fitted(values)
    assert encoder.atoms_.tolist() == [0.1, 0.3, 1 / 3, 7.0]
    assert encoder.code_counts_.tolist() == [5, 10, 20, 40]
    assert not encoder.has_place
    assert (encoder.decode(codes, places) == values).all()


def test_repeated_values_keep_their_frequency_among_continuous_ones(normal):
    values = normal.copy()
    values[:4000] = 0.25
    values[4000:4300] = -1.5
    encoder, _, _ = fitted(values)
    assert encoder.atoms_.tolist() == [-1.5, 0.25]
    drawn = sampled(encoder, 100_000)
    assert np.mean(drawn == 0.25) == pytest.approx(0.2, abs=0.004)
    assert np.mean(drawn == -1.5) == pytest.approx(0.015, abs=0.0015)


@pytest.mark.parametrize("n_bins", [1, 32, 128])
def test_what_is_drawn_is_distributed_as_what_was_seen(normal, n_bins):
    skewed = np.exp(2 * normal)
    encoder, _, _ = fitted(skewed, n_bins=n_bins)
    # One bin has but 16 knots to draw the curve with.
    allowed = 0.06 if n_bins == 1 else 0.008
    assert stats.ks_2samp(sampled(encoder, 100_000), skewed).statistic < allowed


def test_bins_hold_equal_shares_of_the_rows(normal):
    encoder, _, _ = fitted(normal, n_bins=50)
    assert encoder.n_bins_ == 50
    assert np.abs(encoder.code_counts_ - 400).max() <= 5


def test_values_come_back_within_their_knot_interval(normal):
    encoder, codes, places = fitted(normal)
    inside = (normal > encoder.knots_[0]) & (normal < encoder.knots_[-1])
    np.testing.assert_allclose(encoder.decode(codes, places)[inside], normal[inside], atol=1e-9)
    middle = encoder.decode(codes, np.full(len(codes), 0.5))
    edges = encoder.knots_[:: encoder.n_intervals_]
    assert (np.abs(middle - normal) <= np.diff(edges)[codes])[inside].all()


@pytest.mark.parametrize("n_rows", [5, 9, 23, 100, 4000])
def test_every_knot_is_the_mean_of_enough_neighbouring_rows(n_rows):
    values = np.sort(np.random.default_rng(n_rows).normal(size=n_rows))
    encoder, _, _ = fitted(values)
    windows = np.lib.stride_tricks.sliding_window_view(values, 5).mean(axis=1)
    distance = np.abs(windows[:, None] - encoder.knots_).min(axis=0)
    assert distance.max() < 1e-12
    assert len(encoder.knots_) <= n_rows / 5 + 1
    assert not np.isin(encoder.knots_, values).any()
    assert encoder.knots_[0] == pytest.approx(values[:5].mean())
    assert encoder.knots_[-1] == pytest.approx(values[-5:].mean())


def test_knots_are_exact_beside_outliers_that_would_swamp_a_running_sum():
    rng = np.random.default_rng(0)
    values = np.sort(np.concatenate([rng.normal(size=995), np.full(5, -1e17) * rng.random(5)]))
    encoder, _, _ = fitted(values)
    assert not np.isin(encoder.knots_, values).any()
    windows = np.lib.stride_tricks.sliding_window_view(values, 5).mean(axis=1)
    inner = encoder.knots_[np.abs(encoder.knots_) < 10]
    assert len(inner) > 150
    assert np.abs(windows[:, None] - inner).min(axis=0).max() < 1e-12


def test_min_rows_per_value_of_one_lets_every_value_through():
    values = np.random.default_rng(0).normal(size=100)
    encoder, codes, places = fitted(values, min_rows_per_value=1)
    assert (np.sort(encoder.decode(codes, places)) == np.sort(values)).all()


def test_rare_values_beside_atoms_move_to_the_nearest_atom():
    values = np.array([1.0] * 50 + [2.0] * 50 + [8.0, 9.0, 1.2, 1.9])
    encoder, codes, places = fitted(values)
    assert encoder.atoms_.tolist() == [1, 2]
    assert encoder.decode(codes, places)[-4:].tolist() == [2, 2, 1, 2]


@pytest.mark.parametrize("n_present", [0, 1, 4])
def test_a_column_with_too_few_values_to_hide_in_counts_as_missing(n_present):
    values = np.full(100, np.nan)
    values[:n_present] = np.arange(n_present) + 0.5
    encoder, codes, places = fitted(values)
    assert encoder.n_codes_ == 1
    assert len(encoder.atoms_) == len(encoder.knots_) == 0
    assert np.isnan(encoder.decode(codes, places)).all()
    assert (encoder.log_measure(values, codes)[n_present:] == 0).all()


def test_missing_cells_are_the_last_code(normal):
    values = np.where(np.arange(len(normal)) % 10 == 0, np.nan, normal)
    encoder, codes, places = fitted(values)
    absent = np.isnan(values)
    assert (codes[absent] == encoder.n_codes_ - 1).all()
    assert (codes[~absent] < encoder.n_codes_ - 1).all()
    assert (np.isnan(encoder.decode(codes, places)) == absent).all()


def test_a_missing_cell_where_fit_saw_none_counts_as_the_most_frequent_value():
    encoder, _, _ = fitted(np.repeat([1.0, 2.0, 3.0], [10, 30, 20]))
    codes, places = encoder.encode(np.array([np.nan, 3.0]))
    assert encoder.decode(codes, places).tolist() == [2, 3]


def test_values_out_of_range_count_as_the_nearest_end(normal):
    encoder, _, _ = fitted(normal)
    back = encoder.decode(*encoder.encode(np.array([-1e300, 50.0])))
    assert back.tolist() == [encoder.knots_[0], encoder.knots_[-1]]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([0.1, 0.25, 3.0], 2),
        ([0.1 + 0.2, 0.7], 1),
        ([1.0, 2.0, 7.0], 0),
        ([120.0, 40.0, 1000.0], -1),
        ([3000.0, 5000.0], -3),
        ([0.0, 0.0], 0),
        ([], 0),
        ([1e9 + 0.12345, 1e9 + 0.5], 5),
        ([1e15 + 3, 1e15 + 8], 0),
        (np.random.default_rng(0).normal(size=50), None),
        (1e-12 * np.random.default_rng(0).normal(size=50), None),
        (1e9 + np.random.default_rng(0).normal(size=50), None),
        (1e200 * np.random.default_rng(0).normal(size=50), None),
    ],
)
def test_the_decimals_of_a_column_are_found(values, decimals):
    assert find_decimals(np.array(values, dtype=float)) == decimals


def test_a_rare_decimal_is_not_overlooked():
    values = np.arange(50_000.0)
    values[777] = 0.125
    assert find_decimals(values) == 3


def test_decimals_are_found_through_the_noise_of_float32():
    values = np.round(np.random.default_rng(0).normal(size=500), 2).astype(np.float32)
    assert find_decimals(values.astype(float)) != 2
    precision = float(np.finfo(np.float32).eps)
    assert find_decimals(values.astype(float), precision=precision) == 2


@pytest.mark.parametrize(("factor", "decimals"), [(0.01, 2), (1.0, 0), (10.0, -1), (1000.0, -3)])
def test_drawn_values_are_rounded_as_the_column_is(factor, decimals):
    values = np.random.default_rng(0).integers(0, 20_000, 5000) * factor
    encoder, _, _ = fitted(values)
    assert encoder.bin_decimals_ == decimals
    drawn = sampled(encoder, 2000)
    assert (np.round(drawn, decimals) == drawn).all()
    assert drawn.min() >= values.min()
    assert drawn.max() <= values.max()


def test_atoms_of_one_rounding_do_not_spoil_that_of_the_rest():
    rng = np.random.default_rng(0)
    values = np.concatenate([np.full(5000, 12.345), rng.integers(0, 5000, 5000) * 100.0])
    encoder, _, _ = fitted(values)
    drawn = sampled(encoder, 5000)
    assert (drawn[drawn != 12.345] % 100 == 0).all()


def test_copies_take_the_value_of_the_earlier_column_within_range_and_rounding():
    values = np.random.default_rng(0).integers(0, 5000, 1000).astype(float)
    encoder, _, _ = fitted(values, integer=True)
    encoder.copies_ = [1]
    code = encoder.n_codes_ - 1
    earlier = [None, np.array([1234.0, 1e9, 17.5, np.nan])]
    back = encoder.decode(np.full(4, code), np.full(4, 0.5), earlier)
    assert back[0] == 1234
    assert back[1] == np.round(encoder.knots_[-1])
    assert (back == np.round(back)).all()
    codes, _ = encoder.encode(values[:3], np.array([0, -1, 0]))
    assert (codes == code).tolist() == [True, False, True]


WHOLE = {
    "few levels": lambda rng, n: rng.poisson(5, n),
    "many levels": lambda rng, n: np.rint(rng.normal(0, 3000, n)),
    "wide cells": lambda rng, n: rng.integers(0, 300, n),
    "zero inflated": lambda rng, n: np.where(rng.random(n) < 0.7, 0, rng.geometric(0.002, n)),
    "multiples of ten": lambda rng, n: rng.integers(1, 5000, n) * 10,
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_density_of_whole_numbers_sums_to_one(name):
    values = WHOLE[name](np.random.default_rng(0), 20_000).astype(float)
    encoder, _, _ = fitted(values, integer=True)
    margin = 10 * np.ptp(values)
    grid = np.arange(values.min() - margin, values.max() + margin)
    codes, _ = encoder.encode(grid)
    probability = encoder.code_counts_ / len(values)
    total = np.sum(probability[codes] * np.exp(encoder.log_measure(grid, codes)))
    # A bound below one where a bin holds but two or three numbers.
    assert (0.88 if name == "wide cells" else 0.98) < total < 1.01


def test_the_density_of_rounded_numbers_integrates_to_one():
    values = np.round(np.random.default_rng(0).normal(0, 100, 20_000), 2)
    encoder, _, _ = fitted(values)
    grid = np.round(np.arange(-1000, 1000, 0.01), 2)
    codes, _ = encoder.encode(grid)
    probability = encoder.code_counts_ / len(values)
    total = 0.01 * np.sum(probability[codes] * np.exp(encoder.log_measure(grid, codes)))
    assert 0.98 < total < 1.002


@pytest.mark.parametrize("n_bins", [32, 128])
@pytest.mark.parametrize(
    "law",
    [stats.norm(), stats.cauchy(), stats.lognorm(2), stats.norm(0, 1e-12), stats.norm(1e9, 1)],
    ids=["normal", "cauchy", "lognormal", "tiny", "shifted"],
)
def test_the_density_of_unseen_continuous_numbers_is_the_true_one(law, n_bins):
    encoder, _, _ = fitted(law.rvs(50_000, random_state=0), n_bins=n_bins)
    unseen = law.rvs(20_000, random_state=1)
    codes, _ = encoder.encode(unseen)
    log_density = np.log(encoder.code_counts_[codes] / 50_000) + encoder.log_measure(unseen, codes)
    error = log_density - law.logpdf(unseen)
    assert -0.03 < error.mean() < 0
    assert np.abs(error).mean() < 0.2


def test_a_value_that_cannot_be_written_is_charged_for_its_distance():
    encoder, _, _ = fitted(np.repeat([0.0, 1.0, 2.0], 100), integer=True)
    values = np.array([2.0, 3.0, 30.0, np.nan])
    codes, _ = encoder.encode(values)
    measure = encoder.log_measure(values, codes)
    assert measure[0] == 0
    assert measure[0] > measure[1] + 4 > measure[2] + 8
    assert measure[3] == 0


def test_two_encodings_of_one_column_give_like_densities():
    values = np.random.default_rng(0).gamma(2, 1000, 30_000)
    means = []
    for n_bins in (32, 128):
        encoder, codes, _ = fitted(values, n_bins=n_bins)
        log_probability = np.log(encoder.code_counts_[codes] / len(values))
        means.append(np.mean(log_probability + encoder.log_measure(values, codes)))
    assert means[0] == pytest.approx(means[1], abs=0.03)


@pytest.mark.parametrize(
    ("step", "residue", "integer"),
    [(5, 0, True), (5, 3, True), (0.25, 0, False), (1, 0.99, False), (1000, 0, True)],
    ids=["fives", "threes-and-eights", "quarters", "ninety-nine-cents", "thousands"],
)
def test_values_stay_on_the_grid_that_they_came_on(step, residue, integer):
    rng = np.random.default_rng(0)
    values = np.round(rng.integers(0, 2000, 3000) * step + residue, 2)
    encoder, _, _ = fitted(values, integer=integer)
    assert encoder.n_bins_ > 50
    drawn = sampled(encoder, 5000)
    off = np.abs((drawn - residue) / step - np.round((drawn - residue) / step))
    assert off.max() < 1e-6
    assert drawn.min() >= values.min()
    assert drawn.max() <= values.max()
    assert len(np.unique(drawn)) > 1000


def test_a_grid_is_not_read_off_a_handful_of_values():
    rng = np.random.default_rng(0)
    values = np.repeat([3.0, 500_003.0, 1_000_003.0], 4)  # rare ones: they must not come back
    encoder, _, _ = fitted(rng.permutation(values), integer=True)
    assert encoder.bin_step_ == 1


def test_the_densities_of_the_cells_of_a_grid_sum_to_one():
    values = np.random.default_rng(0).integers(0, 1000, 20_000) * 5.0
    encoder, _, _ = fitted(values, integer=True)
    grid = np.arange(0, 5000, 5.0)
    codes, _ = encoder.encode(grid)
    share = encoder.code_counts_[codes] / encoder.code_counts_.sum()
    total = (share * np.exp(encoder.log_measure(grid, codes))).sum()
    assert 0.8 < total < 1.02
