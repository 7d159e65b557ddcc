"""Fit one synthesizer on one table in a fresh process and write down what it cost.

Usage: ``python _tabular_worker.py SPEC.json``, where the spec is written by ``_tabular.py``.

This needs nothing but numpy, pandas, pyarrow and the package under test, so that a peer whose pins
clash with ours can run it in an environment of its own.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from _candidates import CANDIDATES
from _worker import limit_threads, memory_mb, timed, versions


def measure(spec):
    """Fit, sample and save the tables; return the record of what that took."""
    import pandas as pd

    train = pd.read_parquet(spec["train"])
    candidate = CANDIDATES[spec["family"]](spec, train)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(spec["threads"])

    record = {"rss_before_mb": memory_mb("VmRSS"), "load_average": os.getloadavg()[0]}
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
