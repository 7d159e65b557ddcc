"""A table to tensors and back: schema, column encoders, ``TabularTransformer``."""

from skvae.tabular.categorical import CategoricalEncoder
from skvae.tabular.inference import infer_schema
from skvae.tabular.kinds import KINDS
from skvae.tabular.made import IdentifierEncoder, PersonalEncoder, SeenValues, TextEncoder
from skvae.tabular.mixture import MixtureEncoder
from skvae.tabular.numeric import QuantileEncoder
from skvae.tabular.patterns import NumberRange
from skvae.tabular.schema import ColumnSchema
from skvae.tabular.splits import CodeSplit
from skvae.tabular.temporal import TemporalSchema
from skvae.tabular.transformer import EncodedTable, TabularTransformer

__all__ = [
    "KINDS",
    "CategoricalEncoder",
    "CodeSplit",
    "ColumnSchema",
    "EncodedTable",
    "IdentifierEncoder",
    "MixtureEncoder",
    "NumberRange",
    "PersonalEncoder",
    "QuantileEncoder",
    "SeenValues",
    "TabularTransformer",
    "TemporalSchema",
    "TextEncoder",
    "infer_schema",
]
