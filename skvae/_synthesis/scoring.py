"""What a fitted model of tables says of rows: their embeddings and their likelihood."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skvae.models import AutoregressiveTVAE, TabularVAE
from skvae.models.precision import in_double_precision

# Latents drawn for each row when its likelihood is bounded.
N_SCORE_DRAWS = 8
# Rows encoded or scored at a time.
SCORE_ROWS = 2048


class ScoringMixin:
    """Likelihood of rows."""

    def score_samples(self, X):
        """Lower bound on the log density of each row, in nats.

        The importance-weighted bound [2]_ (eq. 8) with the same few latents' noise for each row.
        It is a density in data space: a number counts as the cell of values that round to it, in
        the units of its column, so that models with other encodings compare. A row that breaks a
        constraint has minus infinity.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            A table with the columns of fit.

        Returns
        -------
        log_density : float64 array of shape (n_rows,)

        References
        ----------
        .. [2] Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
        """
        check_is_fitted(self)
        frame, known = self._read(X)
        encoded, log_measure = self.transformer_.encode_with_measure(known)
        if self._plan is not None:
            log_measure += self._plan.log_measure(frame)
        return log_density_bound(self.model_, encoded) + log_measure

    def score(self, X, y=None):
        """Mean of ``score_samples``: higher is better.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            A table with the columns of fit.
        y : None
            Ignored.

        Returns
        -------
        float
            Nats a row.
        """
        return float(self.score_samples(X).mean())


def table_tensors(model: TabularVAE, encoded, device) -> tuple[torch.Tensor, ...]:
    """Return what a model takes as a batch: codes, and places where it models them."""
    codes = torch.from_numpy(encoded.codes).to(device)
    if isinstance(model, AutoregressiveTVAE):
        return (codes,)
    floats = [encoded.places, *encoded.mode_places]
    return codes, *(torch.from_numpy(array).to(device) for array in floats)


def posterior_means(model: TabularVAE, encoded) -> np.ndarray:
    """Return the mean of q(z | x) of each row, float64 of shape (n_rows, latent_dim)."""
    model = in_double_precision(model)
    out = np.empty((len(encoded.codes), model.latent_dim))
    with torch.no_grad():
        for rows, batch in _batches(encoded, model):
            out[rows] = model.encode(batch)[0].cpu().numpy()
    return out


def log_density_bound(model: TabularVAE, encoded) -> np.ndarray:
    """Return the importance-weighted bound on log p(x) of each row, float64 of shape (n_rows,).

    The noise of the latents is the same for each row and call.
    """
    model = in_double_precision(model)
    noise = torch.randn(
        N_SCORE_DRAWS,
        model.latent_dim,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    ).to(next(model.parameters()).device)
    out = np.empty(len(encoded.codes))
    with torch.no_grad():
        for rows, batch in _batches(encoded, model):
            out[rows] = _importance_bound(model, batch, noise).cpu().numpy()
    return out


def _importance_bound(model: TabularVAE, batch, noise: torch.Tensor) -> torch.Tensor:
    """Importance-weighted bound on log p(x), of shape (batch,), for the given noise."""
    mu, log_var = model.encode(batch)
    log_weights = []
    for eps in noise:
        z = mu + torch.exp(0.5 * log_var) * eps
        log_prior = -0.5 * z.square().sum(1)
        log_posterior = -0.5 * (eps.square().sum() + log_var.sum(1))
        log_density = model.log_density(batch, model.decode(z, batch))
        log_weights.append(log_density + log_prior - log_posterior)
    return torch.logsumexp(torch.stack(log_weights), dim=0) - math.log(len(noise))


def _batches(encoded, model: TabularVAE):
    """Slices of rows, and their tensors in the model's precision."""
    data = table_tensors(model, encoded, next(model.parameters()).device)
    for start in range(0, len(data[0]), SCORE_ROWS):
        rows = slice(start, start + SCORE_ROWS)
        yield rows, tuple(t[rows].double() if t.is_floating_point() else t[rows] for t in data)
