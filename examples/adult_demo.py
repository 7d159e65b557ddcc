"""Fit the Adult table, sample as many rows, score them and draw them.

Run by ``make demo``. Leaves in ``demo/``, or in the folder given as the argument:

- ``adult_synthetic.csv``: the synthetic table;
- ``loss_curve.png``: the terms of the loss, epoch by epoch;
- ``columns.png``: every column, real against synthetic;
- ``pairs.png``: how well the dependence between every two columns is kept.
"""

import sys
from pathlib import Path
from time import perf_counter

import matplotlib

matplotlib.use("Agg")

from skvae import TVAESynthesizer
from skvae.datasets import load_adult
from skvae.metrics import column_shapes, pair_trends, two_sample_score
from skvae.report import ColumnShapesDisplay, LossCurveDisplay, PairTrendsDisplay

DPI = 130


def main(folder="demo"):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    adult = load_adult()

    start = perf_counter()
    model = TVAESynthesizer(random_state=0, verbose=1).fit(adult)
    fit_seconds = perf_counter() - start
    start = perf_counter()
    synthetic = model.sample(len(adult), random_state=0)
    sample_seconds = perf_counter() - start
    synthetic.to_csv(folder / "adult_synthetic.csv", index=False)

    two_sample = two_sample_score(adult, synthetic, random_state=0)
    print_table(
        {
            "Shape error, %": f"{column_shapes(adult, synthetic).error_percent:.2f}",
            "Trend error, %": f"{pair_trends(adult, synthetic).error_percent:.2f}",
            "Two-sample score (1 = cannot be told apart)": f"{two_sample.value:.3f}",
            "Two-sample AUC (0.5 = cannot be told apart)": f"{two_sample.auc:.3f}",
            "Fit, seconds": f"{fit_seconds:.1f}",
            f"Sample {len(synthetic):,} rows, seconds": f"{sample_seconds:.1f}",
        }
    )

    LossCurveDisplay.from_estimator(model).figure_.savefig(folder / "loss_curve.png", dpi=DPI)
    ColumnShapesDisplay.from_tables(adult, synthetic).figure_.savefig(
        folder / "columns.png", dpi=DPI
    )
    PairTrendsDisplay.from_tables(adult, synthetic).figure_.savefig(folder / "pairs.png", dpi=DPI)
    print("In", folder.resolve(), "now:", ", ".join(sorted(file.name for file in folder.iterdir())))


def print_table(rows):
    width = max(map(len, rows))
    print("\nThe synthetic table against the rows it was learned from:\n")
    for label, value in rows.items():
        print(f"  {label:<{width}}  {value:>7}")
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
