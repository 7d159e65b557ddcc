"""What may watch a fit, and end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

EpochLog = dict[str, Any]


class Callback:
    """Base of callbacks: override what you need.

    A plain function that takes the log of an epoch serves as well: it is called after each epoch.
    """

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Before the first epoch."""

    def on_epoch_end(self, log: EpochLog) -> bool | None:
        """After each epoch; return True to end the fit.

        Parameters
        ----------
        log : dict
            ``epoch`` (from 1), ``loss`` and its terms (mean over the epoch, nats a row),
            ``learning_rate``, ``seconds`` since the fit began, and ``validation_loss`` where a
            validation split is scored.
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

    def on_fit_end(self) -> None:
        """Close the bar."""
        self._bar.close()


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

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Tell all."""
        for callback in self.callbacks:
            if isinstance(callback, Callback):
                callback.on_fit_begin(model, n_epochs)

    def on_epoch_end(self, log: EpochLog) -> bool:
        """Tell all; True if any wants to end the fit."""
        answers = [
            callback.on_epoch_end(log) if isinstance(callback, Callback) else callback(log)
            for callback in self.callbacks
        ]
        # Other answers, such as what a list's method returns, are no wish to end.
        return any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)

    def on_fit_end(self) -> None:
        """Tell all."""
        for callback in self.callbacks:
            if isinstance(callback, Callback):
                callback.on_fit_end()
