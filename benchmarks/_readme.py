"""The numbers of the project's README, from the committed JSON files."""

import json
import textwrap
from pathlib import Path
from statistics import mean

from _figures import STYLES
from _report import by_task
from _tabular_report import PUBLISHED

RESULTS = Path(__file__).resolve().parent / "results"
HEAD = (
    "two-sample score, XGBoost (1 = cannot be told apart)",
    "AUC of telling it from *unseen* real rows (0.5 = cannot)",
    "Shape / Trend error, %",
    "AUC on real rows of XGBoost trained on it",
    "fit, CPU seconds",
    "100,000 rows, CPU seconds",
)
# Marks times that were taken while other jobs ran.
BUSY = " \\*"
SECTIONS_OF_TISSUE = (
    ("DLPFC", ("151673", "151676")),
    ("STARmap", ("BZ5",)),
    ("simulated hexagonal lattices, 2,025 / 4,096 spots", ("hex2025", "hex4096")),
    ("MUSE simulations with image features", ("muse2025+image", "muse4096+image")),
    ("her2st", ("A1", "C1")),
)


def update(path):
    """Put the blocks between their markers in the file at `path`."""
    text = path.read_text()
    for name, block in blocks().items():
        begin, end = markers(name)
        if begin not in text or end not in text:
            raise SystemExit(f"{path} has no line {begin!r}, or no {end!r} after it")
        before, rest = text.split(begin, 1)
        text = f"{before}{begin}\n{block}\n{end}{rest.split(end, 1)[1]}"
    path.write_text(text)


def markers(name):
    """Return the lines before and after a block."""
    return f"<!-- {name}, written by benchmarks/run.py: begin -->", f"<!-- {name}: end -->"


def blocks():
    """Return the blocks by their names, as markdown."""
    return {"tables": tables(), "embeddings": embeddings(), "tissues": tissues()}


def tables():
    """Return what was measured on Adult, a row for each method, and the picture."""
    found = _read("tabular")
    real = found["real"]["adult",]
    rows = [f"| {' | '.join(['', *HEAD])} |", "|---|" + "--:|" * len(HEAD)]
    labels = {method: label for method, (label, *_) in STYLES.items()}
    for method, label in {**labels, "oracle": "a real holdout"}.items():
        cells = [cell for (d, m, _), cell in found["fit"].items() if (d, m) == ("adult", method)]
        scores = [table for cell in cells for table in cell.get("scores", [])]
        if scores:
            rows.append(_row(label, scores, [c["fit"] for c in cells if "fit" in c], real))
    note = ["", f"{BUSY.strip()} Other jobs ran on the two cores: the time is somewhat too long."]
    published = [(name, scores[0]) for name, scores in PUBLISHED["adult"].items() if name != "TVAE"]
    names = ", ".join(name for name, _ in published)
    figures = ", ".join(f"{score:.3f}" for _, score in published)
    return "\n".join(
        [
            f"On the Adult table ({real['n_train']:,} rows to learn from), one core, no GPU:",
            "",
            *rows,
            *(note if any(BUSY in row for row in rows) else []),
            "",
            "![Quality against the time of a fit](benchmarks/figures/quality_against_time.png)",
            "",
            "A point is a fit. The real holdout has half as many rows as a synthetic table, hence "
            "its larger error.",
            f"Published, not measured here: two-sample scores of {names}: {figures}.",
        ]
    )


def _row(label, scores, fits, real):
    def of(name):
        values = [s[name]["mean"] if isinstance(s[name], dict) else s[name] for s in scores]
        return mean(values)

    fits = [fit for fit in fits if "error" not in fit]
    if fits:
        utility, unseen = f"{of('utility'):.3f}", f"{of('auc_holdout'):.3f}"
        busy = BUSY if any(fit.get("load_average", 0) > 1 for fit in fits) else ""
        cost = [
            f"{mean(fit['fit_cpu_s'] for fit in fits):.1f}{busy}",
            f"{mean(fit['sample_many_cpu_s'] for fit in fits):.2f}{busy}",
        ]
    else:
        unseen, cost = f"{real['auc_holdout']['mean']:.3f}", ["", ""]
        utility = f"{real['utility']:.3f} (real train)"
    errors = f"{of('shape'):.2f} / {of('trend'):.2f}"
    return "| " + " | ".join([label, f"{of('c2st'):.3f}", unseen, errors, utility, *cost]) + " |"


def embeddings():
    """Return what was measured on digits and on MNIST, as a paragraph."""
    found = _read("images")

    def of(model, name):
        return mean(r[name] for (m, _), r in found["digits"].items() if m == model)

    vae, iwae = (found["mnist"][name,] for name in ("vae", "iwae"))
    text = (
        f"Digits, 10 components, 20 epochs, defaults: 5-nearest-neighbour accuracy of the "
        f"embedding {of('vae', 'knn'):.3f} and reconstruction error {of('vae', 'mse'):.4f}, in "
        f"{of('vae', 'fit_cpu_s'):.1f} CPU seconds (PCA: {of('pca', 'knn'):.3f} and "
        f"{of('pca', 'mse'):.4f}). Binarised MNIST by importance sampling: {vae['nll']:.1f} nats "
        f"for the VAE after {vae['fit_cpu_s'] / 60:.0f} CPU minutes, {iwae['nll']:.1f} for the "
        f"IWAE after {iwae['fit_cpu_s'] / 60:.0f}."
    )
    return textwrap.fill(text, 100, break_on_hyphens=False)


def tissues():
    """Return what was measured on sections of tissue: a sentence and a table."""
    found = _read("spatial")["domains"]

    def of(name, method, measure):
        return mean(r[measure] for (s, m, _), r in found.items() if (s, m) == (name, method))

    rows, seconds = [], []
    for label, names in SECTIONS_OF_TISSUE:
        shown = [name for name in names if label in ("DLPFC", "STARmap", "her2st")]
        cells = [
            " / ".join(f"{of(name, method, 'ari'):.3f}" for name in names)
            for method in ("skvae", "floor")
        ]
        rows.append(f"| {' '.join([label, ' / '.join(shown)]).strip()} | {' | '.join(cells)} |")
        seconds += [of(name, "skvae", "cpu_s") for name in names]
    text = (
        "Adjusted Rand index, mean of five seeds, true number of domains, no label used, in "
        f"{min(seconds):.0f} to {max(seconds):.0f} CPU seconds a section:"
    )
    head = ["| | skvae | means of 6 neighbours, mixture |", "|---|--:|--:|"]
    return "\n".join([text, "", *head, *rows])


def _read(name):
    return by_task(json.loads((RESULTS / f"{name}.json").read_text()))
