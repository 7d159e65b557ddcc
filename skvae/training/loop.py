"""The training loop: a fixed budget of steps over tensors in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from skvae.models.core import StepContext
from skvae.training.callbacks import Callback, CallbackList, EpochLog
from skvae.training.optimizer import FusedAdam
from skvae.training.subnormals import flushed_subnormals

Batch = tuple[Tensor, ...]
# After this many steps with a non-finite loss or gradient, skipped ones, the fit gives up.
MAX_BAD_STEPS = 5


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
        Rows in a step; the last batch of an epoch is skipped if it is under half of that.
    optimizer : {"adamw", "adam"}
        Weight decay is decoupled and spares biases in the first, part of the gradient in the
        second.
    learning_rate, weight_decay : float
        Of the optimizer.
    betas : (float, float)
        Decay of the optimizer's two moments.
    schedule : {"cosine", "constant"}
        Course of the learning rate after the warm-up.
    warmup_steps : int
        Steps over which the learning rate rises to its value.
    beta : float
        Weight of the divergence in the loss.
    beta_warmup_steps : int
        Steps over which that weight rises to its value.
    free_nats : float
        Divergence below which there is nothing to gain, nats a row.
    average_decay : float or None
        Decay of the running average of the weights, which is the model that comes out; None to
        take the last weights.
    max_grad_norm : float or None
        Norm to which the gradient is clipped.
    n_iter_no_change : int or None
        With validation data: stop after this many epochs without gain, and restore the best
        weights; None to run the whole budget.
    tol : float
        Least gain in validation loss that counts.
    """

    n_epochs: int
    max_steps: int | None = None
    batch_size: int = 256
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 100
    beta: float = 1.0
    beta_warmup_steps: int = 0
    free_nats: float = 0.0
    average_decay: float | None = None
    max_grad_norm: float | None = None
    n_iter_no_change: int | None = None
    tol: float = 0.0


@dataclass
class TrainingResult:
    """What a training run leaves beside the trained model.

    Attributes
    ----------
    history : list of dict
        One entry for each epoch: ``epoch``, ``loss``, its terms, ``learning_rate``, ``seconds``.
    n_epochs, n_steps : int
        Passes and optimizer steps made.
    best_epoch : int or None
        The epoch whose weights were restored, if early stopping did.
    n_skipped_steps : int
        Steps skipped for a non-finite loss or gradient.
    interrupted : bool
        Whether Ctrl-C ended the run and the best weights were restored.
    """

    history: list[EpochLog] = field(default_factory=list)
    n_epochs: int = 0
    n_steps: int = 0
    best_epoch: int | None = None
    n_skipped_steps: int = 0
    interrupted: bool = False


def train(
    model: nn.Module,
    data: Batch,
    config: TrainingConfig,
    *,
    generator: torch.Generator | None = None,
    validation_data: Batch | None = None,
    callbacks: Sequence[Callback | Callable[[EpochLog], Any]] = (),
) -> TrainingResult:
    """Train a model in place.

    Parameters
    ----------
    model : Module
        With ``training_loss(batch, context) -> LossResult``.
    data : tuple of Tensor of shape (n_rows, ...)
        The rows, on the model's device. Batches are drawn by index.
    config : TrainingConfig
        How to train.
    generator : torch.Generator, optional
        Source of all randomness: the order of rows and the latents drawn.
    validation_data : tuple of Tensor, optional
        Rows on which the loss is reported after each epoch, and early stopping decided.
    callbacks : sequence of Callback or function
        Told of each epoch; one that returns True ends the run.

    Returns
    -------
    TrainingResult

    Raises
    ------
    FloatingPointError
        The loss or its gradient was not finite in several steps.
    KeyboardInterrupt
        Ctrl-C, where early stopping holds no best weights to restore.
    """
    with flushed_subnormals():
        return _Run(model, data, config, generator, validation_data, callbacks).run()


def steps_per_epoch(n_rows: int, batch_size: int) -> int:
    """Return the steps in a pass over the rows; a last batch under half its size is skipped."""
    whole, rest = divmod(n_rows, min(batch_size, n_rows))
    return whole + (2 * rest >= batch_size)


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        model: nn.Module,
        data: Batch,
        config: TrainingConfig,
        generator: torch.Generator | None,
        validation_data: Batch | None,
        callbacks: Sequence[Callback | Callable[[EpochLog], Any]],
    ) -> None:
        # Any: what train() asks of a model beside being a module is in its docstring.
        self.model: Any = model
        self.data, self.config = data, config
        self.generator, self.validation_data = generator, validation_data
        self.callbacks = CallbackList(callbacks)
        self.parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = FusedAdam(
            model.named_parameters(),
            decoupled=config.optimizer == "adamw",
            weight_decay=config.weight_decay,
            betas=config.betas,
        )
        self.learning_rate = config.learning_rate
        self.n_rows = len(data[0])
        self.batch_size = min(config.batch_size, self.n_rows)
        self.steps_per_epoch = steps_per_epoch(self.n_rows, self.batch_size)
        self.total_steps = config.n_epochs * self.steps_per_epoch
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)
        self.n_epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.average = (
            [p.detach().clone() for p in self.parameters] if config.average_decay else None
        )
        self.best: list[Tensor] | None = None
        self.best_loss = math.inf
        self.result = TrainingResult()
        self.step = 0

    def run(self) -> TrainingResult:
        """Train until the budget, early stopping, a callback or an interrupt ends it."""
        self.model.train()
        try:
            self.callbacks.on_fit_begin(self.model, self.n_epochs)
            self._run_epochs()
        except KeyboardInterrupt:
            if self.best is None:
                raise
            self.result.interrupted = True
        finally:
            self.callbacks.on_fit_end()
        self._take_weights(self.best if self.best is not None else self.average)
        # The last steps may have broken the weights without there being time to notice.
        probe = tuple(tensor[: self.batch_size] for tensor in self.data)
        if not math.isfinite(evaluate(self.model, probe, beta=self.config.beta)):
            self._fail("loss not finite after it", self.result.n_epochs)
        self.model.eval()
        self.result.n_steps = self.step
        return self.result

    def _run_epochs(self) -> None:
        start = time.perf_counter()
        patience = None if self.validation_data is None else self.config.n_iter_no_change
        for epoch in range(1, self.n_epochs + 1):
            log: EpochLog = {"epoch": epoch, **self._train_epoch(epoch)}
            log["learning_rate"] = self.learning_rate
            if self.validation_data is not None:
                log["validation_loss"] = self._validate()
            log["seconds"] = time.perf_counter() - start
            self.result.history.append(log)
            self.result.n_epochs = epoch
            out_of_patience = patience is not None and self._out_of_patience(epoch, patience)
            # A copy: what a callback does to its log is its own affair.
            if self.callbacks.on_epoch_end(dict(log)) or out_of_patience:
                break

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Pass over the rows once; return the mean of the loss and its terms."""
        sums: dict[str, Tensor] = {}
        taken = 0
        for batch in self._batches():
            terms = self._train_step(batch, epoch)
            if terms is None:
                continue
            taken += 1
            for name, value in terms.items():
                sums[name] = sums[name] + value if name in sums else value
        if not taken:
            return {"loss": math.nan}
        return {name: float(value) / taken for name, value in sums.items()}

    def _batches(self) -> Iterator[Batch]:
        device = self.data[0].device
        order = torch.randperm(self.n_rows, generator=self.generator, device=device)
        n_steps = min(self.steps_per_epoch, self.total_steps - self.step)
        for start in range(0, n_steps * self.batch_size, self.batch_size):
            rows = order[start : start + self.batch_size]
            yield tuple(tensor[rows] for tensor in self.data)

    def _train_step(self, batch: Batch, epoch: int) -> dict[str, Tensor] | None:
        """Make one optimizer step; return its terms, or None if it had to be skipped."""
        config = self.config
        self._set_learning_rate()
        loss = self.model.training_loss(batch, self._context(epoch))
        self.optimizer.zero_grad()
        loss.objective.backward()
        limit = math.inf if config.max_grad_norm is None else config.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self.parameters, limit, foreach=True)
        self.step += 1
        if not math.isfinite((norm + loss.objective.detach()).item()):
            self._count_bad_step(loss.diagnostics, epoch)
            return None
        self.optimizer.step(self.learning_rate)
        project = getattr(self.model, "project_parameters", None)
        if project is not None:
            project()
        if self.average is not None and config.average_decay:
            decay = min(config.average_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        return {"loss": loss.objective.detach(), **loss.diagnostics}

    def _context(self, epoch: int) -> StepContext:
        config = self.config
        beta = config.beta
        if config.beta_warmup_steps:
            beta *= min(1.0, (self.step + 1) / config.beta_warmup_steps)
        return StepContext(
            epoch=epoch,
            n_epochs=self.n_epochs,
            step=self.step,
            n_steps=self.total_steps,
            n_rows=self.n_rows,
            beta=beta,
            free_nats=config.free_nats,
            generator=self.generator,
        )

    def _set_learning_rate(self) -> None:
        config = self.config
        rate = config.learning_rate
        if config.warmup_steps:
            rate *= min(1.0, (self.step + 1) / config.warmup_steps)
        if config.schedule == "cosine":
            rate *= 0.5 * (1.0 + math.cos(math.pi * self.step / self.total_steps))
        self.learning_rate = rate

    def _count_bad_step(self, diagnostics: dict[str, Tensor], epoch: int) -> None:
        self.result.n_skipped_steps += 1
        n_bad = self.result.n_skipped_steps
        if n_bad < min(MAX_BAD_STEPS, self.total_steps):
            return
        terms = [name for name, value in diagnostics.items() if not math.isfinite(float(value))]
        culprit = ", ".join(terms) if terms else "gradient"
        self._fail(f"{culprit} not finite in {n_bad} steps", epoch)

    def _fail(self, what: str, epoch: int) -> NoReturn:
        raise FloatingPointError(
            f"Training failed in epoch {epoch}: {what} "
            f"(learning_rate={self.config.learning_rate}). Try a smaller learning_rate, clip the "
            "gradient with max_grad_norm, or look for extreme values in the data."
        )

    def _validate(self) -> float:
        """Loss on the validation rows, of the averaged weights where there are any."""
        assert self.validation_data is not None
        current = None
        if self.average is not None:
            current = [p.detach().clone() for p in self.parameters]
            self._take_weights(self.average)
        loss = evaluate(self.model, self.validation_data, beta=self.config.beta, batch_size=4096)
        self._take_weights(current)
        self.model.train()
        return loss

    def _out_of_patience(self, epoch: int, patience: int) -> bool:
        loss = self.result.history[-1]["validation_loss"]
        if loss < self.best_loss - self.config.tol:
            self.best_loss = loss
            self.result.best_epoch = epoch
            weights = self.average if self.average is not None else self.parameters
            self.best = [weight.detach().clone() for weight in weights]
        assert self.result.best_epoch is not None or not math.isfinite(loss)
        return epoch - (self.result.best_epoch or 0) >= patience

    def _take_weights(self, weights: Sequence[Tensor] | None) -> None:
        if weights is not None:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, list(weights))


@torch.no_grad()
def evaluate(model: Any, data: Batch, *, beta: float = 1.0, batch_size: int = 4096) -> float:
    """Mean loss over rows, one latent a row, the same noise at each call.

    Parameters
    ----------
    model : Module
        As for ``train``; left in eval mode.
    data : tuple of Tensor of shape (n_rows, ...)
        The rows.
    beta : float, default=1
        Weight of the divergence.
    batch_size : int, default=4096
        Rows at a time.

    Returns
    -------
    float
        In nats a row, without free nats.
    """
    model.eval()
    n_rows, total = len(data[0]), 0.0
    generator = torch.Generator(data[0].device).manual_seed(0)
    for start in range(0, n_rows, batch_size):
        batch = tuple(tensor[start : start + batch_size] for tensor in data)
        context = StepContext(n_rows=n_rows, beta=beta, generator=generator)
        loss = model.training_loss(batch, context)
        total += float(loss.objective) * len(batch[0])
    return total / n_rows
