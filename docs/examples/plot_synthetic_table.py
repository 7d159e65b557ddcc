"""A synthetic Adult table in pictures: every column, and every two of them.

    python docs/examples/plot_synthetic_table.py .

writes synthetic_columns.png and synthetic_pairs.png. Needs matplotlib: ``pip install skvae[plot]``.
"""

import sys
from pathlib import Path

import torch

from skvae import TVAESynthesizer
from skvae.datasets import load_adult
from skvae.metrics import two_sample_score
from skvae.report import ColumnShapesDisplay, PairTrendsDisplay

torch.set_num_threads(1)  # the networks are small
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

adult = load_adult().sample(frac=1, random_state=0, ignore_index=True)
train, unseen = adult[:20_000], adult[20_000:]
model = TVAESynthesizer.from_preset("fast", random_state=0).fit(train)
synthetic = model.sample(len(unseen), random_state=0)

shown = ["age", "fnlwgt", "capital.gain", "hours.per.week", "education", "occupation"]
columns = ColumnShapesDisplay.from_tables(unseen[shown], synthetic[shown], n_columns=3)
columns.figure_.savefig(folder / "synthetic_columns.png", dpi=80)

pairs = PairTrendsDisplay.from_tables(unseen, synthetic)
score = two_sample_score(unseen, synthetic, classifier="hist_gradient_boosting", random_state=0)
pairs.ax_.set_title(f"Pair trends; two-sample score {score.value:.2f}", loc="left")
pairs.figure_.savefig(folder / "synthetic_pairs.png", dpi=80)
