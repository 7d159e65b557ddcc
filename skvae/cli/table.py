"""``skvae fit``, ``sample``, ``evaluate`` and ``info``: tables from the command line."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skvae.cli.arguments import (
    add_command,
    check_output,
    did_you_mean,
    key_and_value,
    one_sign,
    positive,
    seed,
    whole,
)

# The commands import pandas and torch, which takes seconds, only when they run: --help is quick.

TABLE_HELP = "a .csv, .tsv, .jsonl or .parquet file; text files may be zipped (.csv.gz)"
PRESETS = ("default", "fast", "paper")


def register(commands: Any) -> None:
    """Add the commands."""
    _register_fit(commands)
    _register_sample(commands)
    _register_evaluate(commands)
    _register_info(commands)


def fit(arguments: argparse.Namespace) -> None:
    """Learn a table and write the model to a file."""
    check_output(arguments.output, arguments.force)
    from skvae.cli.table_files import read_table
    from skvae.cli.table_run import fitted

    table = read_table(arguments.table, separator=arguments.sep, skip_bad=arguments.skip_bad_lines)
    table = _without(table, arguments.drop)
    _check_columns("--kind", [name for name, _ in arguments.kind], table.columns)
    _check_columns("--condition-on", arguments.condition_on, table.columns)
    synthesizer = fitted(
        table,
        config=arguments.config,
        preset=arguments.preset,
        stated=_stated(arguments),
        verbose=not arguments.quiet,
    )
    from skvae.persistence import save

    save(synthesizer, arguments.output)
    print(
        f"{len(table):,} rows, {synthesizer.n_features_in_} columns, {synthesizer.n_iter_} epochs "
        f"in {synthesizer.history_['seconds'].iloc[-1]:.0f} s. {arguments.output}"
    )


def sample(arguments: argparse.Namespace) -> None:
    """Write synthetic rows of a model to a file."""
    check_output(arguments.output, arguments.force)
    from skvae.cli.table_files import kind_of, write_table
    from skvae.cli.table_run import load_model, read_conditions

    kind_of(arguments.output)
    synthesizer = load_model(arguments.model)
    conditions = read_conditions(arguments.where, synthesizer)
    rows = synthesizer.sample(
        arguments.n, conditions=conditions or None, random_state=arguments.seed
    )
    write_table(rows, arguments.output, separator=arguments.sep)
    print(f"{len(rows):,} rows. {arguments.output}")


def evaluate(arguments: argparse.Namespace) -> None:
    """Compare a synthetic table with the real one."""
    if arguments.html is not None:
        check_output(arguments.html, arguments.force)
    from skvae.cli.table_files import read_table
    from skvae.report import evaluate

    real, synthetic = (
        read_table(path, separator=arguments.sep) for path in (arguments.real, arguments.synthetic)
    )
    real = _without(real, arguments.drop)
    synthetic = synthetic.drop(columns=arguments.drop, errors="ignore")
    holdout = None
    if arguments.holdout is not None:
        holdout = read_table(arguments.holdout, separator=arguments.sep)
        holdout = holdout.drop(columns=arguments.drop, errors="ignore")
    lost = [name for name in real.columns if name not in synthetic.columns]
    if lost and len(lost) < real.shape[1]:
        options = " ".join(f"--drop {shlex.quote(str(name))}" for name in lost)
        raise ValueError(
            f"{str(arguments.synthetic)!r} lacks the columns {lost} of {str(arguments.real)!r}. To "
            f"compare the others, say {options}."
        )
    report = evaluate(
        real, synthetic, holdout=holdout, target=arguments.target, random_state=arguments.seed
    )
    print(report)
    if arguments.html is not None:
        report.save(arguments.html)
        print(arguments.html)


def info(arguments: argparse.Namespace) -> None:
    """Say what a model has learnt and how."""
    from skvae.cli.table_run import describe, load_model

    print(describe(load_model(arguments.model)))


def _without(table: Any, names: Sequence[str]) -> Any:
    """Return a table without the columns of ``--drop``."""
    _check_columns("--drop", names, table.columns)
    return table.drop(columns=list(names))


def _check_columns(option: str, names: Sequence[str], columns: Any) -> None:
    """Refuse names of an option that are no columns."""
    for name in names:
        if name not in columns:
            raise ValueError(
                f"{option} {name}: no such column.{did_you_mean(name, columns)} The columns are "
                f"{list(columns)}."
            )


def _stated(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that the command line states."""
    names = ("n_components", "max_epochs", "max_seconds", "random_state", "device")
    stated = {name: getattr(arguments, name) for name in names}
    stated["column_kinds"] = dict(arguments.kind) or None
    stated["condition_columns"] = arguments.condition_on or None
    return {name: value for name, value in stated.items() if value is not None} | dict(
        arguments.param
    )


def _register_fit(commands: Any) -> None:
    examples = """\
examples:
  skvae fit adult.csv -o adult.skvae
  skvae fit adult.csv -o adult.skvae --preset fast --drop fnlwgt
  skvae fit people.parquet -o people.skvae --kind email=email --kind zip=categorical
  skvae fit adult.csv -o adult.skvae --condition-on income --param free_nats=4

Columns with dates in ISO 8601 (2024-02-29, 2024-02-29T12:00) are read as dates. The model holds
what it has learnt, not the table: see the documentation on what it never stores.
"""
    parser = add_command(commands, "fit", fit, examples)
    parser.add_argument("table", type=Path, metavar="TABLE", help=TABLE_HELP)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="where the model goes"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    columns = parser.add_argument_group("the columns")
    columns.add_argument(
        "--drop", action="append", default=[], metavar="COLUMN", help="leave out; may be repeated"
    )
    columns.add_argument(
        "--kind",
        action="append",
        type=_column_and_kind,
        default=[],
        metavar="COLUMN=KIND",
        help="what a column holds, where the guess is wrong: numeric, categorical, datetime, "
        "identifier, text, name, email, phone, address, ...; may be repeated",
    )
    columns.add_argument(
        "--condition-on",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column that samples will be asked for, exactly; may be repeated",
    )
    _add_separator(columns)
    columns.add_argument(
        "--skip-bad-lines", action="store_true", help="leave out lines with too many cells"
    )
    model = parser.add_argument_group("the model and its training")
    model.add_argument("--preset", choices=PRESETS, help="default: default")
    model.add_argument("--n-components", type=positive, metavar="N", help="size of the latent")
    model.add_argument("--max-epochs", type=positive, metavar="N", help="passes over the table")
    model.add_argument("--max-seconds", type=positive, metavar="N", help="end after so long")
    model.add_argument("--seed", dest="random_state", type=seed, default=0, metavar="N")
    model.add_argument("--device", help="cpu, cuda or mps; default: a GPU where there is one")
    model.add_argument(
        "--param",
        action="append",
        type=key_and_value,
        default=[],
        metavar="NAME=VALUE",
        help="any parameter of TVAESynthesizer, such as free_nats=4; may be repeated",
    )
    model.add_argument(
        "--config", type=Path, metavar="FILE", help="take parameters from a file of skvae.to_config"
    )


def _register_sample(commands: Any) -> None:
    examples = """\
examples:
  skvae sample adult.skvae -n 1000 -o synthetic.csv
  skvae sample adult.skvae -n 500 -o rich.parquet --where income='>50K' --where age=30..40
  skvae sample adult.skvae -n 500 -o some.csv --where 'education=Masters|Doctorate'

conditions:
  COLUMN=VALUE      the value; nothing after the sign means a missing cell
  COLUMN=A|B|C      one of several values
  COLUMN=LOW..HIGH  a range with both ends in it; either may be left out
"""
    parser = add_command(commands, "sample", sample, examples)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a file that skvae fit wrote")
    parser.add_argument("-n", type=_none_or_more, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=TABLE_HELP)
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="what rows are to hold; may be repeated",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    _add_separator(parser)


def _register_evaluate(commands: Any) -> None:
    examples = """\
examples:
  skvae evaluate adult.csv synthetic.csv
  skvae evaluate adult.csv synthetic.csv --holdout unseen.csv --target income --html report.html
"""
    parser = add_command(commands, "evaluate", evaluate, examples)
    parser.add_argument("real", type=Path, metavar="REAL", help=f"what was learnt: {TABLE_HELP}")
    parser.add_argument("synthetic", type=Path, metavar="SYNTHETIC", help="what was drawn")
    parser.add_argument(
        "--holdout", type=Path, metavar="FILE", help="real rows that were not learnt"
    )
    parser.add_argument("--target", metavar="COLUMN", help="what is to be predicted by the others")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page, too")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument("--force", action="store_true", help="overwrite the page")
    parser.add_argument(
        "--drop", action="append", default=[], metavar="COLUMN", help="leave out; may be repeated"
    )
    _add_separator(parser)


def _register_info(commands: Any) -> None:
    parser = add_command(commands, "info", info, "example:\n  skvae info adult.skvae\n")
    parser.add_argument("model", type=Path, metavar="MODEL", help="a file that skvae fit wrote")


def _add_separator(parser: Any) -> None:
    parser.add_argument(
        "--sep",
        type=one_sign,
        metavar="SIGN",
        help="what stands between the cells of text files, such as ';'; default: , and a tab in "
        ".tsv",
    )


def _none_or_more(text: str) -> int:
    return whole(text, 0)


def _column_and_kind(text: str) -> tuple[str, str]:
    column, equals, kind = text.rpartition("=")
    if not column or not equals or not kind:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form COLUMN=KIND, such as id=identifier"
        )
    return column, kind
