"""The pictures: quality of synthetic tables against the time of a fit."""

import json
from statistics import mean

from _report import by_task

# Label, colour and marker of each method that is drawn, ours first.
STYLES = {
    "skvae:default": ("skvae", "#c1121f", "o"),
    "skvae:fast": ("skvae fast", "#f28482", "o"),
    "ctgan": ("CTGAN's TVAE", "#264653", "s"),
    "sdv-tvae": ("SDV's TVAE", "#2a9d8f", "D"),
    "sdv-gaussian-copula": ("SDV's Gaussian copula", "#8a8d91", "v"),
    "mostlyai": ("TabularARGN (mostlyai-engine)", "#6a4c93", "^"),
    "arfpy": ("random forests (arfpy)", "#bc6c25", "p"),
}
# Measure, title of its axis, whether the axis is logarithmic.
MEASURES = (
    ("c2st", "two-sample score (1 = as real)", False),
    ("trend", "Trend error, %", True),
)
# The tables on which enough methods were run to draw them; the README has the first.
TABLES = ("adult", "magic", "default", "insurance")


def draw(folder):
    """Write the pictures of a folder that holds results into its figures/."""
    import matplotlib

    matplotlib.use("agg")
    path = folder / "results" / "tabular.json"
    if not path.exists():
        return
    found = by_task(json.loads(path.read_text()))
    names = [name for name in TABLES if (name,) in found.get("real", {})]
    names = names or [name for (name,) in found.get("real", {})][:1]
    (folder / "figures").mkdir(exist_ok=True)
    for stem, shown in (("quality_against_time", names[:1]), ("all_tables", names)):
        # Without the name of matplotlib's version the file changes only with what it shows.
        _figure(found, shown).savefig(
            folder / "figures" / f"{stem}.png", dpi=200, metadata={"Software": None}
        )


def points(found, name):
    """Return the fits of a table that are drawn, as ``{method: [cell, ...]}``."""
    cells = [cell for (dataset, *_), cell in found["fit"].items() if dataset == name]
    whole = [cell for cell in cells if "scores" in cell and "fit_cpu_s" in cell.get("fit", {})]
    return {
        method: [cell for cell in whole if cell["method"] == method]
        for method in STYLES
        if any(cell["method"] == method for cell in whole)
    }


def _figure(found, names):
    """Draw one table as two panels beside each other, several as two rows of panels."""
    from matplotlib.figure import Figure

    beside = len(names) == 1
    shape = (1, len(MEASURES)) if beside else (len(MEASURES), len(names))
    figure = Figure(figsize=(8, 3.9) if beside else (2 + 2.1 * len(names), 6), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False)
    handles = {}
    for row, (measure, title, logarithmic) in enumerate(MEASURES):
        for column, name in enumerate(names):
            panel = axes[0, row] if beside else axes[row, column]
            handles |= _panel(panel, found, name, measure)
            if logarithmic:
                panel.set_yscale("log")
                _plain_ticks(panel.yaxis)
            else:
                panel.set_ylim(-0.05, 1.1)
            if beside or row == 0:
                panel.set_title(f"{name}: {title}" if beside else name, fontsize=10)
            if column == 0 and not beside:
                panel.set_ylabel(title, fontsize=9)
            if beside or row == len(MEASURES) - 1:
                panel.set_xlabel("fit, CPU seconds, one core", fontsize=9)
    order = sorted(handles, key=lambda label: label == "a real holdout")
    figure.legend(
        [handles[label] for label in order],
        order,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    return figure


def _panel(panel, found, name, measure):
    """Draw a point for each fit, and what a real holdout reaches; return what the legend shows."""
    handles = {}
    for method, cells in points(found, name).items():
        label, colour, marker = STYLES[method]
        seconds = [cell["fit"]["fit_cpu_s"] for cell in cells]
        scores = [mean(table[measure] for table in cell["scores"]) for cell in cells]
        handles[label] = panel.scatter(
            seconds,
            scores,
            s=60 if method.startswith("skvae") else 42,
            color=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
        )
    real = [
        mean(table[measure] for table in cell["scores"])
        for (dataset, method, _), cell in found["fit"].items()
        if dataset == name and method == "oracle"
    ]
    if real:
        line = panel.axhline(mean(real), color="#444444", linestyle="--", linewidth=1, zorder=1)
        handles["a real holdout"] = line
    panel.set_xscale("log")
    _plain_ticks(panel.xaxis)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25, which="major")
    panel.spines[["top", "right"]].set_visible(False)
    return handles


def _plain_ticks(axis):
    """Label a logarithmic axis with 1, 2, 5, 10, ..."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")
