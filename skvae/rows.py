"""Rows of numbers, or images, to tensors for networks and back."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch


class RowFormat:
    """What a fit learnt of its rows: their shape, container, centre and scale.

    Parameters
    ----------
    X : array-like or DataFrame
        The rows as the user gave them.
    image_shape : tuple of int or None
        (height, width) or (channels, height, width) of flattened images.

    Attributes
    ----------
    row_shape : tuple of int
        Shape in which the user sees a row.
    input_shape : tuple of int
        Shape in which networks see it: (n_features,) or (channels, height, width).
    mean_, scale_ : ndarray of shape (n_features,)
        What is subtracted from rows, and what they are then divided by.
    """

    def __init__(self, X, image_shape) -> None:
        shape = np.shape(X) if isinstance(X, (list, tuple)) else X.shape
        self.row_shape = tuple(int(size) for size in shape[1:])
        n_features = math.prod(self.row_shape)
        self.input_shape = _network_shape(image_shape, self.row_shape, n_features)
        self.columns = X.columns if isinstance(X, pd.DataFrame) else None
        types = set(X.dtypes) if self.columns is not None else {getattr(X, "dtype", None)}
        single = types <= {np.dtype(np.float32), torch.float32}
        self.dtype = np.dtype(np.float32 if single else np.float64)
        self.mean_, self.scale_ = np.zeros(n_features), np.ones(n_features)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError for rows of another shape than fit saw; flat ones pass."""
        if len(shape) > 1 and tuple(shape) not in (self.row_shape, self.input_shape):
            raise ValueError(
                f"Rows of shape {tuple(shape)} were given, but fit saw rows of shape "
                f"{self.row_shape}."
            )

    def set_scale(self, mean: np.ndarray, variance: np.ndarray, kind: str | None) -> None:
        """Take centre and scale from moments; ``kind`` is "global", "per_feature" or None."""
        if kind is None:
            return
        if kind == "global":
            variance = np.full(len(variance), variance.mean())
        self.mean_, self.scale_ = mean, np.where(variance > 0, np.sqrt(variance), 1.0)

    @property
    def log_measure(self) -> float:
        """Log of the volume, in the units of the data, of a unit of what networks see."""
        return float(np.log(self.scale_).sum())

    def to_tensor(self, rows: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return flat rows centred, scaled and in the shape for networks."""
        scaled = np.subtract(rows, self.mean_, dtype=np.float64)
        scaled /= self.scale_
        return torch.from_numpy(scaled).to(dtype).view(len(rows), *self.input_shape)

    def to_rows(self, x: torch.Tensor, out: np.ndarray) -> None:
        """Write what networks gave as flat rows in the units of the data."""
        rows = torch.from_numpy(out)
        scale, mean = (
            torch.from_numpy(array.astype(self.dtype)) for array in (self.scale_, self.mean_)
        )
        x = x.flatten(1).cpu()
        if x.dtype != rows.dtype:
            x = rows.copy_(x)
        torch.addcmul(mean, x, scale, out=rows)

    def restore(self, rows: np.ndarray):
        """Return flat rows in the shape and container that fit saw."""
        if self.columns is not None:
            return pd.DataFrame(rows, columns=self.columns)
        return rows.reshape(len(rows), *self.row_shape)


class Labels:
    """The labels that a fit saw.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted.
    counts : ndarray of shape (n_classes,), default=None
        Rows of each; None: none yet.
    """

    def __init__(self, classes: np.ndarray, counts: np.ndarray | None = None) -> None:
        self.classes = classes
        self.counts = np.zeros(len(classes)) if counts is None else counts

    @property
    def frequencies(self) -> np.ndarray:
        """Share of each class among the rows."""
        return self.counts / self.counts.sum()

    def add(self, codes: torch.Tensor) -> None:
        """Count more rows, whose labels are positions in ``classes``."""
        self.counts = self.counts + np.bincount(codes.cpu().numpy(), minlength=len(self.counts))

    def to_codes(self, y, n_rows: int) -> torch.Tensor:
        """Return labels as positions in ``classes``, int64 of shape (n_rows,)."""
        y = np.asarray(y)
        if y.shape != (n_rows,):
            raise ValueError(f"y has shape {y.shape}, expected ({n_rows},): a label for each row.")
        unknown = np.setdiff1d(y, self.classes)
        if len(unknown):
            raise ValueError(
                f"y holds {unknown[:5].tolist()}, which fit did not see. The classes are "
                f"{self.classes.tolist()}."
            )
        return torch.from_numpy(np.searchsorted(self.classes, y))


def check_numeric(X) -> None:
    """Raise ValueError if a column of a DataFrame holds what is no number."""
    if not isinstance(X, pd.DataFrame):
        return
    for place, dtype in enumerate(X.dtypes):
        if pd.api.types.is_numeric_dtype(dtype):
            continue
        column = X.iloc[:, place].astype(object)
        wrong = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
        if len(wrong):
            raise ValueError(
                f"Column {X.columns[place]!r} of X holds {wrong.iloc[0]!r}, of dtype {dtype}, "
                "expected numbers: encode the column first (sklearn's OneHotEncoder or "
                "OrdinalEncoder), drop it, or take TVAESynthesizer, which is for mixed tables."
            )


def flat(X):
    """Return images as flat rows; anything else as it is."""
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu().numpy()
    if isinstance(X, (list, tuple)) and np.ndim(X) > 2:
        X = np.asarray(X)
    return X.reshape(len(X), -1) if isinstance(X, np.ndarray) and X.ndim > 2 else X


def _network_shape(image_shape, row_shape: tuple[int, ...], n_features: int) -> tuple[int, ...]:
    shape = tuple(row_shape if image_shape is None else (int(size) for size in image_shape))
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) > 4:
        raise ValueError(
            f"Images of shape {shape} have their channels last, expected (channels, height, "
            "width): X.transpose(0, 3, 1, 2)."
        )
    if math.prod(shape) != n_features or (image_shape is not None and len(shape) != 3):
        raise ValueError(
            f"image_shape={image_shape!r} does not fit rows of shape {row_shape}: expected "
            "(height, width) or (channels, height, width) with as many numbers."
        )
    if len(shape) not in (1, 3):
        raise ValueError(
            f"Rows of shape {row_shape} are neither flat nor images: expected (n_features,), "
            "(height, width) or (channels, height, width)."
        )
    return shape
