"""Tables in files, by their ending: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from skvae._files import open_replacement
from skvae._warnings import warn_user

# Dates and times that are sorted as text in the order of time, such as 2024-02-29 12:00.
ISO_8601 = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
WITH_COMMAS = re.compile(r"[+-]?\d+(,\d+)?")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
# What stands between cells, other than spaces.
SIGNS = ",;\t|"
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
KINDS = "a .csv, .tsv, .jsonl or .parquet file, or one of the first three with .gz after it"


def kind_of(path: Path) -> str:
    """Return the ending that says what a file holds.

    Raises
    ------
    ValueError
        It is none that is known.
    """
    kind = Path(path.stem if _is_zipped(path) else path.name).suffix.lower()
    if kind not in (*SEPARATORS, *JSON_LINES, *PARQUET):
        raise ValueError(f"{str(path)!r} ends in {kind or 'nothing'!r}, expected {KINDS}.")
    return kind


def _is_zipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def read_table(path: Path, *, separator: str | None = None, skip_bad: bool = False) -> pd.DataFrame:
    """Read a table. In text files dates in ISO 8601 are dates.

    Parameters
    ----------
    path : Path
        The file, compressed or not.
    separator : str, optional
        What stands between the cells of a text file; by default what its ending says.
    skip_bad : bool, default=False
        Whether to leave out lines of a CSV file that have too many cells.

    Raises
    ------
    ValueError
        The file cannot be read; the message names the line where there is one, and the way out.
    """
    kind = kind_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        if kind in SEPARATORS:
            table = _read_csv(path, separator or SEPARATORS[kind], skip_bad)
        elif kind in JSON_LINES:
            table = pd.read_json(path, lines=True, convert_dates=False)
        else:
            table = pd.read_parquet(path)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(path)!r} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8."
        ) from None
    except (ValueError, OSError) as error:  # the parsers' own errors are ValueErrors
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from None
    if not len(table) or not table.shape[1]:
        raise ValueError(f"{str(path)!r} holds no rows.")
    return table if kind in PARQUET else _typed(table)


def _read_csv(path: Path, separator: str, skip_bad: bool) -> pd.DataFrame:
    bad: list[int] = []

    def note(cells: list[str]) -> None:
        bad.append(len(cells))

    options: dict[str, Any] = {"low_memory": False}
    if skip_bad:  # the other parser tells what it leaves out
        options = {"on_bad_lines": note, "engine": "python"}
    try:
        table = pd.read_csv(path, sep=separator, encoding="utf-8-sig", **options)
    except pd.errors.EmptyDataError:
        raise ValueError("it is empty.") from None
    except pd.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip().rstrip(".")
        raise ValueError(
            f"{reason}. Mend the line, or leave such lines out with --skip-bad-lines; where cells "
            "are not set apart by a comma, --sep says by what."
        ) from None
    if bad:
        print(f"{path}: left out {len(bad)} lines with too many cells.")
    _check_cut(table, separator)
    return table


def _check_cut(table: pd.DataFrame, separator: str) -> None:
    """Refuse what another sign stands between, and lines with more cells than there are names."""
    name = str(table.columns[0])
    if table.shape[1] == 1:
        sign = max((sign for sign in SIGNS if sign != separator), key=name.count)
        if sign in name:
            raise ValueError(
                f"its one column is {name!r}, as {separator!r} was taken for what stands between "
                f"cells. Say --sep {sign!r}; skvae sample takes it, too."
            )
        if " " in name.strip() and separator != " ":
            warn_user(
                f"There is one column, {name!r}. If spaces stand between cells, say --sep ' '."
            )
    if len(table) and not isinstance(table.index, pd.RangeIndex):
        # pandas takes the first cells for names of rows, and moves the others on.
        n_names = table.shape[1]
        raise ValueError(
            f"its first line has {n_names} cells, but the others {n_names + table.index.nlevels}: "
            "name each column, or end the lines without a separator."
        )


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Give columns the type that text files cannot say: dates, and whole numbers with gaps."""
    commas = []
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_float_dtype(column) and column.isna().any():
            if (column.dropna() % 1 == 0).all() and column.notna().any():
                table[name] = column.astype("Int64")
        elif column.dtype == object:
            if _all_match(column, ISO_8601):
                with suppress(ValueError):  # such as zones that differ: they stay text
                    table[name] = pd.to_datetime(column, format="ISO8601")
            elif _all_match(column, WITH_COMMAS) and column.astype(str).str.contains(",").any():
                commas.append(name)
    if commas:
        warn_user(
            f"Columns {commas} hold numbers with commas, which are read as text: write them with "
            "points to have them learnt as numbers."
        )
    return table


def _all_match(column: pd.Series, pattern: re.Pattern[str]) -> bool:
    """Return whether there are cells, and all are of a pattern."""
    cells = column.dropna()
    return len(cells) > 0 and all(pattern.fullmatch(str(cell)) for cell in cells)


def write_table(table: pd.DataFrame, path: Path, *, separator: str | None = None) -> None:
    """Write a table to a file that is there only once it is whole."""
    kind = kind_of(path)
    zipped = "gzip" if _is_zipped(path) else None
    with open_replacement(path) as file:
        if kind in PARQUET:
            table.to_parquet(file, index=False)
        elif kind in JSON_LINES:
            table.to_json(file, orient="records", lines=True, date_format="iso", compression=zipped)
        else:
            sign = separator or SEPARATORS[kind]
            table.to_csv(file, index=False, sep=sign, compression=zipped)
