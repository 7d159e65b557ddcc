"""What every measuring process needs: threads held, CPU seconds, memory, versions.

Nothing but the standard library, so that it runs in any environment.
"""

import os
import platform
import resource
import sys
import time
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "skvae", "ctgan", "sdv", "mostlyai-engine", "arfpy", "rdt", "torch", "scikit-learn", "numpy",
    "pandas", "xgboost",
)  # fmt: skip


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


def versions(packages=PACKAGES):
    """Versions of Python and of whichever of the packages are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
