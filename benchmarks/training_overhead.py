"""What a training step costs beyond the least it could: the loop's overhead, and the products.

Four things are timed in turn, in CPU time, on the default model of a table:

- products: the matrix products of forward and backward passes alone, at the model's shapes;
- bare: the model's forward and backward passes and a fused AdamW, in the plainest loop;
- loop: the same through ``skvae.training`` (schedule, clipping, averaging, guard, history);
- full: ``loop`` with batches drawn by index from the table.

    python benchmarks/training_overhead.py --rounds 20
"""

from __future__ import annotations

import argparse
import statistics
import time

import pandas as pd
import torch

from skvae.datasets import load_adult
from skvae.models import AutoregressiveTVAE, FactorizedTVAE, TabularVAE
from skvae.models.tabular import DECODE_ROWS
from skvae.tabular import TabularTransformer
from skvae.training import TrainingConfig
from skvae.training.loop import _Run
from skvae.training.subnormals import flushed_subnormals


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


def main() -> None:
    """Time the four in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="rounds of 20 steps each")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", help="a Parquet file instead of Adult")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    table = pd.read_parquet(args.table) if args.table else load_adult()
    transformer = TabularTransformer(random_state=0)
    codes = torch.from_numpy(transformer.fit_encode(table, places=False).codes)
    counts = [encoder.code_counts_ for encoder in transformer.encoders_]
    torch.manual_seed(0)

    def build() -> AutoregressiveTVAE:
        return AutoregressiveTVAE(transformer.cardinalities_, transformer.code_scores_, counts)

    config = TrainingConfig(
        n_epochs=1000,
        batch_size=args.batch_size,
        learning_rate=1e-5,
        weight_decay=0.3,
        free_nats=2.0,
        average_decay=0.995,
        max_grad_norm=5.0,
    )
    batch = codes[: args.batch_size]
    run = _Run(build(), (codes,), config, None, None, ())
    batches = iter(lambda: run._batches(), None)
    stream = (one for epoch in batches for one in epoch)
    shapes = training_products(run.model, args.batch_size)
    steps = {
        "products": products_step(shapes),
        "bare": bare_step(build(), batch, config),
        "loop": lambda: run._train_step((batch,), 1),
        "full": lambda: run._train_step(next(stream), 1),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    with flushed_subnormals():
        for step in steps.values():
            cpu_milliseconds(step, 5)
        for _ in range(args.rounds):
            for name, step in steps.items():
                times[name].append(cpu_milliseconds(step, 20))
    flop = 6 * sum(b * m * k * n for b, m, k, n in shapes)
    median = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{flop / 1e9:.3f} GFLOP a step in products, {flop / median['products'] / 1e6:.0f} GFLOP/s"
    )
    print("| step | CPU ms (median) | over the products | over bare |")
    print("|---|---|---|---|")
    for name, value in median.items():
        over_products = statistics.median(
            a / b for a, b in zip(times[name], times["products"], strict=True)
        )
        over_bare = statistics.median(
            a / b for a, b in zip(times[name], times["bare"], strict=True)
        )
        print(f"| {name} | {value:.2f} | {over_products:.2f} | {over_bare:.2f} |")


if __name__ == "__main__":
    main()
