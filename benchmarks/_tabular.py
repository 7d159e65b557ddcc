"""Tabular synthesizers side by side: quality, seconds, memory.

Every fit runs in a process of its own, one after the other; every synthetic table is then scored
here. See README.md for the measures.
"""

import argparse
import ast
import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from _candidates import CANDIDATES

HERE = Path(__file__).resolve().parent
# Rows that need no fit: what real data, a memoriser and independent columns score.
BASELINES = ("oracle", "bootstrap", "marginals")
N_MANY = 100_000


@dataclass(frozen=True)
class Method:
    """What to run, read from ``family[:preset][,parameter=value,...]``."""

    name: str
    family: str
    preset: str | None = None
    params: dict = field(default_factory=dict)

    @classmethod
    def parse(cls, name):
        head, *assignments = re.split(r",(?=\w+=)", name)
        family, _, preset = head.partition(":")
        if family not in (*CANDIDATES, *BASELINES):
            known = ", ".join((*CANDIDATES, *BASELINES))
            raise argparse.ArgumentTypeError(f"unknown method {family!r}; known are {known}")
        if (family == "skvae") != bool(preset):
            raise argparse.ArgumentTypeError(f"{name!r}: skvae, and it alone, takes a preset")
        params = {}
        for assignment in assignments:
            key, _, value = assignment.partition("=")
            try:
                params[key] = ast.literal_eval(value)
            except (SyntaxError, ValueError):
                params[key] = value
        return cls(name, family, preset or None, params)


METHODS = (
    "skvae:default",
    "skvae:fast",
    "skvae:paper",
    *(name for name in CANDIDATES if name != "skvae"),
    *BASELINES,
)
DATASETS = ("adult", "magic", "default", "california_housing", "diamonds", "insurance")
QUICK = "--methods skvae:fast,max_epochs=1 oracle marginals --datasets adult3000 --seeds 0"


def add_arguments(parser):
    """Say what can be chosen."""
    parser.add_argument(
        "--methods",
        nargs="+",
        type=Method.parse,
        default=[Method.parse(name) for name in METHODS],
        metavar="METHOD",
        help="skvae:PRESET[,parameter=value,...], " + ", ".join((*CANDIDATES, *BASELINES)),
    )
    parser.add_argument("--datasets", nargs="+", default=DATASETS, help="folders of --data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tables", type=int, default=1, help="synthetic tables kept of each fit")
    parser.add_argument("--rescore", action="store_true", help="score again, fit nothing again")


def measure(arguments, store, interpreters):
    """Fit all that is missing, then score all that is missing."""
    import _data

    for name in arguments.datasets:
        if not _data.is_there(name, arguments.data):
            print(f"{name}: left out, for it is not in --data {arguments.data}")
            continue
        dataset = _data.load(name, arguments.data)
        folder = arguments.work.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        dataset.train.to_parquet(folder / "train.parquet", index=False)
        keys = []
        for method in arguments.methods:
            interpreter = interpreters.of(method.family)
            if interpreter is None:
                print(interpreters.left_out(method.family))
                continue
            # The oracle is one table whatever the seed.
            for seed in arguments.seeds[:1] if method.family == "oracle" else arguments.seeds:
                key = f"fit|{name}|{method.name}|{seed}"
                out = folder / re.sub(r"\W+", "_", f"{method.name} {seed}")
                if store.misses(key):
                    cell = {"method": method.name, "family": method.family}
                    cell |= {"dataset": name, "seed": seed}
                    if method.family not in BASELINES:
                        cell["fit"] = fit(method, dataset, seed, out, interpreter, arguments)
                        print(f"{key}: {summary(cell['fit'])}", flush=True)
                    store.put(key, cell)
                keys.append((key, out))
        score(keys, dataset, store, arguments.rescore)


def fit(method, dataset, seed, out, interpreter, arguments):
    """Run the worker in a fresh process and return its record."""
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("synthetic*.parquet"), *out.glob("record.json")):
        old.unlink()
    spec = {
        "family": method.family,
        "preset": method.preset,
        "params": method.params,
        "seed": seed,
        "threads": arguments.threads,
        "train": str(out.parent / "train.parquet"),
        "categorical": list(dataset.discrete),
        "out": str(out),
        "n_many": N_MANY,
        "n_tables": arguments.tables,
    }
    (out / "spec.json").write_text(json.dumps(spec, indent=1))
    with open(out / "log.txt", "w") as log:
        code = subprocess.run(
            [interpreter, str(HERE / "_tabular_worker.py"), str(out / "spec.json")],
            stdout=log,
            stderr=subprocess.STDOUT,
        ).returncode
    record = out / "record.json"
    if not record.exists():
        return {"error": f"exit status {code}"}
    return json.loads(record.read_text())


def baseline_table(family, dataset, seed):
    """Make the table of a baseline; no fit and no cost."""
    import numpy as np

    if family == "oracle":
        return dataset.holdout
    if family == "bootstrap":
        return dataset.train.sample(len(dataset.train), replace=True, random_state=seed)
    rng = np.random.default_rng(seed)
    order = (rng.permutation(len(dataset.train)) for _ in dataset.train)
    return dataset.train.apply(lambda column: column.take(next(order)).reset_index(drop=True))


def score(keys, dataset, store, rescore):
    """Score the tables that have no scores yet, or all of them."""
    import pandas as pd
    from _scoring import Judge

    cells = [(key, out, store.get(key)) for key, out in keys]
    cells = [
        (key, out, cell)
        for key, out, cell in cells
        if "error" not in cell.get("fit", {}) and (rescore or "scores" not in cell)
    ]
    if not cells:
        return
    judge = Judge(dataset)
    if rescore or store.get(f"real|{dataset.name}") is None:
        store.put(f"real|{dataset.name}", judge.reference())
    for key, out, cell in cells:
        print(f"{key}: being scored", flush=True)
        if cell["family"] in BASELINES:
            tables = [baseline_table(cell["family"], dataset, cell["seed"])]
        else:
            tables = [pd.read_parquet(path) for path in sorted(out.glob("synthetic*.parquet"))]
            if not tables:
                raise FileNotFoundError(
                    f"the tables of {key} are gone from the work directory; run it with --force"
                )
        is_holdout = cell["family"] == "oracle"
        store.amend(key, scores=[judge.score(table, is_holdout=is_holdout) for table in tables])


def summary(record):
    """Return what a fit took, in a line."""
    if "error" in record:
        return record["error"]
    return (
        f"fit {record['fit_cpu_s']:.1f} CPU s, {N_MANY:,} rows in "
        f"{record['sample_many_cpu_s']:.2f} CPU s, peak {record['peak_mb']:.0f} MB"
    )
