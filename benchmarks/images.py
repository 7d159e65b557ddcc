"""Benchmark of ``VAEEmbedder`` on images: likelihood, overhead, sampling, quality of embeddings.

Every measurement is kept in the JSON file, so an interrupted run goes on where it stopped.
See README.md for the measures and for how to install pythae.

    python benchmarks/images.py mnist-vae mnist-iwae --mnist DIR
    python benchmarks/images.py overhead sampling digits --mnist DIR --pythae PYTHON --report
"""

import argparse
import datetime
import importlib
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import _images_report  # noqa: E402
import _worker  # noqa: E402
from _images_pythae import Pythae  # noqa: E402
from tabular import cpu_model  # noqa: E402

TASKS = ("mnist-vae", "mnist-iwae", "overhead", "sampling", "digits")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", choices=(*TASKS, []), help="what to measure")
    parser.add_argument(
        "--mnist",
        type=Path,
        default=os.environ.get("SKVAE_MNIST"),
        help="folder of MNIST's four idx.gz files; default: the environment variable SKVAE_MNIST",
    )
    parser.add_argument("--pythae", metavar="PYTHON", help="interpreter that has pythae")
    parser.add_argument("--models", nargs="+", help="of digits; default: all of the zoo")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of digits")
    parser.add_argument("--rounds", type=int, default=7, help="of overhead and sampling")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "images.json")
    parser.add_argument("--work-dir", type=Path, default=HERE / "work" / "images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--force", action="store_true", help="measure finished things again")
    parser.add_argument(
        "--report", action="store_true", help="write the tables into benchmarks/RESULTS.md"
    )
    return parser.parse_args(argv)


class Results:
    """The JSON file of records by task, each with the run that it comes from."""

    def __init__(self, path, this_run, force):
        self.path, self.this_run, self.force = path, this_run, force

    def read(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def misses(self, key):
        """Whether a record is still to be made."""
        return self.force or key not in self.read()

    def put(self, key, record):
        """Keep a record; the file is read again, for another task may have written to it."""
        print(f"{key}: {json.dumps(record)}", flush=True)
        content = {**self.read(), key: {**record, "run": self.this_run}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".{os.getpid()}.part")
        partial.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")
        partial.replace(self.path)


def environment(argv, script="images.py"):
    """Describe this run; paths are left out, for they say nothing to another reader."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()
    shown = [re.sub(r".*/.*", "PATH", word) for word in argv]
    return {
        "command": " ".join([f"python benchmarks/{script}", *shown]),
        "date": datetime.datetime.now().astimezone().date().isoformat(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit or None,
        "versions": _worker.versions(),
    }


def main(argv=None):
    arguments = parse_arguments(argv)
    # Before numpy is loaded, for that is when its libraries read the number of threads.
    _worker.limit_threads(arguments.threads)
    this_run = environment(sys.argv[1:] if argv is None else argv)
    results = Results(arguments.out, this_run, arguments.force)
    if arguments.tasks:
        import torch

        torch.set_num_threads(arguments.threads)
    pythae = Pythae(arguments.pythae) if arguments.pythae else None
    for task in arguments.tasks:
        measure(task, results, arguments, pythae)
    print(_images_report.tables(results.read()))
    if arguments.report:
        _images_report.write(HERE / "RESULTS.md", results.read())


def measure(task, results, arguments, pythae):
    """Make the records of a task that are missing."""
    if task.startswith("mnist-"):
        import _images_mnist

        name = task.removeprefix("mnist-")
        if results.misses(f"mnist|{name}"):
            _images_mnist.run(name, results, arguments)
    else:
        importlib.import_module(f"_images_{task}").run(results, arguments, pythae)


if __name__ == "__main__":
    main()
