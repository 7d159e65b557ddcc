"""The tabular variational autoencoder of CTGAN's paper: columns independent given the latent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.code_tables import SegmentedSoftmax, draw_codes
from skvae.models.core import LossResult, StepContext
from skvae.models.factorized_bound import FactorizedBound
from skvae.models.mlp import hidden_layers
from skvae.models.tabular import DECODE_ROWS, TabularVAE


class FactorizedTVAE(TabularVAE):
    """The tabular VAE of Xu et al. [1]_ (section 4.5): columns independent given the latent.

    p(x | z) is a product over columns of a softmax over the modes and, where modes have an
    inside, of a Gaussian over the place with mean ``tanh`` and a learnt deviation per column.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column.
    counts : sequence of ndarray of shape (n_codes,)
        Training rows behind each code.
    place_columns : sequence of int
        Columns whose place is modelled.
    mode_widths : sequence of array-like of shape (n_modes,)
        For each of them, what one unit of place is in the units of the column, mode by mode. A
        code past these, the missing cell, has no place.
    latent_dim : int, default=128
        Size of the latent.
    hidden : sequence of int, default=(128, 128)
        Widths of the encoder's layers; the decoder's are the same in reverse.

    References
    ----------
    .. [1] Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling Tabular Data using
       Conditional GAN", NeurIPS 2019.
    """

    place_columns: Tensor
    place_modes: Tensor
    place_ends: Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        counts: Sequence[np.ndarray],
        *,
        place_columns: Sequence[int] = (),
        mode_widths: Sequence[Sequence[float]] = (),
        latent_dim: int = 128,
        hidden: Sequence[int] = (128, 128),
    ) -> None:
        super().__init__(cardinalities, latent_dim)
        self.register_buffer(
            "place_columns", torch.tensor(list(place_columns), dtype=torch.int64), persistent=False
        )
        self.register_buffer(
            "place_modes",
            torch.tensor([len(widths) for widths in mode_widths], dtype=torch.int64),
            persistent=False,
        )
        self.log_widths = [np.log(np.asarray(widths)) for widths in mode_widths]
        starts = np.concatenate([[0], np.cumsum(self.cardinalities)[:-1]])
        self.register_buffer("offsets", torch.from_numpy(starts), persistent=False)
        ends = self.offsets[self.place_columns] + self.place_modes
        self.register_buffer("place_ends", ends[:, None], persistent=False)
        n_places, n_codes = len(place_columns), sum(self.cardinalities)
        n_inputs = n_codes + n_places
        bound = n_inputs**-0.5
        # The product of a weight matrix and one-hot rows is a sum of the matrix's columns.
        self.input_table = nn.Parameter(_uniform(n_codes, hidden[0], bound=bound))
        self.place_weight = nn.Parameter(_uniform(n_places, hidden[0], bound=bound))
        self.input_bias = nn.Parameter(_uniform(hidden[0], bound=bound))
        self.encoder = nn.Sequential(*hidden_layers(hidden, "relu"))
        self.mu = nn.Linear(hidden[-1], latent_dim)
        self.log_var = nn.Linear(hidden[-1], latent_dim)
        decoder_widths = [latent_dim, *reversed(hidden)]
        self.decoder = nn.Sequential(*hidden_layers(decoder_widths, "relu"))
        last = decoder_widths[-1]
        bound = last**-0.5
        self.output_weight = nn.Parameter(_uniform(n_codes, last, bound=bound))
        self.output_bias = nn.Parameter(_uniform(n_codes, bound=bound))
        self.place_head = nn.Linear(last, n_places) if n_places else None
        self.sigma = nn.Parameter(torch.full((n_places,), 0.1))
        self.softmax = SegmentedSoftmax(counts)

    @property
    def encoder_layers(self) -> tuple[nn.Linear, ...]:
        """The layers of the encoder that have weights."""
        return _linear_layers(self.encoder)

    @property
    def decoder_layers(self) -> tuple[nn.Linear, ...]:
        """The layers of the decoder that have weights."""
        return _linear_layers(self.decoder)

    def encode(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), each of shape (batch, latent_dim)."""
        codes, places = x[:2]
        cells = F.embedding_bag(codes + self.offsets, self.input_table, mode="sum")
        cells = cells + self.input_bias
        if len(self.place_columns):
            cells = torch.addmm(cells, places[:, self.place_columns], self.place_weight)
        features = self.encoder(F.relu(cells))
        return self.mu(features), self.log_var(features)

    @property
    def training_gradient(self) -> Callable[..., LossResult] | None:
        """What ``training_loss`` does, setting its gradient too, in less time.

        None where layers have been put in that are not linear maps, each with a ReLU after it: the
        training loop then leaves the gradient to autograd.
        """
        plain = _is_plain(self.encoder) and _is_plain(self.decoder)
        return self._gradient_by_hand if plain else None

    @torch.no_grad()
    def _gradient_by_hand(self, batch: tuple[Tensor, ...], context: StepContext) -> LossResult:
        shape, like = (len(batch[0]), self.latent_dim), self.sigma
        noise = torch.randn(
            shape, dtype=like.dtype, device=like.device, generator=context.generator
        )
        bound = FactorizedBound(self, batch, noise)
        loss = self._bound(
            bound.log_likelihood, bound.kl_divergence, context.beta, context.free_nats
        )
        weight = torch.full_like(bound.kl_divergence, 1 / len(noise))
        of_kl = context.beta * weight
        if context.free_nats:
            of_kl *= loss.diagnostics["kl_divergence"] >= context.free_nats
        bound.backward(-weight, of_kl)
        return loss

    def decode(self, z: Tensor, x: tuple[Tensor, ...] = ()) -> tuple[Tensor, Tensor | None]:
        """Return the logits of all codes, and the means of the places."""
        h = self.decoder(z)
        logits = torch.addmm(self.output_bias, h, self.output_weight.T)
        means = None if self.place_head is None else torch.tanh(self.place_head(h))
        return logits, means

    def log_likelihood(self, x: tuple[Tensor, ...], params: Any) -> Tensor:
        """Return log p(codes, places | z) of each row, in nats, of shape (batch,)."""
        codes, places = x[:2]
        logits, means = params
        total = self.softmax.log_prob(logits, codes + self.offsets)
        if means is not None:
            deviation = (places[:, self.place_columns] - means) / self.sigma
            gaussian = 0.5 * deviation.square() + self.sigma.log() + 0.5 * math.log(2 * math.pi)
            has_place = codes[:, self.place_columns] < self.place_modes
            total = total - (gaussian * has_place).sum(1)
        return total

    def log_density(self, x: tuple[Tensor, ...], params: Any) -> Tensor:
        """Return the log density of each row given z, in data space, of shape (batch,).

        A number may come from any of its column's modes, so their densities are summed.

        Parameters
        ----------
        x : tuple of Tensor
            Codes and places; then for each column that has places, those of its number within all
            modes, of shape (batch, n_modes).
        params : tuple
            What ``decode`` returned.
        """
        codes, _, *mode_places = x
        logits, means = params
        numeric = self.place_columns.tolist()
        total = logits.new_zeros(len(codes))
        for column, scores in enumerate(logits.split(self.cardinalities, dim=1)):
            log_prob = scores.log_softmax(1)
            of_code = log_prob.gather(1, codes[:, [column]]).squeeze(1)
            if column in numeric:
                index = numeric.index(column)
                widths = torch.as_tensor(self.log_widths[index]).to(log_prob)
                n_modes = len(widths)
                deviation = (mode_places[index] - means[:, [index]]) / self.sigma[index]
                gaussian = -0.5 * deviation.square() - torch.log(self.sigma[index])
                joint = log_prob[:, :n_modes] + gaussian - 0.5 * math.log(2 * math.pi) - widths
                present = codes[:, column] < n_modes
                of_code = torch.where(present, joint.logsumexp(1), of_code)
            total = total + of_code
        return total

    @torch.no_grad()
    def project_parameters(self) -> None:
        """Keep the deviations in [0.01, 1], as the paper's code does after each step."""
        self.sigma.clamp_(0.01, 1.0)

    @torch.no_grad()
    def sample_columns(
        self,
        z: Tensor,
        *,
        generator: torch.Generator | None = None,
        argmax: bool = False,
        centre: bool = False,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw rows from p(x | z); see ``TabularVAE.sample_columns``."""
        codes = torch.empty(len(z), self.n_columns, dtype=torch.int64, device=z.device)
        places = torch.full(codes.shape, 0.5, device=z.device)
        if not centre:
            places.uniform_(generator=generator)
        for start in range(0, len(z), DECODE_ROWS):
            rows = slice(start, start + DECODE_ROWS)
            logits, means = self.decode(z[rows])
            logits = (logits + self.softmax.blocked) / temperature
            segments = logits.split(self.cardinalities, dim=1)
            for column, scores in enumerate(segments):
                codes[rows, column] = draw_codes(scores.contiguous(), generator, argmax)
            if means is not None:
                if not centre:
                    noise = torch.randn(means.shape, device=z.device, generator=generator)
                    means = torch.addcmul(means, self.sigma, noise)
                places[rows, self.place_columns] = means
        return codes, places


def _linear_layers(modules: Iterable[nn.Module]) -> tuple[nn.Linear, ...]:
    return tuple(module for module in modules if isinstance(module, nn.Linear))


def _is_plain(modules: Iterable[nn.Module]) -> bool:
    """Whether these are in turn linear maps with a bias, and ReLU."""
    kinds = [
        type(module) if getattr(module, "bias", True) is not None else None for module in modules
    ]
    return kinds == [nn.Linear, nn.ReLU] * (len(kinds) // 2)


def _uniform(*shape: int, bound: float) -> Tensor:
    return (torch.rand(*shape) * 2 - 1) * bound
