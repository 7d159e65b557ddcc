"""The synthesizers of the tabular benchmark, each made ready to be fitted on one table.

Nothing is imported here that not every environment has: each function imports its own package.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass
class Candidate:
    """A synthesizer made ready to be timed: everything it imports is imported."""

    fit: Callable[[], None]
    sample: Callable[[int], Any]
    describe: Callable[[], dict]


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
    """CTGAN's TVAE as it ships."""
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
    model = tvae.TVAE(**spec["params"])
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
    from sdv.single_table import GaussianCopulaSynthesizer

    return _of_sdv(GaussianCopulaSynthesizer, spec, train)


def sdv_tvae(spec, train):
    """SDV's TVAE: CTGAN's between SDV's own encoding, rounding and ranges."""
    import torch
    from sdv.single_table import TVAESynthesizer

    torch.manual_seed(spec["seed"])
    return _of_sdv(TVAESynthesizer, spec, train)


def _of_sdv(cls, spec, train):
    import numpy as np
    from sdv.metadata import Metadata

    kinds = {c: "categorical" if c in spec["categorical"] else "numerical" for c in train.columns}
    columns = {column: {"sdtype": kind} for column, kind in kinds.items()}
    schema = Metadata.load_from_dict({"tables": {"table": {"columns": columns}}})
    np.random.seed(spec["seed"])  # fit takes no seed and draws from numpy's global state
    model = cls(schema, **spec["params"])
    return Candidate(lambda: model.fit({"table": train}), lambda n: model.sample(n)["table"], dict)


def arfpy(spec, train):
    """Adversarial random forests with arfpy's defaults.

    It takes kinds from dtypes, and makes floats of integers, which are rounded here.
    """
    import numpy as np
    from arfpy.arf import arf

    np.random.seed(spec["seed"])
    numbers = train.columns.difference(spec["categorical"])
    whole = [c for c in numbers if train[c].dtype.kind in "iu"]
    labels = {c: train[c].astype(str).astype(object) for c in spec["categorical"]}
    table, found = train.assign(**labels), {}

    def fit():
        found["model"] = arf(table, verbose=False, **spec["params"])
        found["model"].forde()

    def sample(n):
        made = found["model"].forge(n)
        made[whole] = made[whole].round()
        return made.astype(train.dtypes)

    return Candidate(fit, sample, lambda: {"rounds": len(found["model"].acc)})


def mostlyai(spec, train):
    """MOSTLY AI's TabularARGN with its defaults; it finds out the kinds for itself."""
    from mostlyai.engine import TabularARGN

    model = TabularARGN(random_state=spec["seed"], verbose=0, **spec["params"])
    return Candidate(lambda: model.fit(train), model.sample, dict)


def skvae_tvae(spec, train):
    """`TVAESynthesizer` of this checkout, from the preset named in the method."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from skvae import TVAESynthesizer

    model = TVAESynthesizer.from_preset(spec["preset"], random_state=spec["seed"], **spec["params"])

    def describe():
        from _steps import matrix_product_floor

        products = matrix_product_floor(model, train, spec["n_many"])
        return {"epochs": model.n_iter_, "matrix_products": products}

    return Candidate(lambda: model.fit(train), model.sample, describe)


CANDIDATES = {
    "ctgan": ctgan_tvae,
    "sdv-tvae": sdv_tvae,
    "sdv-gaussian-copula": sdv_gaussian_copula,
    "mostlyai": mostlyai,
    "arfpy": arfpy,
    "skvae": skvae_tvae,
}
