"""Where batches come from: tensors in memory, rows of a dataset, or batches that come as such."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset, default_collate

Batch = tuple[Tensor, ...]
# What train() and evaluate() take.
Data = Tensor | np.ndarray | tuple[Tensor | np.ndarray, ...] | Dataset[Any] | Iterable[Any]


def steps_per_epoch(n_rows: int, batch_size: int) -> int:
    """Return the steps in a pass over the rows.

    A last batch under half its size is skipped, and so is one of a single row, for which batch
    normalisation has no statistics.
    """
    batch_size = min(batch_size, n_rows)
    whole, rest = divmod(n_rows, batch_size)
    return whole + (rest > 1 and 2 * rest >= batch_size)


class Collated(tuple[Tensor, ...]):
    """A batch, where a dataset's ``__getitems__`` gives one in place of a list of rows."""

    __slots__ = ()


class Source:
    """Batches for a model, on its device and with its type of floats.

    Attributes
    ----------
    device : device
        The model's.
    n_rows : int
        Rows in a pass; as many as were seen, where only a whole pass can tell.
    """

    device: torch.device
    n_rows: int

    def n_steps(self, batch_size: int) -> int | None:
        """Return the steps in a pass, where it is known before one was made."""
        raise NotImplementedError

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one pass in training."""
        raise NotImplementedError

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield each row once, in its order."""
        raise NotImplementedError


class Rows(Source):
    """Rows that can be had by index.

    Parameters
    ----------
    rows : tuple of (Tensor or ndarray) or Dataset
        One tensor for each part of a row, or a map-style dataset of rows.
    model : Module
        Says device and type.
    name : str
        Of the parameter, for messages.
    """

    def __init__(
        self, rows: tuple[Any, ...] | Dataset[Any], model: nn.Module, name: str = "data"
    ) -> None:
        self.device, self.dtype = device_and_dtype(model)
        self.rows: tuple[Tensor, ...] | Any = rows
        if isinstance(rows, tuple):
            if not rows:
                raise ValueError(f"{name} is an empty tuple, expected tensors.")
            self.rows = tuple(to_tensor(part, self.device, self.dtype, name) for part in rows)
            lengths = [len(part) if part.ndim else 0 for part in self.rows]
            if len(set(lengths)) > 1:
                raise ValueError(f"The tensors of {name} have {lengths} rows, expected as many.")
            self.n_rows = lengths[0]
        else:
            self.n_rows = len(rows)  # type: ignore[arg-type]
        if not self.n_rows:
            raise ValueError(f"{name} has no rows.")

    def n_steps(self, batch_size: int) -> int:
        """Return the steps in a pass; see ``steps_per_epoch``."""
        return steps_per_epoch(self.n_rows, batch_size)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield batches of rows in an order drawn anew."""
        batch_size = min(batch_size, self.n_rows)
        order = torch.randperm(self.n_rows, generator=generator, device=generator.device)
        for start in range(0, self.n_steps(batch_size) * batch_size, batch_size):
            yield self._take(order[start : start + batch_size])

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield each row once, in its order."""
        for start in range(0, self.n_rows, batch_size):
            stop = min(start + batch_size, self.n_rows)
            if isinstance(self.rows, tuple):
                yield tuple(part[start:stop] for part in self.rows)
            else:
                yield self._take(torch.arange(start, stop))

    def _take(self, index: Tensor) -> Batch:
        if isinstance(self.rows, tuple):
            return tuple(part.index_select(0, index) for part in self.rows)
        return to_batch(rows_at(self.rows, index.tolist()), self.device, self.dtype, "data")


class Batches(Source):
    """Batches that come as such, from a ``DataLoader`` or any other iterable.

    Parameters
    ----------
    batches : iterable
        Of tensors, of tuples of tensors, or of dictionaries with ``"data"`` and maybe
        ``"labels"``; arrays serve as well.
    model : Module
        Says device and type.
    name : str
        Of the parameter, for messages.
    """

    def __init__(self, batches: Iterable[Any], model: nn.Module, name: str = "data") -> None:
        self.device, self.dtype = device_and_dtype(model)
        self.batches, self.name = batches, name
        self.n_rows = _length(getattr(batches, "dataset", None)) or 0

    @property
    def passes_once(self) -> bool:
        """Whether a second pass would find nothing, as with a generator."""
        return isinstance(self.batches, Iterator)

    def n_steps(self, batch_size: int) -> int | None:
        """Return how many batches there are, if the iterable tells."""
        return _length(self.batches) or None

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches as they come, but for single rows among larger batches."""
        largest = 0
        for batch in self.in_order(batch_size):
            largest = max(largest, len(batch[0]))
            if len(batch[0]) > 1 or largest == 1:
                yield batch

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield the batches as they come."""
        n_rows = 0
        for batch in self.batches:
            tensors = to_batch(batch, self.device, self.dtype, self.name)
            n_rows += len(tensors[0])
            self.n_rows = max(self.n_rows, n_rows)
            yield tensors
        if not n_rows:
            raise ValueError(f"{self.name} gave no batch.")


def as_source(data: Data, model: nn.Module, *, n_epochs: int = 1, name: str = "data") -> Source:
    """Return what gives a model its batches.

    Raises
    ------
    TypeError, ValueError
        The data is none of what ``train`` takes, or ends after one pass of several.
    """
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, (Tensor, np.ndarray)):
        data = (data,)
    if isinstance(data, tuple):
        return Rows(data, model, name)
    if isinstance(data, IterableDataset) or (isinstance(data, Dataset) and _length(data) is None):
        raise TypeError(
            f"{name} is a {type(data).__name__}, which gives rows one by one and not by index: "
            "wrap it, DataLoader(dataset, batch_size=256)."
        )
    if isinstance(data, Dataset):
        return Rows(data, model, name)
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes, Mapping)):
        raise TypeError(
            f"{name} is a {type(data).__name__}, expected a tuple of tensors, a Dataset, or an "
            "iterable of batches such as a DataLoader."
        )
    source = Batches(data, model, name)
    if source.passes_once and n_epochs > 1:
        raise ValueError(
            f"{name} is a {type(data).__name__}, which ends after one pass, and n_epochs is "
            f"{n_epochs}: give an object whose __iter__ begins anew, such as a DataLoader or a "
            "list of batches, or ask for n_epochs=1."
        )
    return source


def rows_at(dataset: Any, index: list[int]) -> Any:
    """Return rows of a map-style dataset as a batch."""
    if type(dataset) is TensorDataset:
        return dataset[index]
    several = getattr(dataset, "__getitems__", None)
    rows = several(index) if callable(several) else [dataset[row] for row in index]
    return rows if isinstance(rows, Collated) else default_collate(rows)


def device_and_dtype(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return where a model computes, and in which type of floats."""
    tensors = [*model.parameters(), *model.buffers()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    if floats:
        return floats[0].device, floats[0].dtype
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, torch.get_default_dtype()


def to_batch(batch: Any, device: torch.device, dtype: torch.dtype, name: str) -> Batch:
    """Return a batch as a tuple of tensors: the rows, then what goes with them."""
    parts: Sequence[Any]
    if isinstance(batch, Mapping):
        if "data" not in batch:
            raise ValueError(f"A batch of {name} has the keys {sorted(batch)}, expected 'data'.")
        parts = [batch[key] for key in ("data", "labels") if key in batch]
    else:
        parts = batch if isinstance(batch, (tuple, list)) and len(batch) else [batch]
    return tuple(to_tensor(part, device, dtype, name) for part in parts)


def to_tensor(value: Any, device: torch.device, dtype: torch.dtype, name: str) -> Tensor:
    """Return a tensor or array on a device, with floats of one type."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.tensor(value)  # a copy: the array may be read-only
    if not isinstance(value, Tensor):
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value)
        raise TypeError(f"{name} holds {kind}, expected tensors or arrays of numbers.")
    return value.to(device, dtype if value.is_floating_point() else None)


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None
