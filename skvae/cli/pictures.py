"""Grids of images and curves of losses, as matplotlib figures.

A pixel of an image becomes a whole number of pixels of the figure. Only the tiniest images, where
squares would hide what they make up, are drawn smoothly.
"""

import numpy as np
from scipy.ndimage import zoom

from skvae._files import open_replacement

DPI = 100
GAP, MARGIN, TITLE, LABEL = 4, 16, 44, 120  # pixels of the figure
# Small images are blown up to about this side, large ones shrunk to it.
TILE = 72
# From this magnification on, pixels are no longer drawn as squares.
SMOOTH_FACTOR = 5
MIN_WIDTH = 560  # room for a title
N_COLUMNS = 10
BACKGROUND = "#ffffff"
INK = "#1f2933"


def require_matplotlib():
    """Raise an error that names the extra, before any work is done in vain."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ImportError("To draw pictures needs matplotlib: pip install skvae[plot].") from None


def check_format(path):
    """Raise an error if matplotlib cannot write a file of that name."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in known:
        raise ValueError(f"{str(path)!r} must end in one of .{', .'.join(known)}.")


def write_figure(figure, path):
    """Write a figure to a file that takes the place of ``path`` once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_replacement(path) as file:
        figure.savefig(file, format=path.suffix.lower().removeprefix("."), facecolor=BACKGROUND)


def draw_grid(images, title, *, n_columns=8):
    """Draw images row by row.

    Parameters
    ----------
    images : array of shape (n, height, width) or (n, channels, height, width)
        Values between 0 and 1; what lies outside is cut off.
    title : str
        Above the grid.
    n_columns : int, default=8
        Images in a row.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    rows = [images[start : start + n_columns] for start in range(0, len(images), n_columns)]
    return _draw_rows([(None, row) for row in rows], title)


def draw_pairs(originals, reconstructions, title, *, n_columns=N_COLUMNS):
    """Draw originals over their reconstructions.

    Parameters
    ----------
    originals, reconstructions : arrays of one shape, (n, [channels,] height, width)
        Values between 0 and 1.
    title : str
        Above them.
    n_columns : int, default=10
        Pairs side by side; more go into further lines.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    rows = []
    for start in range(0, len(originals), n_columns):
        part = slice(start, start + n_columns)
        rows += [("original", originals[part]), ("reconstruction", reconstructions[part])]
    return _draw_rows(rows, title)


def draw_ways(ways, title):
    """Draw the way from one image to another, one way a row.

    Parameters
    ----------
    ways : array of shape (n, n_steps, [channels,] height, width)
        Values between 0 and 1.
    title : str
        Above them.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    return _draw_rows([(None, way) for way in ways], title)


def draw_losses(history):
    """Draw the loss and its terms over the epochs, each on axes of its own.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of an estimator.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    from matplotlib.pyplot import close

    from skvae.report import LossCurveDisplay

    display = LossCurveDisplay(history).plot()
    display.axes_[0].set_ylabel("nats per image")
    close(display.figure_)  # it goes into a file, not into a window
    return display.figure_


def _draw_rows(rows, title):
    """Draw rows of images, each with a label at its left, or none."""
    from matplotlib.figure import Figure

    tiles = [np.concatenate([_tile(image) for image in row], axis=1) for _, row in rows]
    tile_height = len(tiles[0])
    left = MARGIN + (LABEL if any(label for label, _ in rows) else 0)
    width = max(MIN_WIDTH, left + tiles[0].shape[1] - GAP + MARGIN)
    tops = _tops(rows, tile_height)
    height = tops[-1] + tile_height + MARGIN - GAP
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.text(MARGIN / width, 1 - TITLE / 2 / height, title, va="center", color=INK, fontsize=11)
    for (label, _), row, top in zip(rows, tiles, tops, strict=True):
        shown = row[: tile_height - GAP, : row.shape[1] - GAP]
        bottom = height - top - len(shown)
        box = (left / width, bottom / height, shown.shape[1] / width, len(shown) / height)
        ax = figure.add_axes(box)
        ax.set_axis_off()
        ax.imshow(shown, interpolation="nearest", aspect="auto")
        if label:
            middle = (bottom + len(shown) / 2) / height
            figure.text((left - 10) / width, middle, label, va="center", ha="right", color=INK)
    return figure


def _tops(rows, tile_height):
    """Return where each row begins, in pixels from the top; blocks of labelled rows stand apart."""
    tops, top = [], TITLE
    for i, (label, _) in enumerate(rows):
        if i and label is not None and label == rows[0][0]:
            top += 3 * GAP
        tops.append(top)
        top += tile_height
    return tops


def _tile(image):
    """Return an image as RGB at the size of a tile, with a white gap below and at its right."""
    image = np.clip(np.nan_to_num(np.asarray(image, np.float64)), 0, 1)
    rgb = np.repeat(image[None], 3, axis=0) if image.ndim == 2 else image[:3]
    side = max(rgb.shape[1:])
    if side > 2 * TILE:
        step = min(side // TILE, *rgb.shape[1:])
        height, width = (size // step * step for size in rgb.shape[1:])
        blocks = rgb[:, :height, :width].reshape(len(rgb), height // step, step, -1, step)
        rgb = blocks.mean((2, 4))
    factor = max(1, round(TILE / side))
    if factor < SMOOTH_FACTOR:
        rgb = rgb.repeat(factor, axis=1).repeat(factor, axis=2)
    else:
        rgb = zoom(rgb, (1, factor, factor), order=3, mode="nearest", grid_mode=True).clip(0, 1)
    if len(rgb) != 3:  # two channels have no colours of their own
        rgb = np.repeat(rgb.mean(0, keepdims=True), 3, axis=0)
    padded = np.pad(rgb, ((0, 0), (0, GAP), (0, GAP)), constant_values=1.0)
    return padded.transpose(1, 2, 0)
