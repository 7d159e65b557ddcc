"""Encoders and decoders: shapes for any image, starts, and who may be built of what."""

import pytest
import torch

from skvae.models import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    ResNetDecoder,
    ResNetEncoder,
)
from skvae.models.image_networks import ConvBlock
from skvae.models.mlp import ACTIVATIONS

ENCODERS = [MLPEncoder, ConvEncoder, ResNetEncoder]
DECODERS = [MLPDecoder, ConvDecoder, ResNetDecoder]
SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 5, 7), (2, 1, 1), (1, 64, 33)]
SIZES = [(8,), (4, 8), (4, 8, 6)]


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", SIZES)
class TestShapes:
    @pytest.mark.parametrize("cls", ENCODERS)
    def test_an_encoder_gives_one_vector_a_row(self, cls, shape, sizes):
        x = torch.randn(3, *shape)
        assert cls(shape, sizes, 5)(x).shape == (3, 5)
        assert cls(shape, sizes)(x).ndim == 2

    @pytest.mark.parametrize("cls", DECODERS)
    def test_a_decoder_gives_rows(self, cls, shape, sizes):
        assert cls(4, shape, sizes)(torch.randn(3, 4)).shape == (3, *shape)


@pytest.mark.parametrize("cls", ENCODERS)
def test_every_pixel_counts(cls):
    x = torch.randn(1, 3, 9, 11, requires_grad=True)
    cls((3, 9, 11), (4, 8), 16, activation="tanh")(x).square().sum().backward()
    assert (x.grad.abs() > 0).all()


@pytest.mark.parametrize("cls", DECODERS)
def test_every_pixel_is_decoded_from_the_latent(cls):
    decoder = cls(4, (3, 9, 11), (8, 4), activation="tanh")
    rows = decoder(torch.randn(6, 4))
    assert (rows.std(0) > 0).all()


@pytest.mark.parametrize("cls", DECODERS)
def test_a_decoder_can_be_started_at_an_image(cls):
    image = torch.randn(1, 6, 6)
    decoder = cls(4, (1, 6, 6), (8, 4))
    before = decoder(torch.zeros(1, 4))[0] - image
    decoder.start_at(image)
    after = decoder(torch.zeros(1, 4))[0] - image
    assert after.abs().mean() < 0.5 * before.abs().mean()


def test_a_residual_block_is_the_identity_at_the_start():
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(ConvBlock(4, "relu")(x), x)


def test_a_resnet_is_the_deeper_one():
    plain, deep = (
        sum(isinstance(m, ConvBlock) for m in cls((1, 28, 28)).modules())
        for cls in (ConvEncoder, ResNetEncoder)
    )
    assert (plain, deep) == (1, 4)
    plain, deep = (
        sum(isinstance(m, ConvBlock) for m in cls(8, (1, 28, 28)).modules())
        for cls in (ConvDecoder, ResNetDecoder)
    )
    assert (plain, deep) == (1, 4)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_activations_by_name(activation):
    encoder = MLPEncoder((4,), (3, 3), activation=activation)
    assert sum(isinstance(layer, ACTIVATIONS[activation]) for layer in encoder) == 2


@pytest.mark.parametrize("make", [lambda s: ConvEncoder(s), lambda s: ConvDecoder(3, s)])
def test_rows_that_are_no_images_are_refused(make):
    with pytest.raises(ValueError, match=r"got rows of shape \(64,\)\. Give image_shape"):
        make((64,))
