"""The environments of the peers, as listed in peers.toml, and who runs where."""

import subprocess
import sys
import tomllib
from pathlib import Path

PEERS = tomllib.loads(Path(__file__).with_name("peers.toml").read_text())
HOME = {method: name for name, peer in PEERS.items() for method in peer["methods"]}


class Interpreters:
    """Which Python runs which method.

    Parameters
    ----------
    folder : Path
        Where `make` put the environments.
    named : dict
        Interpreters of environments that are elsewhere, by the name in peers.toml.
    """

    def __init__(self, folder, named):
        unknown = set(named) - set(PEERS)
        if unknown:
            raise SystemExit(
                f"--python names {', '.join(sorted(unknown))}; peers.toml has {', '.join(PEERS)}"
            )
        self.folder, self.named = Path(folder), named

    def of(self, method):
        """Return the interpreter of a method, None where its environment is missing."""
        if method not in HOME:
            return sys.executable
        found = self.named.get(HOME[method]) or self.folder / HOME[method] / "bin" / "python"
        return str(found) if Path(found).exists() else None

    def left_out(self, method):
        """Say why a method is left out and what to do."""
        name = HOME[method]
        return (
            f"{method}: left out, there is no environment {name}; make it with "
            f"`python benchmarks/run.py peers {name}`, or say --python {name}=INTERPRETER"
        )


def make(names, folder):
    """Make environments that are not there yet."""
    for name in names:
        environment = Path(folder) / name
        if environment.exists():
            print(f"{name}: is there")
            continue
        print(f"{name}: {environment}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [environment / "bin" / "python", "-m", "pip", "--quiet"]
        for packages in PEERS[name]["install"]:
            subprocess.run([*pip, "install", *packages], check=True)
        if PEERS[name].get("remove"):
            subprocess.run([*pip, "uninstall", "--yes", *PEERS[name]["remove"]], check=True)
