"""Spatial omics: neighbourhoods of spots, tissue domains, and what goes into and out of them."""
