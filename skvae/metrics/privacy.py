"""Privacy by distance: how near synthetic rows lie to the rows learned from, and to others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ._distances import encode, nearest, rows_of
from ._result import PrivacyResult
from ._tables import HOLDOUT, REAL, SYNTHETIC, Tables, check_count

# Distances closer than this are ties.
_TIE = 1e-6


def closest_record_share(
    real,
    synthetic,
    holdout,
    *,
    max_rows: int = 10_000,
    discrete_columns: Iterable | None = None,
    random_state=0,
) -> PrivacyResult:
    """Share of synthetic rows that lie nearer to the rows learned from than to a holdout.

    The distance to the closest record (DCR) is taken to the real rows and to as many rows of the
    holdout. Neither has anything the other lacks, except that the synthesizer saw the one: ties
    counting half, the share should be one half.

    Parameters
    ----------
    real : DataFrame or 2-d array
        The rows that the synthesizer learned from.
    synthetic : DataFrame or 2-d array
        The rows that it wrote.
    holdout : DataFrame or 2-d array
        Real rows of the same population that it never saw, at least two.
    max_rows : int, default=10_000
        Synthetic rows asked; from longer tables they are drawn.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws.

    Returns
    -------
    PrivacyResult
        ``value`` in 0..1, ``ideal`` 0.5. ``details`` has one row per synthetic row asked: ``row``,
        its position, and its distances ``to_real`` and ``to_holdout``. The ``oracle`` lets one
        half of the holdout play the synthetic table.

    Notes
    -----
    The share of TabSyn and its successors [1]_, as they define it but for the distance: numbers are
    compared by rank, and two levels are 1 apart (Gower's distance, squared). Bad tables score one
    half too: rows far from everything are as far from both.

    The standard error counts how many synthetic rows share a nearest real row.

    References
    ----------
    .. [1] Zhang et al., "Mixed-Type Tabular Data Synthesis with Score-based Diffusion in Latent
       Space", ICLR 2024.
    .. [2] Platzer and Reutterer, "Holdout-Based Empirical Assessment of Mixed-Type Synthetic Data",
       Frontiers in Big Data 4, 2021.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import closest_record_share
    >>> rng = np.random.default_rng(0)
    >>> real, fresh, holdout = (pd.DataFrame(rng.normal(size=(500, 4))) for _ in range(3))
    >>> closest_record_share(real, fresh, holdout).flagged
    False
    >>> closest_record_share(real, real, holdout).value
    1.0
    """
    tables = Tables.with_holdout(real, synthetic, holdout, discrete_columns)
    rng = check_random_state(random_state)
    check_count(max_rows, "max_rows")
    blocks = encode(tables)
    queries = np.sort(rng.permutation(len(tables.synthetic))[:max_rows])
    n = min(len(tables.real), len(tables.tables[HOLDOUT]))
    references = [rows_of(blocks, t, rng.permutation(tables.sizes[t])[:n]) for t in (REAL, HOLDOUT)]
    share, error, distances = _share(rows_of(blocks, SYNTHETIC, queries), *references)

    half = n // 2
    oracle = _share(references[1][:half], references[0][: n - half], references[1][half:])[0]
    details = pd.DataFrame({"row": queries, "to_real": distances[0], "to_holdout": distances[1]})
    return PrivacyResult(
        "distance to the closest record: share nearer to the real rows",
        share,
        details,
        oracle,
        ideal=0.5,
        leak=share - 0.5,
        standard_error=error,
    )


def nearest_neighbour_ratio(
    real,
    synthetic,
    holdout=None,
    *,
    max_rows: int = 10_000,
    discrete_columns: Iterable | None = None,
    random_state=0,
) -> PrivacyResult:
    """Mean ratio of the distances to the nearest and to the second nearest real row.

    A synthetic row made from one real row lies close to that one alone: its ratio is near 0. The
    rows of a holdout say what is usual.

    Parameters
    ----------
    real : DataFrame or 2-d array
        The rows that the synthesizer learned from, at least two.
    synthetic : DataFrame or 2-d array
        The rows that it wrote.
    holdout : DataFrame or 2-d array, optional
        Real rows that it never saw.
    max_rows : int, default=10_000
        Rows asked; from longer tables they are drawn.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws.

    Returns
    -------
    PrivacyResult
        ``value`` in 0..1; ``ideal`` and ``oracle`` are the mean ratio of the holdout. ``details``
        has one row per synthetic row asked: ``row``, ``nearest``, ``second`` and ``ratio``, which
        is 1 where both distances are 0.

    References
    ----------
    .. [1] Zhao, Kunar, Birke, Chen, "CTAB-GAN: Effective Table Data Synthesizing", ACML 2021.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skvae.metrics import nearest_neighbour_ratio
    >>> rng = np.random.default_rng(0)
    >>> real, fresh, holdout = (pd.DataFrame(rng.normal(size=(500, 4))) for _ in range(3))
    >>> nearest_neighbour_ratio(real, fresh, holdout).flagged
    False
    >>> nearest_neighbour_ratio(real, real + 0.001, holdout).flagged
    True
    """
    tables = Tables.of(real, synthetic, holdout, discrete_columns=discrete_columns)
    if len(tables.real) < 2:
        raise ValueError("real must have at least two rows.")
    rng = check_random_state(random_state)
    check_count(max_rows, "max_rows")
    blocks = encode(tables)
    targets = rows_of(blocks, REAL)
    asked, ratios, distances = [], [], []
    for table in range(1, len(tables.tables)):
        rows = np.sort(rng.permutation(tables.sizes[table])[:max_rows])
        found, _ = nearest(rows_of(blocks, table, rows), targets, k=2)
        ratio = np.divide(
            found[:, 0], found[:, 1], out=np.ones(len(rows)), where=found[:, 1] > _TIE
        )
        asked, ratios, distances = [*asked, rows], [*ratios, ratio], [*distances, found]

    means = [float(ratio.mean()) for ratio in ratios]
    oracle = means[1] if holdout is not None else None
    details = pd.DataFrame(
        {
            "row": asked[0],
            "nearest": distances[0][:, 0],
            "second": distances[0][:, 1],
            "ratio": ratios[0],
        }
    )
    return PrivacyResult(
        "nearest-neighbour distance ratio",
        means[0],
        details,
        oracle,
        ideal=oracle,
        leak=None if oracle is None else oracle - means[0],
        standard_error=float(np.sqrt(sum(ratio.var() / len(ratio) for ratio in ratios))),
    )


def exact_copies(
    real, synthetic, holdout=None, *, discrete_columns: Iterable | None = None
) -> PrivacyResult:
    """Share of synthetic rows that equal a real row in every cell.

    Parameters
    ----------
    real : DataFrame or 2-d array
        The rows that the synthesizer learned from.
    synthetic : DataFrame or 2-d array
        The rows that it wrote.
    holdout : DataFrame or 2-d array, optional
        Real rows that it never saw: in a table of few columns, some of them equal real rows by
        chance.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype.

    Returns
    -------
    PrivacyResult
        ``value`` in 0..1; ``ideal`` and ``oracle`` are the share of the holdout. ``details`` has
        one row per synthetic row that is a copy: ``row``, its position, and ``n_real``, how many
        real rows it equals. Copies of a single row are the grave ones. Missing cells equal each
        other.

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae.metrics import exact_copies
    >>> real = pd.DataFrame({"age": [20, 30, 30], "job": ["a", "b", "b"]})
    >>> synthetic = pd.DataFrame({"age": [20, 30, 20, 50], "job": ["a", "b", "b", "a"]})
    >>> result = exact_copies(real, synthetic)
    >>> result.value
    0.5
    >>> result.details
       row  n_real
    0    0       1
    1    1       2
    """
    tables = Tables.of(real, synthetic, holdout, discrete_columns=discrete_columns)
    keys = [
        pd.util.hash_pandas_object(pd.DataFrame(matrix + 0.0), index=False)
        for matrix in tables.matrices()
    ]
    known = keys[0].value_counts()
    n_real = [table_keys.map(known).fillna(0).to_numpy(np.int64) for table_keys in keys[1:]]
    shares = [float(np.mean(n > 0)) for n in n_real]
    oracle = shares[1] if holdout is not None else None
    copies = np.flatnonzero(n_real[0])
    smoothed = [((n > 0).sum() + 1) / (len(n) + 2) for n in n_real]
    variances = [p * (1 - p) / len(n) for p, n in zip(smoothed, n_real, strict=True)]
    return PrivacyResult(
        "exact copies",
        shares[0],
        pd.DataFrame({"row": copies, "n_real": n_real[0][copies]}),
        oracle,
        ideal=oracle,
        leak=None if oracle is None else shares[0] - oracle,
        standard_error=float(np.sqrt(sum(variances))),
        tolerance=0.005,
    )


def _share(queries: np.ndarray, real: np.ndarray, holdout: np.ndarray) -> tuple:
    """Share of queries nearer to the real rows, its standard error, and both distances."""
    found = [nearest(queries, targets) for targets in (real, holdout)]
    to_real, to_holdout = (distances[:, 0] for distances, _ in found)
    is_tie = np.abs(to_real - to_holdout) <= _TIE
    nearer = to_real < to_holdout
    share = float(np.mean(np.where(is_tie, 0.5, nearer)))
    # Under chance each reference row is a coin, thrown for all queries it is nearest to.
    winners = np.where(nearer, found[0][1][:, 0], len(real) + found[1][1][:, 0])[~is_tie]
    error = 0.5 * np.sqrt((np.bincount(winners) ** 2.0).sum()) / len(queries)
    return share, float(error), (to_real, to_holdout)
