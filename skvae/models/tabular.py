"""Variational autoencoders of tables: autoregressive over columns, and factorised.

Both take a batch as ``(codes, places)``: the mode of each cell, int64 of shape (batch, n_columns),
and the place within it, float32 of the same shape (the autoregressive model needs none).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.code_tables import (
    NARROW,
    CategoricalHeads,
    CodeLayout,
    CodeTable,
    SegmentedSoftmax,
    draw_codes,
)
from skvae.models.core import GaussianVAE
from skvae.models.networks import (
    CausalColumns,
    ColumnBlock,
    GaussianHead,
    ResidualTrunk,
    relu_mlp,
)

# Rows decoded at a time: few enough for the cache, and enough to outweigh the calls.
DECODE_ROWS = 8192


class TabularVAE(GaussianVAE):
    """What the two models of tables share: the columns' codes, and drawing them.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column.
    latent_dim : int
        Size of the latent.
    """

    offsets: Tensor  # where each column's codes begin among all

    def __init__(self, cardinalities: Sequence[int], latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.cardinalities = [int(cardinality) for cardinality in cardinalities]

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.cardinalities)

    def log_density(self, x: tuple[Tensor, ...], params: Any) -> Tensor:
        """Return log p(x | z) for scoring, of shape (batch,); the likelihood by default."""
        return self.log_likelihood(x, params)

    def sample_columns(
        self,
        z: Tensor,
        *,
        generator: torch.Generator | None = None,
        argmax: bool = False,
        centre: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draw rows from p(x | z).

        Parameters
        ----------
        z : Tensor of shape (n_rows, latent_dim)
            Latents.
        generator : torch.Generator, optional
            Source of the randomness.
        argmax : bool, default=False
            Whether to take the most probable mode of each cell instead of a draw.
        centre : bool, default=False
            Whether to take the middle of each place's distribution instead of a draw.

        Returns
        -------
        codes : int64 Tensor of shape (n_rows, n_columns)
        places : float32 Tensor of shape (n_rows, n_columns)
        """
        raise NotImplementedError


class AutoregressiveTVAE(TabularVAE):
    """A VAE whose decoder is autoregressive over columns: p(x | z) = prod_j p(x_j | x_<j, z).

    Each column has a small network of its own, and all are evaluated at once in training: a
    causally masked first layer over the embedded columns and the latent, residual blocks, and a
    softmax over the column's codes. Numeric columns are categorical too (quantile bins and atoms),
    with tables that are smooth in the rank of a bin.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column.
    scores : sequence of (ndarray of shape (n_codes,) or None)
        Ranks in (0, 1) of the codes of columns with an order; None for nominal columns.
    counts : sequence of ndarray of shape (n_codes,)
        Training rows behind each code.
    latent_dim : int, default=16
        Size of the latent.
    hidden : sequence of int, default=(128, 128)
        Widths of the encoder's layers.
    column_hidden : sequence of int, default=(64, 64)
        Widths of the layers of each column's network; all equal.
    embedding_dim : int, default=16
        Size of the vector by which a column enters the networks of the columns after it.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        scores: Sequence[np.ndarray | None],
        counts: Sequence[np.ndarray],
        *,
        latent_dim: int = 16,
        hidden: Sequence[int] = (128, 128),
        column_hidden: Sequence[int] = (64, 64),
        embedding_dim: int = 16,
    ) -> None:
        super().__init__(cardinalities, latent_dim)
        self.layout = CodeLayout(self.cardinalities)
        offsets = torch.from_numpy(self.layout.offsets)
        self.register_buffer("offsets", offsets, persistent=False)
        n_columns, width = self.n_columns, column_hidden[0]
        self.width = width
        # Encoder: a sum of one vector for each cell, then a residual trunk.
        self.encoder_table = CodeTable(
            self.layout,
            hidden[0],
            scores,
            basis_size=8,
            free_std=n_columns**-0.5,
            smooth_std=(8 * n_columns) ** -0.5,
        )
        self.trunk = ResidualTrunk(hidden)
        self.posterior = GaussianHead(hidden[-1], latent_dim)
        # Decoder.
        self.input_table = CodeTable(
            self.layout, embedding_dim, scores, basis_size=8, free_std=1.0, smooth_std=8**-0.5
        )
        self.causal = CausalColumns(n_columns, latent_dim, embedding_dim, width, self.layout.order)
        self.blocks = nn.ModuleList(ColumnBlock(n_columns, width) for _ in column_hidden[1:])
        self.head_table = CodeTable(
            self.layout, width, scores, basis_size=16, free_std=0.02, smooth_std=0.02
        )
        self.heads = CategoricalHeads(self.layout, counts)

    def encode(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), each of shape (batch, latent_dim)."""
        cells = F.embedding_bag(x[0] + self.offsets, self.encoder_table(), mode="sum")
        return self.posterior(self.trunk(F.silu(cells)))

    def decode(self, z: Tensor, x: tuple[Tensor, ...]) -> list[Tensor]:
        """Return the logits of each bucket of columns, given the columns before each.

        See ``CategoricalHeads.logits`` for their shape.
        """
        seen = F.embedding(x[0] + self.offsets, self.input_table()).flatten(1)
        h = F.silu(self.causal(torch.cat([z, seen], dim=1)))
        for block in self.blocks:
            h = block(h)
        return self.heads.logits(h, self.head_table.blocks())

    def log_likelihood(self, x: tuple[Tensor, ...], params: Any) -> Tensor:
        """Return log p(codes | z) of each row, in nats, of shape (batch,)."""
        return self.heads.log_prob(x[0], params)

    @torch.no_grad()
    def sample_columns(
        self,
        z: Tensor,
        *,
        generator: torch.Generator | None = None,
        argmax: bool = False,
        centre: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draw rows from p(x | z), column by column; see ``TabularVAE.sample_columns``.

        Places are uniform in [0, 1): within a bin every place is as likely.
        """
        flat = torch.empty(len(z), self.n_columns, dtype=torch.int64, device=z.device)
        vectors, heads = self.input_table(), self.head_table()
        n_scratch = min(DECODE_ROWS, len(z))
        # Features and logits of all chunks go through the same memory, which stays in the cache.
        scratch = [z.new_empty(n_scratch * size) for size in (self.width, max(self.cardinalities))]
        for column in range(self.n_columns):
            draw = self._column_drawer(column, vectors, heads, *scratch)
            for start in range(0, len(z), DECODE_ROWS):
                rows = slice(start, start + DECODE_ROWS)
                logits = draw(z[rows], flat[rows, :column])
                flat[rows, column] = draw_codes(logits, generator, argmax)
            flat[:, column] += self.offsets[column]
        places = torch.full(flat.shape, 0.5, device=z.device)
        if not centre:
            places.uniform_(generator=generator)
        return flat - self.offsets, places

    def _column_drawer(
        self, column: int, vectors: Tensor, heads: Tensor, features: Tensor, scores: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function from latents and the codes before ``column`` to its logits.

        What a code adds to the first layer is the same in each row: it is computed once for each
        code, so that a row costs a sum of vectors where training has a matrix product.
        """
        width = self.width
        latent_weight, causal = self.causal.weight_into(column)
        bias = self.causal.bias[column * width : (column + 1) * width]
        added = vectors.new_zeros(self.layout.size, width)
        for source in range(column):
            first = int(self.layout.offsets[source])
            codes = slice(first, first + self.cardinalities[source])
            added[codes] = vectors[codes] @ causal[source]
        place = self.layout.order.index(column)
        layers = (layer for layer in self.blocks if isinstance(layer, ColumnBlock))
        blocks = [(layer.weight[place], layer.bias[place, 0]) for layer in layers]
        first = int(self.layout.offsets[column])
        head = heads[first : first + self.cardinalities[column]].T.contiguous()
        head_bias = self.heads.column_bias(column)

        def draw(z: Tensor, before: Tensor) -> Tensor:
            h, logits = (
                part[: len(z) * size].view(len(z), size)
                for part, size in ((features, width), (scores, head.shape[1]))
            )
            torch.addmm(bias, z, latent_weight, out=h)
            if column:
                h += F.embedding_bag(before, added, mode="sum")
            F.silu(h, inplace=True)
            for weight, block_bias in blocks:
                h += F.silu(torch.addmm(block_bias, h, weight), inplace=True)
            if head.shape[1] <= NARROW:
                return torch.addmm(head_bias[:, None], head.T, h.T).T
            return torch.addmm(head_bias, h, head, out=logits)

        return draw


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
        n_places, n_codes = len(place_columns), sum(self.cardinalities)
        n_inputs = n_codes + n_places
        bound = n_inputs**-0.5
        # The product of a weight matrix and one-hot rows is a sum of the matrix's columns.
        self.input_table = nn.Parameter(_uniform(n_codes, hidden[0], bound=bound))
        self.place_weight = nn.Parameter(_uniform(n_places, hidden[0], bound=bound))
        self.input_bias = nn.Parameter(_uniform(hidden[0], bound=bound))
        self.encoder = relu_mlp(hidden)
        self.mu = nn.Linear(hidden[-1], latent_dim)
        self.log_var = nn.Linear(hidden[-1], latent_dim)
        decoder_widths = [latent_dim, *reversed(hidden)]
        self.decoder = relu_mlp(decoder_widths)
        last = decoder_widths[-1]
        bound = last**-0.5
        self.output_weight = nn.Parameter(_uniform(n_codes, last, bound=bound))
        self.output_bias = nn.Parameter(_uniform(n_codes, bound=bound))
        self.place_head = nn.Linear(last, n_places) if n_places else None
        self.sigma = nn.Parameter(torch.full((n_places,), 0.1))
        self.softmax = SegmentedSoftmax(counts)

    def encode(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), each of shape (batch, latent_dim)."""
        codes, places = x[:2]
        cells = F.embedding_bag(codes + self.offsets, self.input_table, mode="sum")
        cells = cells + self.input_bias
        if len(self.place_columns):
            cells = torch.addmm(cells, places[:, self.place_columns], self.place_weight)
        features = self.encoder(F.relu(cells))
        return self.mu(features), self.log_var(features)

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
    ) -> tuple[Tensor, Tensor]:
        """Draw rows from p(x | z); see ``TabularVAE.sample_columns``."""
        codes = torch.empty(len(z), self.n_columns, dtype=torch.int64, device=z.device)
        places = torch.full(codes.shape, 0.5, device=z.device)
        if not centre:
            places.uniform_(generator=generator)
        for start in range(0, len(z), DECODE_ROWS):
            rows = slice(start, start + DECODE_ROWS)
            logits, means = self.decode(z[rows])
            segments = (logits + self.softmax.blocked).split(self.cardinalities, dim=1)
            for column, scores in enumerate(segments):
                codes[rows, column] = draw_codes(scores.contiguous(), generator, argmax)
            if means is not None:
                if not centre:
                    noise = torch.randn(means.shape, device=z.device, generator=generator)
                    means = torch.addcmul(means, self.sigma, noise)
                places[rows, self.place_columns] = means
        return codes, places


def _uniform(*shape: int, bound: float) -> Tensor:
    return (torch.rand(*shape) * 2 - 1) * bound
