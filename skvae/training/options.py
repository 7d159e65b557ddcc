"""How a loss is computed: in mixed precision, by torch's compiler, or as the model does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.parametrize import is_parametrized

from skvae.models.core import LossResult, StepContext
from skvae.training.config import TrainingConfig
from skvae.training.data import Batch

LossFunction = Callable[[Batch, StepContext], LossResult]
# Methods of models that a loss goes through.
_OF_THE_LOSS = {
    "training_loss",
    "compute_loss",
    "forward",
    "encode",
    "decode",
    "log_likelihood",
    "_bound",
}
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def loss_function(model: Any, config: TrainingConfig, device: torch.device) -> LossFunction:
    """Return the model's ``training_loss`` as the configuration wants it computed.

    Raises
    ------
    ValueError
        The precision is unknown, or cannot be used on this device.
    """
    if config.precision not in PRECISIONS:
        raise ValueError(f"precision={config.precision!r}, expected one of {sorted(PRECISIONS)}.")
    if config.precision == "float16" and device.type == "cpu":
        raise ValueError(
            "precision='float16' needs a GPU, and the model is on the CPU: move it, or use "
            "'bfloat16' or 'float32'."
        )
    loss: LossFunction = model.training_loss
    if config.compile:
        loss = CompiledLoss(loss)
    dtype = PRECISIONS[config.precision]
    return loss if dtype is None else MixedPrecisionLoss(loss, device.type, dtype)


def gradient_function(
    model: Any, config: TrainingConfig, device: torch.device
) -> LossFunction | None:
    """Return the model's ``training_gradient``, if it has one and it computes what is wanted.

    One that is inherited is left out where the loss, or what it is made of, is overridden, and any
    where weights are computed from others, as ``weight_norm`` has it.
    """
    if config.compile or config.precision != "float32" or torch.is_autocast_enabled(device.type):
        return None
    if any(map(is_parametrized, model.modules())):
        return None
    for own in (vars(model), *map(vars, type(model).__mro__)):
        if "training_gradient" in own:
            gradient: LossFunction | None = model.training_gradient
            return gradient
        if not _OF_THE_LOSS.isdisjoint(own):
            return None
    return None


class MixedPrecisionLoss:
    """A loss whose matrix products are computed in a short type of floats.

    Parameters
    ----------
    loss : callable
        A model's ``training_loss``.
    device_type : str
        Such as ``"cuda"``.
    dtype : dtype
        The short type.
    """

    def __init__(self, loss: LossFunction, device_type: str, dtype: torch.dtype) -> None:
        self.loss = loss
        self.autocast = torch.autocast(device_type, dtype=dtype)

    def __call__(self, batch: Batch, context: StepContext) -> LossResult:
        """Return the loss, with diagnostics in float32: sums of short floats would stand still."""
        with self.autocast:
            result = self.loss(batch, context)
        result.diagnostics = {name: value.float() for name, value in result.diagnostics.items()}
        return result


class CompiledLoss:
    """A loss that torch's compiler takes at its first call, or as it is where that fails.

    The model itself is left as it is.

    Parameters
    ----------
    loss : callable
        A model's ``training_loss``.
    """

    def __init__(self, loss: LossFunction) -> None:
        self.loss = loss
        self._usable: LossFunction | None = None

    def __call__(self, batch: Batch, context: StepContext) -> LossResult:
        """Return the loss."""
        if self._usable is not None:
            return self._usable(batch, context)
        compiled: Any = torch.compile(self.loss)
        try:
            result = compiled(batch, context)
        except Exception as error:  # a compiler fails in many ways
            result = self.loss(batch, context)  # if the model is at fault, it says so itself
            reason = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(
                f"compile=True: torch.compile failed here ({reason[0]}), and the run goes on "
                "without it.",
                RuntimeWarning,
                stacklevel=2,
            )
            self._usable = self.loss
            return result
        self._usable = compiled
        return result


@dataclass
class LossScale:
    """Factor on the losses that keeps gradients in float16 from vanishing [1]_.

    It halves when a gradient overflows, and doubles after ``growth_interval`` steps without.

    Attributes
    ----------
    value : float
        The factor.
    n_good_steps : int
        Since it changed.
    growth_interval : int
        Steps.

    References
    ----------
    .. [1] Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2.
    """

    value: float = 2.0**16
    n_good_steps: int = 0
    growth_interval: int = 2000

    def update(self, overflow: bool) -> None:
        """Take note of a step."""
        self.n_good_steps = 0 if overflow else self.n_good_steps + 1
        if overflow:
            self.value = max(1.0, self.value / 2)
        elif self.n_good_steps == self.growth_interval:
            self.value, self.n_good_steps = self.value * 2, 0
