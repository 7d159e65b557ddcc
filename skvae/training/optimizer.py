"""Adam and AdamW by torch's fused kernels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw


@dataclass
class _Group:
    parameters: list[Tensor]
    values: list[Tensor]  # the parameters' memory, outside of autograd
    weight_decay: float
    first_moments: list[Tensor]
    second_moments: list[Tensor]
    greatest_moments: list[Tensor]  # of the second, for amsgrad
    steps: list[Tensor]

    def state(self) -> tuple[list[Tensor], ...]:
        """Return what a step changes beside the parameters."""
        return self.first_moments, self.second_moments, self.greatest_moments, self.steps


class FusedAdam:
    """Adam or AdamW through torch's functional interface.

    ``torch.optim``'s classes import torch's compiler when the first of them is made: a second and
    more of CPU, longer than a small table takes to fit. The kernels are the same.

    Parameters
    ----------
    named_parameters : iterable of (str, Tensor)
        The parameters; those without ``requires_grad`` are left out.
    decoupled : bool
        Whether weight decay is decoupled (AdamW) and spares biases and norms, or is part of every
        parameter's gradient (Adam).
    weight_decay : float
        Its strength.
    betas : (float, float)
        Decay of the two moments.
    amsgrad : bool, default=False
        Whether steps are divided by the greatest second moment so far.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        *,
        decoupled: bool,
        weight_decay: float,
        betas: tuple[float, float],
        amsgrad: bool = False,
    ) -> None:
        named = [(name, p) for name, p in named_parameters if p.requires_grad]
        self.decoupled, self.betas, self.amsgrad = decoupled, betas, amsgrad
        decayed = [p for name, p in named if not (decoupled and _is_bias(name, p))]
        spared = [p for name, p in named if decoupled and _is_bias(name, p)]
        pairs = [(decayed, weight_decay), (spared, 0.0)]
        self.groups = [_make_group(group, decay, amsgrad) for group, decay in pairs if group]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move each parameter that has a gradient."""
        update = adamw if self.decoupled else adam
        for group in self.groups:
            moved = [i for i, p in enumerate(group.parameters) if p.grad is not None]
            update(
                [group.values[i] for i in moved],
                [grad for p in group.parameters if (grad := p.grad) is not None],
                [group.first_moments[i] for i in moved],
                [group.second_moments[i] for i in moved],
                [group.greatest_moments[i] for i in moved] if self.amsgrad else [],
                [group.steps[i] for i in moved],
                fused=True,
                amsgrad=self.amsgrad,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=learning_rate,
                weight_decay=group.weight_decay,
                eps=1e-8,
                maximize=False,
            )

    def state(self) -> list[Tensor]:
        """Return the moments and step counts of all parameters, the optimizer's own tensors."""
        return [tensor for group in self.groups for part in group.state() for tensor in part]


def _make_group(parameters: list[Tensor], weight_decay: float, amsgrad: bool) -> _Group:
    values = [p.detach() for p in parameters]
    return _Group(
        parameters,
        values,
        weight_decay,
        [torch.zeros_like(value) for value in values],
        [torch.zeros_like(value) for value in values],
        [torch.zeros_like(value) for value in values] if amsgrad else [],
        [torch.zeros((), device=value.device) for value in values],
    )


def _is_bias(name: str, parameter: Tensor) -> bool:
    return parameter.ndim < 2 or "bias" in name
