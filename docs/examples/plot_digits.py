"""Handwritten digits in two dimensions, by three models of the zoo, and new digits of each.

    python docs/examples/plot_digits.py digits.png

Needs matplotlib: ``pip install skvae[plot]``.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from skvae import VAEEmbedder
from skvae.report import LatentSpaceDisplay

torch.set_num_threads(1)  # the networks are small
X, y = load_digits(return_X_y=True)
MODELS = ["vae", "rae_l2", "vamp"]


def draw_images(ax, images, n_columns=8):
    """Draw images of 8 x 8 side by side, with a gap between them."""
    tiles = np.pad(images.reshape(-1, n_columns, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    ax.imshow(tiles.transpose(0, 2, 1, 3).reshape(10 * len(tiles), -1), cmap="gray_r", vmin=0)
    ax.set_axis_off()


figure, axes = plt.subplots(
    2, len(MODELS), figsize=(11, 5.8), height_ratios=(3, 1.5), layout="constrained"
)
for (points, images), name in zip(axes.T, MODELS, strict=True):
    embedder = VAEEmbedder(2, model=name, max_epochs=60, random_state=0).fit(X)
    right = cross_val_score(KNeighborsClassifier(15), embedder.transform(X), y, cv=5).mean()
    LatentSpaceDisplay(embedder.transform(X[::2]), y[::2]).plot(ax=points, size=6)
    points.set_title(f'"{name}": 15 neighbours name {100 * right:.0f} %')
    if name != MODELS[-1]:
        points.get_legend().remove()
    draw_images(images, embedder.sample(24, random_state=0))
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "digits.png", dpi=80)
