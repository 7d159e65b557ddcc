"""Side-by-side benchmark of tabular synthesizers: quality, seconds, memory.

Every fit runs in a process of its own, one after the other; then every synthetic table is scored.
What is finished is kept in the JSON file, so an interrupted run goes on where it stopped.
See README.md for the measures and for how to install the peers.

    python benchmarks/tabular.py --methods skvae:default ctgan oracle --datasets adult \\
        --seeds 0 1 2 --data-dir DIR --report
"""

import argparse
import ast
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import _report  # noqa: E402
import _worker  # noqa: E402
from _candidates import CANDIDATES  # noqa: E402

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


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        type=Method.parse,
        default=[],
        metavar="METHOD",
        help="skvae:PRESET[,parameter=value,...], or " + ", ".join((*CANDIDATES, *BASELINES)),
    )
    parser.add_argument("--datasets", nargs="+", default=["adult"], help="folders of --data-dir")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("SKVAE_DATA"),
        help="default: the environment variable SKVAE_DATA",
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / "tabular.json")
    parser.add_argument(
        "--work-dir", type=Path, default=HERE / "work", help="where synthetic tables are kept"
    )
    parser.add_argument("--threads", type=int, default=1, help="of every fit and of the scoring")
    parser.add_argument("--ctgan-epochs", type=int, default=300)
    parser.add_argument("--tables", type=int, default=1, help="synthetic tables kept of each fit")
    parser.add_argument(
        "--python",
        nargs="+",
        default=[],
        metavar="FAMILY=INTERPRETER",
        help="run a family in another environment, such as ctgan=peers/bin/python",
    )
    parser.add_argument("--force", action="store_true", help="run finished cells again")
    parser.add_argument("--rescore", action="store_true", help="score again, fit nothing again")
    parser.add_argument(
        "--report", action="store_true", help="write the tables into benchmarks/RESULTS.md"
    )
    arguments = parser.parse_args(argv)
    if arguments.methods and arguments.data_dir is None:
        parser.error("say --data-dir, or set SKVAE_DATA")
    arguments.python = dict(pair.split("=", 1) for pair in arguments.python)
    return arguments


class Results:
    """The JSON file: written after every step, so that nothing finished is lost."""

    def __init__(self, path, this_run):
        self.path = path
        self.this_run = this_run
        empty = {"runs": [], "datasets": {}, "cells": {}}
        self.content = json.loads(path.read_text()) if path.exists() else empty

    def begin(self):
        """Note this run, once, and only if it has something to do."""
        if self.this_run not in self.content["runs"][-1:]:
            self.content["runs"].append(self.this_run)

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(self.content, indent=1) + "\n")
        partial.replace(self.path)


def environment(argv):
    """Describe this run; paths are left out, for they say nothing to another reader."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()
    shown = [re.sub(r"[^=]*/.*", "PATH", word) for word in argv]
    return {
        "command": " ".join(["python benchmarks/tabular.py", *shown]),
        "date": datetime.datetime.now().astimezone().date().isoformat(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit or None,
        "scoring_versions": {
            **_worker.versions(),
            "xgboost": metadata.version("xgboost"),
        },
    }


def cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def fit(method, dataset, seed, out, arguments):
    """Run the worker in a fresh process and return its record."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("synthetic*.parquet"):
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
        "ctgan_epochs": arguments.ctgan_epochs,
        "n_many": N_MANY,
        "n_tables": arguments.tables,
    }
    (out / "spec.json").write_text(json.dumps(spec, indent=1))
    (out / "record.json").unlink(missing_ok=True)
    interpreter = arguments.python.get(method.family, sys.executable)
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


def run(arguments, results):
    """Fit all that is missing, then score all that is missing."""
    import _data

    cells = []
    for name in arguments.datasets:
        dataset = _data.load(name, arguments.data_dir)
        folder = arguments.work_dir.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        dataset.train.to_parquet(folder / "train.parquet", index=False)
        for method in arguments.methods:
            # The oracle is one table whatever the seed.
            for seed in arguments.seeds[:1] if method.family == "oracle" else arguments.seeds:
                out = folder / re.sub(r"\W+", "_", f"{method.name} {seed}")
                cell = fitted_cell(results, method, dataset, seed, out, arguments)
                cells.append((cell, method, dataset, out))
    score(cells, results, arguments.rescore)


def fitted_cell(results, method, dataset, seed, out, arguments):
    """Return the cell as it stands in the results, fitted now if it was not."""
    settings = {"threads": arguments.threads}
    if method.family == "ctgan":
        settings["epochs"] = arguments.ctgan_epochs
    key = f"{method.name}|{dataset.name}|{seed}"
    cell = results.content["cells"].get(key)
    finished = cell and cell["settings"] == settings and "error" not in cell.get("fit", {})
    if finished and not arguments.force:
        return cell

    results.begin()
    cell = {
        "method": method.name,
        "family": method.family,
        "dataset": dataset.name,
        "seed": seed,
        "settings": settings,
        "run": len(results.content["runs"]) - 1,
    }
    if method.family not in BASELINES:
        print(f"fit    {key}", flush=True)
        cell["fit"] = fit(method, dataset, seed, out, arguments)
        print(f"       {summary(cell['fit'])}", flush=True)
    results.content["cells"][key] = cell
    results.save()
    return cell


def score(cells, results, rescore):
    """Score the tables of the cells that have no scores yet, or of all."""
    import pandas as pd
    from _scoring import Judge

    judges = {}
    for cell, method, dataset, out in cells:
        if "error" in cell.get("fit", {}) or ("scores" in cell and not rescore):
            continue
        if dataset.name not in judges:
            judges[dataset.name] = Judge(dataset)
            if rescore or dataset.name not in results.content["datasets"]:
                results.content["datasets"][dataset.name] = judges[dataset.name].reference()
        print(f"score  {method.name}|{dataset.name}|{cell['seed']}", flush=True)
        if method.family in BASELINES:
            tables = [baseline_table(method.family, dataset, cell["seed"])]
        else:
            tables = [pd.read_parquet(path) for path in sorted(out.glob("synthetic*.parquet"))]
            if not tables:
                raise FileNotFoundError(
                    f"the tables of {method.name} on {dataset.name} are gone from the work "
                    "directory; run it again with --force"
                )
        is_holdout = method.family == "oracle"
        judge = judges[dataset.name]
        cell["scores"] = [judge.score(table, is_holdout=is_holdout) for table in tables]
        results.save()


def summary(record):
    if "error" in record:
        return record["error"]
    return (
        f"fit {record['fit_cpu_s']:.1f} CPU s, {N_MANY:,} rows in "
        f"{record['sample_many_cpu_s']:.2f} CPU s, peak {record['peak_mb']:.0f} MB"
    )


def main(argv=None):
    arguments = parse_arguments(argv)
    # Before numpy is loaded, for that is when its libraries read the number of threads.
    _worker.limit_threads(arguments.threads)
    results = Results(arguments.out, environment(sys.argv[1:] if argv is None else argv))
    if arguments.methods:
        run(arguments, results)
    shown = _report.tables(results.content, arguments.datasets if arguments.methods else None)
    print(shown)
    if arguments.report:
        _report.write(HERE / "RESULTS.md", results.content)


if __name__ == "__main__":
    main()
