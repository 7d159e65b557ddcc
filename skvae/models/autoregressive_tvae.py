"""A variational autoencoder of tables whose decoder is autoregressive over columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.code_tables import NARROW, CategoricalHeads, CodeLayout, CodeTable, draw_codes
from skvae.models.networks import CausalColumns, ColumnBlock, GaussianHead, ResidualTrunk
from skvae.models.tabular import DECODE_ROWS, TabularVAE


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
