"""Benchmark of ``AEStetikClusterer``: domains against labels, transfer, and millions of spots.

Every measurement runs in a process of its own and is kept in the JSON file, so an interrupted run
goes on where it stopped. See README.md for the measures, the data and how to install AESTETIK.

    python benchmarks/spatial.py domains transfer scaling --data DIR --report
    python benchmarks/spatial.py domains --methods aestetik --sets 151673 --seeds 0 \
        --data DIR --aestetik PYTHON
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import _spatial_report  # noqa: E402
from _spatial_data import SETS, slabs  # noqa: E402
from _spatial_worker import METHODS  # noqa: E402
from images import Results, environment  # noqa: E402

TASKS = ("domains", "transfer", "scaling")
# Those that run in this environment, in seconds.
DEFAULT_METHODS = ("floor", "smoothed-kmeans", "consensus", "skvae")
PAIRS = (("151673", "151676"), ("151676", "151673"))
N_GENES = 300  # as many as a panel of an imaging instrument


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", choices=(*TASKS, []), help="what to measure")
    parser.add_argument(
        "--data",
        default=os.environ.get("SKVAE_SPATIAL"),
        help="folder of the labelled sections; default: the environment variable SKVAE_SPATIAL. "
        "Without either only simulated layers are measured",
    )
    parser.add_argument("--aestetik", metavar="PYTHON", help="interpreter that has aestetik")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(DEFAULT_METHODS))
    parser.add_argument("--sets", nargs="+", choices=SETS, help="default: all that are there")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--sizes", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "spatial.json")
    parser.add_argument("--work-dir", type=Path, default=HERE / "work" / "spatial")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--force", action="store_true", help="measure finished things again")
    parser.add_argument(
        "--report", action="store_true", help="write the tables into benchmarks/RESULTS.md"
    )
    return parser.parse_args(argv)


def specs(task, arguments):
    """Return what a task measures, by the key of its record."""
    if task == "scaling":
        for size in arguments.sizes:
            path = slabs(size, N_GENES, arguments.work_dir / f"{size}.h5ad")
            for method in arguments.methods:
                yield f"scaling|{size}|{method}", {"path": str(path), "method": method, "seed": 0}
    elif task == "transfer":
        for one, other in PAIRS:
            for seed in arguments.seeds:
                spec = {"set": one, "onto": other, "method": "skvae", "seed": seed}
                yield f"transfer|{one}|{other}|{seed}", spec
    else:
        for name in arguments.sets or SETS:
            for method in arguments.methods:
                for seed in arguments.seeds:
                    spec = {"set": name, "method": method, "seed": seed}
                    yield f"domains|{name}|{method}|{seed}", spec


def measure(spec, arguments):
    """Run one measurement in a fresh process, and return its record."""
    folder = arguments.work_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path, out = folder / f"{os.getpid()}.spec.json", folder / f"{os.getpid()}.record.json"
    path.write_text(
        json.dumps({**spec, "data": arguments.data, "threads": arguments.threads, "out": str(out)})
    )
    peer = spec["method"] == "aestetik"
    interpreter = arguments.aestetik if peer else sys.executable
    if interpreter is None:
        raise SystemExit("--methods aestetik needs --aestetik, the interpreter that has it")
    subprocess.run([interpreter, str(HERE / "_spatial_worker.py"), str(path)], check=False)
    record = json.loads(out.read_text())
    path.unlink()
    out.unlink()
    return {"threads": arguments.threads, **record}


def main(argv=None):
    arguments = parse_arguments(argv)
    this_run = environment(sys.argv[1:] if argv is None else argv, "spatial.py")
    del this_run["versions"]  # each record has those of its own process
    results = Results(arguments.out, this_run, arguments.force)
    for task in arguments.tasks:
        for key, spec in specs(task, arguments):
            needs_data = "path" not in spec and not spec["set"].startswith("layers")
            if needs_data and arguments.data is None:
                print(f"{key}: left out, for no --data is given")
            elif results.misses(key):
                results.put(key, measure({"task": task, **spec}, arguments))
    print(_spatial_report.tables(results.read()))
    if arguments.report:
        _spatial_report.write(HERE / "RESULTS.md", results.read())


if __name__ == "__main__":
    main()
