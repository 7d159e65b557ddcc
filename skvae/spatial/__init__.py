"""Spatial omics: neighbourhoods of spots, tissue domains, and what goes into and out of them."""

from skvae.spatial.autocorrelation import GATE, range_ratio
from skvae.spatial.consensus import SpatialConsensus
from skvae.spatial.lattices import visium_cells, visium_places, window_indices
from skvae.spatial.mixture import TiedMixture, fit_from_labels, fit_tied_mixture
from skvae.spatial.neighbourhoods import Neighbourhoods
from skvae.spatial.number_of_clusters import NumberOfClusters, choose_n_clusters
from skvae.spatial.refinement import refine_labels, vote

__all__ = [
    "GATE",
    "Neighbourhoods",
    "NumberOfClusters",
    "SpatialConsensus",
    "TiedMixture",
    "choose_n_clusters",
    "fit_from_labels",
    "fit_tied_mixture",
    "range_ratio",
    "refine_labels",
    "visium_cells",
    "visium_places",
    "vote",
    "window_indices",
]
