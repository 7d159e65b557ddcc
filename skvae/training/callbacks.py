"""What may watch a fit, and end it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np

if TYPE_CHECKING:
    from torch import nn

EpochLog = dict[str, Any]


class Callback:
    """Base of callbacks: override what you need.

    A plain function that takes the log of an epoch serves as well: it is called after each epoch.
    Callbacks run with the user's random state and not the run's: what they draw changes nothing
    in the run.
    """

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Before the first epoch."""

    def on_resume(self, history: Sequence[EpochLog]) -> None:
        """Before the first epoch of a run that goes on from a checkpoint.

        Parameters
        ----------
        history : sequence of dict
            The logs of the epochs that are made already.
        """

    def progress(self) -> float:
        """Return the share of the fit that is over, by what the callback goes by; asked each step.

        The learning rate has run its course, and the fit ends, within an epoch too, at 1. It is
        asked with the run's random state: draw nothing.
        """
        return 0.0

    def on_epoch_end(self, log: EpochLog) -> bool | None:
        """After each epoch; return True to end the fit.

        Parameters
        ----------
        log : dict
            ``epoch`` (from 1), ``loss`` and its terms (mean over the epoch, nats a row),
            ``learning_rate``, ``seconds`` since the fit began, and where a validation split is
            scored ``validation_loss`` and its terms, ``validation_...``.
        """

    def on_state(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        """After each epoch, once all callbacks know its log.

        Parameters
        ----------
        epoch : int
            From 1.
        state : function
            Gathers all that the run needs to go on from here. Its tensors are the run's own:
            write or copy them before you return.
        """

    def on_fit_end(self) -> None:
        """After the last epoch, also when an error or an interrupt ended the fit."""


class ProgressBar(Callback):
    """A tqdm bar over epochs with the loss beside it."""

    def __init__(self, description: str = "fit") -> None:
        self.description = description
        self._bar: Any = None

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Open the bar."""
        from tqdm.auto import tqdm

        self._bar = tqdm(total=n_epochs, desc=self.description, unit="epoch")

    def on_epoch_end(self, log: EpochLog) -> bool | None:
        """Advance by one epoch."""
        shown = {"loss": f"{log['loss']:.3f}"}
        if "validation_loss" in log:
            shown["validation"] = f"{log['validation_loss']:.3f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()
        return None

    def on_resume(self, history: Sequence[EpochLog]) -> None:
        """Advance by the epochs that are made already."""
        self._bar.update(len(history))

    def on_fit_end(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class ConsoleLog(Callback):
    """Print a line an epoch, with each term of its log.

    Parameters
    ----------
    stream : text file, optional
        Where to; by default standard output.

    Examples
    --------
    >>> from skvae.training import ConsoleLog
    >>> log = ConsoleLog()
    >>> log.on_fit_begin(None, n_epochs=20)
    >>> log.on_epoch_end({"epoch": 9, "loss": 12.5, "learning_rate": 0.001})
    epoch  9/20  loss       12.5  learning_rate      0.001
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self._n_epochs = 0

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Learn how many epochs there will be."""
        self._n_epochs = n_epochs

    def on_epoch_end(self, log: EpochLog) -> bool | None:
        """Print the line."""
        width = len(str(self._n_epochs))
        parts = [f"epoch {log['epoch']:>{width}}/{self._n_epochs}"]
        parts += [f"{name} {value:>10.5g}" for name, value in log.items() if name != "epoch"]
        print("  ".join(parts), file=self.stream, flush=True)
        return None


class EarlyStopping(Callback):
    """End the fit when a column of the history has not improved for some epochs.

    It keeps the last weights; ``TrainingConfig.n_iter_no_change`` brings back the best.

    Parameters
    ----------
    monitor : str, default="validation_loss"
        The column.
    patience : int, default=10
        Epochs to wait for an improvement.
    min_delta : float, default=0.0
        Least improvement that counts.
    mode : {"min", "max"}, default="min"
        Whether low or high values are good.

    Attributes
    ----------
    best : float
        The best value so far.
    best_epoch : int
        Its epoch, 0 before the first.

    Examples
    --------
    >>> from skvae.training import EarlyStopping
    >>> stopping = EarlyStopping("elbo", patience=2, mode="max")
    >>> stopping.on_fit_begin(None, n_epochs=20)
    >>> bounds = enumerate([-9.0, -8.0, -8.5, -8.2], start=1)
    >>> logs = [{"epoch": epoch, "loss": -bound, "elbo": bound} for epoch, bound in bounds]
    >>> [stopping.on_epoch_end(log) for log in logs]
    [False, False, False, True]
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r}, expected 'min' or 'max'.")
        if patience < 1:
            raise ValueError(f"patience={patience}, expected at least 1 epoch.")
        self.monitor, self.patience = monitor, patience
        self.min_delta, self.mode = min_delta, mode
        self._forget()

    def _forget(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = 0

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Forget an earlier fit."""
        self._forget()

    def on_resume(self, history: Sequence[EpochLog]) -> None:
        """Take in the epochs that are made already."""
        for log in history:
            self.on_epoch_end(log)

    def on_epoch_end(self, log: EpochLog) -> bool:
        """Compare; True once patience has run out."""
        # An epoch without a good step has nothing to show.
        if self.monitor not in log and not math.isnan(log["loss"]):
            raise ValueError(
                f"monitor={self.monitor!r} is no column of the history, which has {sorted(log)}."
            )
        value = log.get(self.monitor, math.nan)
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch = value, log["epoch"]
        return log["epoch"] - self.best_epoch >= self.patience


class CallbackList(Callback):
    """Several callbacks as one; plain functions are wrapped."""

    def __init__(self, callbacks: Sequence[Callback | Callable[[EpochLog], Any]]) -> None:
        for callback in callbacks:
            if isinstance(callback, type) or not (
                callable(callback) or isinstance(callback, Callback)
            ):
                raise TypeError(
                    f"callbacks must be Callback objects or functions of one epoch's log, got "
                    f"{callback!r}."
                )
        self.callbacks = list(callbacks)
        # Most go by nothing, and a step is short.
        self._paced = [c for c in self._objects() if type(c).progress is not Callback.progress]

    def progress(self) -> float:
        """Return that of the one that is furthest."""
        return max(callback.progress() for callback in self._paced) if self._paced else 0.0

    def _objects(self) -> list[Callback]:
        return [callback for callback in self.callbacks if isinstance(callback, Callback)]

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Tell all."""
        for callback in self._objects():
            callback.on_fit_begin(model, n_epochs)

    def on_epoch_end(self, log: EpochLog) -> bool:
        """Tell all; True if any wants to end the fit."""
        answers = [
            callback.on_epoch_end(log) if isinstance(callback, Callback) else callback(log)
            for callback in self.callbacks
        ]
        # Other answers, such as what a list's method returns, are no wish to end.
        return any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)

    def on_resume(self, history: Sequence[EpochLog]) -> None:
        """Tell all."""
        for callback in self._objects():
            callback.on_resume(history)

    def on_state(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        """Tell all."""
        for callback in self._objects():
            callback.on_state(epoch, state)

    def on_fit_end(self) -> None:
        """Tell all."""
        for callback in self._objects():
            callback.on_fit_end()
