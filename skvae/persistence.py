"""``save`` and ``load``: a fitted estimator as a file that cannot run code.

The file is a zip of ``estimator.json`` and ``arrays.safetensors``. JSON spells the estimator's
state out; objects in it are named by a key of a fixed table of classes, so that a file can ask for
nothing else.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import zipfile
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import _is_fitted, check_is_fitted

from skvae._files import open_replacement

FORMAT = "skvae estimator"
FORMAT_VERSION = 1

# Named by strings: the doors are a floor above this one. A configuration may ask for these.
ESTIMATORS = {
    "AEStetikClusterer": "skvae.clusterer",
    "TVAESynthesizer": "skvae.synthesizer",
    "TabularTransformer": "skvae.tabular",
    "VAEEmbedder": "skvae.embedder",
}
# Every class that a file may hold.
_CLASSES = {
    **ESTIMATORS,
    "TVAEOverSampler": "skvae.oversampler",
    "ColumnSchema": "skvae.tabular",
    "TemporalSchema": "skvae.tabular",
    "CodeSplit": "skvae.tabular",
    "IdentifierEncoder": "skvae.tabular",
    "NumberRange": "skvae.tabular",
    "PersonalEncoder": "skvae.tabular",
    "SeenValues": "skvae.tabular",
    "TextEncoder": "skvae.tabular",
    "QuantileEncoder": "skvae.tabular",
    "CategoricalEncoder": "skvae.tabular",
    "MixtureEncoder": "skvae.tabular",
    "CodesSampler": "skvae.samplers",
    "ManifoldSampler": "skvae.samplers",
    "NormalSampler": "skvae.samplers",
    "GaussianMixtureSampler": "skvae.samplers",
    "HypersphereSampler": "skvae.samplers",
    "InverseAutoregressiveFlowSampler": "skvae.samplers",
    "KernelDensitySampler": "skvae.samplers",
    "MaskedAutoregressiveFlowSampler": "skvae.samplers",
    "PoincareDiskSampler": "skvae.samplers",
    "TwoStageSampler": "skvae.samplers",
    "VampSampler": "skvae.samplers",
    "AgglomerativeClustering": "sklearn.cluster",
    "BayesianGaussianMixture": "sklearn.mixture",
    "DBSCAN": "sklearn.cluster",
    "GaussianMixture": "sklearn.mixture",
    "KMeans": "sklearn.cluster",
    "MiniBatchKMeans": "sklearn.cluster",
    "PCA": "sklearn.decomposition",
    "CountsPCA": "skvae.spatial.preprocessing",
    "EmbeddingDomains": "skvae._clustering.embedding_domains",
    "Leiden": "skvae.spatial.leiden",
    "Member": "skvae.spatial.consensus_members",
    "PlainFeatures": "skvae._clustering.pseudo_labels",
    "SpatialConsensus": "skvae.spatial",
    "SpotReader": "skvae._clustering.spots",
    "TiedMixture": "skvae.spatial",
    "Bounds": "skvae.constraints.bounds",
    "ColumnNumbers": "skvae.constraints.columns",
    "Combination": "skvae.constraints.steps",
    "ConstraintPlan": "skvae.constraints",
    "Derivation": "skvae.constraints.steps",
    "FixedCombinations": "skvae.constraints",
    "Inequality": "skvae.constraints",
    "Predicate": "skvae.constraints",
    "Range": "skvae.constraints",
    "Total": "skvae.constraints",
    "Labels": "skvae.rows",
    "RowFormat": "skvae.rows",
}


def save(estimator, path) -> None:
    """Save a fitted estimator to a file that ``load`` reads without running code from it.

    Parameters
    ----------
    estimator : estimator of skvae
        Fitted. Its ``callbacks`` are not saved.
    path : str or path-like
        The file; one that is there is replaced, and only once the new one is whole.

    Raises
    ------
    NotFittedError
        The estimator is not fitted.
    TypeError
        Something in it, such as a parameter of the user's own class, cannot be saved.

    Examples
    --------
    >>> import os, tempfile, skvae
    >>> table = skvae.datasets.load_adult().head(300)
    >>> synthesizer = skvae.TVAESynthesizer(max_epochs=1, random_state=0).fit(table)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "adult.skvae")
    ...     skvae.save(synthesizer, path)
    ...     again = skvae.load(path)
    >>> again.sample(5, random_state=1).equals(synthesizer.sample(5, random_state=1))
    True
    """
    if not hasattr(estimator, "fit_resample"):
        check_is_fitted(estimator)
    elif not _is_fitted(estimator):
        raise NotFittedError(f"{estimator} is not fitted yet: call fit_resample first.")
    packer = _Packer()
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": {name: version(name) for name in ("skvae", "scikit-learn", "torch", "pandas")},
        "estimator": packer.pack(estimator),
    }
    with open_replacement(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("estimator.json", json.dumps(content, allow_nan=False))
        archive.writestr("arrays.safetensors", safetensors.numpy.save(packer.arrays))


def load(path):
    """Load an estimator that ``save`` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator
        Fitted, on its device if that is here and on the CPU otherwise.

    Raises
    ------
    ValueError
        The file is not one of ours, is damaged, or was written by a later version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read("estimator.json"))
            arrays = safetensors.numpy.load(archive.read("arrays.safetensors"))
        found = (str(content["format"]), int(content["format_version"]))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, safetensors.SafetensorError) as e:
        raise ValueError(
            f"{os.fspath(path)!r} is not a file that skvae.save wrote, or it is damaged ({e}). "
            "A joblib dump is loaded with joblib.load."
        ) from None
    if found[0] != FORMAT or found[1] > FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)!r} has format {found}, expected {FORMAT!r} up to {FORMAT_VERSION}. "
            f"It was written by skvae {content.get('versions', {}).get('skvae')}: update skvae."
        )
    try:
        return _Unpacker(arrays).unpack(content["estimator"])
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)!r} is damaged ({error!r}).") from error


class _Packer:
    """Spells objects out in JSON, collecting their arrays."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def pack(self, value: Any) -> Any:
        """Return ``value`` as JSON; everything but plain JSON becomes ``{"$tag": content}``."""
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, float) and not math.isfinite(value):
            return {"$float": repr(float(value))}
        if isinstance(value, (int, float)) and not isinstance(value, np.generic):
            return value
        if isinstance(value, list):
            return [self.pack(item) for item in value]
        if isinstance(value, tuple):
            return {"$tuple": [self.pack(item) for item in value]}
        if isinstance(value, dict):
            return {"$dict": [[self.pack(key), self.pack(item)] for key, item in value.items()]}
        if value is pd.NA or value is pd.NaT:
            return {"$na": "NA" if value is pd.NA else "NaT"}
        for kind, pack in _PACKERS:
            if isinstance(value, kind):
                return pack(self, value)
        name = type(value).__name__
        if _CLASSES.get(name) and getattr(import_module(_CLASSES[name]), name) is type(value):
            state = getattr(value, "__getstate__", None)
            state = dict(state()) if state else dict(vars(value))
            if "callbacks" in state:
                state["callbacks"] = None
            return {"$object": name, "state": self.pack(state)}
        if callable(value):  # functions, classes, torch modules
            raise TypeError(
                f"Cannot save {getattr(value, '__qualname__', name)}: a file of skvae.save holds "
                "no code. Name the model, the networks and the likelihood by strings, leave a "
                "Predicate out of the constraints, or use joblib.dump, which keeps modules and "
                "functions of your own."
            )
        raise TypeError(
            f"Cannot save an object of type {type(value).__module__}.{name}: {value!r}. Use "
            "joblib.dump, or plain values for the estimator's parameters."
        )

    def _scalar(self, value: np.generic) -> dict:
        return {"$scalar": value.dtype.str, "value": self.pack(value.item())}

    def _array(self, value: np.ndarray) -> dict:
        if value.dtype.kind in "OUS":
            cells = [self.pack(item) for item in value.ravel().tolist()]
            return {"$objects": cells, "shape": list(value.shape), "dtype": value.dtype.str}
        key = f"array{len(self.arrays)}"
        self.arrays[key] = np.ascontiguousarray(value)
        return {"$array": key, "shape": list(value.shape)}

    def _dtype(self, value) -> dict:
        if isinstance(value, pd.CategoricalDtype):
            return {
                "$category": self.pack(value.categories),
                "ordered": None if value.ordered is None else bool(value.ordered),
            }
        if isinstance(value, pd.StringDtype):
            return {"$string": value.storage, "na_value": self.pack(value.na_value)}
        if isinstance(value, pd.ArrowDtype):
            return {"$arrow": str(value.pyarrow_dtype)}
        return {"$dtype": str(value)}

    def _index(self, value: pd.Index) -> dict:
        return {
            "$index": self.pack(value.tolist()),
            "multi": isinstance(value, pd.MultiIndex),
            "names": self.pack(list(value.names)),
            "dtype": None if isinstance(value, pd.MultiIndex) else self.pack(value.dtype),
        }

    def _frame(self, value: pd.DataFrame) -> dict:
        columns = {name: value[name].to_numpy() for name in value.columns}
        return {"$frame": self.pack(columns)}

    def _timestamp(self, value: pd.Timestamp) -> dict:
        tz = None if value.tz is None else str(value.tz)
        return {"$timestamp": value.tz_localize(None).isoformat(), "tz": tz, "unit": value.unit}

    def _timedelta(self, value: pd.Timedelta) -> dict:
        return {"$timedelta": int(value.asm8.astype(np.int64)), "unit": value.unit}

    def _period(self, value: pd.Period) -> dict:
        return {"$period": value.ordinal, "freq": value.freqstr}

    def _interval(self, value: pd.Interval) -> dict:
        return {"$interval": self.pack([value.left, value.right]), "closed": value.closed}

    def _date(self, value: datetime.date) -> dict:
        return {"$date": value.isoformat()}

    def _bytes(self, value: bytes) -> dict:
        return {"$bytes": value.hex()}

    def _random_state(self, value: np.random.RandomState) -> dict:
        return {"$random_state": self.pack(value.get_state())}


_PACKERS = [
    (np.generic, _Packer._scalar),
    (np.ndarray, _Packer._array),
    ((np.dtype, pd.api.extensions.ExtensionDtype), _Packer._dtype),
    (pd.Index, _Packer._index),
    (pd.DataFrame, _Packer._frame),
    (np.random.RandomState, _Packer._random_state),
    (pd.Timestamp, _Packer._timestamp),
    (pd.Timedelta, _Packer._timedelta),
    (pd.Period, _Packer._period),
    (pd.Interval, _Packer._interval),
    (datetime.date, _Packer._date),
    (bytes, _Packer._bytes),
]


class _Unpacker:
    """Builds objects from what ``_Packer`` wrote."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def unpack(self, value: Any) -> Any:
        """Return the object that a piece of JSON spells out."""
        if isinstance(value, list):
            return [self.unpack(item) for item in value]
        if not isinstance(value, dict):
            return value
        tag = next((key for key in value if key.startswith("$")), None)
        handler = getattr(self, f"_{tag[1:]}", None) if tag in _TAGS else None
        if handler is None:
            raise ValueError(f"The file holds {tag!r}, which this version of skvae does not know.")
        return handler(value[tag], value)

    def _float(self, content, _):
        return float(content)

    def _tuple(self, content, _):
        return tuple(self.unpack(content))

    def _dict(self, content, _):
        return {self.unpack(key): self.unpack(item) for key, item in content}

    def _na(self, content, _):
        return pd.NaT if content == "NaT" else pd.NA

    def _timestamp(self, content, whole):
        return pd.Timestamp(content, tz=whole["tz"]).as_unit(whole["unit"])

    def _timedelta(self, content, whole):
        return pd.Timedelta(np.timedelta64(content, whole["unit"])).as_unit(whole["unit"])

    def _period(self, content, whole):
        return pd.Period(ordinal=content, freq=whole["freq"])

    def _interval(self, content, whole):
        return pd.Interval(*self.unpack(content), closed=whole["closed"])

    def _date(self, content, _):
        return datetime.date.fromisoformat(content)

    def _bytes(self, content, _):
        return bytes.fromhex(content)

    def _scalar(self, content, whole):
        return np.dtype(content).type(self.unpack(whole["value"]))

    def _array(self, content, whole):
        return self.arrays[content].reshape(whole["shape"])

    def _objects(self, content, whole):
        cells = np.empty(len(content), dtype=object)
        cells[:] = [self.unpack(item) for item in content]
        return cells.reshape(whole["shape"]).astype(np.dtype(whole["dtype"]))

    def _dtype(self, content, _):
        return pd.api.types.pandas_dtype(content)

    def _category(self, content, whole):
        return pd.CategoricalDtype(self.unpack(content), ordered=whole["ordered"])

    def _string(self, content, whole):
        return pd.StringDtype(content, na_value=self.unpack(whole["na_value"]))

    def _arrow(self, content, _):
        import pyarrow as pa

        decimal = re.fullmatch(r"decimal(128|256)\((\d+), (-?\d+)\)", content)
        if decimal:
            width, precision, scale = (int(part) for part in decimal.groups())
            return pd.ArrowDtype(getattr(pa, f"decimal{width}")(precision, scale))
        zoned = re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", content)
        if zoned:
            return pd.ArrowDtype(pa.timestamp(*zoned.groups()))
        return pd.ArrowDtype(pa.type_for_alias(content))

    def _index(self, content, whole):
        labels, names = self.unpack(content), self.unpack(whole["names"])
        if whole["multi"]:
            return pd.MultiIndex.from_tuples(labels, names=names)
        return pd.Index(labels, dtype=self.unpack(whole["dtype"]), name=names[0])

    def _frame(self, content, _):
        return pd.DataFrame(self.unpack(content))

    def _random_state(self, content, _):
        random_state = np.random.RandomState()
        random_state.set_state(self.unpack(content))
        return random_state

    def _object(self, content, whole):
        if content not in _CLASSES:
            raise ValueError(f"The file asks for the class {content!r}, which may not be in it.")
        cls = getattr(import_module(_CLASSES[content]), content)
        instance = cls.__new__(cls)
        state = self.unpack(whole["state"])
        if hasattr(instance, "__setstate__"):
            instance.__setstate__(state)
        else:
            vars(instance).update(state)
        return instance


_TAGS = {
    "$array",
    "$arrow",
    "$bytes",
    "$category",
    "$date",
    "$dict",
    "$dtype",
    "$float",
    "$frame",
    "$index",
    "$interval",
    "$na",
    "$object",
    "$objects",
    "$period",
    "$random_state",
    "$scalar",
    "$string",
    "$timedelta",
    "$timestamp",
    "$tuple",
}
