"""What the columns of a table are, in the words of SDMetrics."""

from __future__ import annotations

import pandas as pd
from pandas.api import types as pdt
from sklearn.utils.validation import check_is_fitted

from skvae.constraints.steps import Combination

# SDMetrics knows nothing of durations and times of day.
_SDTYPES = {
    "numeric": "numerical",
    "datetime": "datetime",
    "categorical": "categorical",
    "identifier": "id",
    "name": "name",
    "first_name": "first_name",
    "last_name": "last_name",
    "email": "email",
    "phone": "phone_number",
    "address": "address",
    "company": "company",
}


class MetadataMixin:
    """Export of what fit found in the columns."""

    def metadata(self, table_name=None):
        """Return the columns of the table and their kinds as SDMetrics and SDV name them.

        Parameters
        ----------
        table_name : str or None, default=None
            Name of the table in reports that take several; None for those that take one.

        Returns
        -------
        metadata : dict
            ``{"columns": {name: {"sdtype": ...}}, "primary_key": ...}``: what reports of
            SDMetrics take, in ``{"tables": {table_name: ...}}`` where there is a name. The first
            identifier without missing cells is the primary key, if there is one; durations, times
            of day and free text are ``"unknown"``.

        Examples
        --------
        >>> from skvae import TVAESynthesizer
        >>> from skvae.datasets import load_adult
        >>> table = load_adult().head(300)
        >>> fitted = TVAESynthesizer(max_epochs=1, random_state=0).fit(table)
        >>> metadata = fitted.metadata()
        >>> metadata["columns"]["age"], metadata["columns"]["income"]
        ({'sdtype': 'numerical'}, {'sdtype': 'categorical'})
        """
        check_is_fitted(self)
        learnt = dict(
            zip(
                (schema.name for schema in self.transformer_.schema_),
                zip(self.transformer_.schema_, self.transformer_.encoders_, strict=True),
                strict=True,
            )
        )
        found: dict = {}
        key = None
        for step in [] if self._plan is None else self._plan.steps_:
            if isinstance(step, Combination):
                found |= dict(zip(step.replaces, map(_of_dtype, step.dtypes_), strict=True))
            else:
                found[step.moved] = _SDTYPES.get(step.numbers_.learnt_as, "unknown")
        for name in self._columns:
            if name in found:
                continue
            schema, encoder = learnt[name]
            found[name] = _SDTYPES.get(schema.kind, "unknown")
            if schema.kind == "categorical" and pdt.is_bool_dtype(schema.dtype):
                found[name] = "boolean"
            if schema.kind == "identifier" and key is None and not encoder.has_missing_:
                key = name
        columns = {name: {"sdtype": found[name]} for name in self._columns}
        table = {"columns": columns} if key is None else {"primary_key": key, "columns": columns}
        return table if table_name is None else {"tables": {table_name: table}}


def _of_dtype(dtype) -> str:
    """Return the kind of a column of combinations."""
    if pdt.is_bool_dtype(dtype):
        return "boolean"
    if isinstance(dtype, pd.CategoricalDtype) or not pdt.is_numeric_dtype(dtype):
        return "datetime" if pdt.is_datetime64_any_dtype(dtype) else "categorical"
    return "numerical"
