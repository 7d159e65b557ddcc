"""Warnings point at the line of the user."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import TVAEOverSampler, TVAESynthesizer
from skvae.constraints import FixedCombinations
from skvae.tabular import TabularTransformer


def quick(**params):
    return TVAESynthesizer(max_epochs=1, random_state=0, device="cpu", **params)


TABLE = pd.DataFrame({"key": np.arange(200), "word": [f"w{i // 2}" for i in range(200)]})
PAIRS = pd.DataFrame({"a": [*range(190), *[0] * 10], "b": [*range(190), *[0] * 10]}) % 190


@pytest.mark.parametrize(
    "act",
    [
        lambda: quick().fit(TABLE),
        lambda: quick().partial_fit(TABLE),
        lambda: TabularTransformer().fit_transform(TABLE),
        lambda: make_pipeline(quick(), StandardScaler()).fit_transform(TABLE),
        lambda: quick(constraints=[FixedCombinations(["a", "b"])]).fit(PAIRS),
        lambda: TVAEOverSampler(quick()).fit_resample(TABLE, [0] * 120 + [1] * 80),
    ],
    ids=["fit", "partial_fit", "transformer", "pipeline", "constraints", "oversampler"],
)
def test_warnings_point_at_the_users_line(act):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    assert caught
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    ("params", "named"),
    [({}, "min_rows_per_value=5"), ({"rare_category_min_count": 3}, "rare_category_min_count=3")],
)
def test_fresh_labels_name_the_parameter_that_asks_for_them(params, named):
    with pytest.warns(UserWarning, match=f"fewer than {named} rows"):
        TabularTransformer(**params).fit(TABLE[["word"]])
