"""Scorers by which scikit-learn's searches tune a synthesizer."""

from __future__ import annotations

from collections.abc import Callable

from .coverage import coverage
from .precision_recall import alpha_precision, beta_recall
from .shapes import column_shapes
from .trends import pair_trends
from .two_sample import two_sample_score

_METRICS = {
    "alpha_precision": alpha_precision,
    "beta_recall": beta_recall,
    "column_shapes": column_shapes,
    "coverage": coverage,
    "pair_trends": pair_trends,
    "two_sample": two_sample_score,
}


class SampleScorer:
    """A scorer that lets a fitted synthesizer sample, and compares with the rows held out.

    For the `scoring` of ``GridSearchCV``, ``cross_val_score`` and the like. From an estimator that
    was fitted to the other folds it draws as many rows as the fold has, and scores them against
    the fold's. :data:`two_sample_scorer` is ``SampleScorer("two_sample", random_state=0)``.

    Parameters
    ----------
    metric : {"two_sample", "column_shapes", "pair_trends", "coverage", "alpha_precision", \
            "beta_recall"} or callable
        The metric, by name, or any function of a real and a synthetic table that returns a result
        with ``.value``, or a number; more is better.
    random_state : int or None, default=0
        Handed to ``estimator.sample`` and to the metrics that draw. The same number for every
        candidate compares them on the same noise.
    **params
        Further parameters of the metric.

    Notes
    -----
    A string such as ``scoring="two_sample"`` does not work: scikit-learn looks strings up in a
    list of its own, to which it offers no way to add. Nor does ``sklearn.metrics.make_scorer``,
    which makes scorers of *predictions*. A scorer is any callable of an estimator and data, and
    that is what this is.

    The estimator needs ``sample(n_samples, random_state=...)`` that returns a table.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.neighbors import KernelDensity
    >>> from skvae.metrics import SampleScorer
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> search = GridSearchCV(
    ...     KernelDensity(), {"bandwidth": [0.2, 3.0]}, scoring=SampleScorer("two_sample"), cv=3
    ... )
    >>> search.fit(X).best_params_
    {'bandwidth': 0.2}
    """

    def __init__(self, metric: str | Callable = "two_sample", *, random_state=0, **params) -> None:
        if not callable(metric) and metric not in _METRICS:
            raise ValueError(
                f"metric must be callable or one of {sorted(_METRICS)}, not {metric!r}."
            )
        self.metric = metric
        self.random_state = random_state
        self.params = params

    def __call__(self, estimator, X, y=None) -> float:
        """Return the score of rows sampled from a fitted estimator, against the rows `X`."""
        if not hasattr(estimator, "sample"):
            raise TypeError(
                f"{type(estimator).__name__} has no method sample: this scores what an estimator "
                "samples. Of a pipeline, score the last step."
            )
        rows = estimator.sample(len(X), random_state=self.random_state)
        metric, params = self.metric, dict(self.params)
        if metric in ("two_sample", "alpha_precision", "beta_recall"):
            params.setdefault("random_state", self.random_state)
        return float(_METRICS.get(metric, metric)(X, rows, **params))

    def __repr__(self) -> str:
        name = self.metric if isinstance(self.metric, str) else self.metric.__name__
        return f"SampleScorer({name!r}, random_state={self.random_state!r})"


two_sample_scorer = SampleScorer("two_sample")
column_shapes_scorer = SampleScorer("column_shapes")
pair_trends_scorer = SampleScorer("pair_trends")
