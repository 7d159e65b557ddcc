"""One training loop for every model, its schedules and its callbacks."""

from skvae.training.callbacks import Callback, CallbackList, EpochLog, ProgressBar
from skvae.training.config import TrainingConfig, TrainingResult
from skvae.training.data import steps_per_epoch
from skvae.training.evaluation import evaluate
from skvae.training.loop import train

__all__ = [
    "Callback",
    "CallbackList",
    "EpochLog",
    "ProgressBar",
    "TrainingConfig",
    "TrainingResult",
    "evaluate",
    "steps_per_epoch",
    "train",
]
