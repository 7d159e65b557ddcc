import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skvae.tabular import MixtureEncoder


def fitted(values, min_rows_per_value=5, **kwargs):
    """An encoder fitted to values, with the code counts that the transformer sets."""
    encoder = MixtureEncoder(min_rows_per_value, **kwargs).fit(np.asarray(values, np.float64))
    codes, places = encoder.encode(values, np.random.default_rng(0))
    encoder.code_counts_ = np.bincount(codes, minlength=encoder.n_codes_)
    return encoder, codes, places


@pytest.fixture(scope="module")
def two_humps():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-1, 0.2, 2000), rng.normal(1, 0.4, 1000)])


@pytest.fixture(scope="module")
def encoder(two_humps):
    return fitted(two_humps)[0]


@pytest.fixture(scope="module")
def normalizer(two_humps):
    """The reference, fitted to the same rows (standardised, as the encoder does)."""
    numerical = pytest.importorskip("rdt.transformers.numerical")
    scaled = (two_humps - two_humps.mean()) / two_humps.std()
    normalizer = numerical.ClusterBasedNormalizer()
    normalizer.fit(pd.DataFrame({"x": scaled}), "x")
    return normalizer


def test_the_modes_are_those_of_rdt(encoder, normalizer, two_humps):
    kept = normalizer.valid_component_indicator
    means = normalizer._bgm_transformer.means_.ravel()[kept]
    stds = np.sqrt(normalizer._bgm_transformer.covariances_.ravel()[kept])
    scale = two_humps.std()
    np.testing.assert_allclose(encoder.means_, means * scale + two_humps.mean(), rtol=1e-6)
    np.testing.assert_allclose(encoder.stds_, stds * scale, rtol=1e-6)
    assert np.abs(encoder.means_ - 1).min() < 0.1
    assert np.abs(encoder.means_ + 1).min() < 0.1


def test_places_and_the_frequencies_of_drawn_modes_are_those_of_rdt(encoder, normalizer, two_humps):
    scaled = (two_humps - two_humps.mean()) / two_humps.std()
    many = np.tile(scaled, 10)
    state = np.random.get_state()
    theirs = normalizer.transform(pd.DataFrame({"x": many}))
    np.random.set_state(state)
    codes, places = encoder.encode(np.tile(two_humps, 10), np.random.default_rng(0))
    same = codes == theirs["x.component"]
    assert same.mean() > 0.3
    np.testing.assert_allclose(places[same], theirs["x.normalized"][same], atol=1e-6)
    n_modes = len(encoder.means_)
    ours = np.bincount(codes, minlength=n_modes) / len(many)
    reference = np.bincount(theirs["x.component"].astype(int), minlength=n_modes) / len(many)
    np.testing.assert_allclose(ours, reference, atol=0.01)
    # Row by row: how often each mode is drawn for one value on the slope between two modes.
    between = np.full(20_000, -0.3)
    ours = np.bincount(encoder.encode(between, np.random.default_rng(1))[0], minlength=n_modes)
    probabilities = normalizer._bgm_transformer.predict_proba(
        [[(-0.3 - two_humps.mean()) / two_humps.std()]]
    )[0, normalizer.valid_component_indicator]
    np.testing.assert_allclose(ours / 20_000, probabilities / probabilities.sum(), atol=0.03)


def test_decoding_is_that_of_rdt(encoder, normalizer, two_humps):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, len(encoder.means_), 500)
    places = rng.uniform(-0.5, 0.5, 500)
    theirs = normalizer.reverse_transform(
        pd.DataFrame({"x.normalized": places, "x.component": codes})
    )["x"].to_numpy()
    theirs = theirs * two_humps.std() + two_humps.mean()
    np.testing.assert_allclose(
        encoder.decode(codes, places), theirs.clip(*encoder.range_), atol=1e-6
    )


def test_without_a_generator_the_most_probable_mode_is_taken(encoder, two_humps):
    codes, places = encoder.encode(two_humps)
    again, _ = encoder.encode(two_humps)
    assert (codes == again).all()
    drawn = [encoder.encode(two_humps, np.random.default_rng(seed))[0] for seed in range(200)]
    often = stats.mode(drawn).mode
    assert np.mean(codes == often) > 0.9  # the others lie between two modes
    assert np.abs(places).max() <= 0.99


def test_values_come_back_but_for_the_mean_of_the_extremes(two_humps, encoder):
    codes, places = encoder.encode(two_humps, np.random.default_rng(0))
    back = encoder.decode(codes, places)
    ordered = np.sort(two_humps)
    assert encoder.range_ == pytest.approx((ordered[:5].mean(), ordered[-5:].mean()))
    inside = (two_humps > encoder.range_[0]) & (two_humps < encoder.range_[1])
    inside &= np.abs(places) < 0.99
    assert inside.mean() > 0.99
    np.testing.assert_allclose(back[inside], two_humps[inside], atol=1e-9)
    assert back.max() < ordered[-1]
    assert back.min() > ordered[0]


def test_the_unit_of_the_column_does_not_matter(two_humps, encoder):
    for factor, shift in ((1e-12, 0.0), (1e200, 0.0), (1.0, 1e6)):
        other, _, _ = fitted(two_humps * factor + shift)
        assert len(other.means_) == len(encoder.means_)
        means = (np.sort(other.means_) - shift) / factor
        np.testing.assert_allclose(means, np.sort(encoder.means_), atol=1e-2)


@pytest.mark.parametrize("n_rows", [20, 100, 400])
def test_no_mode_rests_on_fewer_rows_than_allowed(n_rows):
    values = np.random.default_rng(0).standard_cauchy(n_rows)
    encoder, _, _ = fitted(values)
    weights = np.exp(encoder._log_weights)
    assert (weights * n_rows >= 5).all()
    through, _, _ = fitted(values, min_rows_per_value=1)
    assert len(through.means_) > len(encoder.means_)


def test_lone_extremes_are_averaged_with_their_neighbours():
    values = np.concatenate([np.random.default_rng(0).normal(size=300), [1e6, 1e6 + 7]])
    encoder, codes, places = fitted(values)
    assert encoder.range_[1] < 0.41 * 1e6
    assert encoder.decode(codes, places).max() <= encoder.range_[1]


@pytest.mark.parametrize("n_present", [0, 4])
def test_a_column_with_too_few_values_to_hide_in_counts_as_missing(n_present):
    values = np.full(50, np.nan)
    values[:n_present] = np.arange(n_present)
    encoder, codes, places = fitted(values)
    assert encoder.n_codes_ == 1
    assert np.isnan(encoder.decode(codes, places)).all()


@pytest.mark.parametrize("value", [0.0, 3.7, 1 / 3, -1e9])
def test_a_constant_comes_back_exactly(value):
    values = np.full(50, value)
    encoder, codes, places = fitted(values)
    assert (encoder.decode(codes, places) == value).all()


def test_missing_cells_are_the_last_code(two_humps):
    values = np.where(np.arange(len(two_humps)) % 7 == 0, np.nan, two_humps)
    encoder, codes, places = fitted(values)
    absent = np.isnan(values)
    assert ((codes == encoder.n_codes_ - 1) == absent).all()
    assert (places[absent] == 0).all()
    assert (np.isnan(encoder.decode(codes, places)) == absent).all()


def test_a_missing_cell_where_fit_saw_none_counts_as_the_most_frequent_mode(encoder):
    codes, places = encoder.encode(np.array([np.nan]))
    assert codes[0] == encoder.code_counts_.argmax()
    assert places[0] == 0


def test_outliers_at_transform_are_clipped_without_a_warning(encoder):
    back = encoder.decode(*encoder.encode(np.array([1e100, -1e100])))
    assert back[0] == encoder.range_[1]
    assert back[1] < -0.5


@pytest.mark.parametrize(("decimals", "integer"), [(2, False), (0, True), (-1, False)])
def test_what_comes_out_is_rounded_as_the_column_is(decimals, integer):
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(0, 300, 500), decimals)
    encoder, codes, _ = fitted(values, integer=integer)
    back = encoder.decode(codes, rng.uniform(-1, 1, 500))
    assert (back == np.round(back, decimals)).all()


def test_long_columns_are_fitted_on_a_seeded_choice_of_rows():
    values = np.random.default_rng(0).normal(size=10_500)
    first, second = (fitted(values, random_state=seed)[0] for seed in (1, 1))
    other = fitted(values, random_state=2)[0]
    assert first.means_.tolist() == second.means_.tolist()
    assert first.means_.tolist() != other.means_.tolist()


def test_fitting_leaves_the_global_random_state_alone(two_humps):
    before = np.random.get_state()[1].copy()
    fitted(two_humps[:200])
    assert (np.random.get_state()[1] == before).all()


def test_places_in_all_modes_are_those_of_the_mode_that_was_taken(encoder, two_humps):
    codes, places = encoder.encode(two_humps)
    everywhere = encoder.mode_places(two_humps)
    assert everywhere.shape == (len(two_humps), len(encoder.means_))
    taken = everywhere[np.arange(len(codes)), codes]
    np.testing.assert_allclose(taken.clip(-0.99, 0.99), places)
    values = everywhere * encoder.mode_widths_ + encoder.means_
    np.testing.assert_allclose(values, np.repeat(two_humps[:, None], values.shape[1], axis=1))
