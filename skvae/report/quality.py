"""``evaluate``: a real and a synthetic table judged by every metric, on one page."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from skvae import metrics
from skvae._files import open_replacement
from skvae.metrics._tables import Tables
from skvae.report import _page
from skvae.report._columns import ColumnPanel, column_panels

# The two-sample score from which a table passes, and below which it fails.
GOOD_TWO_SAMPLE, BAD_TWO_SAMPLE = 0.9, 0.5
# How much less a model learned from synthetic rows may know, well and at worst.
_UTILITY_LOSS, _WORST_UTILITY_LOSS = 0.02, 0.1
# Fresh real rows have no nearer neighbours among the synthetic ones than among their own.
_IDEAL = {"beta-recall": 0.5}
# An AUC this low comes of rows that the synthetic table repeats.
_AUC_OF_COPIES = 0.45


def evaluate(
    real,
    synthetic,
    *,
    holdout=None,
    target=None,
    discrete_columns: Iterable | None = None,
    random_state=0,
) -> QualityReport:
    """Judge a synthetic table: is it like the real one, is it useful, does it leak.

    Parameters
    ----------
    real : DataFrame or 2-d array
        The rows that the synthesizer learned from.
    synthetic : DataFrame or 2-d array
        The rows that it wrote: the same columns, any number of rows.
    holdout : DataFrame or 2-d array, optional
        Real rows that it never saw. **Most of what can be said about privacy needs them**, and
        every figure then stands beside what real rows reach.
    target : label, optional
        A column to predict from the others, for the utility.
    discrete_columns : iterable of labels, optional
        Columns to treat as discrete whatever their dtype, such as integer codes.
    random_state : int, RandomState instance or None, default=0
        Seeds folds and draws.

    Returns
    -------
    QualityReport
        Prints as a table; ``save("report.html")`` writes the page.

    Raises
    ------
    ValueError
        If the tables have different columns, no rows, or no column `target`.

    Notes
    -----
    Identifiers tell any synthetic table from a real one, and say nothing about it. Columns of text
    most of whose cells are unique, and running numbers, are left out of all figures; the report
    names them.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import skvae
    >>> rng = np.random.default_rng(0)
    >>> def people(n):
    ...     age = rng.integers(18, 90, n)
    ...     return pd.DataFrame({"age": age, "retired": age + rng.normal(0, 5, n) > 65})
    >>> report = skvae.evaluate(people(500), people(500), holdout=people(500))
    >>> report.passed
    True
    """
    checked = Tables.of(real, synthetic, holdout, discrete_columns=discrete_columns)
    if target is not None and target not in checked.real.columns:
        raise ValueError(
            f"target {target!r} is not a column of the tables; these are "
            f"{list(checked.real.columns)}."
        )
    identifiers = [c for c in checked.real.columns if c != target and _identifies(checked.real[c])]
    kept = [c for c in checked.real.columns if c not in identifiers]
    if not kept:
        raise ValueError(f"all columns look like identifiers: {identifiers}.")
    frames = [table[kept] for table in checked.tables]
    tables = Tables(
        frames,
        [c for c in checked.numerical if c in kept],
        [c for c in checked.discrete if c in kept],
    )
    results = _judge(tables, target, random_state)
    return QualityReport(results, column_panels(tables), tables.sizes, identifiers, target)


@dataclass(frozen=True, eq=False, repr=False)
class QualityReport:
    """What :func:`skvae.evaluate` found.

    Attributes
    ----------
    results : dict
        Results of the metrics by name, as :mod:`skvae.metrics` returns them.
    panels : list of ColumnPanel
        The distribution of each column.
    sizes : list of int
        Rows of the real, the synthetic and, if there is one, the holdout table.
    identifiers : list
        Columns that were left out.
    target : label or None
        The column whose prediction the utility is about.
    """

    results: dict[str, metrics.MetricResult]
    panels: list[ColumnPanel]
    sizes: list[int]
    identifiers: list
    target: object = None

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """What to make of it: pairs of "good", "fair" or "bad", and a sentence."""
        return [_likeness(self.results), *_usefulness(self.results), *_privacy(self.results)]

    @property
    def passed(self) -> bool:
        """Whether no verdict is bad."""
        return all(grade != "bad" for grade, _ in self.verdicts)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per measure: ``value``, ``real_rows``, ``ideal`` and ``flagged``."""
        rows = []
        for name, result in self.results.items():
            is_privacy = isinstance(result, metrics.PrivacyResult)
            rows.append(
                {
                    "measure": name,
                    "value": result.value,
                    "real_rows": np.nan if result.oracle is None else result.oracle,
                    "ideal": result.ideal if is_privacy else _IDEAL.get(name, 1.0),
                    "flagged": result.flagged if is_privacy else None,
                }
            )
        table = pd.DataFrame(rows).set_index("measure")
        return table.astype({"ideal": float, "flagged": object})

    def worst_columns(self, n: int = 5) -> pd.DataFrame:
        """Return the `n` columns farthest off: ``shape`` and the mean ``trend`` of their pairs."""
        shape = self.results["column shapes"].details.set_index("column")["score"]
        table = pd.DataFrame({"shape": shape})
        if "pair trends" in self.results:
            details = self.results["pair trends"].details
            both = [
                details[[name, "score"]].set_axis(["column", "score"], axis=1)
                for name in ("column_1", "column_2")
            ]
            table["trend"] = pd.concat(both).groupby("column", sort=False)["score"].mean()
        return table.iloc[table.mean(axis=1).argsort(kind="stable")].head(n)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one HTML page that needs no network.

        Parameters
        ----------
        path : path-like
            Where to; a file that is there is replaced.
        """
        with open_replacement(path) as file:
            file.write(_page.page(self).encode())

    def __repr__(self) -> str:
        marks = {"good": "+", "fair": "~", "bad": "!"}
        lines = [f"{marks[grade]} {sentence}" for grade, sentence in self.verdicts]
        table = self.to_frame()
        table["flagged"] = table["flagged"].map({True: "LEAKS", False: "no", None: ""}).fillna("")
        text = table.to_string(float_format="{:.4f}".format, na_rep="", index_names=False)
        sizes = ", ".join(
            f"{n:,} {name} rows"
            for n, name in zip(self.sizes, ("real", "synthetic", "holdout"), strict=False)
        )
        return "\n".join([*lines, "", text, "", sizes])

    def _repr_html_(self) -> str:
        return _page.summary(self)


def _judge(tables: Tables, target, random_state) -> dict[str, metrics.MetricResult]:
    real, synthetic, *rest = tables.tables
    holdout = rest[0] if rest else None
    kinds = {"discrete_columns": tables.discrete}
    seeds = {"random_state": random_state}
    results = {"column shapes": metrics.column_shapes(real, synthetic, holdout=holdout, **kinds)}
    if len(real.columns) > 1:
        for bins, name in (("own", "pair trends"), ("real", "pair trends, real bins")):
            results[name] = metrics.pair_trends(
                real, synthetic, bins=bins, holdout=holdout, **kinds
            )
    results["two-sample score"] = metrics.two_sample_score(
        real, synthetic, holdout=holdout, importances=holdout is None, **seeds
    )
    if holdout is not None:
        # A memoriser passes for its own rows: unseen ones are the honest test.
        results["two-sample score, unseen rows"] = metrics.two_sample_score(
            holdout, synthetic, holdout=real, importances=True, **seeds
        )
    results["coverage"] = metrics.coverage(real, synthetic, holdout=holdout, **kinds)
    for name, metric in (
        ("alpha-precision", metrics.alpha_precision),
        ("beta-recall", metrics.beta_recall),
    ):
        results[name] = metric(real, synthetic, holdout=holdout, **kinds, **seeds)
    if target is not None:
        results["utility"] = metrics.utility(real, synthetic, target, holdout=holdout, **kinds)
    return results | _attack(real, synthetic, holdout, kinds, seeds)


def _attack(real, synthetic, holdout, kinds, seeds) -> dict[str, metrics.MetricResult]:
    results = {
        "exact copies": metrics.exact_copies(real, synthetic, holdout, **kinds),
        "nearest-neighbour ratio": metrics.nearest_neighbour_ratio(
            real, synthetic, holdout, **kinds, **seeds
        ),
    }
    if holdout is None:
        return results
    tables = (real, synthetic, holdout)
    results["closest-record share"] = metrics.closest_record_share(*tables, **kinds, **seeds)
    results["membership inference"] = metrics.membership_inference(*tables, **kinds, **seeds)
    if len(real.columns) > 1:
        results["attribute inference"] = metrics.attribute_inference(*tables, **kinds, **seeds)
    results["singling out"] = metrics.singling_out(*tables, **kinds, **seeds)
    return results


def _identifies(cells: pd.Series) -> bool:
    """Whether a column names its rows: texts mostly unique, or a running number."""
    known = cells.dropna()
    if len(known) < 20:
        return False
    if pd.api.types.is_integer_dtype(known.dtype):
        ordered = known.is_monotonic_increasing or known.is_monotonic_decreasing
        # A shuffled or split one still leaves few numbers out.
        dense = len(known) >= 100 and known.max() - known.min() < 5 * len(known)
        return bool(known.is_unique and (ordered or dense))
    is_text = pd.api.types.is_object_dtype(known.dtype) or pd.api.types.is_string_dtype(known.dtype)
    return bool(is_text and known.astype(str).nunique() > 0.5 * len(known))


def _likeness(results: dict) -> tuple[str, str]:
    rows, result = "the real rows", results["two-sample score"]
    if "two-sample score, unseen rows" in results:
        rows = "real rows that the synthesizer never saw"
        result = results["two-sample score, unseen rows"]
    told = f"A classifier tells synthetic rows from {rows} with an AUC of {result.auc:.3f}"
    reach = 1.0 if result.oracle is None else min(1.0, result.oracle)
    # Of few rows chance alone goes below.
    if result.auc < min(_AUC_OF_COPIES, 0.5 - 3.0 * result.standard_error):
        return "bad", f"{told}, below chance: many synthetic rows repeat these very rows."
    if result.value >= GOOD_TWO_SAMPLE * reach:
        return "good", f"{told}, where 0.5 is chance: it is like them."
    if result.value >= BAD_TWO_SAMPLE * reach:
        return "fair", f"{told}, where 0.5 is chance: it is much like them, with traces."
    return "bad", f"{told}, where 0.5 is chance: it is not like them."


def _usefulness(results: dict) -> list[tuple[str, str]]:
    if "utility" not in results:
        return []
    result = results["utility"]
    name = {"auc": "AUC", "r2": "R squared"}[result.details["metric"][0]]
    text = f"A model trained on synthetic rows reaches an {name} of {result.value:.3f} on real rows"
    if result.oracle is None:
        return [("fair", f"{text}; a holdout would tell what training on real rows reaches.")]
    loss = result.oracle - result.value
    grade = "good" if loss <= _UTILITY_LOSS else "fair" if loss <= _WORST_UTILITY_LOSS else "bad"
    return [(grade, f"{text}, trained on real rows {result.oracle:.3f}.")]


def _privacy(results: dict) -> list[tuple[str, str]]:
    judged = {n: r for n, r in results.items() if isinstance(r, metrics.PrivacyResult)}
    leaks = [name for name, result in judged.items() if result.flagged]
    if leaks:
        return [("bad", f"It leaks what it learned from, by {', '.join(leaks)}.")]
    if all(result.flagged is None for result in judged.values()):
        share = 100 * judged["exact copies"].value
        text = f"Privacy cannot be judged without a holdout; {share:.2f} % of the rows are copies."
        return [("fair", text)]
    return [("good", f"None of {len(judged)} privacy measures finds a leak.")]
