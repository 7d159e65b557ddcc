"""The pieces of encoders and decoders with a backward pass of their own."""

import pytest
import torch
from torch.nn import functional as F

from skvae.models.table_networks import ColumnBlock


class TestColumnBlock:
    def block(self):
        torch.manual_seed(0)
        block = ColumnBlock(3, 5).double()
        torch.nn.init.normal_(block.bias)
        return block, torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)

    def test_is_a_residual_layer_for_each_column(self):
        block, h = self.block()
        for column in range(3):
            inner = h[column] @ block.weight[column] + block.bias[column]
            torch.testing.assert_close(block(h)[column], h[column] + F.silu(inner))

    @pytest.mark.parametrize("frozen", [None, "h", "bias"])
    def test_its_gradient_is_that_of_differences(self, frozen):
        block, h = self.block()
        inputs = {"h": h, "weight": block.weight, "bias": block.bias}
        if frozen:
            inputs[frozen].requires_grad_(False)
        assert torch.autograd.gradcheck(
            lambda h, weight, bias: torch.func.functional_call(
                block, {"weight": weight, "bias": bias}, (h,)
            ),
            tuple(inputs.values()),
        )
