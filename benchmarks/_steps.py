"""What a training step costs beyond the least it could: the loop's overhead, and the products.

On the default model of a table, four things are timed in turn, in CPU time:

- products: the matrix products of forward and backward passes alone, at the model's shapes;
- bare: the model's forward and backward passes and a fused AdamW, in the plainest loop;
- loop: the same through ``skvae.training`` (schedule, clipping, averaging, guard, history);
- full: ``loop`` with batches drawn by index from the table.

On a small VAE of scikit-learn's digits (64-512-10), where a step is short and overhead counts:

- hand: the model's loss written by hand in a few lines, and ``torch.optim.Adam``;
- hand, fused: the same with ``fused=True``;
- bare: the model's ``training_loss`` and the fused Adam, in the plainest loop;
- full: the same through ``skvae.training``.

All of these draw their batches by index and sum the loss; a pass over the rows is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import nn

from skvae.models import VAE, AutoregressiveTVAE, FactorizedTVAE, StepContext, TabularVAE
from skvae.models.tabular import DECODE_ROWS
from skvae.tabular import TabularTransformer
from skvae.training import TrainingConfig, isolated_torch_seed, steps_per_epoch
from skvae.training.loop import _Run

Steps = dict[str, Callable[[], object]]


def training_products(model: TabularVAE, batch_size: int) -> list[tuple[int, ...]]:
    """Shapes (batch, m, k, n) of the matrix products of one forward pass in training."""
    shapes = [
        (1, batch_size, module.in_features, module.out_features)
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    if isinstance(model, FactorizedTVAE):
        return [*shapes, (1, batch_size, *model.output_weight.shape[::-1])]
    width = model.width
    shapes += [(1, batch_size, *weight.shape) for weight in model.causal.weights]
    shapes += [(model.n_columns, batch_size, width, width) for _ in model.blocks]
    shapes += [
        (len(bucket.columns), batch_size, width, bucket.width) for bucket in model.layout.buckets
    ]
    return shapes


def sampling_products(model: TabularVAE, n_rows: int) -> list[tuple[int, ...]]:
    """Shapes of the matrix products of drawing ``n_rows`` rows in one chunk."""
    if isinstance(model, FactorizedTVAE):
        layers = [*model.decoder, model.place_head]
        shapes = [
            (1, n_rows, layer.in_features, layer.out_features)
            for layer in layers
            if isinstance(layer, torch.nn.Linear)
        ]
        return [*shapes, (1, n_rows, *model.output_weight.shape[::-1])]
    width = model.width
    shapes = [(1, n_rows, model.latent_dim, width)] * model.n_columns
    shapes += [(1, n_rows, width, width)] * (model.n_columns * len(model.blocks))
    shapes += [(1, n_rows, width, n_codes) for n_codes in model.cardinalities]
    return shapes


def products_step(shapes: list[tuple[int, ...]], *, backward: bool = True):
    """Return a function that computes each product, and the two of its gradient."""
    operands = [
        (torch.randn(b, m, k), torch.randn(b, k, n), torch.randn(b, m, n)) for b, m, k, n in shapes
    ]

    def step() -> None:
        for left, right, grad in operands:
            torch.bmm(left, right)
            if backward:
                torch.bmm(grad, right.transpose(1, 2))
                torch.bmm(left.transpose(1, 2), grad)

    return step


def matrix_product_floor(synthesizer, train: pd.DataFrame, n_rows: int) -> dict[str, float]:
    """CPU seconds of the bare products of a fit, and of drawing ``n_rows`` rows.

    Parameters
    ----------
    synthesizer : TVAESynthesizer
        Fitted on ``train``.
    train : DataFrame
        The table.
    n_rows : int
        Rows drawn.

    Returns
    -------
    dict
        ``fit_cpu_s`` and ``sample_many_cpu_s``.
    """
    model = synthesizer.model_
    batch_size = min(synthesizer.batch_size, len(train))
    step = products_step(training_products(model, batch_size))
    draw = products_step(sampling_products(model, DECODE_ROWS), backward=False)
    return {
        "fit_cpu_s": synthesizer.n_steps_ * cpu_milliseconds(step, 50) / 1e3,
        "sample_many_cpu_s": n_rows / DECODE_ROWS * cpu_milliseconds(draw, 20) / 1e3,
    }


def bare_step(model: AutoregressiveTVAE, batch: torch.Tensor, config: TrainingConfig):
    """Return a function that makes one step of the plainest loop."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss = model.compute_loss((batch,), model((batch,)), free_nats=config.free_nats)
        loss.objective.backward()
        optimizer.step()

    return step


def cpu_milliseconds(step, repeats: int) -> float:
    """CPU milliseconds of one call, over ``repeats`` of them."""
    start = time.process_time()
    for _ in range(repeats):
        step()
    return 1e3 * (time.process_time() - start) / repeats


def loop_steps(model: torch.nn.Module, data: torch.Tensor, config: TrainingConfig):
    """Return the training run of a model, and an endless stream of its batches."""
    generator = torch.Generator().manual_seed(0)
    run = _Run(model, (data,), config, generator, None, (), isolated_torch_seed(0))
    passes = iter(lambda: run.source.shuffled(config.batch_size, generator), None)
    return run, (batch for one_pass in passes for batch in one_pass)


def table_steps(table: pd.DataFrame, batch_size: int) -> tuple[Steps, float]:
    """Return the steps to time on the default model of a table, and the GFLOP in its products."""
    transformer = TabularTransformer(random_state=0)
    codes = torch.from_numpy(transformer.fit_encode(table, places=False).codes)
    counts = [encoder.code_counts_ for encoder in transformer.encoders_]
    torch.manual_seed(0)

    def build() -> AutoregressiveTVAE:
        return AutoregressiveTVAE(transformer.cardinalities_, transformer.code_scores_, counts)

    config = TrainingConfig(
        n_epochs=1000,
        batch_size=batch_size,
        learning_rate=1e-5,
        weight_decay=0.3,
        free_nats=2.0,
        average_decay=0.995,
        max_grad_norm=5.0,
    )
    batch = codes[:batch_size]
    run, stream = loop_steps(build(), codes, config)
    shapes = training_products(run.model, batch_size)
    steps = {
        "products": products_step(shapes),
        "bare": bare_step(build(), batch, config),
        "loop": lambda: run._train_step((batch,), 1),
        "full": lambda: run._train_step(next(stream), 1),
    }
    return steps, 6e-9 * sum(b * m * k * n for b, m, k, n in shapes)


def digits_model() -> VAE:
    """Return the small VAE."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(64, 512), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(10, 512), nn.ReLU(), nn.Linear(512, 64))
    model = VAE(encoder, decoder, 10)
    model.build(torch.zeros(2, 64))
    return model


def hand_loss(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """Return the loss of ``VAE`` with a Gaussian of variance one, as one would write it."""
    h = model.encoder(x)
    mu, log_var = model.sampling_layer.mu(h), model.sampling_layer.log_var(h)
    x_hat = model.decoder(mu + torch.randn_like(mu) * (0.5 * log_var).exp())
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1).mean()
    return 0.5 * (x_hat - x).square().sum(1).mean() + kl


def digits_steps(size: int) -> Steps:
    """Return the passes to time on the small VAE."""
    data = torch.tensor(load_digits().data / 16, dtype=torch.float32)

    n_rows = len(data)
    stop = steps_per_epoch(n_rows, size) * size

    def plain_loop(loss_of, *, fused: bool) -> Callable[[], object]:
        model = digits_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

        def one_pass() -> float:
            order, total = torch.randperm(n_rows), 0.0
            for start in range(0, stop, size):
                optimizer.zero_grad()
                loss = loss_of(model, data[order[start : start + size]])
                loss.backward()
                optimizer.step()
                total += loss.item()
            return total

        return one_pass

    config = TrainingConfig(
        n_epochs=1000,
        batch_size=size,
        optimizer="adam",
        learning_rate=1e-3,
        schedule="constant",
    )
    run, _ = loop_steps(digits_model(), data, config)
    context = StepContext()
    return {
        "hand": plain_loop(hand_loss, fused=False),
        "hand, fused": plain_loop(hand_loss, fused=True),
        "bare": plain_loop(lambda m, x: m.training_loss((x,), context).objective, fused=True),
        "full": lambda: run._train_epoch(1),
    }
