"""Who moves which parameters: the objective, and the players that have a loss of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from skvae.models.core import LossResult
from skvae.training.config import TrainingConfig
from skvae.training.optimizer import FusedAdam

# The player that owns what no other owns.
OBJECTIVE = "objective"


@dataclass
class Player:
    """Parameters that minimise one loss.

    Attributes
    ----------
    name : str
        As in the model's ``player_parameters``, or ``OBJECTIVE``.
    parameters : list of Tensor
        Those that are trained.
    optimizer : FusedAdam
        Of these parameters alone.
    rate_factor : float
        On the learning rate.
    """

    name: str
    parameters: list[Tensor]
    optimizer: FusedAdam
    rate_factor: float

    def clip(self, limit: float | None, scale: float = 1.0) -> Tensor:
        """Divide the gradient by ``scale``, clip it to a norm; return 0-d, finite if it was."""
        gradients = [grad for p in self.parameters if (grad := p.grad) is not None]
        if not gradients:
            return torch.zeros(())
        if limit is None and gradients[0].device.type in ("cpu", "cuda"):
            # Of torch's own GradScaler: a pass where the norm takes two.
            found = gradients[0].new_zeros(1, dtype=torch.float32)
            inverse = torch.full_like(found, 1 / scale)
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, inverse)
            return found.atanh_()[0]  # 0, or infinite
        if scale != 1.0:
            torch._foreach_mul_(gradients, 1 / scale)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if limit is not None:
            torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm


class Players:
    """All players of a model, each with its gradient and its optimizer.

    Parameters
    ----------
    model : Module
        Its ``player_parameters``, if it has such a method, say who owns what.
    config : TrainingConfig
        Of the optimizers.

    Raises
    ------
    ValueError
        A parameter has two owners or is not the model's, or the configuration names a player that
        is not there.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        owners = _owners(model)
        self.named = {name for name in owners.values() if name != OBJECTIVE}
        _check_factors(config.player_learning_rates, self.named)
        self.max_grad_norm = config.max_grad_norm
        self.parameters: list[Tensor] = list(owners)
        names = {p: name for name, p in model.named_parameters()}
        self.players = [
            Player(
                name,
                [p for p in owners if owners[p] == name],
                FusedAdam(
                    [(names[p], p) for p in owners if owners[p] == name],
                    decoupled=config.optimizer == "adamw",
                    weight_decay=config.weight_decay,
                    betas=config.betas,
                    amsgrad=config.amsgrad,
                ),
                config.player_learning_rates.get(name, 1.0),
            )
            for name in dict.fromkeys(owners.values())
        ]

    def state(self) -> list[list[Tensor]]:
        """Return the tensors of each player's optimizer."""
        return [player.optimizer.state() for player in self.players]

    def set_state(self, state: Sequence[Sequence[Tensor]]) -> None:
        """Overwrite what ``state`` returns."""
        for player, values in zip(self.players, state, strict=True):
            fill(player.optimizer.state(), values)

    def differentiate(self, loss: LossResult, scale: float = 1.0) -> list[Player]:
        """Set the gradient of each player's loss in its own parameters, and in no others.

        Parameters
        ----------
        loss : LossResult
            Of a step.
        scale : float, default=1.0
            Factor on all losses, of which ``clip`` must be told too.

        Returns
        -------
        list of Player
            Those that have a loss in this step; the others have no gradient.
        """
        self.forget_gradients()
        if not self.named:
            (loss.objective if scale == 1.0 else loss.objective * scale).backward()
            return self.players
        losses = self._losses(loss)
        moving = [player for player in self.players if losses[player.name] is not None]
        for player in moving:
            value = losses[player.name]
            assert value is not None
            gradients = torch.autograd.grad(
                value * scale,
                player.parameters,
                retain_graph=player is not moving[-1],
                allow_unused=True,
            )
            for parameter, gradient in zip(player.parameters, gradients, strict=True):
                parameter.grad = _laid_out_as(parameter, gradient)
        return moving

    def forget_gradients(self) -> None:
        """Free the memory of all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def _losses(self, loss: LossResult) -> dict[str, Tensor | None]:
        """Return each player's loss; None for those that sit this step out."""
        if not self.named <= loss.players.keys():
            missing = sorted(self.named - loss.players.keys())
            raise ValueError(
                f"player_parameters names {missing[0]!r}, but LossResult.players has "
                f"{sorted(loss.players)}: give its loss, or None to let it sit a step out."
            )
        return {OBJECTIVE: loss.objective, **loss.players}

    def clip(self, moving: list[Player], loss: LossResult, scale: float = 1.0) -> float:
        """Clip the gradients of players; return a number that is finite if all is well.

        That is, if each loss and each gradient is finite.
        """
        total = loss.objective.detach()
        for player in moving:
            total = total + player.clip(self.max_grad_norm, scale)
        for value in loss.players.values():
            if value is not None:
                total = total + value.detach()
        return total.item()

    def step(self, moving: list[Player], learning_rate: float) -> None:
        """Move the parameters of these players by one step of their optimizers."""
        for player in moving:
            player.optimizer.step(learning_rate * player.rate_factor)


def _laid_out_as(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Return a gradient with the strides of its parameter, as fused kernels take it to be."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def fill(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Overwrite tensors, wherever they are."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def non_finite_terms(loss: LossResult) -> list[str]:
    """Return the names of the diagnostics and the players' losses that are not finite.

    Or ``["loss"]``, where the objective is not for a reason that has no name.
    """
    named = {**loss.diagnostics, **loss.players}
    names = [
        name
        for name, value in named.items()
        if value is not None and not math.isfinite(value.item())
    ]
    return names if names or math.isfinite(loss.objective.item()) else ["loss"]


def _owners(model: nn.Module) -> dict[nn.Parameter, str]:
    """Return the player of each trained parameter, in the order of the model's parameters."""
    claimed: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(
                f"{name!r} of the model has no shape yet: call model.build(rows), or model(rows), "
                "on a few rows before training."
            )
    declare: Any = getattr(model, "player_parameters", dict)
    everything = set(model.parameters())
    for name, parameters in declare().items():
        if name == OBJECTIVE:
            raise ValueError(f"player_parameters: the name {name!r} is taken, choose another.")
        for parameter in parameters:
            if parameter not in everything:
                raise ValueError(
                    f"player_parameters: {name!r} has a parameter that is no part of the model."
                )
            other = claimed.setdefault(parameter, name)
            if other != name:
                raise ValueError(
                    f"player_parameters: {name!r} and {other!r} have a parameter in common."
                )
    return {p: claimed.get(p, OBJECTIVE) for p in model.parameters() if p.requires_grad}


def _check_factors(factors: Mapping[str, float], names: set[str]) -> None:
    for name in factors:
        if name not in names:
            there = f"has {sorted(names)}" if names else "has none"
            raise ValueError(
                f"player_learning_rates names {name!r}, but among its players the model {there}."
            )
