"""Mixed precision, and torch's compiler."""

import functools
import math
import pickle

import pytest
import torch
from torch import nn

from skvae.models import VAE, FactorizedTVAE, LossResult, StepContext
from skvae.training import TrainingConfig, train
from skvae.training.config import TrainingConfig as Config
from skvae.training.loop import _Run
from skvae.training.options import CompiledLoss, LossScale, gradient_function, loss_function
from skvae.training.seeding import isolated_torch_seed

PLAIN = {"schedule": "constant", "warmup_steps": 0}


def run(model, data=None, n_epochs=2, callbacks=(), **config):
    data = torch.ones(8, 4) if data is None else data
    generator = torch.Generator().manual_seed(0)
    config = TrainingConfig(n_epochs, batch_size=4, **PLAIN, **config)
    return train(model, data, config, generator=generator, callbacks=callbacks)


class Typed(nn.Module):
    """Remembers in which types it computed, in training and out of it."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 4)
        self.seen = set()

    def training_loss(self, batch, context):
        y = self.net(batch[0])
        self.seen.add((self.training, y.dtype))
        term = y.sum(1).mean()
        return LossResult(term.square(), {"term": term.detach()})


def tiny_vae():
    with isolated_torch_seed(0):
        model = VAE(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(2, 4), 2)
        model.build(torch.ones(2, 4))
        return model


class TestMixedPrecision:
    def test_the_networks_compute_in_it_and_the_weights_keep_theirs(self):
        model = Typed()
        types = []
        keep = [lambda log: types.append(model.net.weight.grad.dtype)]
        run(model, precision="bfloat16", callbacks=keep)
        assert model.seen == {(True, torch.bfloat16), (False, torch.float32)}
        assert model.net.weight.dtype == torch.float32
        assert types == [torch.float32] * 2

    def test_without_it_nothing_changes(self):
        model = Typed()
        run(model)
        assert model.seen == {(True, torch.float32), (False, torch.float32)}

    def test_terms_are_summed_in_float32(self):
        (log, _) = run(
            Typed(), data=torch.ones(2000, 4), precision="bfloat16", learning_rate=0.0
        ).history
        # A sum of 500 equal numbers in bfloat16 would stop at 256 times the number.
        model = Typed()
        loss = loss_function(model, TrainingConfig(1, precision="bfloat16"), torch.device("cpu"))
        assert loss((torch.ones(4, 4),), StepContext()).diagnostics["term"].dtype == torch.float32
        assert math.isfinite(log["term"])

    def test_it_learns_as_well(self):
        data = torch.randn(200, 4, generator=torch.Generator().manual_seed(1)) * 3
        losses = {
            precision: run(tiny_vae(), data, 15, precision=precision, learning_rate=0.02).history
            for precision in ("float32", "bfloat16")
        }
        last, first = losses["float32"][-1]["loss"], losses["float32"][0]["loss"]
        assert losses["bfloat16"][-1]["loss"] == pytest.approx(last, abs=0.1 * (first - last))

    def test_float16_needs_a_gpu(self):
        with pytest.raises(ValueError, match=r"precision='float16' needs a GPU.*'bfloat16'"):
            run(Typed(), precision="float16")

    def test_other_names_are_refused(self):
        with pytest.raises(ValueError, match=r"precision='half'.*'bfloat16'"):
            run(Typed(), precision="half")


class TestLossScale:
    def test_halves_on_overflow_and_doubles_after_a_while_without(self):
        scale = LossScale(value=8.0, growth_interval=3)
        for overflow, expected in [(True, 4), (False, 4), (False, 4), (True, 2), (False, 2)]:
            scale.update(overflow)
            assert scale.value == expected
        for expected in (2, 4, 4, 4, 8):
            scale.update(overflow=False)
            assert scale.value == expected

    def test_never_falls_below_one(self):
        scale = LossScale(value=1.0)
        scale.update(overflow=True)
        assert scale.value == 1.0

    def steps(self, model, scale, n_steps, **config):
        """Make steps with a loss scale on the CPU, which ``precision`` refuses."""
        data, generator = torch.ones(4, 4), torch.Generator().manual_seed(0)
        with isolated_torch_seed(0) as randomness:
            config = Config(n_steps, batch_size=4, **PLAIN, **config)
            one = _Run(model, data, config, generator, None, (), randomness)
            one.loss_scale = scale
            return one.run()

    def test_changes_no_gradient(self):
        weights = []
        for scale in (None, LossScale(1024.0)):
            model = tiny_vae()
            self.steps(model, scale, 5, max_grad_norm=0.5)
            weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)

    def test_gradients_that_overflow_are_no_fault_of_the_run(self):
        class Overflowing(Typed):
            """Its gradient is infinite where the scale is over 64."""

            def training_loss(self, batch, context):
                result = super().training_loss(batch, context)
                result.objective = _Limited.apply(result.objective)
                return result

        model, scale = Overflowing(), LossScale(1024.0)
        result = self.steps(model, scale, 12)
        assert result.n_skipped_steps == 0
        assert scale.value == 64.0
        assert [math.isnan(log["loss"]) for log in result.history] == [True] * 4 + [False] * 8

    def test_a_loss_that_is_not_finite_is(self):
        class Broken(Typed):
            def training_loss(self, batch, context):
                result = super().training_loss(batch, context)
                return LossResult(result.objective * math.nan)

        with pytest.raises(FloatingPointError, match="in 5 steps"):
            self.steps(Broken(), LossScale(), 12)


class _Limited(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.where(grad > 64, math.inf, grad)


class TestCompile:
    @pytest.fixture
    def eager_backend(self, monkeypatch):
        """Trace as the compiler does, but generate no code, which takes minutes."""
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))

    @pytest.mark.filterwarnings("ignore")  # of torch's tracer, which imports much
    def test_the_run_is_the_same_and_the_model_stays_as_it_was(self, eager_backend):
        plain, traced = tiny_vae(), tiny_vae()
        for model, compiled in ((plain, False), (traced, True)):
            run(model, n_epochs=3, compile=compiled, beta_warmup_steps=4)
        for a, b in zip(plain.parameters(), traced.parameters(), strict=True):
            torch.testing.assert_close(a, b)
        assert type(traced) is VAE
        assert vars(traced).keys() == vars(plain).keys()
        copy = pickle.loads(pickle.dumps(traced))
        assert torch.equal(copy.encoder[0].weight, traced.encoder[0].weight)

    def test_where_it_fails_a_warning_says_so_and_the_run_goes_on(self, monkeypatch):
        def broken(function):
            def call(*args):
                raise RuntimeError("no C++ compiler\nfound")

            return call

        monkeypatch.setattr(torch, "compile", broken)
        plain, fallen = tiny_vae(), tiny_vae()
        run(plain)
        with pytest.warns(RuntimeWarning, match="no C.. compiler") as caught:
            run(fallen, compile=True)
        assert len(caught) == 1
        for a, b in zip(plain.parameters(), fallen.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_errors_of_the_model_are_the_models(self, monkeypatch):
        monkeypatch.setattr(torch, "compile", lambda function: function)

        def faulty(batch, context):
            raise ValueError("x_hat has shape")

        with pytest.raises(ValueError, match="x_hat has shape"):
            CompiledLoss(faulty)((torch.ones(2, 2),), StepContext())


class ByHand(nn.Module):
    """Says which of its two ways it went."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.ways = []

    def training_loss(self, batch, context):
        self.ways.append("autograd")
        return LossResult((batch[0] @ self.weight).square().mean())

    @torch.no_grad()
    def training_gradient(self, batch, context):
        self.ways.append("by hand")
        y = batch[0] @ self.weight
        self.weight.grad = 2 / len(y) * (y @ batch[0])
        return LossResult(y.square().mean())


def tiny_tabular():
    with isolated_torch_seed(0):  # of some others no hidden unit is ever on
        return FactorizedTVAE([3, 2], [[4, 4, 4], [6, 6]], latent_dim=2, hidden=(4,))


def codes_and_places():
    return torch.arange(24).view(12, 2) % 2, torch.zeros(12, 2)


class TestGradientByHand:
    def test_it_is_taken_where_a_model_has_one_and_the_fit_is_the_same(self):
        by_hand, by_autograd = ByHand(), ByHand()
        by_autograd.training_gradient = None
        results = [
            run(model, torch.arange(32.0).view(8, 4) / 10) for model in (by_hand, by_autograd)
        ]
        assert "by hand" in by_hand.ways
        assert set(by_autograd.ways) == {"autograd"}
        assert torch.allclose(by_hand.weight, by_autograd.weight)
        assert results[0].history[-1]["loss"] == pytest.approx(results[1].history[-1]["loss"])

    def test_a_gradient_that_is_not_finite_is_skipped(self):
        model = ByHand()
        data = torch.ones(8, 4)
        data[0] = math.nan
        result = run(model, data, n_epochs=1, learning_rate=0.1)
        assert result.n_skipped_steps == 1
        assert model.weight.isfinite().all()

    @pytest.mark.parametrize(
        ("config", "expected"),
        [({}, True), ({"precision": "bfloat16"}, False), ({"compile": True}, False)],
    )
    def test_other_precisions_and_the_compiler_go_by_the_loss(self, config, expected):
        config = TrainingConfig(1, **config)
        found = gradient_function(ByHand(), config, torch.device("cpu"))
        assert (found is not None) == expected

    def test_a_subclass_with_a_loss_of_its_own_is_trained_on_that(self):
        class Penalised(ByHand):
            def training_loss(self, batch, context):
                loss = super().training_loss(batch, context)
                return LossResult(loss.objective + 10 * self.weight.square().sum())

        model = Penalised()
        run(model, torch.zeros(8, 4))
        assert set(model.ways) == {"autograd"}
        assert (model.weight < 1).all()  # the penalty alone has a gradient

    @pytest.mark.parametrize(
        "name", ["compute_loss", "encode", "decode", "log_likelihood", "_bound"]
    )
    def test_a_tabular_model_that_changes_a_part_of_the_loss_goes_by_the_loss(self, name):
        changed = {name: getattr(FactorizedTVAE, name)}
        both = {**changed, "training_gradient": FactorizedTVAE.training_gradient}
        for own, expected in (({}, True), (changed, False), (both, True)):
            cls = type("Changed", (FactorizedTVAE,), own)
            model = cls([3, 2], [[4, 4, 4], [6, 6]], latent_dim=2, hidden=(4,))
            found = gradient_function(model, TrainingConfig(1), torch.device("cpu"))
            assert (found is not None) == expected

    def test_a_loss_put_on_the_model_itself_counts_too(self):
        model = ByHand()
        model.training_loss = lambda batch, context: LossResult(model.weight.sum())
        assert gradient_function(model, TrainingConfig(1), torch.device("cpu")) is None

    def test_weights_that_are_computed_from_others_go_by_the_loss_and_move(self):
        model = tiny_tabular()
        torch.nn.utils.parametrizations.weight_norm(model.mu)
        before = [p.detach().clone() for p in model.mu.parametrizations.weight.parameters()]
        train(model, codes_and_places(), TrainingConfig(2, batch_size=4))
        after = model.mu.parametrizations.weight.parameters()
        assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def test_frozen_parameters_stay_and_hold_no_gradient_after_the_fit(self):
        model = tiny_tabular()
        model.mu.requires_grad_(False)
        before = model.mu.weight.clone()
        train(model, codes_and_places(), TrainingConfig(2, batch_size=4))
        assert torch.equal(model.mu.weight, before)
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_within_autocast_it_is_left_out(self):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert gradient_function(ByHand(), TrainingConfig(1), torch.device("cpu")) is None
