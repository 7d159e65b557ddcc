"""Noise that is the same for each row of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_BY_SIZE = {torch.randn, torch.rand}
_LIKE = {torch.randn_like: torch.randn, torch.rand_like: torch.rand}


class SharedNoise(TorchFunctionMode):
    """Within the block, normal and uniform draws for a batch are drawn once and shared by its rows.

    A row's result then depends neither on the rows beside it nor on its place among them, as long
    as models draw with the rows first, (batch, S, ...), and use no other kind of noise.

    Parameters
    ----------
    n_rows : int
        Rows in the batch: draws whose first dimension has this size are shared.

    Examples
    --------
    >>> import torch
    >>> from skvae.models.noise import SharedNoise
    >>> with SharedNoise(5):
    ...     noise = torch.randn(5, 3)
    >>> bool((noise[0] == noise[4]).all())
    True
    """

    def __init__(self, n_rows: int) -> None:
        super().__init__()
        self.n_rows = n_rows

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function, or draw one row and repeat it."""
        kwargs = kwargs or {}
        if func in _LIKE:
            like: Tensor = args[0]
            settings = {"dtype": like.dtype, "device": like.device, **kwargs}
            return self._draw(_LIKE[func], tuple(like.shape), settings)
        if func in _BY_SIZE and args:
            size = tuple(args[0]) if isinstance(args[0], (tuple, list)) else args
            return self._draw(func, size, kwargs)
        return func(*args, **kwargs)

    def _draw(
        self, func: Callable[..., Tensor], size: tuple[int, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        if not size or size[0] != self.n_rows:
            return func(*size, **kwargs)
        return func(1, *size[1:], **kwargs).expand(*size)
