"""The training step of ``FactorizedTVAE`` by hand: its two terms and their gradient.

Of a step left to autograd, half the time goes into passes over activations that no longer fit in
the cache, into a table's gradient, which it adds up vector by vector, and into its own graph. Here
nearly all that is left are the matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.models.code_tables import LOG2_E, segmented_gradient, segmented_log_prob
from skvae.models.core import LOG_2PI

if TYPE_CHECKING:
    from skvae.models.factorized_tvae import FactorizedTVAE

# Up to so many codes numpy sorts by their digits, in a third of the time.
SHORT_CODES = 2**15


class FactorizedBound:
    """log p(x | z) and KL(q(z | x) || p(z)) of each row, and how they move the parameters.

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

    Parameters
    ----------
    model : FactorizedTVAE
        The model.
    batch : tuple of Tensor
        Codes and places.
    noise : Tensor of shape (batch, latent_dim)
        Standard normal: the latents are ``mu + s * noise``.

    Attributes
    ----------
    log_likelihood, kl_divergence : Tensor of shape (batch,)
        The two terms, in nats.
    """

    @torch.no_grad()
    def __init__(self, model: FactorizedTVAE, batch: tuple[Tensor, ...], noise: Tensor) -> None:
        self.model, self.noise = model, noise
        self.encoder, self.decoder = model.encoder_layers, model.decoder_layers
        self.codes = batch[0] + model.offsets
        self.places = batch[1].t().index_select(0, model.place_columns)

        cells = F.embedding_bag(self.codes, model.input_table, mode="sum").add_(model.input_bias)
        cells.addmm_(self.places.t(), model.place_weight)
        self.encoded = _relu_layers(cells.relu_(), self.encoder)
        self.mu, log_var = model.mu(self.encoded[-1]), model.log_var(self.encoded[-1])
        # A power of 2 takes less than half the time of an exponential.
        self.std = torch.mul(log_var, 0.5 * LOG2_E).exp2_()
        z = torch.addcmul(self.mu, self.std, noise)
        self.decoded = _relu_layers(z, self.decoder)
        twice = log_var.addcmul_(self.std, self.std, value=-1).addcmul_(self.mu, self.mu, value=-1)
        self.kl_divergence = twice.sum(1).add_(model.latent_dim).mul_(-0.5)
        # With the batch last, see ``segmented_log_prob``.
        features = self.decoded[-1].t()
        logits = torch.addmm(model.output_bias[:, None], model.output_weight, features)
        self.log_likelihood, self.weights, self.totals = segmented_log_prob(
            logits, self.codes.t(), model.softmax.column, model.softmax.membership
        )
        if model.place_head is not None:
            self.log_likelihood += self._log_likelihood_of_places(model.place_head, features)

    def _log_likelihood_of_places(self, head: nn.Linear, features: Tensor) -> Tensor:
        model, codes = self.model, self.codes.t().index_select(0, self.model.place_columns)
        self.present = codes < model.place_ends
        self.mean = torch.addmm(head.bias[:, None], head.weight, features).tanh_()
        sigma = model.sigma[:, None]
        self.deviation = (self.places - self.mean).div_(sigma)
        constant = sigma.log().add_(0.5 * LOG_2PI).neg_()
        gaussian = constant.addcmul(self.deviation, self.deviation, value=-0.5)
        return gaussian.mul_(self.present).sum(0)

    @torch.no_grad()
    def backward(self, grad_px: Tensor, grad_kl: Tensor) -> None:
        """Set the gradient of the model's parameters, given that of each row's terms.

        Parameters
        ----------
        grad_px, grad_kl : Tensor of shape (batch,)
            Of the log likelihoods and the divergences.
        """
        model = self.model
        grad = segmented_gradient(
            grad_px, self.weights, self.totals, self.codes.t(), model.softmax.column
        )
        features = self.decoded[-1]
        model.output_weight.grad, model.output_bias.grad = torch.mm(grad, features), grad.sum(1)
        grad = torch.mm(grad.t(), model.output_weight)
        if model.place_head is not None:
            weight = (self.present * grad_px).div_(model.sigma[:, None])
            of_place = weight * self.deviation
            model.sigma.grad = torch.addcmul(-weight, of_place, self.deviation).sum(1)
            of_place.addcmul_(of_place * self.mean, self.mean, value=-1)
            _set_gradient(model.place_head, features, of_place.t())
            grad.addmm_(of_place.t(), model.place_head.weight)
        grad = _relu_layers_backward(grad, self.decoded, self.decoder)

        half = 0.5 * grad_kl[:, None]
        of_log_var = torch.mul(self.std, half).addcmul_(grad, self.noise, value=0.5)
        of_log_var.mul_(self.std).sub_(half)
        of_mu = grad.addcmul_(half, self.mu, value=2)
        _set_gradient(model.mu, self.encoded[-1], of_mu)
        _set_gradient(model.log_var, self.encoded[-1], of_log_var)
        grad = torch.mm(of_mu, model.mu.weight).addmm_(of_log_var, model.log_var.weight)
        grad = _relu_layers_backward(grad, self.encoded, self.encoder)

        _relu_backward(grad, self.encoded[0])
        model.input_bias.grad = grad.sum(0)
        model.place_weight.grad = torch.mm(self.places, grad)
        model.input_table.grad = _table_gradient(self.codes, grad, len(model.input_table))


def _relu_layers(x: Tensor, layers: Sequence[nn.Linear]) -> list[Tensor]:
    """Return ``x`` and the output of each layer."""
    outputs = [x]
    for layer in layers:
        outputs.append(F.linear(outputs[-1], layer.weight, layer.bias).relu_())
    return outputs


def _relu_layers_backward(
    grad: Tensor, outputs: Sequence[Tensor], layers: Sequence[nn.Linear]
) -> Tensor:
    """Set the gradients of the layers, and return that of the input."""
    for layer, x, y in zip(reversed(layers), outputs[-2::-1], outputs[::-1], strict=False):
        _relu_backward(grad, y)
        _set_gradient(layer, x, grad)
        grad = torch.mm(grad, layer.weight)
    return grad


def _relu_backward(grad: Tensor, y: Tensor) -> None:
    torch.ops.aten.threshold_backward.grad_input(grad, y, 0.0, grad_input=grad)


def _set_gradient(layer: nn.Linear, x: Tensor, grad: Tensor) -> None:
    layer.weight.grad, layer.bias.grad = torch.mm(grad.t(), x), grad.sum(0)


def _table_gradient(codes: Tensor, grad: Tensor, n_codes: int) -> Tensor:
    """Return for each code the sum of the gradients of the rows that hold it."""
    if codes.is_cpu and n_codes <= SHORT_CODES:
        short = codes.to(torch.int16).numpy()
        rows = torch.from_numpy(short.T.argsort(axis=1, kind="stable"))
    else:
        rows = codes.t().argsort(dim=1, stable=True)
    flat = codes.view(-1)
    counts = flat.new_zeros(n_codes).scatter_add_(0, flat, torch.ones_like(flat))
    return F.embedding_bag(rows.flatten(), grad, counts.cumsum(0) - counts, mode="sum")
