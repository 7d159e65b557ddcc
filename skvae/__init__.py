"""The scikit-learn of variational autoencoders."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skvae import constraints, datasets, metrics, models, report, samplers, tabular, training
    from skvae.clusterer import AEStetikClusterer
    from skvae.config import from_config, to_config
    from skvae.embedder import VAEEmbedder
    from skvae.oversampler import TVAEOverSampler
    from skvae.persistence import load, save
    from skvae.report import QualityReport, evaluate
    from skvae.synthesizer import TVAESynthesizer

    __version__: str

__all__ = [
    "AEStetikClusterer",
    "QualityReport",
    "TVAEOverSampler",
    "TVAESynthesizer",
    "VAEEmbedder",
    "__version__",
    "constraints",
    "datasets",
    "evaluate",
    "from_config",
    "load",
    "metrics",
    "models",
    "report",
    "samplers",
    "save",
    "tabular",
    "to_config",
    "training",
]

_SUBMODULES = {
    "constraints",
    "datasets",
    "metrics",
    "models",
    "report",
    "samplers",
    "tabular",
    "training",
}
_HOMES = {
    "AEStetikClusterer": "skvae.clusterer",
    "QualityReport": "skvae.report",
    "TVAEOverSampler": "skvae.oversampler",
    "TVAESynthesizer": "skvae.synthesizer",
    "VAEEmbedder": "skvae.embedder",
    "evaluate": "skvae.report",
    "from_config": "skvae.config",
    "load": "skvae.persistence",
    "save": "skvae.persistence",
    "to_config": "skvae.config",
}


def __getattr__(name: str) -> object:
    # torch takes seconds to import: `import skvae` leaves that to the first name that needs it.
    if name in _SUBMODULES:
        return import_module(f"skvae.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name == "__version__":
        value = import_module("importlib.metadata").version("skvae")
    else:
        raise AttributeError(f"module 'skvae' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
