"""`AEStetikClusterer`: domains against labels, transfer, and millions of spots.

Every measurement runs in a process of its own. See README.md for the measures and the data.
"""

import json
import os
import subprocess
from pathlib import Path

from _spatial_data import SETS, slabs
from _spatial_worker import METHODS

HERE = Path(__file__).resolve().parent
TASKS = ("domains", "transfer", "scaling")
# Those that take seconds; AESTETIK's algorithm takes minutes to hours.
DEFAULT_METHODS = ("floor", "smoothed-kmeans", "consensus", "skvae")
PAIRS = (("151673", "151676"), ("151676", "151673"))
N_GENES = 300  # as many as a panel of an imaging instrument
QUICK = "domains --sets layers layers+image --methods floor skvae --seeds 0"


def add_arguments(parser):
    """Say what can be chosen."""
    parser.add_argument(
        "tasks", nargs="*", choices=(*TASKS, []), help=f"of {', '.join(TASKS)}; default: all"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(DEFAULT_METHODS))
    parser.add_argument("--sets", nargs="+", choices=SETS, help="default: all that are there")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--sizes", nargs="+", type=int, default=[100_000, 1_000_000])


def measure(arguments, store, interpreters):
    """Make the records that are missing."""
    arguments.work = arguments.work / "spatial"
    for task in arguments.tasks or TASKS:
        for key, spec in specs(task, arguments):
            interpreter = interpreters.of(spec["method"])
            if "path" not in spec and arguments.data is None and not spec["set"].startswith("lay"):
                print(f"{key}: left out, for no --data is given")
            elif interpreter is None:
                print(interpreters.left_out(spec["method"]))
            elif store.misses(key):
                store.put(key, outcome({"task": task, **spec}, interpreter, arguments))


def specs(task, arguments):
    """Return what a task measures, by the key of its record."""
    if task == "scaling":
        for size in arguments.sizes:
            path = slabs(size, N_GENES, arguments.work / f"{size}.h5ad")
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


def outcome(spec, interpreter, arguments):
    """Run one measurement in a fresh process, and return its record."""
    folder = arguments.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path, out = folder / f"{os.getpid()}.spec.json", folder / f"{os.getpid()}.record.json"
    data = None if arguments.data is None else str(arguments.data)
    path.write_text(
        json.dumps({**spec, "data": data, "threads": arguments.threads, "out": str(out)})
    )
    subprocess.run([interpreter, str(HERE / "_spatial_worker.py"), str(path)], check=False)
    record = json.loads(out.read_text())
    path.unlink()
    out.unlink()
    print(f"{spec}: {record.get('ari', record)}", flush=True)
    return {"threads": arguments.threads, **record}
