"""A first layer of columns whose order may be any, and is another in each batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skvae.models.table_networks import ColumnMap


class AnyOrderColumns(ColumnMap):
    """A linear map into each column from a latent and the columns before it, in any order.

    One weight serves all orders: those from columns that come later are masked out. The mask is
    laid on the weight, not on the batch, so that an order costs one pass over the weight.
    Parameters are those of ``ColumnMap``.
    """

    def _make_weights(self) -> None:
        n_out, n_in = self.n_columns * self.width, self.n_columns * self.embedding_dim
        latent = torch.randn(self.latent_dim, n_out) * self.latent_dim**-0.5
        seen = torch.randn(n_in, n_out)
        seen *= math.sqrt(2 / n_in)
        self.latent_weight = nn.Parameter(latent)
        self.weight = nn.Parameter(seen)

    def forward(self, context: Tensor, rank: Tensor | None = None) -> Tensor:
        """Map the context to the features of each column.

        Parameters
        ----------
        context : Tensor of shape (batch, latent_dim + n_columns * embedding_dim)
            The latent, then the vectors of the columns.
        rank : int64 Tensor of shape (n_columns,), optional
            When each column comes; by default they come as they stand.

        Returns
        -------
        Tensor of shape (n_columns, batch, width)
            With the columns in ``order``.
        """
        n = self.n_columns
        if rank is None:
            rank = torch.arange(n, device=context.device)
        before = (rank[:, None] < rank).to(context.dtype)
        seen = self.weight.view(n, self.embedding_dim, n, self.width) * before[:, None, :, None]
        weight = torch.cat([self.latent_weight, seen.flatten(2).flatten(0, 1)])
        out = torch.addmm(self.bias, context, weight)
        return out.view(len(context), n, -1).transpose(0, 1).index_select(0, self.order)

    def weight_into(self, column: int) -> tuple[Tensor, Tensor]:
        """Return one column's weights: from the latent, and from each column.

        Returns
        -------
        latent : Tensor of shape (latent_dim, width)
        columns : Tensor of shape (n_columns, embedding_dim, width)
        """
        first = column * self.width
        into = slice(first, first + self.width)
        seen = self.weight[:, into].view(self.n_columns, self.embedding_dim, self.width)
        return self.latent_weight[:, into], seen
