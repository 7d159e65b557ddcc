"""The training loop: a fixed budget of steps over tensors in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from skvae.models.core import LossResult, StepContext
from skvae.training.callbacks import Callback, CallbackList, EpochLog
from skvae.training.config import TrainingConfig, TrainingResult
from skvae.training.evaluation import evaluate, evaluate_terms
from skvae.training.players import Players, non_finite_terms
from skvae.training.seeding import draw_seed, generator_on, isolated_torch_seed
from skvae.training.subnormals import flushed_subnormals

Batch = tuple[Tensor, ...]
# After this many steps with a non-finite loss or gradient, skipped ones, the fit gives up.
MAX_BAD_STEPS = 5


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

    The run has torch's default generators to itself: they are seeded from ``generator``, and the
    user's state is restored after it. Callbacks run with the user's state: what they draw changes
    nothing in the run.

    Parameters
    ----------
    model : Module
        With ``training_loss(batch, context) -> LossResult``, and ``player_parameters()`` where
        parts of it minimise a loss of their own.
    data : tuple of Tensor of shape (n_rows, ...)
        The rows, on the model's device. Batches are drawn by index.
    config : TrainingConfig
        How to train.
    generator : torch.Generator, optional
        Source of all randomness: the order of rows and the latents drawn. Without one, the run
        starts from the state of torch's default generator.
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
    seed = None if generator is None else draw_seed(generator)
    with flushed_subnormals(), isolated_torch_seed(seed, data[0].device) as randomness:
        run = _Run(model, data, config, generator, validation_data, callbacks, randomness)
        return run.run()


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
        randomness: isolated_torch_seed,
    ) -> None:
        # Any: what train() asks of a model beside being a module is in its docstring.
        self.model: Any = model
        self.data, self.config = data, config
        self.validation_data, self.randomness = validation_data, randomness
        self.generator = generator_on(data[0].device, generator)
        self.callbacks = CallbackList(callbacks)
        self.players = Players(model, config)
        self.project = getattr(model, "project_parameters", None)
        self.learning_rate = config.learning_rate
        self.n_rows = len(data[0])
        self.batch_size = min(config.batch_size, self.n_rows)
        self.steps_per_epoch = steps_per_epoch(self.n_rows, self.batch_size)
        self.total_steps = config.n_epochs * self.steps_per_epoch
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)
        self.n_epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.average = self._copy_weights() if config.average_decay else None
        self.best: list[Tensor] | None = None
        self.best_loss = math.inf
        self.result = TrainingResult()
        self.step = 0

    def run(self) -> TrainingResult:
        """Train until the budget, early stopping, a callback or an interrupt ends it."""
        self.model.train()
        try:
            with self.randomness.suspended():
                self.callbacks.on_fit_begin(self.model, self.n_epochs)
            self._run_epochs()
        except KeyboardInterrupt:
            if self.best is None:
                raise
            self.result.interrupted = True
        finally:
            with self.randomness.suspended():
                self.callbacks.on_fit_end()
        self._take_weights(self.average)
        self._restore(self.best)
        # The last steps may have broken the weights without there being time to notice.
        probe = tuple(tensor[: self.batch_size] for tensor in self.data)
        if not math.isfinite(evaluate(self.model, probe, beta=self.config.beta)):
            self._fail("loss not finite after it", self.result.n_epochs)
        self.model.eval()
        self.result.n_steps = self.step
        return self.result

    def _run_epochs(self) -> None:
        start = time.perf_counter()
        for epoch in range(1, self.n_epochs + 1):
            log: EpochLog = {"epoch": epoch, **self._train_epoch(epoch)}
            log["learning_rate"] = self.learning_rate
            if self.validation_data is not None:
                log.update(self._validate(self.validation_data))
            log["seconds"] = time.perf_counter() - start
            self.result.history.append(log)
            self.result.n_epochs = epoch
            with self.randomness.suspended():
                # A copy: what a callback does to its log is its own affair.
                stopped = self.callbacks.on_epoch_end(dict(log))
            if stopped or self._out_of_patience():
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
        self.learning_rate = config.learning_rate_at(self.step, self.step / self.total_steps)
        loss = self.model.training_loss(batch, self._context(epoch))
        moving = self.players.differentiate(loss)
        finite = math.isfinite(self.players.clip(moving, loss))
        self.step += 1
        if not finite:
            self._count_bad_step(loss, epoch)
            return None
        self.players.step(moving, self.learning_rate)
        if self.project is not None:
            self.project()
        if self.average is not None and config.average_decay:
            decay = min(config.average_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.average, self._weights(), 1 - decay)
        return {"loss": loss.objective.detach(), **loss.diagnostics}

    def _context(self, epoch: int) -> StepContext:
        return StepContext(
            epoch=epoch,
            n_epochs=self.n_epochs,
            step=self.step,
            n_steps=self.total_steps,
            n_rows=self.n_rows,
            beta=self.config.beta_at(self.step),
            free_nats=self.config.free_nats,
            generator=self.generator,
        )

    def _count_bad_step(self, loss: LossResult, epoch: int) -> None:
        self.result.n_skipped_steps += 1
        n_bad = self.result.n_skipped_steps
        if n_bad < min(MAX_BAD_STEPS, self.total_steps):
            return
        culprit = ", ".join(non_finite_terms(loss)) or "gradient"
        self._fail(f"{culprit} not finite in {n_bad} steps", epoch)

    def _fail(self, what: str, epoch: int) -> NoReturn:
        raise FloatingPointError(
            f"Training failed in epoch {epoch}: {what} "
            f"(learning_rate={self.config.learning_rate}). Try a smaller learning_rate, clip the "
            "gradient with max_grad_norm, or look for extreme values in the data."
        )

    def _validate(self, data: Batch) -> dict[str, float]:
        """Loss and terms on the validation rows, of the averaged weights where there are any.

        Keeps the state that early stopping will restore if it is the best so far.
        """
        current = self._copy_weights() if self.average is not None else None
        self._take_weights(self.average)
        terms = evaluate_terms(self.model, data, beta=self.config.beta)
        patient = self.config.n_iter_no_change is not None
        if patient and terms["loss"] < self.best_loss - self.config.tol:
            self.best_loss = terms["loss"]
            self.result.best_epoch = len(self.result.history) + 1
            self.best = [tensor.detach().clone() for tensor in self._held_tensors()]
        self._take_weights(current)
        self.model.train()
        return {f"validation_{name}": value for name, value in terms.items()}

    def _out_of_patience(self) -> bool:
        patience = self.config.n_iter_no_change
        if patience is None or self.validation_data is None:
            return False
        return self.result.n_epochs - (self.result.best_epoch or 0) >= patience

    def _weights(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self.players.parameters]

    def _copy_weights(self) -> list[Tensor]:
        return [weight.clone() for weight in self._weights()]

    def _take_weights(self, weights: Sequence[Tensor] | None) -> None:
        if weights is not None:
            torch._foreach_copy_(self._weights(), list(weights))

    def _held_tensors(self) -> list[Tensor]:
        """Return what early stopping brings back: weights, and the buffers that go with them."""
        return [*self._weights(), *self.model.buffers()]

    def _restore(self, tensors: Sequence[Tensor] | None) -> None:
        if tensors is not None:
            with torch.no_grad():
                torch._foreach_copy_(self._held_tensors(), list(tensors))
