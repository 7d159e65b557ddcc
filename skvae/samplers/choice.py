"""Which sampler goes with which model."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator, clone

from skvae.models.core import BaseAutoencoder

# Densities that belong to one kind of model each.
OF_ONE_MODEL = ("codes", "hypersphere", "poincare_disk", "rhvae_manifold", "vamp")
# Densities of any latents on the real line.
OF_ANY_MODEL = ("normal", "gaussian_mixture", "kde", "two_stage", "maf", "iaf")
# Kinds of model whose latents live on a space of their own.
CURVED = ("hypersphere", "poincare_disk")


def choose_sampler(
    sampler: str | BaseEstimator, model: BaseAutoencoder, samplers: dict[str, type[BaseEstimator]]
) -> Any:
    """Return an unfitted sampler for a model's latents.

    Parameters
    ----------
    sampler : str or sampler
        A key of ``samplers``, a sampler (it is copied), or ``"auto"`` for the model's own.
    model : BaseAutoencoder
        The model.
    samplers : dict of str to class
        The samplers by name.

    Raises
    ------
    ValueError
        The sampler does not go with the model.
    """
    right = getattr(model, "default_sampler", "gaussian_mixture")
    if sampler == "auto":
        return samplers[right]()
    if isinstance(sampler, str):
        name, chosen = sampler, samplers[sampler]()
    else:
        name = next((key for key, cls in samplers.items() if type(sampler) is cls), "")
        chosen = clone(sampler)
    wrong = ""
    if name in OF_ONE_MODEL and name != right:
        wrong = "draws latents of another kind of model"
    elif right in CURVED and name != right:
        wrong = "knows nothing of the curved space that this model's latents live on"
    elif name == "normal" and right in ("codes", "gaussian_mixture"):
        wrong = "is a prior that this model's latents were never drawn to"
    if wrong:
        raise ValueError(
            f"sampler={name!r} does not go with {type(model).__name__}: it {wrong}. Take "
            f"sampler={right!r}, or 'auto', which chooses it."
        )
    return chosen
