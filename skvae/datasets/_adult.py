"""The Adult census table."""

from importlib.resources import files

import numpy as np
import pandas as pd

_TARGET = "income"
_INTEGERS = (
    "age",
    "fnlwgt",
    "education.num",
    "capital.gain",
    "capital.loss",
    "hours.per.week",
)


def load_adult(*, return_X_y=False):
    """Load the Adult table: people of the 1994 United States census and their income.

    The 32,561 rows of the official training split: six columns of integers and nine of text, in
    the order of the original file. Text cells of unknown value hold the category ``"?"``, in
    ``workclass``, ``occupation`` and ``native.country``; no cell is missing otherwise.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return the 14 features and the target ``income`` apart.

    Returns
    -------
    table : pandas.DataFrame of shape (32561, 15)
        Columns of dtype int64 and object. A new frame at every call.
    (X, y) : (pandas.DataFrame of shape (32561, 14), pandas.Series of shape (32561,))
        In its place if ``return_X_y`` is True; ``y`` holds ``"<=50K"`` and ``">50K"``.

    Notes
    -----
    Extracted by Barry Becker from the database of the 1994 census, given by Barry Becker and
    Ronny Kohavi to the UCI Machine Learning Repository under the Creative Commons Attribution 4.0
    licence (CC BY 4.0). Changed here: blanks around the cells are stripped, the columns are named,
    and the file is compressed.

    ``fnlwgt`` is a sampling weight: how many people of the population a row stands for.

    References
    ----------
    B. Becker and R. Kohavi (1996). Adult. UCI Machine Learning Repository.
    https://doi.org/10.24432/C5XW20

    Examples
    --------
    >>> from skvae.datasets import load_adult
    >>> adult = load_adult()
    >>> adult.shape
    (32561, 15)
    >>> adult[["age", "education", "hours.per.week", "income"]].head(3)
       age  education  hours.per.week income
    0   39  Bachelors              40  <=50K
    1   50  Bachelors              13  <=50K
    2   38    HS-grad              40  <=50K
    >>> X, y = load_adult(return_X_y=True)
    >>> y.value_counts().to_dict()
    {'<=50K': 24720, '>50K': 7841}
    """
    with (files(__package__) / "data" / "adult.csv.gz").open("rb") as file:
        # "?" is a category of this table: nothing in it may be read as a missing cell.
        table = pd.read_csv(file, compression="gzip", dtype=object, keep_default_na=False)
    table = table.astype(dict.fromkeys(_INTEGERS, np.int64))
    if return_X_y:
        return table.drop(columns=_TARGET), table[_TARGET]
    return table
