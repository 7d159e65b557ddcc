"""The section of RESULTS.md on domains of tissues."""

from _report import by_task, load_averages, markdown, provenance, spread
from _spatial_data import SETS
from _spatial_worker import METHODS

EMPTY = "–"

PUBLISHED = (
    "Published, not measured here (Nonchev et al., medRxiv 2024.06.04.24308256): AESTETIK's median "
    "ARI over 12 DLPFC slices is .58 ± .02, with hyper-parameters chosen by the labels of other "
    "slices; of the others there, STAGATE and GraphST have .48, BayesSpace and SpaGCN .42, Leiden "
    ".37, stLearn .35, MUSE .09. Two slices and one default here: not like for like."
)


INTRODUCTION = (
    "True number of domains, no label used, one default for all sections; means over seeds, "
    "± standard deviation, *(1)* one seed only."
)


def section(content):
    """Return the section as markdown."""
    found = by_task(content)
    parts = {"domains": _domains, "transfer": _transfer, "scaling": _scaling}
    return "\n\n".join(
        [
            "## Domains of tissues",
            provenance(content, INTRODUCTION, load_averages(content)),
            *(part(found[task]) for task, part in parts.items() if task in found),
        ]
    )


def _domains(records):
    by_cell = {}
    for (name, method, _), record in records.items():
        by_cell.setdefault((name, method), []).append(record)
    whole = {
        cell: [record for record in several if "error" not in record]
        for cell, several in by_cell.items()
    }
    methods = [method for method in METHODS if any(method == cell[1] for cell in by_cell)]
    sets = [name for name in SETS if any(name == cell[0] for cell in by_cell)]
    parts = []
    for head, measure, digits in (
        ("### Adjusted Rand index", "ari", 3),
        ("### Normalised mutual information", "nmi", 3),
        ("### CPU seconds of a fit, from counts", "cpu_s", 1),
        ("### Peak memory, MB (all that is imported included)", "peak_mb", 0),
    ):
        rows = [["section", *methods]]
        rows += [
            [name, *(_cell(whole.get((name, method), []), measure, digits) for method in methods)]
            for name in sets
        ]
        parts += [head, markdown(rows)]
    failures = {
        f"- {method} on {name}: {record['error'][:200]}"
        for (name, method), several in by_cell.items()
        for record in several
        if "error" in record
    }
    if failures:
        parts.insert(2, "\n".join(["Failed:", "", *sorted(failures)]))
    parts += [_network(whole, sets), PUBLISHED]
    return "\n\n".join(parts)


def _cell(records, measure, digits):
    values = [record[measure] for record in records if measure in record]
    if not values:
        return EMPTY
    one = " (1)" if len(values) == 1 else ""
    return spread(values, digits) + one


def _network(whole, sets):
    """Tell what the network adds: other clusterers on its embedding, beside the smoothed PCs."""
    rows = [
        [
            "section", "domains (consensus)", "tied mixture, embedding", "k-means, embedding",
            "k-means, smoothed PCs", "tied mixture, smoothed PCs (floor)", "agreement",
        ]
    ]  # fmt: skip
    for name in sets:
        ours = whole.get((name, "skvae"), [])
        if ours:
            rows.append(
                [
                    name,
                    *(_cell(ours, m, 3) for m in ("ari", "ari_of_mixture", "ari_of_kmeans")),
                    _cell(whole.get((name, "smoothed-kmeans"), []), "ari", 3),
                    _cell(whole.get((name, "floor"), []), "ari", 3),
                    _cell(ours, "agreement", 2),
                ]
            )
    text = (
        "ARI. The domains are those of the consensus, which the network learns from: it adds none "
        "to their ARI. It adds one embedding in which any clusterer finds them again, without a "
        "start from them. *agreement* is `agreement_`, which needs no labels."
    )
    return "\n\n".join(["### What the network adds", text, markdown(rows)])


def _transfer(records):
    by_pair = {}
    for (one, other, _), record in records.items():
        by_pair.setdefault((one, other), []).append(record)
    rows = [
        [
            "fitted on", "predicted", "genes", "seeds", "ARI, fitted", "ARI, predicted",
            "NMI, predicted", "fit CPU s", "predict CPU s", "predict(train) == labels_",
        ]
    ]  # fmt: skip
    for (one, other), several in by_pair.items():
        columns = (
            ("ari_fitted", 3),
            ("ari_predicted", 3),
            ("nmi_predicted", 3),
            ("fit_cpu_s", 1),
            ("predict_cpu_s", 1),
        )
        rows.append(
            [
                one,
                other,
                f"{several[0]['n_genes']:,}",
                str(len(several)),
                *(spread([record[name] for record in several], digits) for name, digits in columns),
                "yes" if all(record["predicts_its_labels"] for record in several) else "no",
            ]
        )
    return "\n\n".join(["### From one slice to another, under the same label ids", markdown(rows)])


def _scaling(records):
    rows = [
        [
            "spots", "genes", "method", "threads", "CPU s", "wall s", "MB before", "MB at the peak",
            "ARI",
        ]
    ]  # fmt: skip
    for (size, method), record in sorted(records.items(), key=lambda pair: int(pair[0][0])):
        if "error" in record:
            rows.append([f"{int(size):,}", "", method, "", record["error"][:60], *[""] * 4])
            continue
        rows.append(
            [
                f"{int(size):,}",
                str(record["n_genes"]),
                method,
                str(record["threads"]),
                f"{record['cpu_s']:.0f}",
                f"{record['wall_s']:.0f}",
                f"{record['rss_before_mb']:,.0f}",
                f"{record['peak_mb']:,.0f}",
                f"{record['ari']:.3f}",
            ]
        )
    text = (
        "Simulated layers of cells that lie at will, sparse counts; the whole fit, from counts to "
        "domains and, of skvae, the embedding."
    )
    return "\n\n".join(["### Many spots", text, markdown(rows)])
