"""What the commands share: how a command is added, and how values of options are read."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# What the estimators' messages call what was typed as an option.
AS_TYPED = (
    (r"\bcolumn_kinds\[(['\"])(.+?)\1\] is\b", r"--kind \2 is"),
    (r"\bconditions\[(['\"])(.+?)\1\]", r"--where \2"),
    (r"(?<!['\w])column_kinds\b", "--kind"),
    (r"(?<!['\w])condition_columns\b", "--condition-on"),
    (r"\bmodel_params has\b", "--param has"),
    (r"(?<!['\w])min_rows_per_value\b", "--param min_rows_per_value"),
)


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


def one_sign(text: str) -> str:
    """Read what stands between cells: one character, or a tab by its name in code."""
    sign = "\t" if text == "\\t" else text
    if len(sign) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, such as ';' or '\\t'")
    return sign


def did_you_mean(word: str, known: Iterable[Any]) -> str:
    """Return the question whether a word that is near was meant, or nothing."""
    by_look = {str(name).casefold(): str(name) for name in known}
    near = difflib.get_close_matches(word.casefold(), by_look, n=1)
    return f" Did you mean {by_look[near[0]]!r}?" if near else ""


def as_typed(message: str) -> str:
    """Return a message of an estimator with the options of the command line in it."""
    message = re.sub(r"\bcolumn_kinds=(\{.*?\})", _kind_options, message)
    for parameter, option in AS_TYPED:
        message = re.sub(parameter, option, message)
    return message


def _kind_options(match: re.Match[str]) -> str:
    try:
        kinds = ast.literal_eval(match[1])
    except (SyntaxError, ValueError):  # a name with a brace in it
        return match[0]
    return " ".join(f"--kind {shlex.quote(f'{name}={kind}')}" for name, kind in kinds.items())


def check_output(path: Path, force: bool) -> None:
    """Raise an error if a file cannot be written, or is there and may not be overwritten."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{str(path)!r} cannot be written: expected a file in a folder there is.")
    if path.exists() and not force:
        raise ValueError(
            f"{str(path)!r} is there already: --force overwrites, -o takes another name."
        )
