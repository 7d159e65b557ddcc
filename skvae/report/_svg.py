"""Pictures of the report, as SVG."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from skvae.report._columns import ACCENT, REAL, SYNTHETIC, ColumnPanel, short

_WIDTH, _PLOT = 320, 118
_BAR, _LABELS = 22, 128
_CELL = 24
# A column most of whose rows share one bin shows the rest only on another scale.
_SPIKE = 0.6
# Scores down to this are told apart by colour.
_WORST_COLOUR = 0.8


def column_svg(panel: ColumnPanel) -> str:
    """Draw a column, real against synthetic."""
    body, height = (_bars if panel.edges is None else _steps)(panel)
    title = f"{panel.column}: real against synthetic"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'
    )


def heat_map_svg(details: pd.DataFrame, columns: list) -> str:
    """Draw the scores of all pairs of columns; `details` are those of ``pair_trends``."""
    place = {column: i for i, column in enumerate(columns)}
    cells = []
    for row in details.itertuples():
        i, j = place.get(row.column_1), place.get(row.column_2)
        if i is None or j is None:
            continue
        known = np.isfinite(row.score)
        text = f"{row.column_1} × {row.column_2}: " + (f"{row.score:.3f}" if known else "undefined")
        for x, y in ((i, j), (j, i)):
            cells.append(
                f'<rect x="{_LABELS + x * _CELL}" y="{_LABELS + y * _CELL}" width="{_CELL - 1}" '
                f'height="{_CELL - 1}" fill="{_colour(row.score)}"><title>{escape(text)}</title>'
                "</rect>"
            )
    labels = []
    for column, i in place.items():
        middle, name = _LABELS + (i + 0.5) * _CELL, escape(short(column))
        labels.append(f'<text x="{_LABELS - 6}" y="{middle + 4}" text-anchor="end">{name}</text>')
        labels.append(
            f'<text transform="translate({middle + 4} {_LABELS - 6}) rotate(-90)">{name}</text>'
        )
    side = _LABELS + _CELL * len(columns) + 4
    return (
        f'<svg width="{side}" height="{side}" viewBox="0 0 {side} {side}" role="img" '
        f'aria-label="Pair trends">{"".join(labels)}{"".join(cells)}</svg>'
    )


def legend_svg() -> str:
    """Draw the colours of the heat map."""
    scores = np.linspace(_WORST_COLOUR, 1.0, 5)
    boxes = "".join(
        f'<rect x="{k * 56}" width="55" height="12" fill="{_colour(s)}"/>'
        f'<text x="{k * 56}" y="26">{"≤ " if k == 0 else ""}{s:.2f}</text>'
        for k, s in enumerate(scores)
    )
    return f'<svg width="284" height="30" role="img" aria-label="Colours">{boxes}</svg>'


def importance_svg(importances: pd.DataFrame) -> str:
    """Draw how much each column helped to tell the tables apart."""
    rows = importances.head(10)
    largest = max(float(rows["importance"].max()), 0.02)
    body = []
    for k, row in enumerate(rows.itertuples()):
        y, width = k * _BAR, 150 * max(row.importance, 0.0) / largest
        body.append(
            f'<text x="{_LABELS - 6}" y="{y + 15}" text-anchor="end">{escape(short(row.column))}'
            f'</text><rect x="{_LABELS}" y="{y + 4}" width="{width:.1f}" height="{_BAR - 8}" '
            f'fill="{ACCENT}"/><text x="{_LABELS + width + 5:.1f}" y="{y + 15}">'
            f"{row.importance:.3f}</text>"
        )
    height = _BAR * len(rows) + 2
    return (
        f'<svg class="narrow" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="Importances">{"".join(body)}</svg>'
    )


def _colour(score: float) -> str:
    """Mix white, for 1, with red, for the worst scores."""
    if not np.isfinite(score):
        return "#e5e7eb"
    share = min(1.0, (1.0 - score) / (1.0 - _WORST_COLOUR)) ** 0.7
    red, green, blue = (round(248 + share * (c - 248)) for c in (178, 24, 43))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _steps(panel: ColumnPanel) -> tuple[str, int]:
    top = max(panel.real.max(), panel.synthetic.max(), 1e-9)
    power = 0.5 if top > _SPIKE else 1.0
    n = len(panel.real)
    x = np.repeat(np.linspace(0, _WIDTH, n + 1), 2)[1:-1]
    points = []
    for shares in (panel.real, panel.synthetic):
        y = _PLOT - (_PLOT - 6) * np.repeat((shares / top) ** power, 2)
        points.append(" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)))
    note = f"up to {100 * top:.0f} %" + (", square-root scale" if power < 1 else "")
    return (
        f'<polygon points="0,{_PLOT} {points[0]} {_WIDTH},{_PLOT}" fill="{REAL}"/>'
        f'<polyline points="{points[1]}" fill="none" stroke="{SYNTHETIC}" stroke-width="2"/>'
        f'<text x="0" y="{_PLOT + 16}">{escape(panel.labels[0])}</text>'
        f'<text x="{_WIDTH / 2}" y="{_PLOT + 16}" text-anchor="middle" class="faint">{note}</text>'
        f'<text x="{_WIDTH}" y="{_PLOT + 16}" text-anchor="end">{escape(panel.labels[1])}</text>'
    ), _PLOT + 22


def _bars(panel: ColumnPanel) -> tuple[str, int]:
    top = max(panel.real.max(initial=0.0), panel.synthetic.max(initial=0.0), 1e-9)
    body = []
    for k, label in enumerate(panel.labels):
        y = k * _BAR
        body.append(
            f'<text x="{_LABELS - 6}" y="{y + 15}" text-anchor="end">{escape(label)}</text>'
        )
        for shares, offset, colour in ((panel.real, 2, REAL), (panel.synthetic, 11, SYNTHETIC)):
            width = (_WIDTH - _LABELS - 44) * shares[k] / top
            body.append(
                f'<rect x="{_LABELS}" y="{y + offset}" width="{width:.1f}" height="8" '
                f'fill="{colour}"/>'
            )
        body.append(
            f'<text x="{_WIDTH}" y="{y + 15}" text-anchor="end" class="faint">'
            f"{100 * panel.real[k]:.1f} %</text>"
        )
    return "".join(body), _BAR * len(panel.labels) + 4
