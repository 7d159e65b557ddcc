"""Callbacks that tell experiment trackers of each epoch. The trackers are imported when used."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from torch import nn

from skvae.training.callbacks import Callback, EpochLog


def _import(module: str, package: str, user: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ImportError(
            f"{user} needs the package {package}, which is not installed: pip install {package}"
        ) from None


def _metrics(log: EpochLog) -> dict[str, float]:
    return {name: float(value) for name, value in log.items() if name != "epoch"}


class TensorBoard(Callback):
    """Write each number of an epoch's log for TensorBoard.

    Needs the package ``tensorboard``. Look at it by ``tensorboard --logdir log_dir``.

    Parameters
    ----------
    log_dir : str or path-like
        Folder of the run.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self.log_dir = log_dir
        self._writer: Any = None

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Open the folder."""
        _import("tensorboard", "tensorboard", "TensorBoard")
        writer = _import("torch.utils.tensorboard", "tensorboard", "TensorBoard").SummaryWriter
        self._writer = writer(os.fspath(self.log_dir))

    def on_epoch_end(self, log: EpochLog) -> bool | None:
        """Write the numbers."""
        for name, value in _metrics(log).items():
            self._writer.add_scalar(name, value, log["epoch"])
        return None

    def on_fit_end(self) -> None:
        """Close the folder."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


class MLflow(Callback):
    """Log each number of an epoch's log as a metric of an MLflow run.

    Needs the package ``mlflow``. Within a run that is active already, that one is used and left
    open; where runs are kept is for MLflow's own settings (``MLFLOW_TRACKING_URI``).

    Parameters
    ----------
    experiment : str, optional
        Name of the experiment to which a new run belongs; made if it is not there.
    run_name : str, optional
        Name of a new run.
    """

    def __init__(self, experiment: str | None = None, run_name: str | None = None) -> None:
        self.experiment, self.run_name = experiment, run_name
        self._mlflow: Any = None
        self._is_ours = False

    def on_fit_begin(self, model: nn.Module, n_epochs: int) -> None:
        """Start a run, unless there is one."""
        mlflow = _import("mlflow", "mlflow", "MLflow")
        self._is_ours = mlflow.active_run() is None
        if self._is_ours:
            mlflow.start_run(experiment_id=self._experiment_id(mlflow), run_name=self.run_name)
        self._mlflow = mlflow

    def _experiment_id(self, mlflow: Any) -> str | None:
        if self.experiment is None:
            return None
        found = mlflow.get_experiment_by_name(self.experiment)
        return mlflow.create_experiment(self.experiment) if found is None else found.experiment_id

    def on_epoch_end(self, log: EpochLog) -> bool | None:
        """Log the numbers."""
        self._mlflow.log_metrics(_metrics(log), step=log["epoch"])
        return None

    def on_fit_end(self) -> None:
        """End the run, if the callback started it."""
        if self._mlflow is not None and self._is_ours:
            self._mlflow.end_run()
        self._mlflow = None
