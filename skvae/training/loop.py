"""The training loop: a fixed budget of steps over rows or batches."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from skvae.models.core import LossResult, StepContext
from skvae.training.callbacks import Callback, CallbackList, EpochLog
from skvae.training.checkpoint import check_same_run, read_checkpoint
from skvae.training.config import TrainingConfig, TrainingResult
from skvae.training.data import Batch, Data, Source, as_source, device_and_dtype
from skvae.training.evaluation import evaluate, evaluate_terms
from skvae.training.options import LossScale, gradient_function, loss_function
from skvae.training.players import Players, fill, non_finite_terms
from skvae.training.seeding import draw_seed, generator_on, isolated_torch_seed
from skvae.training.subnormals import flushed_subnormals

# After this many steps with a non-finite loss or gradient, skipped ones, the fit gives up.
MAX_BAD_STEPS = 5


def train(
    model: nn.Module,
    data: Data,
    config: TrainingConfig,
    *,
    generator: torch.Generator | None = None,
    validation_data: Data | None = None,
    callbacks: Sequence[Callback | Callable[[EpochLog], Any]] = (),
    resume_from: str | os.PathLike[str] | None = None,
    optimizer_state: Sequence[Sequence[Tensor]] | None = None,
) -> TrainingResult:
    """Train a model in place.

    The run has torch's default generators to itself: they are seeded from ``generator``, and the
    user's state is restored after it. Callbacks run with the user's state: what they draw changes
    nothing in the run.

    Parameters
    ----------
    model : Module
        With ``training_loss(batch, context) -> LossResult``, and ``player_parameters()`` where
        parts of it minimise a loss of their own. One without players may have
        ``training_gradient`` too, which returns the same and sets the gradient of each parameter:
        it is called instead, but for other precisions than float32 and torch's compiler, and
        not where a subclass overrides the loss alone.
    data : tuple of Tensor of shape (n_rows, ...), Dataset, or iterable of batches
        The rows, in an order drawn anew in each epoch: tensors, which is fastest, or a map-style
        dataset of tensors, of tuples of them, or of dictionaries with ``"data"`` and maybe
        ``"labels"``. Or batches of such rows in an order of their own, such as a ``DataLoader``,
        one pass an epoch; if it has no length, schedules go by epochs. Arrays serve as tensors.
        All is brought to the model's device, and floats to its type.
    config : TrainingConfig
        How to train.
    generator : torch.Generator, optional
        Source of all randomness: the order of rows and the latents drawn. Without one, the run
        starts from the state of torch's default generator.
    validation_data : tuple of Tensor, Dataset, or iterable of batches, optional
        Rows on which the loss is reported after each epoch, and early stopping decided.
    callbacks : sequence of Callback or function
        Told of each epoch; one that returns True ends the run.
    resume_from : str or path-like, optional
        A file of ``Checkpoint``. The run goes on from there, bit for bit as if it had not
        stopped, given the same model, data, generator and configuration; of the latter, the
        budget (``n_epochs``, ``max_steps``) may have changed. The random state of what is not
        torch's, and of generators that a ``DataLoader`` owns, is not in the file.
    optimizer_state : sequence of sequence of Tensor, optional
        That of an earlier result, for a model that learns on in another run.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TypeError, ValueError
        The data cannot be used, the configuration does not go with the model, or the checkpoint
        is one of another run.
    FloatingPointError
        The loss or its gradient was not finite in several steps.
    KeyboardInterrupt
        Ctrl-C, where early stopping holds no best weights to restore.
    """
    seed = None if generator is None else draw_seed(generator)
    device, _ = device_and_dtype(model)
    with flushed_subnormals(), isolated_torch_seed(seed, device) as randomness:
        run = _Run(model, data, config, generator, validation_data, callbacks, randomness)
        if resume_from is not None:
            run.resume(read_checkpoint(resume_from))
        elif optimizer_state is not None:
            run.players.set_state(optimizer_state)
        return run.run()


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        config: TrainingConfig,
        generator: torch.Generator | None,
        validation_data: Data | None,
        callbacks: Sequence[Callback | Callable[[EpochLog], Any]],
        randomness: isolated_torch_seed,
    ) -> None:
        # Any: what train() asks of a model beside being a module is in its docstring.
        self.model: Any = model
        self.config, self.randomness = config, randomness
        self.source = as_source(data, model, n_epochs=config.n_epochs)
        self.validation = None
        if validation_data is not None:
            self.validation = as_source(
                validation_data, model, n_epochs=config.n_epochs, name="validation_data"
            )
        self.generator = generator_on(self.source.device, generator)
        self.callbacks = CallbackList(callbacks)
        self.players = Players(model, config)
        self.loss = loss_function(model, config, self.source.device)
        self.gradient = gradient_function(model, config, self.source.device)
        self.loss_scale = LossScale() if config.precision == "float16" else None
        self.project = getattr(model, "project_parameters", None)
        self.learning_rate = config.learning_rate
        self.n_epochs, self.total_steps = self._budget()
        self.average = self._copy_weights() if config.average_decay else None
        self.best: list[Tensor] | None = None
        self.best_loss = math.inf
        self.result = TrainingResult()
        self.step = 0
        self.is_over = False
        self.last_batch: Batch | None = None

    def _budget(self) -> tuple[int, int | None]:
        """Return the most epochs, and the most steps where they are known."""
        config = self.config
        steps = self.source.n_steps(config.batch_size)
        if steps is None:
            return config.n_epochs, None
        total = config.n_epochs * steps
        if config.max_steps is not None:
            total = min(total, config.max_steps)
        return math.ceil(total / steps), total

    def run(self) -> TrainingResult:
        """Train until the budget, early stopping, a callback or an interrupt ends it."""
        self.model.train()
        try:
            with self.randomness.suspended():
                self.callbacks.on_fit_begin(self.model, self.n_epochs)
                if self.result.history:
                    self.callbacks.on_resume([dict(log) for log in self.result.history])
            self._run_epochs()
        except KeyboardInterrupt:
            if self.best is None:
                raise
            self.result.interrupted = True
        finally:
            # Of frozen parameters too, for which a gradient by hand may have been set.
            self.model.zero_grad()
            with self.randomness.suspended():
                self.callbacks.on_fit_end()
        self._take_weights(self.average)
        self._restore(self.best)
        # The last steps may have broken the weights without there being time to notice.
        if not self._ends_well():
            self._fail("loss not finite after it", self.result.n_epochs)
        self.model.eval()
        self.result.n_steps = self.step
        self.result.optimizer_state = self.players.state()
        return self.result

    def _ends_well(self) -> bool:
        if self.last_batch is None:
            return self.result.n_skipped_steps < self.step or not self.step
        return math.isfinite(evaluate(self.model, self.last_batch, beta=self.config.beta))

    def _run_epochs(self) -> None:
        history = self.result.history
        start = time.perf_counter() - (history[-1]["seconds"] if history else 0.0)
        for epoch in range(len(history) + 1, self.n_epochs + 1):
            if self._ends_early():
                break
            log: EpochLog = {"epoch": epoch, **self._train_epoch(epoch)}
            log["learning_rate"] = self.learning_rate
            if self.validation is not None:
                log.update(self._validate(self.validation))
            log["seconds"] = time.perf_counter() - start
            history.append(log)
            self.result.n_epochs = epoch
            with self.randomness.suspended():
                # A copy: what a callback does to its log is its own affair.
                stopped = self.callbacks.on_epoch_end(dict(log))
                self.is_over = stopped or epoch == self.n_epochs or self._ends_early()
                self.callbacks.on_state(epoch, self.state)
            if stopped:
                break

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Pass over the rows once; return the mean of the loss and its terms."""
        sums: dict[str, Tensor] = {}
        counts: Counter[str] = Counter()
        for batch in self.source.shuffled(self.config.batch_size, self.generator):
            terms = self._train_step(batch, epoch)
            if terms is not None:
                counts.update(terms.keys())
                for name, value in terms.items():
                    sums[name] = sums[name] + value if name in sums else value
            if self._budget_is_spent():
                break
        if not sums:
            return {"loss": math.nan}
        return {name: float(value) / counts[name] for name, value in sums.items()}

    def _train_step(self, batch: Batch, epoch: int) -> dict[str, Tensor] | None:
        """Make one optimizer step; return its terms, or None if it had to be skipped."""
        config = self.config
        progress = self._progress(epoch, self.step)
        self.learning_rate = config.learning_rate_at(self.step, progress, self.total_steps)
        scale = 1.0 if self.loss_scale is None else self.loss_scale.value
        if self.gradient is not None:
            loss, moving = self.gradient(batch, self._context(epoch)), self.players.players
        else:
            loss = self.loss(batch, self._context(epoch))
            moving = self.players.differentiate(loss, scale)
        finite = math.isfinite(self.players.clip(moving, loss, scale))
        self.step += 1
        if self.loss_scale is not None:
            self.loss_scale.update(overflow=not finite)
        if not finite:
            # Gradients that overflow are float16's affair as long as the scale can shrink.
            if scale == 1.0 or non_finite_terms(loss):
                self._count_bad_step(loss, epoch)
            return None
        self.last_batch = batch
        self.players.step(moving, self.learning_rate)
        if self.project is not None:
            self.project()
        if self.average is not None and config.average_decay:
            decay = min(config.average_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.average, self._weights(), 1 - decay)
        return {"loss": loss.objective.detach(), **loss.diagnostics}

    def _progress(self, epoch: int, step: int) -> float:
        """Return the share of the run that lies before a step, in [0, 1].

        By epochs, where no more is known.
        """
        # Time that is up before the first step does not leave that one without a learning rate.
        told = self.callbacks.progress() if self.step else 0.0
        if self.total_steps is not None:
            return min(1.0, max(step / self.total_steps, told))
        of_steps = step / self.config.max_steps if self.config.max_steps else 0.0
        return min(1.0, max((epoch - 1) / self.n_epochs, of_steps, told))

    def _ends_early(self) -> bool:
        return self._budget_is_spent() or self._out_of_patience()

    def _budget_is_spent(self) -> bool:
        if self.config.max_steps is not None and self.step >= self.config.max_steps:
            return True
        return self.step > 0 and self.callbacks.progress() >= 1.0

    def _context(self, epoch: int) -> StepContext:
        # A weight that rises by epochs has come as far as the epoch's end from its first step on.
        progress = self._progress(epoch + 1, self.step + 1)
        return StepContext(
            epoch=epoch,
            n_epochs=self.n_epochs,
            step=self.step,
            # Where nobody knows, as many as there will be if all epochs are as long.
            n_steps=self.total_steps or math.ceil((self.step + 1) * self.n_epochs / epoch),
            n_rows=self.source.n_rows,
            beta=self.config.beta_at(self.step, progress, self.total_steps),
            free_nats=self.config.free_nats,
            generator=self.generator,
        )

    def _count_bad_step(self, loss: LossResult, epoch: int) -> None:
        self.result.n_skipped_steps += 1
        n_bad = self.result.n_skipped_steps
        if n_bad < min(MAX_BAD_STEPS, self.total_steps or MAX_BAD_STEPS):
            return
        culprit = ", ".join(non_finite_terms(loss)) or "gradient"
        self._fail(f"{culprit} not finite in {n_bad} steps", epoch)

    def _fail(self, what: str, epoch: int) -> NoReturn:
        raise FloatingPointError(
            f"Training failed in epoch {epoch}: {what} "
            f"(learning_rate={self.config.learning_rate}). Try a smaller learning_rate, clip the "
            "gradient with max_grad_norm, or look for extreme values in the data."
        )

    def _validate(self, source: Source) -> dict[str, float]:
        """Loss and terms on the validation rows, of the averaged weights where there are any.

        Keeps the state that early stopping will restore if it is the best so far.
        """
        current = self._copy_weights() if self.average is not None else None
        self._take_weights(self.average)
        terms = evaluate_terms(self.model, source, beta=self.config.beta)
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
        if patience is None or self.validation is None:
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

    def state(self) -> dict[str, Any]:
        """Return all that the run needs to go on; called by callbacks, after an epoch."""
        return {
            **self._identity(),
            "optimizers": self.players.state(),
            "average": self.average,
            "best": self.best,
            "best_loss": self.best_loss,
            "best_epoch": self.result.best_epoch,
            "loss_scale": None if self.loss_scale is None else asdict(self.loss_scale),
            "step": self.step,
            "is_over": self.is_over,
            "n_skipped_steps": self.result.n_skipped_steps,
            "history": self.result.history,
            "device": self.source.device.type,
            # The run's own: callbacks have the user's in place.
            "default_generators": self.randomness.states,
            "generator": self.generator.get_state(),
        }

    def _identity(self) -> dict[str, Any]:
        """Return what tells this run from others, with the weights."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        return {
            "model": type(self.model).__qualname__,
            "players": {
                player.name: [names[parameter] for parameter in player.parameters]
                for player in self.players.players
            },
            "config": asdict(self.config),
            "n_rows": self.source.n_rows,
            "weights": self.model.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state that ``state`` gathered in an earlier run."""
        check_same_run(state, self._identity())
        self.model.load_state_dict(state["weights"])
        self.players.set_state(state["optimizers"])
        if self.average is not None:
            fill(self.average, state["average"])
        if state["best"] is not None:
            self.best = [tensor.to(self.source.device) for tensor in state["best"]]
        self.best_loss, self.result.best_epoch = state["best_loss"], state["best_epoch"]
        if state["loss_scale"] is not None:
            self.loss_scale = LossScale(**state["loss_scale"])
        self.source.n_rows = state["n_rows"]
        self.step, self.result.n_skipped_steps = state["step"], state["n_skipped_steps"]
        self.result.history = state["history"]
        self.result.n_epochs = len(self.result.history)
        if state["device"] == self.source.device.type:
            self.randomness.go_on_from(state["default_generators"])
            self.generator.set_state(state["generator"])
        else:
            warnings.warn(
                f"resume_from was written on {state['device']!r} and the model is on "
                f"{self.source.device.type!r}: the run goes on, with other random numbers.",
                UserWarning,
                stacklevel=3,
            )
