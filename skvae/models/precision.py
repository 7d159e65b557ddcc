"""More digits for what short floats, or the order of additions, would ruin."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_Model = TypeVar("_Model", bound=nn.Module)
_SHORT = {torch.bfloat16, torch.float16}


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it has fewer digits, or as it is."""
    return x.float() if x.dtype in _SHORT else x


def in_double_precision(model: _Model) -> _Model:
    """Copy a model in float64: a row's result then does not depend on its batch.

    The copy of a model on a device without float64 is on the CPU.

    Examples
    --------
    >>> import torch
    >>> from skvae.models.precision import in_double_precision
    >>> in_double_precision(torch.nn.Linear(2, 1)).weight.dtype
    torch.float64
    """
    device = next(model.parameters()).device
    model = copy.deepcopy(model)
    return model.cpu().double() if device.type == "mps" else model.double()


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which products on the device of ``x`` keep the dtype of their factors.

    Examples
    --------
    >>> import torch
    >>> from skvae.models.precision import full_precision
    >>> x = torch.ones(2, 2)
    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     short = x @ x
    ...     with full_precision(x):
    ...         full = x @ x
    >>> short.dtype, full.dtype
    (torch.bfloat16, torch.float32)
    """
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return nullcontext()  # entering autocast takes as long as a product of small matrices
    return torch.autocast(device, enabled=False)
