"""The report as one HTML page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from skvae.report import _svg
from skvae.report._columns import REAL, SYNTHETIC

if TYPE_CHECKING:
    from skvae.report.quality import QualityReport

# A heat map of more columns shows the worst ones.
_MAX_HEAT_MAP = 40
_MAX_PANELS = 60

_MEANING = {
    "column shapes": "each column's distribution on its own",
    "pair trends": "dependence between every two columns",
    "pair trends, real bins": "the same, in bins of the real table alone",
    "two-sample score": "1: a classifier cannot tell the rows from those learned from",
    "two-sample score, unseen rows": "1: it cannot tell them from rows never seen",
    "coverage": "levels and ranges that come up",
    "alpha-precision": "synthetic rows lie where real ones lie",
    "beta-recall": "real rows have a synthetic one nearby; about 0.5 is the best to reach",
    "utility": "train on synthetic rows, test on real ones",
    "exact copies": "share of rows that equal a real row in every cell",
    "nearest-neighbour ratio": "how much nearer the nearest real row is than the second",
    "closest-record share": "share of rows nearer to those learned from than to a holdout",
    "membership inference": "AUC of guessing from distances who was learned from",
    "attribute inference": "one cell guessed from the others, beyond what the population tells",
    "singling out": "descriptions that fit one person, beyond chance",
}

_STYLE = """
.skvae{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:#1f2933;
max-width:1180px;margin:0 auto;padding:0 16px}
.skvae h1{font-size:26px;margin:24px 0 4px} .skvae h2{font-size:19px;margin:36px 0 8px}
.skvae p{margin:6px 0;max-width:76ch} .skvae .faint{color:#5f6b7a;fill:#5f6b7a}
.skvae ul.verdict{list-style:none;padding:0;margin:12px 0}
.skvae ul.verdict li{border-left:6px solid;padding:8px 12px;margin:8px 0;background:#f5f7fa}
.skvae ul.verdict li.good{border-color:#2e8540} .skvae ul.verdict li.fair{border-color:#d99a00}
.skvae ul.verdict li.bad{border-color:#c1272d}
.skvae .scroll{overflow-x:auto}
.skvae table{border-collapse:collapse;font-size:14px}
.skvae td,.skvae th{padding:5px 12px 5px 0;text-align:left;border-bottom:1px solid #e1e5ea;
vertical-align:top}
.skvae td.n,.skvae th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.skvae td.leak{color:#c1272d;font-weight:600}
.skvae .grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr));
gap:22px}
.skvae figure{margin:0} .skvae figcaption{font-weight:600;margin-bottom:4px;
overflow-wrap:anywhere}
.skvae svg{font:12px system-ui,sans-serif;fill:#1f2933} .skvae figure svg{width:100%}
.skvae svg.narrow{width:100%;max-width:440px}
@media(max-width:480px){.skvae td,.skvae th{padding-right:8px;font-size:13px}}
.skvae .key i{display:inline-block;width:12px;height:12px;margin:0 4px 0 12px}
"""


def page(report: QualityReport) -> str:
    """Write the whole report."""
    body = "".join(
        section(report)
        for section in (_head, _measures, _worst, _columns, _pairs, _telling, _privacy)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,"><title>Quality of a synthetic table</title>'
        f'<style>body{{margin:0 0 48px}}{_STYLE}</style></head><body><main class="skvae">{body}'
        "</main></body></html>\n"
    )


def summary(report: QualityReport) -> str:
    """Write verdict and measures, for a notebook."""
    return f'<style>{_STYLE}</style><div class="skvae">{_verdict(report)}{_measures(report)}</div>'


def _head(report: QualityReport) -> str:
    names = ("real", "synthetic", "holdout")
    sizes = ", ".join(f"{n:,} {name}" for n, name in zip(report.sizes, names, strict=False))
    left_out = ""
    if report.identifiers:
        names = escape(", ".join(map(str, report.identifiers)))
        left_out = f'<p class="faint">Left out as identifiers: {names}.</p>'
    if len(report.sizes) < 3:
        left_out += (
            '<p class="faint">No holdout was given: nothing says what real rows would reach, and '
            "most of what could be said about privacy is missing.</p>"
        )
    return (
        f"<h1>Quality of a synthetic table</h1>{_verdict(report)}"
        f'<p class="faint">Rows: {sizes}. Columns: {len(report.panels)}.</p>{left_out}'
    )


def _verdict(report: QualityReport) -> str:
    items = "".join(
        f'<li class="{grade}">{escape(sentence)}</li>' for grade, sentence in report.verdicts
    )
    return f'<ul class="verdict">{items}</ul>'


def _measures(report: QualityReport) -> str:
    rows = []
    for name, row in report.to_frame().iterrows():
        leak = ' class="n leak"' if row["flagged"] else ' class="n"'
        rows.append(
            f'<tr><td>{escape(name)}<br><span class="faint">{escape(_MEANING[name])}</span></td>'
            f"<td{leak}>{_number(row['value'])}</td>"
            f'<td class="n">{_number(row["real_rows"])}</td>'
            f'<td class="n">{_number(row["ideal"])}</td></tr>'
        )
    return (
        '<h2>Measures</h2><div class="scroll"><table><tr><th>measure</th><th class="n">value</th>'
        '<th class="n">real rows</th><th class="n">ideal</th></tr>'
        f"{''.join(rows)}</table></div>"
    )


def _worst(report: QualityReport) -> str:
    worst = report.worst_columns(8)
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in worst)
    rows = "".join(
        f"<tr><td>{escape(str(column))}</td>"
        + "".join(f'<td class="n">{_number(v)}</td>' for v in values)
        + "</tr>"
        for column, values in zip(worst.index, worst.to_numpy(), strict=True)
    )
    return (
        "<h2>Worst columns</h2><p>Shape of the column on its own, and the mean of its trends with "
        f'the others; 1 is best.</p><div class="scroll"><table><tr><th>column</th>{head}</tr>{rows}'
        "</table></div>"
    )


def _columns(report: QualityReport) -> str:
    scores = report.results["column shapes"].details.set_index("column")["score"]
    panels = sorted(report.panels, key=lambda panel: np.nan_to_num(scores[panel.column], nan=2.0))
    shown = panels[:_MAX_PANELS]
    figures = "".join(
        f'<figure><figcaption>{escape(str(p.column))} <span class="faint">'
        f"{_number(scores[p.column])}</span></figcaption>{_svg.column_svg(p)}</figure>"
        for p in shown
    )
    more = "" if len(shown) == len(panels) else f" The {len(shown)} worst of {len(panels)}."
    return (
        '<h2>Columns</h2><p class="key">Share of rows, the worst column first.'
        f'{more}<i style="background:{REAL}"></i>real<i style="background:{SYNTHETIC}"></i>'
        f'synthetic</p><div class="grid">{figures}</div>'
    )


def _pairs(report: QualityReport) -> str:
    if "pair trends" not in report.results:
        return ""
    result = report.results["pair trends, real bins"]
    worst = report.worst_columns(_MAX_HEAT_MAP).index
    columns = [panel.column for panel in report.panels if panel.column in worst]
    pairs = "".join(
        f"<tr><td>{escape(str(row.column_1))} × {escape(str(row.column_2))}</td>"
        f'<td class="n">{_number(row.score)}</td></tr>'
        for row in result.worst(5).itertuples()
    )
    return (
        "<h2>Pairs of columns</h2><p>How well the dependence between two columns is kept, in bins "
        f'of the real table; paler is better.</p>{_svg.legend_svg()}<div class="scroll">'
        f"{_svg.heat_map_svg(result.details, columns)}</div>"
        f'<div class="scroll"><table><tr><th>worst pairs</th><th class="n">score</th></tr>{pairs}'
        "</table></div>"
    )


def _telling(report: QualityReport) -> str:
    result = next(r for r in report.results.values() if getattr(r, "importances", None) is not None)
    note = (
        "It could hardly tell them apart: these figures are noise."
        if result.auc < 0.55
        else "A column that is shuffled no longer helps; the fall of the AUC says how much it did."
    )
    return (
        f"<h2>What gave the rows away</h2><p>The classifier ({escape(result.classifier)}) reached "
        f"an AUC of {result.auc:.3f}. {note}</p>{_svg.importance_svg(result.importances)}"
    )


def _privacy(report: QualityReport) -> str:
    rows = []
    for name, result in report.results.items():
        if not hasattr(result, "leak"):
            continue
        said = {True: "leaks", False: "no leak found", None: "not judged"}[result.flagged]
        leak = "" if result.leak is None else f"{result.leak:+.4f} ± {result.standard_error:.4f}"
        rows.append(
            f'<tr><td>{escape(name)}</td><td class="n">{_number(result.value)}</td>'
            f'<td class="n">{leak}</td><td class="{"leak" if result.flagged else ""}">{said}</td>'
            "</tr>"
        )
    return (
        "<h2>Privacy</h2><p>A leak is how far a figure lies from its ideal on the side that gives "
        "real rows away. It is reported when it exceeds a small tolerance by three standard errors."
        ' These measures find leaks; they cannot prove that there are none.</p><div class="scroll">'
        '<table><tr><th>measure</th><th class="n">value</th><th class="n">leak</th><th>verdict</th>'
        f"</tr>{''.join(rows)}</table></div>"
    )


def _number(value: float) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.4f}"
