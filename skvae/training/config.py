"""How to train, and what a training run leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from skvae.training.callbacks import EpochLog


@dataclass
class TrainingConfig:
    """How to train.

    Attributes
    ----------
    n_epochs : int
        Passes over the data.
    max_steps : int or None
        Most optimizer steps: the last pass may end early.
    batch_size : int
        Rows in a step; the last batch of an epoch is skipped if it is under half of that, or a
        single row. Data that comes in batches keeps its own.
    optimizer : {"adamw", "adam"}
        Weight decay is decoupled and spares biases in the first, part of the gradient in the
        second.
    learning_rate, weight_decay : float
        Of the optimizer.
    betas : (float, float)
        Decay of the optimizer's two moments.
    amsgrad : bool
        Whether steps are divided by the greatest second moment so far (Reddi et al. 2018).
    player_learning_rates : dict of str to float
        Factors on the learning rate of the model's players, by their names in the model's
        ``player_parameters``; 1 for those that are not named.
    schedule : {"cosine", "constant"}
        Course of the learning rate after the warm-up.
    warmup_steps : int
        Steps over which the learning rate rises to its value.
    warmup_share : float or None
        Greatest share of the run's steps for that, where their number is known; None for no limit.
    beta : float
        Weight of the divergence in the loss.
    beta_warmup_steps : int
        Steps over which that weight rises to its value.
    beta_warmup_share : float or None
        Share of the run for that instead, in steps, or in epochs where the number of steps is not
        known; None to go by ``beta_warmup_steps``.
    free_nats : float
        Divergence below which there is nothing to gain, nats a row.
    average_decay : float or None
        Decay of the running average of the weights, which is the model that comes out; None to
        take the last weights.
    max_grad_norm : float or None
        Norm to which the gradient is clipped, that of each player by itself.
    n_iter_no_change : int or None
        With validation data: stop after this many epochs without gain, and restore the best
        weights; None to run the whole budget.
    tol : float
        Least gain in validation loss that counts.
    precision : {"float32", "bfloat16", "float16"}
        Type of floats in which the networks compute in training; weights keep theirs, which
        ``"float32"`` stands for whatever it is. ``"float16"`` needs a GPU.
    compile : bool
        Whether torch's compiler takes the loss: it costs minutes at first and pays in long runs.
        Where it does not work, a warning says so and the run goes on without.
    """

    n_epochs: int
    max_steps: int | None = None
    batch_size: int = 256
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    amsgrad: bool = False
    player_learning_rates: dict[str, float] = field(default_factory=dict)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 100
    warmup_share: float | None = None
    beta: float = 1.0
    beta_warmup_steps: int = 0
    beta_warmup_share: float | None = None
    free_nats: float = 0.0
    average_decay: float | None = None
    max_grad_norm: float | None = None
    n_iter_no_change: int | None = None
    tol: float = 0.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False

    def learning_rate_at(self, step: int, progress: float, n_steps: int | None = None) -> float:
        """Return the learning rate of a step, from 0, at a place in [0, 1] of the whole run.

        ``n_steps`` are those of the run, if their number is known.
        """
        rate, warmup = self.learning_rate, self.warmup_steps
        if self.warmup_share is not None and n_steps is not None:
            warmup = min(warmup, int(self.warmup_share * n_steps))
        if warmup:
            rate *= min(1.0, (step + 1) / warmup)
        if self.schedule == "cosine":
            rate *= 0.5 * (1.0 + math.cos(math.pi * progress))
        return rate

    def beta_at(self, step: int, progress: float = 0.0, n_steps: int | None = None) -> float:
        """Return the weight of the divergence in a step, from 0.

        ``progress`` is the share of the run that is done with it, and ``n_steps`` are those of the
        run, if their number is known.
        """
        share, warmup = self.beta_warmup_share, self.beta_warmup_steps
        if share is not None and n_steps is None:
            return self.beta * min(1.0, progress / share) if share else self.beta
        if share is not None and n_steps is not None:
            warmup = round(share * n_steps)
        return self.beta * min(1.0, (step + 1) / warmup) if warmup else self.beta


@dataclass
class TrainingResult:
    """What a training run leaves beside the trained model.

    Attributes
    ----------
    history : list of dict
        One entry for each epoch: ``epoch``, ``loss`` and its terms (means over the steps),
        ``learning_rate``, with validation data ``validation_loss`` and ``validation_`` before
        each term's name (means over the rows), and ``seconds`` since the run began.
    n_epochs, n_steps : int
        Passes and optimizer steps made.
    best_epoch : int or None
        The epoch whose weights were restored, if early stopping did.
    n_skipped_steps : int
        Steps skipped for a non-finite loss or gradient.
    interrupted : bool
        Whether Ctrl-C ended the run and the best weights were restored.
    optimizer_state : list of list of Tensor
        The optimizers' moments after the last step, for ``train``.
    """

    history: list[EpochLog] = field(default_factory=list)
    n_epochs: int = 0
    n_steps: int = 0
    best_epoch: int | None = None
    n_skipped_steps: int = 0
    interrupted: bool = False
    optimizer_state: list[list[Tensor]] = field(default_factory=list)
