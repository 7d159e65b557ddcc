"""A table to tensors and back: schema, column encoders, ``TabularTransformer``."""

from skvae.tabular.categorical import CategoricalEncoder
from skvae.tabular.mixture import MixtureEncoder
from skvae.tabular.numeric import QuantileEncoder
from skvae.tabular.schema import ColumnSchema, infer_schema
from skvae.tabular.transformer import EncodedTable, TabularTransformer

__all__ = [
    "CategoricalEncoder",
    "ColumnSchema",
    "EncodedTable",
    "MixtureEncoder",
    "QuantileEncoder",
    "TabularTransformer",
    "infer_schema",
]
