"""Missing cells filled: best guesses against the usual ones, and draws against best guesses.

    python docs/examples/plot_imputation.py imputation.png

Needs matplotlib: ``pip install skvae[plot]``.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from skvae import TVAESynthesizer
from skvae.datasets import load_adult

torch.set_num_threads(1)  # the networks are small
adult = load_adult().drop(columns="fnlwgt").sample(frac=1, random_state=0, ignore_index=True)
train, whole = adult[:15_000], adult[15_000:18_000]
absent = np.random.default_rng(0).random(whole.shape) < 0.2
gaps = whole.mask(absent)

model = TVAESynthesizer(column_order="random", max_epochs=10, random_state=0).fit(train)
guesses = model.impute(gaps, method="mode", random_state=0)
draws = model.impute(gaps, random_state=0)


def share_right(filled):
    """Return the share of removed cells that came back, for each column of categories."""
    return pd.Series(
        {
            column: (filled[column] == whole[column])[absent[:, place]].mean()
            for place, column in enumerate(whole)
            if whole[column].dtype == object
        }
    )


figure, (bars, ages) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
scores = pd.DataFrame(
    {
        "the most frequent value": share_right(gaps.fillna(train.mode().iloc[0])),
        'impute(method="mode")': share_right(guesses),
    }
).sort_values("the most frequent value")
scores.mul(100).plot.barh(ax=bars, color=["0.7", "#0072B2"], width=0.75)
bars.set(xlabel="% of removed cells that came back", xlim=(0, 100))
bars.legend(loc="lower right")

holes = absent[:, whole.columns.get_loc("age")]
bins = np.arange(15, 92, 4)
ages.hist(whole["age"][holes], bins, color="0.8", label="removed")
for filled, label, colour in [
    (draws, "draws", "#0072B2"),
    (guesses, "medians", "#D55E00"),
]:
    counts, _ = np.histogram(filled["age"][holes].astype(float), bins)
    ages.stairs(counts, bins, color=colour, linewidth=2, label=label)
ages.set(xlabel="age", ylabel="people whose age was removed")
ages.legend(loc="upper right")
for ax in (bars, ages):
    ax.spines[["top", "right"]].set_visible(False)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "imputation.png", dpi=80)
