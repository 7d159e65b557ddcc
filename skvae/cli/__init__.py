"""The command ``skvae``: what the estimators do, from the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from skvae.cli import image, table
from skvae.cli.arguments import as_typed

# Each has a function register(subparsers) that adds its commands. A command sets ``run``, a
# function of the parsed arguments, and raises an error whose message says what to do.
COMMANDS = (table, image)
OK, FAILED, INTERRUPTED = 0, 1, 130

DESCRIPTION = """\
Variational autoencoders from the command line.

  skvae fit table.csv -o table.skvae    learn a table
  skvae sample table.skvae -o new.csv   write synthetic rows
  skvae evaluate table.csv new.csv      can they be told apart, and do they leak?
  skvae image train -o runs/digits      learn the digits that come with it
  skvae image sample runs/digits        draw new ones: images/samples.png
  skvae image train --help              options, with examples
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    code : int
        0 if all went well, 1 after a failure, whose message is on standard error, and 130 after
        Ctrl-C. Arguments that cannot be used raise ``SystemExit(2)``.

    Examples
    --------
    >>> from skvae.cli import main
    >>> main(["image", "sample", "nowhere"])
    1
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(argv)
    arguments.command_line = shlex.join(["skvae", *argv])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            arguments.run(arguments)
    except KeyboardInterrupt as interrupt:
        print(f"\nskvae: interrupted. {interrupt}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if arguments.debug:
            raise
        print(f"skvae: error: {_one_line(error)}", file=sys.stderr)
        return FAILED
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skvae",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit codes: 0 done, 1 failed, 2 arguments that cannot be used, 130 Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"skvae {version('skvae')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(commands)
    return parser


def _show_warning(message: Warning | str, *_where: Any) -> None:
    """Say what is worth knowing, and not at which line of the code."""
    print(f"skvae: note: {as_typed(' '.join(str(message).split()))}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    text = as_typed(" ".join(str(error).split()))
    # The messages of these are written for the user, others want the name beside them.
    if isinstance(error, (ValueError, TypeError, ImportError, OSError, FloatingPointError)):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"
