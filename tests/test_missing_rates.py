"""Missing cells of a sample are as frequent as those of the table."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch

from skvae import TVAESynthesizer
from skvae._synthesis.missing_rates import hold_missing_rates


def make_table(n=3000, seed=0):
    """Nine columns with gaps; those of ``twin`` are where those of ``c0`` are."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({f"c{i}": rng.normal(size=n).round(2) for i in range(6)})
    table["word"] = rng.choice(["a", "b", "c"], n)
    table["key"] = [f"K{number:05d}" for number in rng.permutation(n)]
    table = table.mask(rng.random(table.shape) < 0.15)
    table["twin"] = np.where(table["c0"].isna(), np.nan, rng.integers(0, 50, n))
    return table


def rates_off(model, table):
    return model.sample(60_000, random_state=1).isna().mean() - table.isna().mean()


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def model(table):
    kinds = {"key": "identifier"}
    settings = {
        "column_kinds": kinds,
        "max_epochs": 10,
        "batch_size": 128,
        "device": "cpu",
        "random_state": 0,
    }
    return TVAESynthesizer(**settings).fit(table)


def shifted(model, seed=1):
    """Knock the biases of a fitted model about, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, bias in model.model_.heads.named_parameters():
            assert name.endswith("bias")
            bias += 0.1 * torch.randn(bias.shape, generator=generator)


def test_they_are_held_in_all_columns_and_together(model, table):
    assert rates_off(model, table).abs().max() < 0.006
    rows = model.sample(5000, random_state=2)
    assert (rows["c0"].isna() == rows["twin"].isna()).mean() > 0.98


def test_what_was_off_is_mended_and_other_shares_stay(model, table):
    model = deepcopy(model)
    shifted(model)
    off = rates_off(model, table)
    shares = model.sample(60_000, random_state=1)["word"].value_counts(normalize=True).sort_index()
    assert off.abs().max() > 0.01
    hold_missing_rates(model.model_, model.sampler_, model.transformer_, seed=0)
    assert rates_off(model, table).abs().max() < 0.006
    rows = model.sample(60_000, random_state=1)
    pd.testing.assert_series_equal(
        rows["word"].value_counts(normalize=True).sort_index(), shares, atol=0.02
    )


def test_a_table_without_gaps_is_left_alone(table):
    whole = table.drop(columns="key").dropna()
    model = TVAESynthesizer(max_epochs=1, device="cpu", random_state=0).fit(whole)
    before = [parameter.clone() for parameter in model.model_.parameters()]
    hold_missing_rates(model.model_, model.sampler_, model.transformer_, seed=0)
    assert all(map(torch.equal, model.model_.parameters(), before))
