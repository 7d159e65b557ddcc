"""Fit the Adult table, sample as many rows, score them and draw them.

Run by ``make demo``. Leaves in ``demo/``, or in the folder given as the argument:

- ``adult_synthetic.csv``: the synthetic table;
- ``loss_curve.png``: the terms of the loss, epoch by epoch;
- ``columns.png``: every column, real against synthetic.
"""

import sys
from pathlib import Path
from time import perf_counter

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, MaxNLocator

from skvae import TVAESynthesizer
from skvae.datasets import load_adult
from skvae.metrics import column_shapes, pair_trends, two_sample_score

REAL, SYNTHETIC, ACCENT = "#9aa5b1", "#d1495b", "#00798c"
MAX_LEVELS = 7
MAX_BINS = 40
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.6g} %")
STYLE = {
    "axes.edgecolor": "#8a8f98",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.dpi": 130,
    "font.size": 8.5,
    "xtick.color": "#4a4f57",
    "ytick.color": "#4a4f57",
}


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

    with plt.rc_context(STYLE):
        draw_losses(model.history_).savefig(folder / "loss_curve.png")
        draw_columns(adult, synthetic).savefig(folder / "columns.png")
    print("In", folder.resolve(), "now:", ", ".join(sorted(file.name for file in folder.iterdir())))


def print_table(rows):
    width = max(map(len, rows))
    print("\nThe synthetic table against the rows it was learned from:\n")
    for label, value in rows.items():
        print(f"  {label:<{width}}  {value:>7}")
    print()


def draw_losses(history):
    """Draw each term of the loss over the epochs.

    The terms differ by orders of magnitude, so each has axes of its own.
    """
    titles = {
        "loss": "Loss",
        "log_likelihood": "Log likelihood",
        "kl_divergence": "KL divergence",
    }
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for ax, (term, title) in zip(axes, titles.items(), strict=True):
        ax.plot(history["epoch"], history[term], color=ACCENT, linewidth=1.8)
        ax.set_title(title)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("nats per row")
    figure.suptitle("TVAESynthesizer on Adult: the fit", x=0.01, ha="left", fontsize=12)
    return figure


def draw_columns(real, synthetic):
    """Draw the distribution of every column, real against synthetic, as small multiples."""
    n_rows = -(-real.shape[1] // 3)
    figure, axes = plt.subplots(n_rows, 3, figsize=(12, 2.4 * n_rows), layout="constrained")
    for ax in axes.flat[real.shape[1] :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, real.columns, strict=False):
        draw = draw_numbers if pd.api.types.is_numeric_dtype(real[name]) else draw_levels
        draw(ax, real[name], synthetic[name])
        ax.set_title(name)
        ax.yaxis.set_tick_params(length=0)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in (REAL, SYNTHETIC)]
    figure.legend(handles, ["real", "synthetic"], loc="outside upper right", ncols=2, frameon=False)
    figure.suptitle("Adult, real against synthetic: share of rows", x=0.01, ha="left", fontsize=12)
    return figure


def draw_numbers(ax, real, synthetic):
    low, high = min(real.min(), synthetic.min()), max(real.max(), synthetic.max())
    # All numbers of this table are whole: bins of a whole width hold equally many of them.
    width = int(np.ceil((high - low + 1) / MAX_BINS))
    edges = np.arange(low, high + width + 1, width) - 0.5
    shares = [np.histogram(cells, edges)[0] / len(cells) for cells in (real, synthetic)]
    ax.stairs(shares[0], edges, fill=True, color=REAL)
    ax.stairs(shares[1], edges, color=SYNTHETIC, linewidth=1.5)
    if shares[0].max() > 0.8:
        # One value takes nearly all rows: the rest is only visible on a logarithmic scale.
        ax.set_yscale("log")
        ax.minorticks_off()
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_formatter(PERCENT)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter("{x:,.0f}")


def draw_levels(ax, real, synthetic):
    shares = pd.DataFrame(
        {
            "real": real.value_counts(normalize=True),
            "synthetic": synthetic.value_counts(normalize=True),
        }
    ).fillna(0.0)
    shares = shares.sort_values("real", ascending=False)
    if len(shares) > MAX_LEVELS:
        others = shares.iloc[MAX_LEVELS - 1 :]
        shares = shares.iloc[: MAX_LEVELS - 1].copy()
        shares.loc[f"{len(others)} others"] = others.sum()
    places = np.arange(len(shares))[::-1]
    ax.barh(places + 0.2, shares["real"], height=0.4, color=REAL)
    ax.barh(places - 0.2, shares["synthetic"], height=0.4, color=SYNTHETIC)
    ax.set_yticks(
        places, [label if len(label) <= 22 else label[:21] + "…" for label in shares.index]
    )
    ax.xaxis.set_major_formatter(PERCENT)
    # Two levels alone in a panel would become two slabs.
    ax.set_ylim(min(-0.7, len(shares) - 4.5), len(shares) - 0.3)
    ax.xaxis.set_major_locator(MaxNLocator(5))


if __name__ == "__main__":
    main(*sys.argv[1:])
