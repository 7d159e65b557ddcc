"""What the commands share: how a command is added, and how values of options are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_command(
    under: Any, name: str, run: Callable[[argparse.Namespace], None], examples: str
) -> argparse.ArgumentParser:
    """Add a command, described by the docstring of the function that it runs."""
    description = str(run.__doc__)
    parser = under.add_parser(
        name,
        help=description[0].lower() + description[1:].rstrip("."),
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.set_defaults(run=run)
    return parser


def positive(text: str) -> int:
    """Read a whole number from 1 up."""
    return whole(text, 1)


def seed(text: str) -> int:
    """Read a whole number from 0 up."""
    return whole(text, 0)


def whole(text: str, least: int) -> int:
    """Read a whole number that is not below ``least``."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up")
    return int(text)


def key_and_value(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE, the value as JSON or else as the word it is."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE, such as beta=4")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value  # a word


def check_output(path: Path, force: bool) -> None:
    """Raise an error if a file cannot be written, or is there and may not be overwritten."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{str(path)!r} cannot be written: expected a file in a folder there is.")
    if path.exists() and not force:
        raise ValueError(
            f"{str(path)!r} is there already: --force overwrites, -o takes another name."
        )
