"""One training loop for every model, its schedules and its callbacks."""

from skvae.training.callbacks import (
    Callback,
    CallbackList,
    ConsoleLog,
    EarlyStopping,
    EpochLog,
    ProgressBar,
)
from skvae.training.checkpoint import Checkpoint
from skvae.training.config import TrainingConfig, TrainingResult
from skvae.training.data import steps_per_epoch
from skvae.training.evaluation import evaluate
from skvae.training.loop import train
from skvae.training.seeding import isolated_torch_seed
from skvae.training.trackers import MLflow, TensorBoard
from skvae.training.weights import LastWeights, TimeBudget, WeightedRows, steps_within

__all__ = [
    "Callback",
    "CallbackList",
    "Checkpoint",
    "ConsoleLog",
    "EarlyStopping",
    "EpochLog",
    "LastWeights",
    "MLflow",
    "ProgressBar",
    "TensorBoard",
    "TimeBudget",
    "TrainingConfig",
    "TrainingResult",
    "WeightedRows",
    "evaluate",
    "isolated_torch_seed",
    "steps_per_epoch",
    "steps_within",
    "train",
]
