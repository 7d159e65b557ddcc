"""The one command of the benchmark: measure, then write tables, figures and the README's numbers.

    python benchmarks/run.py peers             # make the environments of the peers
    python benchmarks/run.py all --data DIR    # everything; hours, and goes on where it stopped
    python benchmarks/run.py all --quick       # a small slice of everything, into work/quick
    python benchmarks/run.py tabular --methods skvae:fast ctgan --datasets adult --data DIR
    python benchmarks/run.py report            # measure nothing, write from what is there

See README.md for the measures, and ``run.py SECTION --help`` for what a section can be told.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import _peers  # noqa: E402
import _store  # noqa: E402
import _worker  # noqa: E402

SECTIONS = ("tabular", "speed", "images", "spatial", "conditional")
WORK = HERE / "work"


def make_parser():
    """Return the parser, and those arguments that all sections share."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SKVAE_DATA"),
        help="folder of the data sets; default: the environment variable SKVAE_DATA. What is not "
        "there is left out",
    )
    common.add_argument(
        "--into", type=Path, default=HERE, help="folder of results/, figures/ and RESULTS.md"
    )
    common.add_argument("--work", type=Path, default=WORK, help="folder of synthetic tables")
    common.add_argument(
        "--peers", type=Path, default=WORK / "peers", help="folder of the peers' environments"
    )
    common.add_argument(
        "--python",
        nargs="+",
        default=[],
        metavar="ENVIRONMENT=INTERPRETER",
        help="environments of peers.toml that are elsewhere, such as sdv=peers/bin/python",
    )
    common.add_argument("--threads", type=int, default=1, help="of every fit and of the scoring")
    common.add_argument("--force", action="store_true", help="measure finished things again")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in SECTIONS:
        module = importlib.import_module(f"_{name}")
        described = module.__doc__.splitlines()[0]
        module.add_arguments(commands.add_parser(name, parents=[common], help=described))
    everything = commands.add_parser("all", parents=[common], help="all sections")
    everything.add_argument("--quick", action="store_true", help="a small slice, into work/quick")
    peers = commands.add_parser("peers", parents=[common], help="make the peers' environments")
    peers.add_argument("names", nargs="*", choices=(*_peers.PEERS, []), help="default: all")
    commands.add_parser("report", parents=[common], help="write from what is there")
    return parser


def main(argv=None):
    """Run one command."""
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    arguments = parser.parse_args(argv)
    # Before numpy is loaded, for that is when its libraries read the number of threads.
    _worker.limit_threads(arguments.threads)
    if arguments.command == "peers":
        _peers.make(arguments.names or _peers.PEERS, arguments.peers)
        return
    if arguments.command == "all":
        measure_all(parser, argv, arguments)
    elif arguments.command != "report":
        measure(arguments, argv)
    write(arguments.into)


def measure_all(parser, argv, arguments):
    """Measure every section with its defaults, or with those of a quick run."""
    rest = [word for word in argv[1:] if word != "--quick"]
    if arguments.quick:
        arguments.into = WORK / "quick" if arguments.into == HERE else arguments.into
    for name in SECTIONS:
        quick = importlib.import_module(f"_{name}").QUICK.split() if arguments.quick else []
        chosen = parser.parse_args([name, *quick, *rest, "--into", str(arguments.into)])
        print(f"== {name}", flush=True)
        measure(chosen, argv)


def measure(arguments, argv):
    """Measure what is missing of one section."""
    interpreters = _peers.Interpreters(
        arguments.peers, dict(pair.split("=", 1) for pair in arguments.python)
    )
    path = arguments.into / "results" / f"{arguments.command}.json"
    store = _store.Store(path, _store.this_run(argv), force=arguments.force)
    importlib.import_module(f"_{arguments.command}").measure(arguments, store, interpreters)


def write(folder):
    """Write tables and figures and, of the committed results, the README's numbers."""
    import _figures
    import _readme
    import _report

    _report.write(folder)
    _figures.draw(folder)
    if folder == HERE:
        _readme.update(HERE.parent / "README.md")
    print(f"wrote {folder / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
