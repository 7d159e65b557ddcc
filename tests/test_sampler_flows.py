"""Autoregressive flows over the latents."""

import copy
import sys

import numpy as np
import pytest
import torch

from skvae.samplers import (
    GaussianMixtureSampler,
    InverseAutoregressiveFlowSampler,
    MaskedAutoregressiveFlowSampler,
)

FLOWS = [MaskedAutoregressiveFlowSampler, InverseAutoregressiveFlowSampler]


def banana(n=2000, seed=0):
    """A parabola with noise of deviation 0.3 across it: (x, x^2 - 1 + noise), x normal."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return np.stack([x, x**2 - 1 + 0.3 * rng.normal(size=n)], axis=1)


def off_the_parabola(Z):
    return Z[:, 1] - (Z[:, 0] ** 2 - 1)


@pytest.fixture(scope="module", params=FLOWS, ids=["maf", "iaf"])
def fitted(request):
    pytest.importorskip("zuko")
    return request.param(max_steps=400, random_state=0).fit(3 + 10 * banana())


class TestBoth:
    def test_learn_a_bent_density(self, fitted):
        drawn = (fitted.sample(10_000, random_state=0) - 3) / 10
        np.testing.assert_allclose(drawn.mean(0), 0, atol=0.15)
        np.testing.assert_allclose(drawn.std(0), [1, 2.03**0.5], rtol=0.15)
        # Of a Gaussian with these moments the three would be 0, 1.4 and 2.0.
        assert np.corrcoef(drawn[:, 0] ** 2, drawn[:, 1])[0, 1] > 0.9
        inner = np.abs(drawn[:, 0]) < 1.5
        assert np.abs(off_the_parabola(drawn)[inner].mean()) < 0.15
        assert off_the_parabola(drawn)[inner].std() < 0.5

    def test_give_the_normal_density_of_their_own_draws(self, fitted):
        # The map from draws to noise, which training used, undoes the one that drew them.
        drawn = fitted.sample(2000, random_state=0)
        standard = torch.from_numpy(((drawn - fitted.mean_) / fitted.scale_).astype(np.float32))
        with torch.no_grad():
            noise = fitted._rebuild().flow().transform(standard).numpy()
        np.testing.assert_allclose(noise.mean(0), 0, atol=0.1)
        np.testing.assert_allclose(np.cov(noise.T), np.eye(2), atol=0.12)

    def test_stop_when_latents_held_out_gain_nothing(self, fitted):
        few = type(fitted)(max_steps=1000, random_state=0).fit(banana(40))
        assert 100 < few.n_steps_ < 600

    def test_draws_stay_near_the_latents_seen(self, fitted):
        Z = 3 + 10 * banana()
        low, high = fitted.limits_ * fitted.scale_ + fitted.mean_
        np.testing.assert_allclose(low, Z.min(0) - Z.std(0))
        np.testing.assert_allclose(high, Z.max(0) + Z.std(0))
        narrow = copy.deepcopy(fitted)
        narrow.limits_ = fitted.limits_ / 4
        wide, cut = (sampler.sample(2000, random_state=0) for sampler in (fitted, narrow))
        low, high = narrow.limits_ * fitted.scale_ + fitted.mean_
        assert (wide < low).any()
        assert (wide > high).any()
        np.testing.assert_allclose(cut, wide.clip(low, high), rtol=1e-5)

    def test_one_dimension_is_more_than_a_normal_density(self, fitted):
        rng = np.random.default_rng(0)
        Z = rng.normal(size=(1000, 1)) * 0.3 + np.where(rng.random((1000, 1)) < 0.3, -2.0, 2.0)
        drawn = type(fitted)(max_steps=500, random_state=0).fit(Z).sample(4000, random_state=0)
        # A normal density would put a third of its rows between the clouds.
        assert (np.abs(drawn) < 1).mean() < 0.06
        assert (drawn < 0).mean() == pytest.approx(0.3, abs=0.05)

    def test_without_zuko_the_error_says_what_to_install(self, fitted, monkeypatch):
        monkeypatch.setitem(sys.modules, "zuko", None)
        with pytest.raises(ImportError, match=r"pip install skvae\[flows\]"):
            type(fitted)().fit(banana(50))

    @pytest.mark.parametrize(
        "params", [{"n_transforms": 0}, {"max_steps": 0}, {"learning_rate": 0.0}]
    )
    def test_parameters_out_of_range_are_refused(self, fitted, params):
        with pytest.raises(ValueError, match=next(iter(params))):
            type(fitted)(**params).fit(banana(50))


def test_the_two_directions_are_inverse_to_each_other():
    pytest.importorskip("zuko")
    masked, inverse = (cls(random_state=0, max_steps=1) for cls in FLOWS)
    for sampler in (masked, inverse):
        sampler.fit(banana(50))
    network, mirrored = masked._rebuild(), inverse._rebuild()
    Z = torch.from_numpy(banana(20)).float()
    with torch.no_grad():
        weights = list(network.flow.transform.parameters())
        for own, other in zip(mirrored.flow.transform.parameters(), weights, strict=True):
            own.copy_(other)
        out = Z
        # The maps of one, each inverted, in the other's order.
        for transform in mirrored.flow.transform.transforms:
            out = transform()(out)
        for transform in reversed(list(network.flow.transform.transforms)):
            out = transform()(out)
    np.testing.assert_allclose(out.numpy(), Z.numpy(), atol=1e-4)


def test_a_gaussian_would_fail_the_bent_density():
    drawn = GaussianMixtureSampler(1).fit(banana()).sample(10_000, random_state=0)
    assert np.corrcoef(drawn[:, 0] ** 2, drawn[:, 1])[0, 1] < 0.2
    assert off_the_parabola(drawn)[np.abs(drawn[:, 0]) < 1.5].std() > 1.2
