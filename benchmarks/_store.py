"""What was measured: a JSON file for each section, written after every measurement."""

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path

import _worker

HERE = Path(__file__).resolve().parent


class Store:
    """Records by key, each with the position of the run that it comes from.

    The file holds ``{"runs": [run, ...], "records": {key: {..., "run": position}, ...}}``. It is
    read again for every change, for another process may have written to it.

    Parameters
    ----------
    path : Path
        The file; made by the first record.
    run : dict
        Of `this_run`.
    force : bool
        Whether records that are there are made again.
    """

    def __init__(self, path, run, *, force=False):
        self.path, self.run, self.force = Path(path), run, force

    def misses(self, key):
        """Whether a record is still to be made."""
        return self.force or key not in read(self.path)["records"]

    def get(self, key):
        """Return a record, None if there is none."""
        return read(self.path)["records"].get(key)

    def put(self, key, record):
        """Keep a record as one of this run."""
        content = read(self.path)
        if self.run not in content["runs"]:
            content["runs"].append(self.run)
        content["records"][key] = {**record, "run": content["runs"].index(self.run)}
        write(self.path, content)

    def amend(self, key, **fields):
        """Add to a record, which stays one of the run that made it."""
        content = read(self.path)
        content["records"][key].update(fields)
        write(self.path, content)


def read(path):
    """Return the content of a file of records."""
    return json.loads(path.read_text()) if path.exists() else {"runs": [], "records": {}}


def write(path, content):
    """Replace the file in one step, without runs that no record is of."""
    records = dict(sorted(content["records"].items()))
    used = sorted({record["run"] for record in records.values()})
    for record in records.values():
        record["run"] = used.index(record["run"])
    runs = [content["runs"][position] for position in used]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps({"runs": runs, "records": records}, indent=1) + "\n")
    partial.replace(path)


def this_run(argv):
    """Describe a run: command, date, machine, commit and versions.

    Paths are left out of the command, for they say nothing to another reader.
    """
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()
    shown = [re.sub(r"[^=]*/.*", "PATH", word) for word in argv]
    return {
        "command": " ".join(["python benchmarks/run.py", *shown]),
        "date": datetime.datetime.now().astimezone().date().isoformat(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit or None,
        "versions": _worker.versions(),
    }


def cpu_model():
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
