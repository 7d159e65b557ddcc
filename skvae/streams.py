"""Rows that need not fit in memory: torch datasets, and iterables of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from skvae.training.data import to_batch

# Rows kept in memory: those that scales, samplers and the start of some models are taken from.
KEPT_ROWS = 10_000
# Rows read at a time from a dataset.
READ_ROWS = 1024


def is_stream(X) -> bool:
    """Whether ``X`` is a torch dataset or an iterable of batches, and no array."""
    if isinstance(X, (Dataset, DataLoader)):
        return True
    array_like = hasattr(X, "shape") or hasattr(X, "__array__") or hasattr(X, "__dataframe__")
    return isinstance(X, Iterable) and not (
        array_like or isinstance(X, (list, tuple, str, Mapping))
    )


class RowStream:
    """One look at all rows of a stream, and the way to read it again.

    Parameters
    ----------
    source : Dataset or iterable of batches
        Rows, tuples of rows and labels, or dictionaries with ``"data"`` and maybe ``"labels"``.
    random_state : RandomState
        Chooses the rows that are kept.

    Attributes
    ----------
    n_rows : int
        Rows in a pass.
    mean, variance : ndarray of shape (n_features,)
        Over all rows.
    rows : ndarray of shape (n_kept, ...)
        Rows from all over the stream, ``KEPT_ROWS`` at most.
    labels : ndarray of shape (n_kept,) or None
        Their labels.
    classes, counts : ndarray of shape (n_classes,) or None
        Labels of all rows, and how often they stand.

    Raises
    ------
    TypeError, ValueError
        The stream ends after one pass, gives no rows, or something that is no rows.
    """

    def __init__(self, source, random_state: np.random.RandomState) -> None:
        if isinstance(source, Iterator):
            raise TypeError(
                f"X is a {type(source).__name__}, which ends after one pass: give an object whose "
                "__iter__ begins anew, such as a DataLoader or a list of batches in a class."
            )
        self.source = source
        self.n_rows = 0
        counts: dict = {}
        for x, y in self._read():
            self._add_moments(x.reshape(len(x), -1).astype(np.float64))
            self._keep(x, y, random_state.random_sample(len(x)))
            if y is not None:
                for label, count in zip(*np.unique(y, return_counts=True), strict=True):
                    counts[label] = counts.get(label, 0) + int(count)
        if not self.n_rows:
            raise ValueError("X gave no rows.")
        self.classes = np.array(sorted(counts)) if counts else None
        self.counts = np.array([counts[c] for c in self.classes]) if counts else None

    @property
    def is_indexed(self) -> bool:
        """Whether rows can be had by index, in any order."""
        return isinstance(self.source, Dataset) and not isinstance(self.source, IterableDataset)

    def mapped(self, function: Callable) -> Dataset | Iterable:
        """Return the stream with a function of rows and labels applied to each batch or row."""
        return _MappedRows(self.source, function) if self.is_indexed else _Mapped(self, function)

    def _read(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield batches as arrays: rows, and labels where there are any."""
        source = self.source
        if isinstance(source, Dataset):
            source = DataLoader(source, batch_size=READ_ROWS)
        for batch in source:
            x, *y = to_batch(batch, torch.device("cpu"), torch.float32, "X")
            yield x.numpy(), y[0].numpy() if y else None

    def _add_moments(self, x: np.ndarray) -> None:
        """Chan's update of mean and variance by those of a batch."""
        mean, variance, total = x.mean(0), x.var(0), self.n_rows + len(x)
        if not self.n_rows:
            self.mean, self.variance = mean, variance
        else:
            delta, share = mean - self.mean, len(x) / total
            self.mean = self.mean + share * delta
            between = share * (1 - share) * delta**2
            self.variance = (1 - share) * self.variance + share * variance + between
        self.n_rows = total

    def _keep(self, *new: np.ndarray | None) -> None:
        """Keep the rows of the largest random keys: a draw without replacement from all so far."""
        if hasattr(self, "_keys"):
            old = (self.rows, self.labels, self._keys)
            new = tuple(
                None if a is None or b is None else np.concatenate([a, b])
                for a, b in zip(old, new, strict=True)
            )
        chosen = np.argsort(new[2])[-KEPT_ROWS:]
        self.rows, self.labels, self._keys = (a if a is None else a[chosen] for a in new)


class _MappedRows(Dataset):
    def __init__(self, dataset: Dataset, function: Callable) -> None:
        self.dataset, self.function = dataset, function

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        row = self.dataset[index]
        values = (
            [row[k] for k in ("data", "labels") if k in row] if isinstance(row, Mapping) else row
        )
        values = values if isinstance(values, (tuple, list)) else [values]
        x, *y = (torch.as_tensor(value).unsqueeze(0) for value in values)
        mapped = self.function(x.numpy(), y[0].numpy() if y else None)
        return tuple(tensor[0] for tensor in mapped)


class _Mapped:
    def __init__(self, stream: RowStream, function: Callable) -> None:
        self.stream, self.function = stream, function

    def __iter__(self) -> Iterator:
        for x, y in self.stream._read():
            yield self.function(x, y)

    def __len__(self) -> int:
        return len(self.stream.source)
