"""Adam and AdamW by torch's fused kernels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class _Group:
    parameters: list[Tensor]
    values: list[Tensor]  # the parameters' memory, outside of autograd
    weight_decay: float
    first_moments: list[Tensor]
    second_moments: list[Tensor]
    greatest_moments: list[Tensor]  # of the second, for amsgrad
    steps: Tensor  # how many each parameter has made, of shape (n_parameters,)

    def __post_init__(self) -> None:
        # The kernel takes a tensor for each parameter: a single addition moves them all on.
        self.columns = [
            self.values,
            self.first_moments,
            self.second_moments,
            self.greatest_moments,
            list(self.steps.unbind()),
        ]

    def state(self) -> list[Tensor]:
        """Return what a step changes beside the parameters."""
        return [*self.first_moments, *self.second_moments, *self.greatest_moments, self.steps]


class FusedAdam:
    """Adam or AdamW by the kernels beneath torch's own.

    ``torch.optim``'s classes import torch's compiler when the first of them is made: a second and
    more of CPU, longer than a small table takes to fit. And sorting tensors by device and type at
    each step costs small models as much as the step itself.

    Parameters
    ----------
    named_parameters : iterable of (str, Tensor)
        The parameters; those without ``requires_grad`` are left out. Their gradients must have
        their strides, as those of ``backward`` do.
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
        self.decoupled, self.betas, self.amsgrad = decoupled, betas, amsgrad
        alike: dict[tuple[float, torch.device, torch.dtype], list[Tensor]] = {}
        for name, p in named_parameters:
            if p.requires_grad:
                decay = 0.0 if decoupled and _is_bias(name, p) else weight_decay
                alike.setdefault((decay, p.device, p.dtype), []).append(p)
        self.groups = [_make_group(group, key[0], amsgrad) for key, group in alike.items()]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move each parameter that has a gradient."""
        update = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        for group in self.groups:
            gradients = [grad for p in group.parameters if (grad := p.grad) is not None]
            if not gradients:
                continue
            columns = group.columns
            if len(gradients) == len(group.parameters):
                group.steps += 1
            else:
                moved = [i for i, p in enumerate(group.parameters) if p.grad is not None]
                columns = [[column[i] for i in moved] if column else [] for column in columns]
                group.steps[moved] += 1
            values, first, second, greatest, steps = columns
            update(
                values,
                gradients,
                first,
                second,
                greatest,
                steps,
                lr=learning_rate,
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=group.weight_decay,
                eps=1e-8,
                amsgrad=self.amsgrad,
                maximize=False,
            )

    def state(self) -> list[Tensor]:
        """Return the moments and step counts of all parameters, the optimizer's own tensors."""
        return [tensor for group in self.groups for tensor in group.state()]


def _make_group(parameters: list[Tensor], weight_decay: float, amsgrad: bool) -> _Group:
    values = [p.detach() for p in parameters]
    return _Group(
        parameters,
        values,
        weight_decay,
        [torch.zeros_like(value) for value in values],
        [torch.zeros_like(value) for value in values],
        [torch.zeros_like(value) for value in values] if amsgrad else [],
        torch.zeros(len(values), device=values[0].device),
    )


def _is_bias(name: str, parameter: Tensor) -> bool:
    return parameter.ndim < 2 or "bias" in name
