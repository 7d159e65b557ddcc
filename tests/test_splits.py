import tracemalloc

import numpy as np
import pandas as pd
import pytest

from skvae import TVAESynthesizer
from skvae.tabular import CodeSplit, TabularTransformer


def zipf(n_codes, power=1.1):
    return np.rint(1e6 / np.arange(1, n_codes + 1) ** power).astype(int)


@pytest.mark.parametrize("n_codes", [201, 300, 1000, 9_999, 10_000, 100_000, 10**6])
@pytest.mark.parametrize("max_codes", [16, 50, 200])
def test_no_code_column_is_wider_than_asked_for_and_all_codes_come_back(n_codes, max_codes):
    counts = np.random.default_rng(0).permutation(zipf(n_codes))
    split = CodeSplit(counts, max_codes, np.array([n_codes - 2, n_codes - 1]))
    codes = np.arange(n_codes)
    digits = split.split(codes)
    assert digits.shape == (n_codes, len(split.sizes_))
    assert max(split.sizes_) <= max_codes
    assert (digits.max(0) < split.sizes_).all()
    assert (split.join(digits, np.random.default_rng(0)) == codes).all()


def test_the_most_frequent_codes_and_those_asked_for_have_a_digit_of_their_own():
    split = CodeSplit(zipf(10_000), 100, np.array([9_999]))
    first, *rest = split.split(np.array([0, 1, 48, 9_999, 49, 50, 9_998])).T
    assert (first < split.n_own_).tolist() == [True] * 4 + [False] * 3
    for digits in rest:
        assert (digits == 0).tolist() == [True] * 4 + [False] * 3


def test_buckets_hold_codes_of_like_frequency():
    counts = zipf(10_000)
    split = CodeSplit(counts, 300, np.empty(0, int))
    first = split.split(np.arange(10_000))[:, 0]
    for bucket in range(split.n_own_, split.sizes_[0] - 1):
        inside = counts[first == bucket]
        assert inside.max() < 2 * inside.min()


def test_digits_of_no_code_become_one_of_the_bucket():
    split = CodeSplit(zipf(1000), 100, np.empty(0, int))
    bucket = split.sizes_[0] - 2
    rng = np.random.default_rng(0)
    drawn = split.join(np.array([[bucket, 0]] * 500), rng)
    assert (split.split(drawn)[:, 0] == bucket).all()
    assert len(set(drawn)) > 10
    last = split.join(np.array([[split.sizes_[0] - 1, split.sizes_[1] - 1]] * 50), rng)
    assert ((last >= 0) & (last < 1000)).all()


@pytest.mark.parametrize("dtype", ["object", "string", "category", "int64"])
def test_a_column_of_many_levels_is_learnt_in_narrow_code_columns(dtype):
    rng = np.random.default_rng(0)
    levels = np.minimum(rng.zipf(1.2, 50_000), 3000)
    cells = pd.Series(levels) if dtype == "int64" else pd.Series([f"k{n}" for n in levels])
    table = pd.DataFrame({"level": cells.astype(dtype), "x": rng.normal(size=50_000)})
    transformer = TabularTransformer(["level"], max_categories=50, random_state=0)
    encoded = transformer.fit_encode(table)
    assert transformer.cardinalities_[transformer.code_columns_[0]].max() <= 50
    assert len(transformer.code_counts_) == encoded.codes.shape[1] > 2
    back = transformer.decode(encoded.codes, encoded.places, rng)
    kept = table["level"].map(table["level"].value_counts()).astype(int) >= 5
    assert back["level"].dtype == table["level"].dtype
    assert (back["level"][kept] == table["level"][kept]).all()
    assert set(back["level"]) <= set(table["level"][kept])
    top = table["level"].value_counts().index[:20]
    real, drawn = (part["level"].value_counts()[top] for part in (table, back))
    assert (drawn == real).all()  # rare levels do not swell the frequent ones


def test_a_hundred_thousand_levels_take_little_memory():
    rng = np.random.default_rng(0)
    levels = np.concatenate([np.arange(100_000), rng.zipf(1.2, 100_000) % 100_000])
    table = pd.DataFrame({"level": pd.Series([f"k{n}" for n in levels], dtype=object)})
    tracemalloc.start()
    transformer = TabularTransformer(random_state=0)
    with pytest.warns(UserWarning, match="fresh labels"):
        encoded = transformer.fit_encode(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
    assert transformer.cardinalities_.max() <= 1000
    assert encoded.codes.shape == (200_000, 2)


class TestSharesOf:
    def test_products_over_digits_are_one_where_allowed_and_zero_elsewhere(self):
        counts = np.append(zipf(299), 7)
        split = CodeSplit(counts, 16, np.array([299]))
        assert split.n_digits_ == 3
        allowed = np.zeros((2, 300), bool)
        allowed[0, [0, 5, 120, 121, 299]] = True
        allowed[1] = ~allowed[0]
        shares = split.shares_of(allowed, counts)
        digits = split.split(np.arange(300))
        product = np.ones((2, 300))
        for rank, share in enumerate(shares):
            before = np.ravel_multi_index(
                tuple(digits[:, :rank].T) if rank else (np.zeros(300, int),),
                split.sizes_[:rank] or (1,),
            )
            product *= share[:, before, digits[:, rank]]
        np.testing.assert_allclose(product, allowed, rtol=1e-5)

    def test_the_first_digit_promises_the_share_of_its_rows(self):
        counts = zipf(300)
        split = CodeSplit(counts, 40, np.empty(0, int))
        digits = split.split(np.arange(300))
        allowed = np.random.default_rng(0).random((1, 300)) < 0.1
        first = split.shares_of(allowed, counts)[0][0, 0]
        for digit in np.unique(digits[:, 0]):
            rows = digits[:, 0] == digit
            share = counts[rows & allowed[0]].sum() / counts[rows].sum()
            assert first[digit] == pytest.approx(share)


def test_a_code_that_is_not_known_has_digits_that_are_not():
    split = CodeSplit(zipf(1000), 100, np.empty(0, int))
    digits = split.split(np.array([5, -1, 999]))
    assert (digits < 0).all(axis=1).tolist() == [False, True, False]


def test_missing_cells_of_a_column_of_too_many_levels_are_imputed():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 2000)
    level = rng.integers(0, 20, 2000) * 2 + group
    table = pd.DataFrame({"group": group, "level": [f"k{n}" for n in level]})
    synthesizer = TVAESynthesizer(max_categories=16, max_epochs=20, random_state=0).fit(table)
    assert max(synthesizer.model_.cardinalities) <= 16
    gaps = table.head(400).copy()
    gaps.loc[::2, "level"] = None
    filled = synthesizer.impute(gaps, random_state=0)["level"]
    assert (filled[1::2] == gaps["level"][1::2]).all()
    number = filled[::2].str[1:].astype(int)
    assert (number % 2 == gaps["group"][::2]).mean() > 0.9
