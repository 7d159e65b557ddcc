"""The section of RESULTS.md on tabular synthesizers."""

from statistics import mean

from _report import by_task, markdown, provenance, spread

ORDER = (
    "skvae",
    "ctgan",
    "sdv-tvae",
    "sdv-gaussian-copula",
    "mostlyai",
    "arfpy",
    "oracle",
    "bootstrap",
    "marginals",
)

# Detection score, shape and trend as published, in the order of the paper's table.
PUBLISHED_SOURCE = (
    'published: means over 5 trained models in "A Sobering Look at Tabular Data Generation via '
    'Probabilistic Circuits", arXiv:2603.23016 (2026), its tables of results at '
    "github.com/april-tools/tabpc; not measured here. Its TVAE is about 90 times larger than "
    "CTGAN's default. Trend there is that of the SDMetrics version it pins."
)
PUBLISHED = {
    "adult": {
        "TVAE": (0.000, 0.762, 0.666),
        "TabSyn": (0.794, 0.992, 0.980),
        "TabDiff": (0.841, 0.993, 0.985),
        "TabPC": (0.855, 0.994, 0.986),
    },
    "default": {
        "TVAE": (0.002, 0.913, 0.814),
        "TabSyn": (0.402, 0.987, 0.971),
        "TabDiff": (0.591, 0.988, 0.973),
        "TabPC": (0.262, 0.995, 0.950),
    },
    "magic": {
        "TVAE": (0.298, 0.954, 0.953),
        "TabSyn": (0.760, 0.990, 0.992),
        "TabDiff": (0.773, 0.992, 0.992),
        "TabPC": (0.860, 0.990, 0.983),
    },
}


DATASETS = ("adult", "magic", "default", "california_housing", "diamonds", "insurance")
INTRODUCTION = (
    "Means over seeds, ± standard deviation. *load* is the load average when a fit began, where it "
    "was noted: other jobs ran on the two cores. CPU times are then too long, and wall times say "
    "nothing."
)


def section(content):
    """Return the section as markdown."""
    found = by_task(content)
    names = [name for name in DATASETS if (name,) in found.get("real", {})]
    names += [name for (name,) in found.get("real", {}) if name not in DATASETS]
    parts = [
        "## Tabular synthesizers",
        provenance(content, INTRODUCTION, [PUBLISHED_SOURCE]),
        "![Quality against the time of a fit](figures/all_tables.png)",
    ]
    for name in names:
        cells = [cell for (dataset, *_), cell in found["fit"].items() if dataset == name]
        parts += _dataset(name, cells, found["real"][name,])
    return "\n\n".join(parts)


def _dataset(name, cells, reference):
    rows = {}
    for cell in sorted(cells, key=lambda cell: (ORDER.index(cell["family"]), cell["method"])):
        rows.setdefault(cell["method"], []).append(cell)
    yield (
        f"### {name}: {reference['n_train']:,} rows to learn from, "
        f"{reference['n_holdout']:,} held out"
    )
    yield _quality(rows, reference, PUBLISHED.get(name, {}))
    failures = {
        f"{label} failed: {cell['fit']['error'][:200]}"
        for label, cells in rows.items()
        for cell in cells
        if "error" in cell.get("fit", {})
    }
    if failures:
        yield "\n".join(sorted(failures))
    if any("fit" in cell for cells in rows.values() for cell in cells):
        yield _cost(rows)


def _quality(rows, reference, published):
    utility = reference["utility"]
    measure, digits = ("AUC", 4) if utility <= 1 else ("RMSE", 2)
    real_auc = reference["auc_holdout"]
    lines = [
        [
            "method", "seeds", "Shape err %", "Trend err %", "TrendF err %", "C2ST",
            "AUC, train", f"AUC, unseen (real {real_auc['mean']:.3f})", "C2ST logistic",
            f"TSTR {measure} (TRTR {utility:.{digits}f})", "DCR %",
            f"copies % (holdout {100 * reference['copies']:.2f})",
        ]
    ]  # fmt: skip
    for label, cells in rows.items():
        scores = [[_flat(table) for table in cell["scores"]] for cell in cells if "scores" in cell]
        if not scores:
            lines.append([label, "–", *[""] * 10])
            continue

        def cell_of(name, digits, scale=1, scores=scores):
            values = [mean(scale * t[name] for t in ts) for ts in scores if name in ts[0]]
            return spread(values, digits)

        lines.append(
            [
                label,
                str(len(scores)),
                *(cell_of(name, 2) for name in ("shape", "trend", "trend_f")),
                *(cell_of(name, 3) for name in ("c2st", "auc_train", "auc_holdout")),
                cell_of("c2st_logistic", 3),
                cell_of("utility", digits),
                cell_of("dcr", 1, 100),
                cell_of("copies", 2, 100),
            ]
        )
    for label, (c2st, shape, trend) in published.items():
        errors = [f"{100 * (1 - score):.1f}" for score in (shape, trend)]
        lines.append([f"{label}, published", "5", *errors, "", f"{c2st:.3f}", *[""] * 6])
    return markdown(lines)


def _cost(rows):
    fits = {
        label: [cell["fit"] for cell in cells if "error" not in cell.get("fit", {"error": ""})]
        for label, cells in rows.items()
    }
    fits = {label: records for label, records in fits.items() if records}
    peer = next((records for label, records in fits.items() if label == "ctgan"), None)
    lines = [
        [
            "method", "fits", "fit CPU s", "wall s", "of ctgan's CPU", "products CPU s",
            "sample n CPU s", "100k CPU s", "of ctgan's CPU", "products CPU s", "rows / s",
            "RSS MB before", "peak of fit", "peak", "load",
        ]
    ]  # fmt: skip
    for label, records in fits.items():

        def column(name, digits, records=records):
            values = [record[name] for record in records]
            return spread(values, digits)

        def share(name, records=records):
            if peer is None:
                return ""
            return f"{mean(r[name] for r in records) / mean(r[name] for r in peer):.3f}"

        def products(name, digits, records=records):
            values = [r["matrix_products"][name] for r in records if "matrix_products" in r]
            return spread(values, digits)

        lines.append(
            [
                label,
                str(len(records)),
                column("fit_cpu_s", 1),
                column("fit_wall_s", 1),
                share("fit_cpu_s"),
                products("fit_cpu_s", 1),
                column("sample_train_cpu_s", 2),
                column("sample_many_cpu_s", 2),
                share("sample_many_cpu_s"),
                products("sample_many_cpu_s", 2),
                f"{mean(record['rows_per_s'] for record in records):,.0f}",
                column("rss_before_mb", 0),
                column("peak_fit_mb", 0),
                column("peak_mb", 0),
                spread([r["load_average"] for r in records if "load_average" in r], 1),
            ]
        )
    return markdown(lines)


def _flat(scores):
    return {k: v["mean"] if isinstance(v, dict) else v for k, v in scores.items()}
