"""``TVAEOverSampler``: rows of rare classes, for imbalanced-learn."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skvae._random import private_random_state
from skvae.synthesizer import TVAESynthesizer
from skvae.tabular.frames import read_table, restore_container
from skvae.tabular.libraries import column_as_pandas, column_from_pandas


class TVAEOverSampler(BaseEstimator):
    """Balance classes by synthetic rows, with the interface of imbalanced-learn's samplers.

    One synthesizer learns the table and the class together; rows of the rarer classes are then
    drawn under the condition of their class, and stand after the real ones.

    Parameters
    ----------
    synthesizer : TVAESynthesizer or None, default=None
        What learns the table; a copy of it is fitted. None for ``TVAESynthesizer()``.
    sampling_strategy : {"auto", "not majority", "minority", "all"}, float or dict, default="auto"
        As in imbalanced-learn. ``"auto"``, like ``"not majority"`` and ``"all"``, brings each
        class to the size of the largest, ``"minority"`` the rarest one alone. A number is the size
        of the smaller class over that of the larger, of two classes. A dict says how many rows a
        class shall have, the real ones included.
    random_state : int, RandomState instance or None, default=None
        Seeds the fit and the draws.

    Attributes
    ----------
    synthesizer_ : TVAESynthesizer
        Fitted to rows and classes.
    sampling_strategy_ : dict
        Rows that were added to each class.
    n_features_in_ : int
        Number of columns seen in ``fit_resample``.
    feature_names_in_ : ndarray of shape (n_columns,)
        Their names, if all are strings.

    Notes
    -----
    It is a class of its own as pipelines of imbalanced-learn refuse what both transforms and
    resamples.

    Examples
    --------
    >>> from skvae import TVAEOverSampler, TVAESynthesizer
    >>> from skvae.datasets import load_adult
    >>> table = load_adult().head(500)
    >>> X, y = table.drop(columns="income"), table["income"]
    >>> sampler = TVAEOverSampler(TVAESynthesizer(max_epochs=2), random_state=0)
    >>> X_balanced, y_balanced = sampler.fit_resample(X, y)
    >>> counts = y_balanced.value_counts()
    >>> int(counts.iloc[0]) == int(counts.iloc[1]) == int(y.value_counts().iloc[0])
    True
    """

    _parameter_constraints: dict = {
        "synthesizer": [TVAESynthesizer, None],
        "sampling_strategy": [
            StrOptions({"auto", "not majority", "minority", "all"}),
            Interval(Real, 0, 1, closed="right"),
            dict,
        ],
        "random_state": ["random_state"],
    }

    def __init__(self, synthesizer=None, *, sampling_strategy="auto", random_state=None):
        self.synthesizer = synthesizer
        self.sampling_strategy = sampling_strategy
        self.random_state = random_state

    def fit_resample(self, X, y):
        """Learn a table and its classes, and return it with rows added to the rarer ones.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            The rows, of any dtypes, with missing cells.
        y : array-like of shape (n_rows,)
            Their classes.

        Returns
        -------
        X_resampled : DataFrame or ndarray of shape (n_rows_new, n_columns)
            The rows, then the synthetic ones.
        y_resampled : Series or ndarray of shape (n_rows_new,)
            Their classes, in a container of the kind of ``y``.

        Raises
        ------
        ValueError, TypeError
            A parameter, the table or its classes cannot be used; the message names it.
        """
        self._validate_params()
        frame = read_table(self, X, reset=True)
        if y is None:
            raise ValueError("y is None, expected the class of each row of X.")
        y, of_library = column_as_pandas(y)
        labels = column_or_1d(y)
        n_missing = int(pd.isna(labels).sum())
        if n_missing:
            raise ValueError(
                f"y has {n_missing} missing classes. Drop these rows, or give them a class."
            )
        check_consistent_length(frame, labels)
        check_classification_targets(labels)
        wanted = self._rows_to_add(labels)
        rng = private_random_state(self.random_state)
        seeds = rng.randint(2**31 - 1, size=2)
        target = _target_name(y, frame.columns)
        synthesizer = self._synthesizer(target, wanted, labels).set_params(
            random_state=int(seeds[0])
        )
        joint = frame.reset_index(drop=True)
        joint.insert(joint.shape[1], target, pd.Categorical(labels))
        self.synthesizer_ = synthesizer.fit(joint)
        parts = [joint]
        draws = np.random.RandomState(seeds[1])
        for label, n_rows in wanted.items():
            if n_rows:
                parts.append(
                    synthesizer.sample(n_rows, conditions={target: label}, random_state=draws)
                )
        table = pd.concat(parts, ignore_index=True)
        self.sampling_strategy_ = wanted
        resampled = table.pop(target).to_numpy(labels.dtype)
        if isinstance(y, pd.Series):
            resampled = pd.Series(resampled, name=y.name, dtype=y.dtype)
        if of_library is not None:
            resampled = column_from_pandas(resampled, of_library)
        return restore_container(self, table), resampled

    def _synthesizer(self, target, wanted: dict, labels: np.ndarray):
        """Return the synthesizer to fit, with the class decoded first where there is an order."""
        synthesizer = TVAESynthesizer() if self.synthesizer is None else clone(self.synthesizer)
        params = synthesizer.get_params()
        least = params["rare_category_min_count"] or params["min_rows_per_value"]
        for label, n_rows in wanted.items():
            n_real = int((labels == label).sum())
            if n_rows and n_real < least:
                raise ValueError(
                    f"Class {label!r} has {n_real} rows, fewer than the {least} of which a value "
                    "may be reproduced. Lower min_rows_per_value of the synthesizer, or leave the "
                    "class out with a dict as sampling_strategy."
                )
        if params["decoder"] == "autoregressive":
            first = params["condition_columns"]
            synthesizer.set_params(condition_columns=[target, *(() if first is None else first)])
        return synthesizer

    def _rows_to_add(self, labels: np.ndarray) -> dict:
        """Return how many rows each class lacks."""
        classes, counts = np.unique(labels, return_counts=True)
        sizes = dict(zip(classes.tolist(), counts.tolist(), strict=True))
        strategy, most = self.sampling_strategy, max(sizes.values())
        if len(sizes) < 2:
            raise ValueError(f"y holds the class {classes.tolist()} alone, expected at least two.")
        if isinstance(strategy, Mapping):
            return _asked_for(strategy, sizes)
        if isinstance(strategy, str):
            rarest = min(sizes, key=sizes.__getitem__)
            chosen = [rarest] if strategy == "minority" else list(sizes)
            return {label: most - sizes[label] for label in chosen}
        if len(sizes) != 2:
            raise ValueError(
                f"sampling_strategy={strategy} is a ratio of two classes, but y has {len(sizes)}. "
                "Give a dict of class to number of rows."
            )
        rarest = min(sizes, key=sizes.__getitem__)
        missing = int(strategy * most) - sizes[rarest]
        if missing < 0:
            raise ValueError(
                f"sampling_strategy={strategy} is less than the ratio in y, "
                f"{sizes[rarest] / most:.3g}: rows are added, and none taken away."
            )
        return {rarest: missing}


def _asked_for(strategy: Mapping, sizes: dict) -> dict:
    added = {}
    for label, size in strategy.items():
        if label not in sizes:
            raise ValueError(
                f"sampling_strategy names the class {label!r}, which y does not hold. The classes "
                f"are {list(sizes)}."
            )
        if not isinstance(size, Integral) or size < sizes[label]:
            raise ValueError(
                f"sampling_strategy[{label!r}]={size!r}, expected a whole number of at least the "
                f"{sizes[label]} rows that there are."
            )
        added[label] = int(size) - sizes[label]
    return added


def _target_name(y, columns: pd.Index):
    """Return a name for the class that no column has."""
    name = getattr(y, "name", None)
    name = "target" if name is None else name
    while name in columns:
        name = f"{name}_"
    return name
