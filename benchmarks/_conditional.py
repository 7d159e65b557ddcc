"""Conditions, imputation and conditional shares of `TVAESynthesizer`, by ``conditional.py``."""

import json
import subprocess
import sys
from pathlib import Path

import _data

QUICK = "--datasets adult3000"


def add_arguments(parser):
    """Say what can be chosen."""
    parser.add_argument("--datasets", nargs="+", default=["adult", "magic"])


def measure(arguments, store, interpreters):
    """Run the script, which keeps its own records, for the data sets it has none of."""
    names = [name for name in arguments.datasets if _data.is_there(name, arguments.data)]
    for name in set(arguments.datasets) - set(names):
        print(f"{name}: left out, for it is not in --data {arguments.data}")
    if store.path.exists() and not arguments.force:
        finished = json.loads(store.path.read_text())
        names = [name for name in names if name not in finished]
    if names:
        script = Path(__file__).with_name("conditional.py")
        options = ["--data-dir", str(arguments.data or "."), "--out", str(store.path)]
        options += ["--threads", str(arguments.threads), "--datasets", *names]
        store.path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(script), *options], check=True)
