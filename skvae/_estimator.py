"""What the estimators share: seeds, device, the call of the training loop, state, presets."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources

import pandas as pd
import torch
from sklearn.base import BaseEstimator
from torch.utils.data import Subset

import skvae.models
from skvae._warnings import warn_user
from skvae.config import read_config
from skvae.training import (
    Callback,
    ProgressBar,
    TimeBudget,
    TrainingConfig,
    TrainingResult,
    WeightedRows,
    steps_within,
    train,
)
from skvae.training.seeding import isolated_torch_seed


def resolve_device(device: str) -> torch.device:
    """Return the torch device that a ``device`` parameter stands for.

    Raises
    ------
    ValueError
        The name is not a device, or the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={device!r} cannot be used: {reason}. Use 'auto', 'cpu', or a device that "
            "torch finds here."
        ) from None
    return resolved


class TorchEstimator(BaseEstimator):
    """Base of estimators around one torch module, ``model_``.

    The module travels as numpy arrays, so that a dump made on a GPU loads anywhere and holds no
    closures.
    """

    def __sklearn_is_fitted__(self):
        return hasattr(self, "model_")

    @classmethod
    def from_preset(cls, name, **params):
        """Build an estimator from a named set of parameters.

        Parameters
        ----------
        name : str
            Name of the preset.
        **params
            Parameters that override the preset's.

        Returns
        -------
        estimator
            Not fitted.

        Raises
        ------
        ValueError
            There is no preset of that name.
        """
        presets = load_presets(cls._preset_folder)
        if name not in presets:
            raise ValueError(f"Unknown preset {name!r}. The presets are {sorted(presets)}.")
        return cls(**{**presets[name], **params})

    def _build_model(self, spec: tuple[str, dict], seed: int) -> torch.nn.Module:
        """Build the module of ``skvae.models`` that a spec names, and keep the spec for dumps."""
        name, arguments = self._spec = spec
        if name not in skvae.models.__all__:
            raise ValueError(f"{name!r} is not a model of skvae.")
        with isolated_torch_seed(seed):
            return getattr(skvae.models, name)(**arguments).float()  # whatever torch's default is

    @contextmanager
    def _former_fit_kept(self) -> Iterator[None]:
        """Bring the estimator back to what it was where a fit is refused or fails."""
        before = dict(vars(self))
        try:
            yield
        except Exception:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _train(
        self,
        model: torch.nn.Module,
        data,
        make_config: Callable[[int], TrainingConfig],
        *,
        n_rows: int,
        seed: int,
        validation_fraction: float | None,
        resume_from=None,
        optimizer_state=None,
        weights: torch.Tensor | None = None,
        seconds: float | None = None,
        watcher: Callback | None = None,
    ) -> TrainingResult:
        """Run the loop, holding rows out if ``validation_fraction`` is not None.

        ``data`` is a tuple of tensors, or a dataset where rows are to be held out, or batches.
        ``make_config`` gets the number of rows that are left to train on. ``weights`` are those of
        rows that are a tuple of tensors; ``seconds`` is the time that the training may take;
        ``watcher`` is one more callback.
        """
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        held_out = None
        if validation_fraction is not None:
            n_held = min(max(1, round(validation_fraction * n_rows)), n_rows - 1)
            order = torch.randperm(n_rows, generator=generator, device=device)
            held_out, data = _rows_of(data, order[:n_held]), _rows_of(data, order[n_held:])
            n_rows -= n_held
            if weights is not None:
                counts = WeightedRows(held_out, weights[order[:n_held]], n_held, generator)
                held_out, weights = _rows_of(held_out, counts.draw()), weights[order[n_held:]]
        config = make_config(n_rows)
        if weights is not None:
            data = WeightedRows(data, weights, config.batch_size, generator)
        callbacks = [*(self.callbacks or ()), *([watcher] if watcher else [])]
        if seconds is not None:
            start = time.perf_counter()
            n_steps = steps_within(model, data, config, seconds, generator=generator)
            if config.max_steps is None or n_steps < config.max_steps:
                config = dataclasses.replace(config, max_steps=n_steps)
            callbacks.append(TimeBudget(seconds - (time.perf_counter() - start)))
        if self.verbose:
            callbacks.append(ProgressBar(type(self).__name__))
        return train(
            model,
            data,
            config,
            generator=generator,
            validation_data=held_out,
            callbacks=callbacks,
            resume_from=resume_from,
            optimizer_state=optimizer_state,
        )

    def _keep_moments(self, result: TrainingResult) -> None:
        """Keep where the optimizer stands, as arrays, for a fit that goes on."""
        self._optimizer_state = [
            [tensor.numpy(force=True) for tensor in player] for player in result.optimizer_state
        ]

    def _moments(self) -> list[list[torch.Tensor]] | None:
        """Return where the optimizer of the last fit stood, if it was kept."""
        state = getattr(self, "_optimizer_state", None)
        return state and [[torch.tensor(array) for array in player] for player in state]

    def _keep_history(self, result: TrainingResult) -> None:
        """Set ``history_``, ``loss_curve_`` and ``n_iter_``."""
        self.history_ = pd.DataFrame(result.history)
        self.loss_curve_ = self.history_["loss"].tolist()
        self.n_iter_ = result.n_epochs
        self.n_steps_ = result.n_steps
        self.n_skipped_steps_ = result.n_skipped_steps
        if result.interrupted:
            warn_user(
                f"The fit was interrupted after epoch {result.n_epochs}; the weights of epoch "
                f"{result.best_epoch}, the best so far, are kept."
            )
        if result.best_epoch is not None:
            self.best_epoch_ = result.best_epoch
        elif hasattr(self, "best_epoch_"):
            del self.best_epoch_  # of an earlier fit

    def __getstate__(self):
        state = super().__getstate__().copy()
        model = state.pop("model_", None)
        if model is not None:
            state["_model_state"] = {
                name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()
            }
        return state

    def __setstate__(self, state):
        state = dict(state)
        arrays = state.pop("_model_state", None)
        super().__setstate__(state)
        if arrays is not None:
            model = self._build_model(self._spec, seed=0)  # its weights are overwritten
            # Copies: arrays may come from a read-only memory map.
            model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in arrays.items()})
            self.model_ = model.eval().to(_available(self.device))


def _rows_of(data, index: torch.Tensor):
    """Return rows of a tuple of tensors, or of a dataset."""
    if isinstance(data, tuple):
        return tuple(tensor[index] for tensor in data)
    return Subset(data, index.tolist())


def _available(device: str) -> torch.device:
    """Return the device, or the CPU where a loaded estimator finds its device missing."""
    try:
        return resolve_device(device)
    except ValueError:
        return torch.device("cpu")


def load_presets(folder: str) -> dict[str, dict]:
    """Read the presets of an estimator, ``{name: parameters}``."""
    presets = {}
    for entry in resources.files("skvae").joinpath("presets", folder).iterdir():
        if entry.name.endswith(".json"):
            with resources.as_file(entry) as path:
                _, presets[entry.name.removesuffix(".json")] = read_config(path)
    return presets
