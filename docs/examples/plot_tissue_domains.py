"""The domains of a simulated tissue: what is there, what the smoother finds, what skvae finds.

    python docs/examples/plot_tissue_domains.py tissue_domains.png

Needs matplotlib: ``pip install skvae[plot]``.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, confusion_matrix
from sklearn.mixture import GaussianMixture

from skvae import AEStetikClusterer
from skvae.datasets import make_spatial_domains
from skvae.spatial.preprocessing import CountsPCA

N_DOMAINS = 5
# Okabe and Ito's colours, which eyes of all kinds tell apart.
COLOURS = np.array(["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"])

tissue = make_spatial_domains(2025, N_DOMAINS, random_state=0)

# The smoother: the mean of the components of each spot and its 6 nearest, and a mixture.
components = CountsPCA(15).fit_transform(tissue.counts)
_, nearest = cKDTree(tissue.coordinates).query(tissue.coordinates, 7)
mixture = GaussianMixture(N_DOMAINS, covariance_type="tied", n_init=10, random_state=0)
smoother = mixture.fit_predict(components[nearest].mean(axis=1))

# skvae, from the same counts and coordinates; the image is left aside.
clusterer = AEStetikClusterer(N_DOMAINS, random_state=0)
found = clusterer.fit_predict(tissue.counts, coordinates=tissue.coordinates)


def like_the_truth(labels):
    """Rename domains, which come in the order of their sizes, to those they overlap most."""
    theirs, ours = linear_sum_assignment(-confusion_matrix(labels, tissue.domains))
    return ours[np.argsort(theirs)][labels]


def draw_tissue(axes, title, labels):
    """Draw every spot at its place, in the colour of its domain."""
    axes.scatter(*tissue.coordinates.T, c=COLOURS[labels], s=9, linewidths=0)
    axes.set_title(title)
    axes.set_aspect("equal")
    axes.set_xlabel("x, in distances of spots")


def draw_embedding(axes, title, points):
    """Draw two components of an embedding, in the colours of the true domains."""
    points = PCA(2, random_state=0).fit_transform(points)
    axes.scatter(*points.T, c=COLOURS[tissue.domains], s=5, linewidths=0)
    axes.set_title(title)
    axes.set_xlabel("component 1")


def score(labels):
    return f"ARI {adjusted_rand_score(tissue.domains, labels):.2f}"


figure, ((true, floor, ours), (alone, smoothed, embedded)) = plt.subplots(
    2, 3, figsize=(11, 7.4), layout="constrained"
)
draw_tissue(true, "true domains", tissue.domains)
draw_tissue(floor, f"mixture of means of 6: {score(smoother)}", like_the_truth(smoother))
draw_tissue(ours, f"AEStetikClusterer: {score(found)}", like_the_truth(found))
draw_embedding(alone, "expression of each spot", components)
draw_embedding(smoothed, "means of 6 neighbours", components[nearest].mean(axis=1))
draw_embedding(embedded, "embedding_", clusterer.embedding_)
true.set_ylabel("y, in distances of spots")
alone.set_ylabel("component 2")
figure.legend(
    handles=[
        plt.Line2D([], [], marker="o", linestyle="", color=colour, label=f"true domain {domain}")
        for domain, colour in enumerate(COLOURS)
    ],
    loc="outside lower center",
    ncols=N_DOMAINS,
    frameon=False,
)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "tissue_domains.png", dpi=90)
