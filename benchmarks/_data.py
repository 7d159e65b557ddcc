"""The tables of the benchmark: folders with info.json and parquet files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Dataset:
    """A table in two parts, the columns' kinds and what is predicted from it.

    Columns are ordered as in the published detection protocol, numerical before discrete, the
    target being one of either.
    """

    name: str
    target: str
    regression: bool
    numerical: tuple
    discrete: tuple
    train: pd.DataFrame
    holdout: pd.DataFrame

    def ordered(self, table):
        """Return the table with numerical columns first, its rows renumbered."""
        return table[[*self.numerical, *self.discrete]].reset_index(drop=True)


# Rows of the Adult table that ships with skvae, for a run that is quick and needs no files.
SHIPPED, N_SHIPPED = "adult3000", 3000


def is_there(name, folder):
    """Whether a data set can be loaded."""
    return name == SHIPPED or (folder is not None and (Path(folder) / name).exists())


def load(name, folder):
    """Load one data set.

    Either ``train.parquet`` and ``test.parquet``; or ``data.parquet`` with ``tabsyn_split.npz``,
    the row positions of the published split; or ``data.parquet`` alone, which is split 90/10 at
    random with seed 0.
    """
    if name == SHIPPED:
        return _shipped()
    folder = Path(folder) / name
    info = json.loads((folder / "info.json").read_text())
    if info["task"] not in ("binclass", "regression"):
        raise ValueError(f"{name}: task {info['task']!r} is neither binclass nor regression.")
    regression = info["task"] == "regression"
    numerical, discrete = list(info["num_cols"]), list(info["cat_cols"])
    (numerical if regression else discrete).append(info["target"])

    if (folder / "train.parquet").exists():
        train, holdout = (pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "test"))
    else:
        data = pd.read_parquet(folder / "data.parquet")
        split = folder / "tabsyn_split.npz"
        if split.exists():
            positions = np.load(split)
            train, holdout = (data.iloc[positions[part]] for part in ("train", "test"))
        else:
            order = np.random.default_rng(0).permutation(len(data))
            n_holdout = round(len(data) / 10)
            train, holdout = data.iloc[order[n_holdout:]], data.iloc[order[:n_holdout]]
    return Dataset(
        name,
        info["target"],
        regression,
        tuple(numerical),
        tuple(discrete),
        train.reset_index(drop=True),
        holdout.reset_index(drop=True),
    )


def _shipped():
    """Return rows to learn from, and as many held out."""
    from skvae.datasets import load_adult

    rows = load_adult().sample(2 * N_SHIPPED, random_state=0).reset_index(drop=True)
    numerical = tuple(rows.select_dtypes("number").columns)
    discrete = tuple(rows.columns.drop(list(numerical)))
    parts = rows[:N_SHIPPED], rows[N_SHIPPED:].reset_index(drop=True)
    return Dataset(SHIPPED, "income", False, numerical, discrete, *parts)
