"""The whole state of a run in one file, from which it goes on as if it had never stopped."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from skvae._files import open_replacement
from skvae.training.callbacks import Callback

FORMAT = "skvae checkpoint"
FORMAT_VERSION = 1
# A run may be given a longer budget, and a machine without a compiler may go on with it.
MAY_DIFFER = {"n_epochs", "max_steps", "compile"}


class Checkpoint(Callback):
    """Write the state of a run to a file from which ``train(..., resume_from=path)`` goes on.

    The file takes the place of the one before it only once it is whole. It holds tensors and
    numbers: to read it runs no code.

    Parameters
    ----------
    path : str or path-like
        The file.
    every : int, default=1
        Epochs between two writings; after the last one, whatever ends the run but an error or
        Ctrl-C, the state is written too.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from torch import nn
    >>> from skvae.models import AE
    >>> from skvae.training import Checkpoint, TrainingConfig, train
    >>> data, config = (torch.ones(8, 4),), TrainingConfig(n_epochs=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/run.pt"
    ...     _ = train(
    ...         AE(nn.Linear(4, 2), nn.Linear(2, 4)),
    ...         data,
    ...         config,
    ...         callbacks=[Checkpoint(path), lambda log: log["epoch"] == 1],
    ...     )
    ...     result = train(AE(nn.Linear(4, 2), nn.Linear(2, 4)), data, config, resume_from=path)
    >>> [log["epoch"] for log in result.history]
    [1, 2]
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every={every}, expected at least 1 epoch.")
        self.path, self.every = path, every

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Refuse a folder that is not there, before hours are spent."""
        folder = os.path.dirname(os.path.abspath(self.path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"Checkpoint(path={os.fspath(self.path)!r}): there is no folder {folder!r}; make "
                "it first."
            )

    def on_state(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        """Write the file, if it is the epoch for it."""
        gathered = state()
        if epoch % self.every == 0 or gathered["is_over"]:
            write_checkpoint(self.path, gathered)


def write_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a state to a file that takes the place of ``path`` once it is whole."""
    with open_replacement(path) as file:
        torch.save({"format": FORMAT, "format_version": FORMAT_VERSION, **state}, file)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a state, its tensors on the CPU.

    Raises
    ------
    ValueError
        The file is not a checkpoint that this version reads.
    """
    stranger = ValueError(
        f"{os.fspath(path)!r} is not a checkpoint as skvae.training.Checkpoint writes it, or is "
        "damaged."
    )
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise stranger
        file.seek(0)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise stranger from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise stranger
    if state["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)!r} is in format version {state['format_version']}, expected up to "
            f"{FORMAT_VERSION}: update skvae."
        )
    return state


def check_same_run(saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse the state of a run of another model, configuration or table.

    Raises
    ------
    ValueError
        Names the first difference.
    """
    for name, there, now in _compared(saved, here):
        if there != now:
            raise ValueError(
                f"resume_from is a checkpoint of another run: {name} is {there} in it and {now} "
                "here. Make model, configuration and data as they were, or start anew without it."
            )


def _compared(saved: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, value in the file, value here) of all that must be the same."""
    yield "the model's class", saved["model"], here["model"]
    there, now = saved["weights"], here["weights"]
    for name in [*now, *(name for name in there if name not in now)]:
        yield f"the model's {name}", _kind(there.get(name)), _kind(now.get(name))
    yield "the model's division into players", saved["players"], here["players"]
    for name, now in here["config"].items():
        if name not in MAY_DIFFER:
            yield f"config.{name}", saved["config"].get(name, "absent"), now
    if here["n_rows"]:  # otherwise only a pass over the data can tell
        yield "the number of rows in data", saved["n_rows"], here["n_rows"]


def _kind(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
