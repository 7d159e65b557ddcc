"""A hint at the number of domains: where several clusterings agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from skvae.spatial.agreement import pairwise_ari
from skvae.spatial.consensus_members import (
    find_directions,
    fit_member,
    n_leading,
    smooth,
    width_factor,
)
from skvae.spatial.neighbourhoods import Neighbourhoods

# A maximum this much below the best still counts: few domains agree easily.
MARGIN = 0.1
# Stabilities this near to each other are the same.
NOISE = 0.01
# Directions that do not depend on the scales of modalities.
PROJECTIONS = (("maf", 12), ("maf", 18), ("maf", 16))
# Width and place in PROJECTIONS of each member.
MEMBERS = ((1.0, 0), (1.6, 0), (1.0, 1), (1.6, 1), (1.25, 2))


class NumberOfClusters(NamedTuple):
    """The number of domains that was chosen, and why.

    Attributes
    ----------
    n_clusters : int
        The number.
    candidates : int array of shape (n_candidates,)
        Numbers that were tried.
    stability : float array of shape (n_candidates,)
        Mean adjusted Rand index between the members, for each.
    """

    n_clusters: int
    candidates: np.ndarray
    stability: np.ndarray


def choose_n_clusters(
    X: np.ndarray,
    neighbourhoods: Neighbourhoods,
    rng: np.random.RandomState,
    *,
    morphology: np.ndarray | None = None,
    candidates: Iterable[int] = range(2, 13),
    n_starts: int = 6,
    max_fit_spots: int = 10_000,
) -> NumberOfClusters:
    """Choose the largest number of clusters on which five mixtures agree well.

    The stability of K is the mean pairwise adjusted Rand index of the clusterings by five members
    (MAF 12 and 18 at widths 1 and 1.6, MAF 16 at 1.25). Chosen is the largest K at which it has a
    local maximum within .1 of its overall maximum. Take it as a hint, and look at the curve: it is
    right on about half of the labelled sections, and the rule was made with some of those at hand.
    (BIC counts smoothed spots as independent, and always asks for more clusters.)

    Parameters
    ----------
    X : array of shape (n_spots, n_features)
        Principal components in order of their variance.
    neighbourhoods : Neighbourhoods
        Of the same spots.
    rng : RandomState
        Seeds the mixtures.
    morphology : array of shape (n_spots, n_image_features) or None
        Image features that are to be joined.
    candidates : iterable of int, default=range(2, 13)
        Numbers to try; those above the number of spots are left out.
    n_starts : int, default=6
        Starts of each mixture.
    max_fit_spots : int, default=10_000
        Spots, spread evenly, that mixtures are fitted on.

    Returns
    -------
    NumberOfClusters
    """
    numbers = np.array([number for number in sorted(candidates) if number <= len(X)])
    if len(numbers) == 0:
        raise ValueError(f"there are fewer spots ({len(X)}) than clusters to try")
    rows = neighbourhoods.spread_sample(max_fit_spots, rng)
    leading = np.asarray(X)[:, : n_leading(X.shape[1], len(X))]
    columns = leading if morphology is None else np.hstack([leading, morphology])
    features = (columns - columns.mean(axis=0)).astype(np.float32)
    directions = find_directions(features, neighbourhoods.lag_matrix(), PROJECTIONS)
    size, smoothed = neighbourhoods.slide_size, {}
    stability = np.empty(len(numbers))
    for place, number in enumerate(numbers):
        labelings = []
        factor = width_factor(size, number)
        widths = {width * factor for width, _ in MEMBERS}
        if not widths <= smoothed.keys():
            smoothed = {
                width: values[rows]
                for width, values in smooth(features, neighbourhoods, sorted(widths)).items()
            }
        for width, which in MEMBERS:
            values = smoothed[width * factor]
            member = fit_member(values, width, directions[which], number, rng, n_starts)
            labelings.append(member.posteriors(values).argmax(axis=1))
        agreement = pairwise_ari(np.array(labelings), number)
        stability[place] = agreement[np.triu_indices(len(MEMBERS), 1)].mean()
    return NumberOfClusters(int(numbers[pick_stable(stability)]), numbers, stability)


def pick_stable(stability: np.ndarray) -> int:
    """Return the place of the last local maximum within .1 of the overall maximum.

    What is .01 lower than its neighbour is as high. The last candidate is a maximum only where
    none is higher: what follows it is not known.
    """
    padded = np.concatenate([[-np.inf], stability, [-np.inf]]) - NOISE
    peaks = (stability >= padded[:-2]) & (stability >= padded[2:])
    peaks[-1] = stability[-1] == stability.max()
    return int(np.flatnonzero(peaks & (stability >= stability.max() - MARGIN))[-1])
