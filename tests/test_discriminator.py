"""The discriminator, its loss and the penalty on its slope."""

import math

import pytest
import torch
from torch.nn import functional as F

from skvae.models import MLPDiscriminator
from skvae.models.discriminator import discrimination_loss, gradient_penalty


def test_the_features_are_all_hidden_layers_and_the_last_makes_the_logit():
    torch.manual_seed(0)
    model = MLPDiscriminator((5, 4))
    x = torch.randn(3, 2, 2)
    logits, features = model(x)
    assert features.shape == (3, 9)
    torch.testing.assert_close(features[:, :5], F.silu(model.layers[0](x.flatten(1))))
    torch.testing.assert_close(features[:, 5:], F.silu(model.layers[1](features[:, :5])))
    torch.testing.assert_close(logits, model.logit(features[:, 5:])[:, 0])


def test_guessing_costs_log_two():
    loss = discrimination_loss(torch.zeros(3), torch.zeros(5))
    assert loss.item() == pytest.approx(math.log(2))


def test_the_loss_is_the_cross_entropy():
    real, fake = torch.randn(3), torch.randn(5)
    truth = torch.tensor([1.0] * 3 + [0.0] * 5)
    elements = F.binary_cross_entropy_with_logits(torch.cat([real, fake]), truth, reduction="none")
    expected = 0.5 * (elements[:3].mean() + elements[3:].mean())
    torch.testing.assert_close(discrimination_loss(real, fake), expected)


def test_the_penalty_of_a_linear_map():
    x = torch.randn(7, 2, requires_grad=True)
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    penalty = gradient_penalty(x @ weight, x)
    assert penalty.item() == pytest.approx(12.5)
    torch.testing.assert_close(torch.autograd.grad(penalty, weight)[0], weight.detach())
    with torch.no_grad():
        assert gradient_penalty(x @ weight, x) == 0
