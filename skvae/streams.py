"""Rows that need not fit in memory: torch datasets, and iterables of batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from skvae.training.data import Collated, rows_at, to_batch
from skvae.training.seeding import isolated_torch_seed

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
    seed : int
        Chooses the rows that are kept, and seeds torch's default generators while they are read.

    Attributes
    ----------
    n_rows, n_batches : int
        Rows and batches in a pass.
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

    def __init__(self, source, seed: int) -> None:
        if isinstance(source, Iterator):
            raise TypeError(
                f"X is a {type(source).__name__}, which ends after one pass: give an object whose "
                "__iter__ begins anew, such as a DataLoader or a list of batches in a class."
            )
        self.source = source
        self.n_rows = self.n_batches = 0
        counts: dict = {}
        with isolated_torch_seed(seed):
            self._look(np.random.RandomState(seed), counts)
        if not self.n_rows:
            raise ValueError("X gave no rows.")
        self.classes = np.array(sorted(counts)) if counts else None
        self.counts = np.array([counts[c] for c in self.classes]) if counts else None

    def _look(self, random_state: np.random.RandomState, counts: dict) -> None:
        """Pass over all rows, and count their labels in ``counts``."""
        for x, y in self.read(READ_ROWS):
            self._add_moments(x.reshape(len(x), -1).astype(np.float64))
            self._keep(x, y, random_state.random_sample(len(x)))
            self.n_batches += 1
            if y is not None:
                for label, count in zip(*np.unique(y, return_counts=True), strict=True):
                    counts[label] = counts.get(label, 0) + int(count)

    @property
    def is_indexed(self) -> bool:
        """Whether rows can be had by index, in any order."""
        return isinstance(self.source, Dataset) and not isinstance(self.source, IterableDataset)

    def mapped(self, function: Callable, batch_size: int) -> Dataset | Iterable:
        """Return the stream with a function of rows and labels applied to each batch.

        ``batch_size`` is for streams of rows that cannot be had by index.
        """
        if self.is_indexed:
            return _MappedRows(self.source, function)
        return _Mapped(self, function, batch_size)

    def read(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield batches as arrays, of ``batch_size`` rows unless they come as batches."""
        source = self.source
        if isinstance(source, Dataset):
            source = DataLoader(source, batch_size=batch_size)
        return map(_to_arrays, source)

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
    """Rows by index, for ``rows_at``: the function sees whole batches."""

    def __init__(self, dataset: Dataset, function: Callable) -> None:
        self.dataset, self.function = dataset, function

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, index: list[int]) -> Collated:
        return Collated(self.function(*_to_arrays(rows_at(self.dataset, index))))


class _Mapped:
    def __init__(self, stream: RowStream, function: Callable, batch_size: int) -> None:
        self.stream, self.function, self.batch_size = stream, function, batch_size

    def __iter__(self) -> Iterator:
        for x, y in self.stream.read(self.batch_size):
            yield self.function(x, y)

    def __len__(self) -> int:
        if isinstance(self.stream.source, IterableDataset):
            return math.ceil(self.stream.n_rows / self.batch_size)
        return self.stream.n_batches


def _to_arrays(batch) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a batch as arrays: rows, and labels where there are any."""
    x, *y = to_batch(batch, torch.device("cpu"), torch.float32, "X")
    return x.numpy(), y[0].numpy() if y else None
