"""Fit one synthesizer on one table in a fresh process and write down what it cost.

Usage: ``python _worker.py SPEC.json``, where the spec is written by ``tabular.py``.

This file needs nothing but numpy, pandas, pyarrow and the package under test, so that a peer
whose pins clash with ours can run it in an environment of its own.
"""

import json
import math
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

PACKAGES = ("skvae", "ctgan", "sdv", "rdt", "torch", "scikit-learn", "numpy", "pandas", "xgboost")


@dataclass
class Candidate:
    """A synthesizer made ready to be timed: everything it imports is imported."""

    fit: Callable[[], None]
    sample: Callable[[int], Any]
    describe: Callable[[], dict]


def limit_threads(threads):
    """Hold every numerical library to ``threads``; must run before numpy is imported."""
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    # joblib asks loky for the number of cores: n_jobs=-1 then means `threads` workers.
    os.environ["LOKY_MAX_CPU_COUNT"] = str(threads)


def cpu_seconds():
    """User and system seconds of this process and of its finished children."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and getattr(loky, "_executor", None) is not None:
        loky._executor.shutdown(wait=True)  # a living child is not in RUSAGE_CHILDREN yet
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def memory_mb(field):
    """Resident memory of this process in MB; `field` is VmRSS (now) or VmHWM (peak).

    ``ru_maxrss`` would not do on Linux: it survives exec, so it can be the parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        scale = 1e6 if sys.platform == "darwin" else 1e3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def timed(function, *args):
    """Call ``function`` and return its result, CPU seconds and wall seconds."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    result = function(*args)
    wall = time.perf_counter() - wall
    return result, cpu_seconds() - cpu, wall


def matrix_products_cpu(layers, batch_size, backward, repeats=100):
    """CPU seconds of the bare matrix products of one step through linear ``layers``.

    `layers` holds (inputs, outputs) pairs; the backward pass needs one product for the weights
    and, save in the first layer, one for the inputs.
    """
    import torch

    products = []
    for position, (n_in, n_out) in enumerate(layers):
        x, w = torch.randn(batch_size, n_in), torch.randn(n_in, n_out)
        g = torch.randn(batch_size, n_out)
        products.append((x, w))
        if backward:
            products.append((x.T, g))
            if position:
                products.append((g, w.T))
    outputs = [a @ b for a, b in products]
    start = time.process_time()
    for _ in range(repeats):
        for (a, b), out in zip(products, outputs, strict=True):
            torch.mm(a, b, out=out)
    return (time.process_time() - start) / repeats


def ctgan_tvae(spec, train):
    """CTGAN's TVAE as it ships; only the number of epochs may differ from its defaults."""
    from ctgan.synthesizers import tvae

    epoch_cpu = []

    def clocked(epochs, **_):
        # Stands in for tqdm, which wraps the epoch loop: one clock reading per epoch.
        start = time.process_time()
        for epoch in epochs:
            yield epoch
            now = time.process_time()
            epoch_cpu.append(now - start)
            start = now

    tvae.tqdm = clocked
    model = tvae.TVAE(**{"epochs": spec["ctgan_epochs"], **spec["params"]})
    model.set_random_state(spec["seed"])

    def describe():
        width = model.transformer.output_dimensions
        shape = [width, *model.compress_dims]
        encoder = list(pairwise(shape)) + [(shape[-1], model.embedding_dim)] * 2
        shape = [model.embedding_dim, *model.decompress_dims, width]
        decoder = list(pairwise(shape))
        batch = model.batch_size
        steps = model.epochs * math.ceil(len(train) / batch)
        return {
            "epochs": model.epochs,
            "epoch_cpu_s": [
                round(sum(block) / len(block), 4)
                for block in (epoch_cpu[i : i + 25] for i in range(0, len(epoch_cpu), 25))
            ],
            "matrix_products": {
                "fit_cpu_s": steps * matrix_products_cpu(encoder + decoder, batch, True),
                "sample_many_cpu_s": (spec["n_many"] // batch + 1)
                * matrix_products_cpu(decoder, batch, False),
            },
        }

    return Candidate(lambda: model.fit(train, spec["categorical"]), model.sample, describe)


def sdv_gaussian_copula(spec, train):
    """SDV's Gaussian copula with the kinds of the columns stated, all else by default."""
    import numpy as np
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer

    kinds = {c: "categorical" if c in spec["categorical"] else "numerical" for c in train.columns}
    columns = {column: {"sdtype": kind} for column, kind in kinds.items()}
    schema = Metadata.load_from_dict({"tables": {"table": {"columns": columns}}})
    np.random.seed(spec["seed"])  # its fit takes no seed and draws from numpy's global state
    model = GaussianCopulaSynthesizer(schema, **spec["params"])
    return Candidate(lambda: model.fit({"table": train}), lambda n: model.sample(n)["table"], dict)


def skvae_tvae(spec, train):
    """`TVAESynthesizer` of this checkout, from the preset named in the method."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from skvae import TVAESynthesizer

    model = TVAESynthesizer.from_preset(spec["preset"], random_state=spec["seed"], **spec["params"])

    def describe():
        facts = {"epochs": getattr(model, "n_iter_", None)}
        try:
            from training_overhead import matrix_product_floor
        except ImportError:
            return facts
        return {**facts, "matrix_products": matrix_product_floor(model, train, spec["n_many"])}

    return Candidate(lambda: model.fit(train), model.sample, describe)


CANDIDATES = {
    "ctgan": ctgan_tvae,
    "sdv-gaussian-copula": sdv_gaussian_copula,
    "skvae": skvae_tvae,
}


def measure(spec):
    """Fit, sample and save the tables; return the record of what that took."""
    import pandas as pd

    train = pd.read_parquet(spec["train"])
    candidate = CANDIDATES[spec["family"]](spec, train)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(spec["threads"])

    record = {"rss_before_mb": memory_mb("VmRSS")}
    _, record["fit_cpu_s"], record["fit_wall_s"] = timed(candidate.fit)
    record["peak_fit_mb"] = memory_mb("VmHWM")

    table, record["sample_train_cpu_s"], _ = timed(candidate.sample, len(train))
    tables = [table]
    many, record["sample_many_cpu_s"], record["sample_many_wall_s"] = timed(
        candidate.sample, spec["n_many"]
    )
    record["rows_per_s"] = len(many) / record["sample_many_wall_s"]
    record["peak_mb"] = memory_mb("VmHWM")
    del many

    tables += [candidate.sample(len(train)) for _ in range(spec["n_tables"] - 1)]
    for position, table in enumerate(tables):
        table.to_parquet(Path(spec["out"]) / f"synthetic{position}.parquet", index=False)
    record.update(candidate.describe())
    return record


def versions(packages=PACKAGES):
    """Versions of Python and of whichever of the packages are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def main(path):
    spec = json.loads(Path(path).read_text())
    limit_threads(spec["threads"])
    try:
        record = measure(spec)
    except Exception as error:
        traceback.print_exc()
        record = {"error": f"{type(error).__name__}: {error}"}
    record["versions"] = versions()
    (Path(spec["out"]) / "record.json").write_text(json.dumps(record, indent=1))
    return int("error" in record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
