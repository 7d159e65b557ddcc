"""The training step of ``FactorizedTVAE`` in one piece, with a backward pass written by hand.

Of a step left to autograd, half the time goes into passes over activations that no longer fit in
the cache, and into a table's gradient, which it adds up vector by vector. Here nearly all that is
left are the matrix products.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from skvae.models.code_tables import segmented_gradient, segmented_log_prob
from skvae.models.core import LOG_2PI

if TYPE_CHECKING:
    from skvae.models.factorized_tvae import FactorizedTVAE

Layer = tuple[Tensor, Tensor]  # weight of shape (n_outputs, n_inputs), and bias


def factorized_bound(
    model: FactorizedTVAE, batch: tuple[Tensor, ...], noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log p(x | z) and KL(q(z | x) || p(z)) of each row, each of shape (batch,).

    Parameters
    ----------
    model : FactorizedTVAE
        Its parameters get the gradient.
    batch : tuple of Tensor
        Codes and places.
    noise : Tensor of shape (batch, latent_dim)
        Standard normal: the latents are ``mu + sigma * noise``.
    """
    codes, places = batch[0].T, batch[1].T.index_select(0, model.place_columns)
    present = codes.index_select(0, model.place_columns) < model.place_modes[:, None]
    encoder, decoder = _linear_layers(model.encoder), _linear_layers(model.decoder)
    heads = [model.output_weight, model.output_bias, *_linear_layers([model.place_head])]
    log_likelihood, kl = _FactorizedBound.apply(
        codes + model.offsets[:, None],
        places,
        present,
        noise,
        model.softmax.column,
        model.softmax.membership,
        len(encoder) // 2,
        model.sigma,
        model.input_table,
        model.place_weight,
        model.input_bias,
        *encoder,
        *_linear_layers([model.mu, model.log_var]),
        *heads,
        *decoder,
    )
    return log_likelihood, kl


def _linear_layers(modules: Iterable[nn.Module | None]) -> list[Tensor]:
    """Return weight and bias of each layer that has them."""
    layers = [module for module in modules if isinstance(module, nn.Linear)]
    return [parameter for layer in layers for parameter in (layer.weight, layer.bias)]


class _FactorizedBound(torch.autograd.Function):
    """The two terms of the bound, from a batch and all parameters.

    Forward, for a row with codes ``c`` and places ``v``::

        h = relu_layers(relu(one_hot(c) T + v P + b))   mu, log s^2 = heads(h)
        z = mu + s * noise                              KL = sum(mu^2 + s^2 - log s^2 - 1) / 2
        f = relu_layers(z)                              logits, a = heads(f)
        log p = sum_j log softmax_j(logits)[c_j] - sum_j (d_j^2 / 2 + log sigma_j + log(2 pi) / 2)

    with ``d_j = (v_j - tanh a_j) / sigma_j``, over the columns whose place is present. Backward,
    with ``g`` the gradient of ``log p`` and ``k`` that of ``KL``::

        dlogits = g (one_hot(c) - softmax(logits))      da = g (d / sigma) (1 - tanh(a)^2)
        dsigma = g (d^2 - 1) / sigma                    dz through the layers
        dmu = dz + k mu                                 dlog s^2 = (dz noise s + k (s^2 - 1)) / 2

    For a layer ``y = x W^T + b``: ``dW = dy^T x``, ``db = sum dy``, ``dx = dy W``, and behind a
    ReLU ``dy`` is zero where ``y`` is. Of the first, ``[dT, dP, db] = [one_hot(c), v, 1]^T dy``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        codes: Tensor,
        places: Tensor,
        present: Tensor,
        noise: Tensor,
        column: Tensor,
        membership: Tensor,
        n_encoder: int,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        sigma, table, place_weight, bias, *flat = parameters
        encoder, posterior, heads, decoder = _cut(flat, n_encoder, len(places) > 0)
        cells = F.embedding_bag(codes.T, table, mode="sum").add_(bias)
        encoded = _relu_layers(cells.addmm_(places.T, place_weight).relu_(), encoder)
        mu, log_var = (torch.addmm(b, encoded[-1], weight.T) for weight, b in posterior)
        std = torch.mul(log_var, 0.5).exp_()
        decoded = _relu_layers(torch.addcmul(mu, std, noise), decoder)
        twice = log_var.neg_().addcmul_(std, std).addcmul_(mu, mu)
        kl = twice.sum(1).sub_(mu.shape[1]).mul_(0.5)
        # With the batch last, see ``segmented_log_prob``.
        logits, *means = (torch.addmm(b[:, None], weight, decoded[-1].T) for weight, b in heads)
        log_px, weights, totals = segmented_log_prob(logits, codes, column, membership)
        for mean in means:
            scaled = (places - mean.tanh_()).div_(sigma[:, None])
            constant = (sigma.log() + 0.5 * LOG_2PI)[:, None]
            log_px -= constant.addcmul(scaled, scaled, value=0.5).mul_(present).sum(0)
            ctx.kept_of_places = mean, scaled
        ctx.save_for_backward(*parameters)
        ctx.batch = codes, places, present, noise, column
        ctx.kept = encoded, mu, std, decoded, weights, totals
        ctx.n_encoder = n_encoder
        return log_px, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_px: Tensor, grad_kl: Tensor) -> tuple[Tensor | None, ...]:
        sigma, table, place_weight, _, *flat = ctx.saved_tensors
        codes, places, present, noise, column = ctx.batch
        encoded, mu, std, decoded, weights, totals = ctx.kept
        encoder, posterior, heads, decoder = _cut(flat, ctx.n_encoder, len(places) > 0)

        grad_heads = [segmented_gradient(grad_px, weights, totals, codes, column)]
        grad_sigma = None
        if len(places):
            mean, scaled = ctx.kept_of_places
            weight = (present * grad_px).div_(sigma[:, None])
            grad_mean = weight * scaled
            grad_sigma = torch.addcmul(-weight, grad_mean, scaled).sum(1)
            grad_heads.append(grad_mean.addcmul_(grad_mean * mean, mean, value=-1))
        of_heads = [part for g in grad_heads for part in (g @ decoded[-1], g.sum(1))]
        grad = _sum_of_products([g.T for g in grad_heads], heads)
        grad_z, of_decoder = _relu_layers_backward(grad, decoded, decoder)

        weight = grad_kl[:, None]
        grad_log_var = torch.mul(std, weight).addcmul_(grad_z, noise).mul_(std)
        of_posterior = [grad_z.addcmul_(weight, mu), grad_log_var.sub_(weight).mul_(0.5)]
        grad = _sum_of_products(of_posterior, posterior)
        of_posterior = [part for g in of_posterior for part in (g.T @ encoded[-1], g.sum(0))]
        grad, of_encoder = _relu_layers_backward(grad, encoded, encoder)

        grad = torch.ops.aten.threshold_backward(grad, encoded[0], 0.0)
        sizes = [len(table), len(place_weight), 1]
        inputs = grad.new_zeros(sum(sizes), len(grad)).scatter_(0, codes, 1.0)
        inputs[len(table) : -1] = places
        inputs[-1] = 1.0
        of_table, of_places, of_bias = (inputs @ grad).split(sizes)
        of_input = [of_table, of_places, of_bias[0]]
        of_all = [grad_sigma, *of_input, *of_encoder, *of_posterior, *of_heads, *of_decoder]
        return *[None] * 7, *of_all


def _cut(flat: Sequence[Tensor], n_encoder: int, has_places: bool) -> list[list[Layer]]:
    """Return the layers of the encoder, the posterior's two, the heads, those of the decoder."""
    layers = list(zip(flat[::2], flat[1::2], strict=True))
    ends = [0, n_encoder, n_encoder + 2, n_encoder + 3 + has_places, len(layers)]
    return [layers[start:end] for start, end in itertools.pairwise(ends)]


def _relu_layers(x: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """Return ``x`` and the output of each layer."""
    outputs = [x]
    for weight, bias in layers:
        outputs.append(torch.addmm(bias, outputs[-1], weight.T).relu_())
    return outputs


def _relu_layers_backward(
    grad: Tensor, outputs: Sequence[Tensor], layers: Sequence[Layer]
) -> tuple[Tensor, list[Tensor]]:
    """Return the gradient of the input, and those of each layer's weight and bias."""
    gradients: list[Tensor] = []
    for (weight, _), x, y in reversed(list(zip(layers, outputs, outputs[1:], strict=False))):
        grad = torch.ops.aten.threshold_backward(grad, y, 0.0)
        gradients = [grad.T @ x, grad.sum(0), *gradients]
        grad = grad @ weight
    return grad, gradients


def _sum_of_products(grads: Sequence[Tensor], layers: Sequence[Layer]) -> Tensor:
    """Return the gradient of features that several layers read."""
    total = grads[0] @ layers[0][0]
    for grad, (weight, _) in zip(grads[1:], layers[1:], strict=True):
        total.addmm_(grad, weight)
    return total
