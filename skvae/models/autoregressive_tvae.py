"""A variational autoencoder of tables whose decoder is autoregressive over columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.any_order import AnyOrderColumns
from skvae.models.code_tables import NARROW, CategoricalHeads, CodeLayout, CodeTable, draw_codes
from skvae.models.table_networks import CausalColumns, ColumnBlock, GaussianHead, ResidualTrunk
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
    first_columns : sequence of int, default=()
        Columns that are decoded before the others; these follow as they stand in the table.
    any_order : bool, default=False
        Whether each batch of the training is decoded in a random order, so that any order may
        be drawn in. Otherwise there is one order, and its first layer costs half as much.

    Attributes
    ----------
    sequence : list of int
        The columns in the order in which they are decoded (with ``any_order``, by default).
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
        first_columns: Sequence[int] = (),
        any_order: bool = False,
    ) -> None:
        super().__init__(cardinalities, latent_dim)
        self.layout = CodeLayout(self.cardinalities)
        offsets = torch.from_numpy(self.layout.offsets)
        self.register_buffer("offsets", offsets, persistent=False)
        n_columns, width = self.n_columns, column_hidden[0]
        self.width, self.any_order = width, any_order
        others = [column for column in range(n_columns) if column not in set(first_columns)]
        self.sequence = [*first_columns, *others]
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
        # Decoder. Its first layer sees the columns in the order of the decoding.
        self.input_table = CodeTable(
            self.layout, embedding_dim, scores, basis_size=8, free_std=1.0, smooth_std=8**-0.5
        )
        order = [self.sequence.index(column) for column in self.layout.order]
        layer = AnyOrderColumns if any_order else CausalColumns
        self.causal = layer(n_columns, latent_dim, embedding_dim, width, order)
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

        See ``CategoricalHeads.logits`` for their shape. With ``any_order`` a batch in training
        mode has an order of its own, from torch's default generator.
        """
        flat = x[0] + self.offsets
        if self.sequence != sorted(self.sequence):
            flat = flat[:, self.sequence]
        context = torch.cat([z, F.embedding(flat, self.input_table()).flatten(1)], dim=1)
        if self.any_order and self.training:
            h = self.causal(context, torch.randperm(self.n_columns).to(z.device))
        else:
            h = self.causal(context)
        h = F.silu(h)
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
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw rows from p(x | z), column by column; see ``TabularVAE.sample_columns``.

        Places are uniform in [0, 1): within a bin every place is as likely.
        """
        # The codes stand in the order of the decoding until all are drawn.
        flat = torch.empty(len(z), self.n_columns, dtype=torch.int64, device=z.device)
        vectors, heads = self.input_table(), self.head_table()
        scratch = self.scratch(min(DECODE_ROWS, len(z)), z)
        for place, column in enumerate(self.sequence):
            network = ColumnNetwork(self, column, vectors, heads, scratch)
            for start in range(0, len(z), DECODE_ROWS):
                rows = slice(start, start + DECODE_ROWS)
                logits = network.logits(z[rows], flat[rows, :place])
                if temperature != 1.0:
                    logits = logits.div_(temperature)
                flat[rows, place] = draw_codes(logits, generator, argmax)
            flat[:, place] += self.offsets[column]
        codes = torch.empty_like(flat)
        codes[:, self.sequence] = flat
        places = torch.full(flat.shape, 0.5, device=z.device)
        if not centre:
            places.uniform_(generator=generator)
        return codes - self.offsets, places

    def scratch(self, n_rows: int, like: Tensor) -> list[Tensor]:
        """Return memory for features and logits, which stays in the cache from chunk to chunk."""
        return [like.new_empty(n_rows * size) for size in (self.width, max(self.cardinalities))]


class ColumnNetwork:
    """One column of an ``AutoregressiveTVAE``: from latents and earlier codes to its logits.

    What a code adds to the first layer is the same in each row: it is computed once for each
    code, so that a row costs a sum of vectors where training has a matrix product.

    Parameters
    ----------
    model : AutoregressiveTVAE
        The model.
    column : int
        Position of the column in the table.
    vectors, heads : Tensor
        The flat tables of the model's inputs and heads.
    scratch : sequence of Tensor, optional
        Memory for the features and the logits of a batch.

    Attributes
    ----------
    added : Tensor of shape (layout.size + 1, width)
        What each code adds to the first layer; nothing for the last, which stands for no code.
    """

    def __init__(
        self,
        model: AutoregressiveTVAE,
        column: int,
        vectors: Tensor,
        heads: Tensor,
        scratch: Sequence[Tensor] | None = None,
    ) -> None:
        width, offsets = model.width, model.layout.offsets
        self.column, self.scratch = column, scratch
        place = model.sequence.index(column)
        self.latent_weight, causal = model.causal.weight_into(place)
        self.bias = model.causal.bias[place * width : (place + 1) * width]
        self.added = vectors.new_zeros(model.layout.size + 1, width)
        for source, weight in zip(model.sequence, causal, strict=False):
            if source != column:
                first = int(offsets[source])
                codes = slice(first, first + model.cardinalities[source])
                self.added[codes] = vectors[codes] @ weight
        rank = model.layout.order.index(column)
        layers = (layer for layer in model.blocks if isinstance(layer, ColumnBlock))
        self.blocks = [(layer.weight[rank], layer.bias[rank, 0]) for layer in layers]
        first = int(offsets[column])
        self.head = heads[first : first + model.cardinalities[column]].T.contiguous()
        self.head_bias = model.heads.column_bias(column)

    def logits(self, z: Tensor, before: Tensor) -> Tensor:
        """Return the logits of the column's codes, of shape (batch, n_codes).

        Parameters
        ----------
        z : Tensor of shape (batch, latent_dim)
            Latents.
        before : int64 Tensor of shape (batch, n_seen)
            Flat codes of the columns that it sees.
        """
        return self.logits_of(self.first_layer(z, before))

    def first_layer(self, z: Tensor, before: Tensor) -> Tensor:
        """Return the first layer before its nonlinearity, of shape (batch, width)."""
        out = self._memory(0, len(z), len(self.bias))
        h = torch.addmm(self.bias, z, self.latent_weight, out=out)
        if before.shape[1]:
            h += F.embedding_bag(before, self.added, mode="sum")
        return h

    def logits_of(self, h: Tensor) -> Tensor:
        """Return the logits for what ``first_layer`` returned, which is overwritten."""
        F.silu(h, inplace=True)
        for weight, block_bias in self.blocks:
            h += F.silu(torch.addmm(block_bias, h, weight), inplace=True)
        if self.head.shape[1] <= NARROW:
            return torch.addmm(self.head_bias[:, None], self.head.T, h.T).T
        out = self._memory(1, len(h), self.head.shape[1])
        return torch.addmm(self.head_bias, h, self.head, out=out)

    def _memory(self, which: int, n_rows: int, size: int) -> Tensor | None:
        if self.scratch is None:
            return None
        return self.scratch[which][: n_rows * size].view(n_rows, size)
