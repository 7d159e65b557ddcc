"""What follows the training: the model takes stock of the rows, a sampler learns the latents."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from skvae._embedding.coding import CHUNK_ROWS
from skvae.models import BaseAutoencoder, StepContext
from skvae.samplers import SAMPLERS
from skvae.samplers.choice import choose_sampler
from skvae.training import isolated_torch_seed

# Rows over which a likelihood's scale is settled, and latents from which a sampler learns.
MAX_ROWS = 10_000


def settle(
    model: BaseAutoencoder, data: tuple[Tensor, ...], seed: int, n_rows: int, *, whole: bool
) -> None:
    """Let the model take stock of the rows with its final weights.

    If they are the ``whole`` data, of ``n_rows``, the scale of the likelihood becomes theirs, and
    is no longer an average over the last batches.
    """
    model.eval()
    rows = some_rows(data, seed)
    with torch.no_grad(), isolated_torch_seed(seed, rows[0].device):
        model.finalize(rows[0])
        likelihood = getattr(model, "likelihood", None)
        if likelihood is None or not whole:
            return
        likelihood.forget_scale()
        likelihood.train()
        # In parts of one size, as each counts the same.
        n_parts = -(-len(rows[0]) // CHUNK_ROWS)
        for batch in zip(*(tensor.tensor_split(n_parts) for tensor in rows), strict=True):
            model.training_loss(batch, StepContext(n_rows=n_rows))
        likelihood.eval()


def fit_sampler(sampler, model: BaseAutoencoder, data: tuple[Tensor, ...], seed: int):
    """Return the density that the parameter ``sampler`` stands for, fitted to latents of rows."""
    sampler = choose_sampler(sampler, model, SAMPLERS)
    if "random_state" in sampler.get_params() and sampler.random_state is None:
        sampler.set_params(random_state=seed)
    (x, *_) = some_rows(data, seed)
    with torch.no_grad(), isolated_torch_seed(seed, x.device):
        Z = torch.cat([model.draw_latents(part) for part in x.split(CHUNK_ROWS)])
    Z = Z.cpu().numpy()
    if "model" in inspect.signature(sampler.fit).parameters:
        return sampler.fit(Z, model=model)
    return sampler.fit(Z)


def some_rows(data: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    """Return rows from all over the data, which may be sorted."""
    device = data[0].device
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.randperm(len(data[0]), generator=generator, device=device)[:MAX_ROWS]
    return tuple(tensor[order] for tensor in data)
