"""The training loop, on toys whose course is known in closed form, and on a real model."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from skvae.models import AutoregressiveTVAE, LossResult
from skvae.training import Callback, ProgressBar, TrainingConfig, evaluate, train
from skvae.training.loop import MAX_BAD_STEPS
from skvae.training.subnormals import flushed_subnormals, flushes_subnormals

PLAIN = {"schedule": "constant", "warmup_steps": 0, "learning_rate": 0.1}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n):
    """Return a table of one column that holds the row's number."""
    return (torch.arange(float(n)).view(n, 1),)


class Slope(nn.Module):
    """Loss ``w`` a row: Adam moves the weight by exactly the learning rate down each step.

    In eval mode the loss is ``(w - bottom) ** 2``: validation gains until ``w`` passes the bottom.
    Remembers the rows and weights of each training batch.
    """

    def __init__(self, bottom=-0.5):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 1))
        self.bottom = bottom
        self.batches, self.asked = [], []

    def forward(self, batch):
        if self.training:
            self.batches.append(batch[0][:, 0].int().tolist())
        return self.w.sum()

    def training_loss(self, batch, context):
        output = self(batch)
        return self.compute_loss(batch, output, beta=context.beta, free_nats=context.free_nats)

    def compute_loss(self, batch, output, *, beta=1.0, free_nats=0.0):
        if not self.training:
            return LossResult((output - self.bottom) ** 2)
        self.asked.append((beta, free_nats))
        return LossResult(output, {"slope": output.detach()})


class Breaking(Slope):
    """A slope whose loss is ``factor`` times itself in the steps told."""

    def __init__(self, bad_steps, factor=math.nan):
        super().__init__()
        self.bad_steps, self.factor = set(bad_steps), factor

    def compute_loss(self, batch, output, **kwargs):
        if self.training and len(self.batches) in self.bad_steps:
            output = output * self.factor + self.factor
        return super().compute_loss(batch, output, **kwargs)


class Recorder(Callback):
    def __init__(self, stop_after=None):
        self.events, self.stop_after = [], stop_after

    def on_fit_begin(self, model, n_epochs):
        self.events.append(("begin", type(model), n_epochs))

    def on_epoch_end(self, log):
        self.events.append(("epoch", log["epoch"]))
        return log["epoch"] == self.stop_after

    def on_fit_end(self):
        self.events.append("end")


def tiny_tvae(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoregressiveTVAE(
            [3, 4],
            [None, np.array([0.1, 0.4, 0.6, 0.9])],
            [np.ones(3), np.ones(4)],
            latent_dim=2,
            hidden=(8, 8),
            column_hidden=(8, 8),
            embedding_dim=4,
        )


def tiny_table(n=150, seed=0):
    first = torch.randint(3, (n,), generator=seeded(seed))
    return (torch.stack([first, first + torch.randint(2, (n,), generator=seeded(1))], dim=1),)


class TestReproducibility:
    def weights(self, seed):
        model = tiny_tvae()
        config = TrainingConfig(n_epochs=3, batch_size=32, average_decay=0.9, max_grad_norm=1.0)
        train(model, tiny_table(), config, generator=seeded(seed))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    def test_one_seed_gives_the_same_weights_bit_for_bit(self):
        first = self.weights(1)
        torch.rand(17)  # the global state must not matter
        assert torch.equal(first, self.weights(1))
        assert not torch.equal(first, self.weights(2))

    def test_the_global_random_state_is_left_alone(self):
        np.random.seed(3)
        before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
        self.weights(1)
        assert torch.equal(torch.get_rng_state(), before)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)

    def test_a_real_model_learns(self):
        model, data = tiny_tvae(), tiny_table(600)
        before = evaluate(model, data)
        config = TrainingConfig(n_epochs=25, batch_size=64, learning_rate=0.01, warmup_steps=10)
        result = train(model, data, config, generator=seeded())
        # The first column has log(3) nats and the second log(2) more; independent columns 2.33.
        assert evaluate(model, data) < min(before, math.log(6) + 0.1)
        assert result.history[-1]["loss"] < result.history[0]["loss"]
        assert not model.training


class TestBatches:
    @pytest.mark.parametrize(
        ("n_rows", "batch_size", "sizes"),
        [
            (100, 32, [32, 32, 32]),  # 4 left over: fewer than half a batch
            (100, 30, [30, 30, 30]),  # 10 left over
            (100, 40, [40, 40, 20]),  # 20 left over: half a batch
            (100, 25, [25, 25, 25, 25]),
            (100, 99, [99]),
            (7, 256, [7]),
            (3, 2, [2]),  # a single row
            (1, 1, [1]),
        ],
    )
    def test_each_epoch_sees_every_row_once_but_for_less_than_half_a_batch(
        self, n_rows, batch_size, sizes
    ):
        model = Slope()
        config = TrainingConfig(n_epochs=2, batch_size=batch_size, **PLAIN)
        result = train(model, rows(n_rows), config, generator=seeded())
        assert result.n_steps == 2 * len(sizes) == len(model.batches)
        for epoch in range(2):
            batches = model.batches[epoch * len(sizes) : (epoch + 1) * len(sizes)]
            assert [len(batch) for batch in batches] == sizes
            seen = [row for batch in batches for row in batch]
            assert len(set(seen)) == len(seen) >= n_rows - max(batch_size / 2, 1)

    def test_the_order_is_drawn_anew_each_epoch(self):
        model = Slope()
        config = TrainingConfig(n_epochs=2, batch_size=32, **PLAIN)
        train(model, rows(100), config, generator=seeded())
        first, second = model.batches[:3], model.batches[3:]
        assert first != second
        assert first[0] != list(range(32))
        left_out = [set(range(100)) - {r for b in epoch for r in b} for epoch in (first, second)]
        assert left_out[0] != left_out[1]

    def test_all_tensors_are_indexed_alike(self):
        class Pair(Slope):
            def forward(self, batch):
                assert torch.equal(batch[0] * 2, batch[1])
                return super().forward(batch)

        data = (rows(50)[0], rows(50)[0] * 2)
        train(Pair(), data, TrainingConfig(n_epochs=1, batch_size=8, **PLAIN), generator=seeded())


class Gradients(Callback):
    """Keeps the gradients of an epoch's last step, by the names of the parameters."""

    def on_fit_begin(self, model, n_epochs):
        self.model = model

    def on_epoch_end(self, log):
        self.last = {name: p.grad for name, p in self.model.named_parameters()}


class Unmeasured:
    """Batches anew in each pass, without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class TestSchedules:
    """One batch an epoch, so that the history shows every step."""

    def history(self, model=None, **config):
        model = model or Slope()
        result = train(model, rows(4), TrainingConfig(batch_size=4, **config), generator=seeded())
        return result.history, model

    def test_cosine_after_a_warm_up(self):
        history, model = self.history(n_epochs=40, learning_rate=0.2, warmup_steps=10)
        expected = [
            0.2 * min(1, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / 40))
            for step in range(40)
        ]
        rates = [log["learning_rate"] for log in history]
        assert rates == pytest.approx(expected)
        assert rates[:8] == sorted(rates[:8])
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[-1] < 0.01 * 0.2
        # The weight went down by the learning rate of every step: the optimizer did follow.
        assert model.w.item() == pytest.approx(-sum(expected), rel=1e-4)

    def test_constant(self):
        history, model = self.history(
            n_epochs=6, learning_rate=0.2, warmup_steps=4, schedule="constant"
        )
        expected = [0.05, 0.1, 0.15, 0.2, 0.2, 0.2]
        assert [log["learning_rate"] for log in history] == pytest.approx(expected)
        assert model.w.item() == pytest.approx(-0.9, rel=1e-4)

    def test_the_weight_of_the_divergence_rises_to_its_value(self):
        _, model = self.history(n_epochs=5, beta=2.0, beta_warmup_steps=4, free_nats=1.5)
        betas, free_nats = zip(*model.asked, strict=True)
        assert betas == (0.5, 1.0, 1.5, 2.0, 2.0)
        assert set(free_nats) == {1.5}

    def test_a_warm_up_takes_no_more_than_its_share_of_the_run(self):
        params = {"n_epochs": 20, "learning_rate": 0.2, "schedule": "constant"}
        for steps, expected in ((50, 5), (3, 3)):
            history, _ = self.history(**params, warmup_steps=steps, warmup_share=0.25)
            rates = [min(1, (step + 1) / expected) * 0.2 for step in range(20)]
            assert [log["learning_rate"] for log in history] == pytest.approx(rates)

    def test_the_weight_of_the_divergence_rises_over_its_share_of_the_run(self):
        for share, expected in ((0.5, 4), (1.0, 8), (0.0, 1)):
            _, model = self.history(n_epochs=8, beta=2.0, beta_warmup_share=share)
            betas = [beta for beta, _ in model.asked]
            assert betas == [2 * min(1, (step + 1) / expected) for step in range(8)]

    def test_shares_go_by_epochs_where_nobody_knows_the_steps(self):
        model, batches = Slope(), Unmeasured(rows(4)[0].split(2))
        config = TrainingConfig(
            n_epochs=4, learning_rate=0.2, schedule="constant", warmup_steps=4, warmup_share=0.1
        )
        config.beta_warmup_share, rates = 0.5, [0.1, 0.2, 0.2, 0.2]
        result = train(model, batches, config, generator=seeded())
        assert [beta for beta, _ in model.asked] == [0.5, 0.5, 1, 1, 1, 1, 1, 1]
        assert [log["learning_rate"] for log in result.history] == pytest.approx(rates)

    def test_the_history_has_one_entry_for_each_epoch(self):
        history, _ = self.history(n_epochs=4, **PLAIN)
        assert [log["epoch"] for log in history] == [1, 2, 3, 4]
        for log in history:
            assert list(log) == ["epoch", "loss", "slope", "learning_rate", "seconds"]
            assert all(isinstance(value, (int, float)) for value in log.values())
        assert [log["loss"] for log in history] == pytest.approx([0.0, -0.1, -0.2, -0.3], abs=1e-5)
        seconds = [log["seconds"] for log in history]
        assert 0 <= seconds[0] <= seconds[-1]
        assert seconds == sorted(seconds)

    def test_a_term_is_the_mean_over_the_steps_that_have_it(self):
        class Now(Slope):
            def compute_loss(self, batch, output, **kwargs):
                result = super().compute_loss(batch, output, **kwargs)
                if len(self.batches) == 2:
                    result.diagnostics["rare"] = torch.tensor(7.0)
                return result

        config = TrainingConfig(n_epochs=1, batch_size=2, **PLAIN)
        (log,) = train(Now(), rows(6), config, generator=seeded()).history
        assert log["rare"] == 7.0

    def test_the_loss_of_an_epoch_is_the_mean_over_its_steps(self):
        model = Slope()
        config = TrainingConfig(n_epochs=1, batch_size=2, **PLAIN)
        (log,) = train(model, rows(6), config, generator=seeded()).history
        assert log["loss"] == pytest.approx((0.0 - 0.1 - 0.2) / 3, rel=1e-4)


class TestWeightsThatComeOut:
    def test_the_running_average(self):
        model, snapshots = Slope(), []
        config = TrainingConfig(n_epochs=30, batch_size=4, average_decay=0.8, **PLAIN)
        watch = lambda log: snapshots.append(model.w.item())  # noqa: E731
        train(model, rows(4), config, generator=seeded(), callbacks=[watch])
        expected = 0.0  # the weight before training
        for step, weight in enumerate(snapshots, start=1):
            decay = min(0.8, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * weight
        assert model.w.item() == pytest.approx(expected, rel=1e-5)
        assert snapshots[-1] == pytest.approx(-3.0, rel=1e-4)
        assert model.w.item() > -2.8  # behind the last weights

    def test_the_last_ones_without_an_average(self):
        model = Slope()
        train(model, rows(4), TrainingConfig(n_epochs=30, batch_size=4, **PLAIN))
        assert model.w.item() == pytest.approx(-3.0, rel=1e-4)

    def test_a_model_is_projected_after_each_step(self):
        class Bounded(Slope):
            def project_parameters(self):
                with torch.no_grad():
                    self.w.clamp_(min=-0.25)

        model = Bounded()
        train(model, rows(4), TrainingConfig(n_epochs=5, batch_size=4, **PLAIN))
        assert model.w.item() == -0.25

    def test_no_gradients_are_left(self):
        model = Slope()
        train(model, rows(4), TrainingConfig(n_epochs=1, batch_size=4))
        assert model.w.grad is None

    def test_gradients_are_clipped_to_a_norm(self):
        class Steep(Slope):
            def forward(self, batch):
                return 1000 * super().forward(batch)

        for limit, expected in ((0.5, 0.5), (None, 1000.0)):
            model = Steep()
            config = TrainingConfig(n_epochs=1, batch_size=4, max_grad_norm=limit, **PLAIN)
            gradients = Gradients()
            train(model, rows(4), config, callbacks=[gradients])
            assert gradients.last["w"].norm().item() == pytest.approx(expected, rel=1e-4)

    def test_frozen_parameters_stay(self):
        model = Slope()
        model.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        train(model, rows(4), TrainingConfig(n_epochs=3, weight_decay=1.0, **PLAIN))
        assert torch.equal(model.frozen, torch.ones(2, 2))


class Duel(nn.Module):
    """Two players with a product for a game: what leaks from one to the other is seen.

    The objective is ``w * v`` and moves ``w``; the adversary's loss is ``-2 * w * v`` and moves
    ``v``. The third parameter is in no loss.
    """

    def __init__(self, play=lambda step: True):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, 1))
        self.v = nn.Parameter(torch.ones(1, 1))
        self.unused = nn.Parameter(torch.ones(1, 1))
        self.play = play
        self.seen = []

    def player_parameters(self):
        return {"adversary": [self.v]}

    def training_loss(self, batch, context):
        product = (self.w * self.v).sum()
        if self.training:
            self.seen.append((self.w.item(), self.v.item()))
        plays = self.play(context.step)
        return LossResult(product, players={"adversary": -2 * product if plays else None})


class TestPlayers:
    def run(self, model, n_steps=1, callbacks=(), **config):
        config = TrainingConfig(**{"n_epochs": n_steps, "batch_size": 4, **PLAIN, **config})
        return train(model, rows(4), config, generator=seeded(), callbacks=callbacks)

    def test_each_gets_the_gradient_of_its_own_loss(self):
        model = Duel()
        gradients = Gradients()
        self.run(model, callbacks=[gradients])
        assert gradients.last["w"].item() == pytest.approx(1.0)  # of w v
        assert gradients.last["v"].item() == pytest.approx(-2.0)  # of -2 w v, and not of w v too
        assert model.w.item() == pytest.approx(0.9)
        assert model.v.item() == pytest.approx(1.1)

    def test_a_gradient_may_lie_in_memory_as_it_likes(self):
        signs = torch.tensor([[1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]])
        model = Duel()
        model.v = nn.Parameter(torch.zeros(3, 2))
        model.training_loss = lambda batch, context: LossResult(
            model.w.sum(), players={"adversary": (model.v.T * signs).sum()}
        )
        self.run(model)
        torch.testing.assert_close(model.v.detach(), -0.1 * signs.T)

    def test_what_no_loss_reaches_stays(self):
        model = Duel()
        gradients = Gradients()
        self.run(model, n_steps=3, weight_decay=0.5, callbacks=[gradients])
        assert gradients.last["unused"] is None
        assert model.unused.item() == 1.0

    @pytest.mark.parametrize("optimizer", ["adam", "adamw"])
    def test_who_sits_a_step_out_moves_neither_by_momentum_nor_by_decay(self, optimizer):
        model = Duel(play=lambda step: step < 2)
        self.run(model, n_steps=5, optimizer=optimizer, weight_decay=0.1)
        weights = [v for _, v in model.seen[2:]] + [model.v.item()]
        assert weights == [weights[0]] * 4 != [1.0] * 4
        assert len({w for w, _ in model.seen}) == 5  # the other goes on

    def test_nor_is_a_bias_that_no_loss_reaches_a_fault(self):
        model = Duel()
        model.bias = nn.Parameter(torch.ones(3))  # all there is in its group of the optimizer
        self.run(model, weight_decay=0.5)
        assert torch.equal(model.bias, torch.ones(3))

    def test_layers_without_a_shape_are_named_with_the_way_out(self):
        model = Slope()
        model.late = nn.LazyLinear(2)
        with pytest.raises(ValueError, match=r"'late\.weight'.*model\.build\(rows\)"):
            self.run(model)

    def test_each_is_clipped_to_the_norm_by_itself(self):
        gradients = Gradients()
        self.run(Duel(), max_grad_norm=1.5, callbacks=[gradients])
        assert gradients.last["w"].item() == pytest.approx(1.0)
        assert gradients.last["v"].item() == pytest.approx(-1.5, rel=1e-4)

    def test_a_factor_on_the_learning_rate(self):
        model = Duel()
        self.run(model, player_learning_rates={"adversary": 0.5})
        assert model.w.item() == pytest.approx(0.9)
        assert model.v.item() == pytest.approx(1.05)

    @pytest.mark.parametrize("model", [Duel(), Slope()])
    def test_a_factor_for_a_player_who_is_not_there_is_refused(self, model):
        with pytest.raises(ValueError, match=r"'critic'.*(\['adversary'\]|none)"):
            self.run(model, player_learning_rates={"critic": 0.5})

    def test_a_loss_of_a_player_that_is_not_finite_is_a_bad_step(self):
        class Broken(Duel):
            def training_loss(self, batch, context):
                result = super().training_loss(batch, context)
                if context.step in (1, 3):
                    result.players["adversary"] = result.players["adversary"] * math.inf
                return result

        model = Broken()
        result = self.run(model, n_steps=4)
        assert result.n_skipped_steps == 2
        assert model.seen[1] == model.seen[2]
        assert math.isfinite(model.v.item())

    def test_the_error_names_the_player(self):
        class Broken(Duel):
            def training_loss(self, batch, context):
                result = super().training_loss(batch, context)
                return LossResult(result.objective, players={"adversary": self.v.sum() * math.nan})

        with pytest.raises(FloatingPointError, match="adversary not finite in 5 steps"):
            self.run(Broken(), n_steps=9)

    def test_a_loss_that_is_missing_is_an_error(self):
        class Forgetful(Duel):
            def training_loss(self, batch, context):
                return LossResult(self.w.sum())

        with pytest.raises(ValueError, match="player_parameters names 'adversary'"):
            self.run(Forgetful())

    @pytest.mark.parametrize(
        ("claim", "message"),
        [
            (lambda m: {"a": [m.w], "b": [m.w]}, "'b' and 'a' have a parameter in common"),
            (lambda m: {"a": [nn.Parameter(torch.ones(1))]}, "no part of the model"),
            (lambda m: {"objective": [m.w]}, "'objective' is taken"),
        ],
    )
    def test_what_belongs_to_two_or_to_no_model_is_refused(self, claim, message):
        model = Duel()
        model.player_parameters = lambda: claim(model)
        with pytest.raises(ValueError, match=message):
            self.run(model)

    def test_all_parameters_may_belong_to_players(self):
        class Shared(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = (nn.Parameter(torch.ones(1)) for _ in range(2))

            def player_parameters(self):
                return {"first": [self.a], "second": [self.b]}

            def training_loss(self, batch, context):
                hidden = (self.a * self.b).sum()  # one graph for both
                return LossResult(
                    hidden.detach(), players={"first": hidden.square(), "second": -hidden}
                )

        gradients = Gradients()
        self.run(Shared(), callbacks=[gradients])
        assert (gradients.last["a"].item(), gradients.last["b"].item()) == (2.0, -1.0)

    def test_the_average_takes_all_in(self):
        model = Duel()
        self.run(model, n_steps=3, average_decay=0.99)
        assert 1.05 < model.v.item() < 1.28  # its last value is 1.3


class TestAmsgrad:
    def test_steps_shrink_with_the_greatest_gradient_so_far(self):
        class Spike(Slope):
            """A gradient of 100 in the first step and of 1 after it."""

            def forward(self, batch):
                self.batches.append(None)
                return self.w.sum() * (100.0 if len(self.batches) == 1 else 1.0)

        moved = {}
        for amsgrad in (False, True):
            model, seen = Spike(), []
            config = TrainingConfig(
                n_epochs=40, batch_size=4, betas=(0.0, 0.5), amsgrad=amsgrad, **PLAIN
            )
            watch = lambda log, m=model, s=seen: s.append(m.w.item())  # noqa: E731
            train(model, rows(4), config, callbacks=[watch])
            moved[amsgrad] = seen[-2] - seen[-1]
        assert moved[False] == pytest.approx(0.1, rel=1e-3)
        # The greatest second moment is 0.5 * 100 ** 2, of the first step.
        assert moved[True] == pytest.approx(0.1 / (100 * math.sqrt(0.5)), rel=1e-3)


class Noisy(Slope):
    """Draws from torch's default generator, as dropout and the models of the zoo do."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, batch):
        self.drawn.append(torch.rand(()).item())
        return super().forward(batch) * self.drawn[-1]


class TestIsolatedRandomness:
    CONFIG = TrainingConfig(n_epochs=3, batch_size=2, **PLAIN)

    def drawn(self, seed=0, **kwargs):
        model = Noisy()
        generator = None if seed is None else seeded(seed)
        train(model, rows(4), self.CONFIG, generator=generator, **kwargs)
        return model.drawn, model.batches

    def test_the_default_generator_follows_the_seed(self):
        first = self.drawn()
        torch.rand(7)
        assert self.drawn() == first
        assert self.drawn(seed=1)[0] != first[0]
        assert len(set(first[0])) == len(first[0])

    def test_without_a_generator_the_run_starts_from_the_users_state(self):
        torch.manual_seed(5)
        first = self.drawn(seed=None)
        assert self.drawn(seed=None) == first
        torch.manual_seed(6)
        assert self.drawn(seed=None) != first

    @pytest.mark.parametrize("seed", [0, None])
    def test_the_users_state_comes_back_also_after_an_error(self, seed):
        before = torch.get_rng_state()
        self.drawn(seed)
        assert torch.equal(torch.get_rng_state(), before)

        def fail(log):
            raise RuntimeError

        with pytest.raises(RuntimeError):
            self.drawn(seed, callbacks=[fail])
        with pytest.raises(FloatingPointError):
            train(Breaking(range(100)), rows(4), self.CONFIG, generator=seeded())
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_generator_used_twice_gives_another_run(self):
        generator = seeded()
        models = [Noisy(), Noisy()]
        for model in models:
            train(model, rows(4), self.CONFIG, generator=generator)
        assert models[0].drawn[:3] != models[1].drawn[:3]

    def test_callbacks_draw_from_the_users_stream_and_change_nothing(self):
        class Drawing(Callback):
            def __init__(self):
                self.drawn = []

            def draw(self, *args):
                self.drawn.append(torch.rand(()).item())

            on_fit_begin = on_epoch_end = on_fit_end = draw

        plain = self.drawn()
        torch.manual_seed(11)
        expected = [torch.rand(()).item() for _ in range(6)]
        torch.manual_seed(11)
        callback = Drawing()
        assert self.drawn(callbacks=[callback]) == plain
        assert callback.drawn == expected[:5]
        assert torch.rand(()).item() == expected[5]

    def test_validation_draws_the_same_noise_and_none_of_the_runs(self):
        plain, validated = self.drawn(), self.drawn(validation_data=rows(3))
        scored = validated[0][2::3]  # two steps, then one batch of validation
        assert scored == [scored[0]] * 3
        assert [x for i, x in enumerate(validated[0][:9]) if i % 3 < 2] == plain[0][:6]


class TestWeightDecay:
    class Idle(nn.Module):
        """Its gradient is zero: what moves is decay."""

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.norm = nn.LayerNorm(3)
            self.block_biases = nn.ParameterList([nn.Parameter(torch.ones(2, 1, 3))])
            for parameter in self.parameters():
                nn.init.ones_(parameter)

        def training_loss(self, batch, context):
            return LossResult(0.0 * sum(parameter.sum() for parameter in self.parameters()))

    def test_decoupled_decay_spares_biases_and_norms(self):
        model = self.Idle()
        train(model, rows(4), TrainingConfig(n_epochs=3, batch_size=4, weight_decay=0.5, **PLAIN))
        for name, parameter in model.named_parameters():
            expected = (1 - 0.1 * 0.5) ** 3 if name == "linear.weight" else 1.0
            assert parameter.detach().numpy() == pytest.approx(expected, rel=1e-5), name

    def test_with_adam_it_is_part_of_the_gradient(self):
        model = self.Idle()
        config = TrainingConfig(
            n_epochs=3, batch_size=4, optimizer="adam", weight_decay=0.5, **PLAIN
        )
        train(model, rows(4), config)
        for _, parameter in model.named_parameters():
            # Adam makes a step of the learning rate whatever the gradient's size.
            assert parameter.detach().numpy() == pytest.approx(0.7, rel=1e-2)


class TestEarlyStopping:
    """A slope with its bottom at -0.5 is best after five steps of 0.1."""

    CONFIG = {"n_epochs": 50, "batch_size": 4, **PLAIN}

    def run(self, model, callbacks=(), **config):
        return train(
            model,
            rows(4),
            TrainingConfig(**{**self.CONFIG, **config}),
            validation_data=rows(3),
            callbacks=callbacks,
        )

    def test_the_best_weights_come_back(self):
        model = Slope()
        result = self.run(model, n_iter_no_change=3)
        assert result.best_epoch == 5
        assert result.n_epochs == len(result.history) == 8
        assert model.w.item() == pytest.approx(-0.5, abs=1e-5)
        losses = [log["validation_loss"] for log in result.history]
        assert evaluate(model, rows(3)) == min(losses) == losses[4]
        assert losses[-1] > 0.05
        assert not result.interrupted

    def test_the_best_average_comes_back(self):
        model = Slope()
        result = self.run(model, n_iter_no_change=3, average_decay=0.7)
        losses = [log["validation_loss"] for log in result.history]
        assert result.best_epoch == 1 + int(np.argmin(losses)) > 5  # the average lags behind
        assert evaluate(model, rows(3)) == min(losses)

    def test_scoring_leaves_the_training_weights_alone(self):
        weights = [[], []]
        for decay, seen in zip((None, 0.9), weights, strict=True):
            model = Slope()
            self.run(
                model,
                [lambda log, m=model, s=seen: s.append((m.w.item(), m.training))],
                average_decay=decay,
            )
        assert weights[0] == weights[1]
        assert all(training for _, training in weights[0])

    def test_a_callback_that_ends_the_run_keeps_the_best_so_far(self):
        model = Slope()
        result = self.run(model, [Recorder(stop_after=7)], n_iter_no_change=10)
        assert result.n_epochs == 7
        assert model.w.item() == pytest.approx(-0.5, abs=1e-5)

    def test_gains_below_the_tolerance_do_not_count(self):
        model = Slope(bottom=-100.0)  # 20 nats less each epoch at first, ever a little less
        assert self.run(model, n_iter_no_change=2, tol=50.0).best_epoch == 1
        assert self.run(Slope(bottom=-100.0), n_iter_no_change=2, tol=1.0).n_epochs == 50

    def test_without_patience_the_validation_loss_is_only_reported(self):
        model = Slope()
        result = self.run(model, n_epochs=9)
        assert result.best_epoch is None
        assert model.w.item() == pytest.approx(-0.9, abs=1e-5)
        assert [log["validation_loss"] for log in result.history] == pytest.approx(
            [(0.5 - 0.1 * epoch) ** 2 for epoch in range(1, 10)], abs=1e-5
        )

    def test_without_validation_data_patience_has_nothing_to_wait_for(self):
        model = Slope()
        config = TrainingConfig(**{**self.CONFIG, "n_epochs": 9}, n_iter_no_change=1)
        assert train(model, rows(4), config).n_epochs == 9

    def test_callbacks_hear_of_the_last_epoch_too(self):
        recorder = Recorder()
        result = self.run(Slope(), [recorder], n_iter_no_change=3)
        epochs = [event[1] for event in recorder.events if event[0] == "epoch"]
        assert epochs == [log["epoch"] for log in result.history]

    def test_buffers_come_back_with_the_weights(self):
        class Counting(Slope):
            def __init__(self):
                super().__init__()
                self.register_buffer("n_batches", torch.zeros(()))

            def forward(self, batch):
                self.n_batches += self.training
                return super().forward(batch)

        model = Counting()
        assert self.run(model, n_iter_no_change=3).n_epochs == 8
        assert model.n_batches.item() == 5

    def test_the_terms_of_the_validation_loss_are_in_the_history(self):
        (log,) = train(
            tiny_tvae(), tiny_table(30), TrainingConfig(n_epochs=1), validation_data=tiny_table(9)
        ).history
        bound = log["validation_log_likelihood"] - log["validation_kl_divergence"]
        assert log["validation_elbo"] == pytest.approx(bound)
        assert log["validation_loss"] == pytest.approx(-bound)

    def test_on_a_real_model(self):
        model, data = tiny_tvae(), tiny_table(30)
        config = TrainingConfig(
            n_epochs=60, batch_size=8, learning_rate=0.05, average_decay=0.5, n_iter_no_change=4
        )
        held_out = tiny_table(40, seed=9)
        result = train(model, data, config, generator=seeded(), validation_data=held_out)
        losses = [log["validation_loss"] for log in result.history]
        assert result.n_epochs < 60
        assert evaluate(model, held_out) == losses[result.best_epoch - 1] == min(losses)
        assert losses[-1] > min(losses) + 0.01


class TestNonFinite:
    def run(self, model, n_epochs=4, **kwargs):
        config = TrainingConfig(n_epochs=n_epochs, batch_size=2, **PLAIN)
        return train(model, rows(8), config, generator=seeded(), **kwargs)  # four steps an epoch

    @pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
    def test_a_bad_batch_is_skipped_and_the_fit_goes_on(self, factor):
        model = Breaking([3], factor)
        result = self.run(model)
        assert result.n_skipped_steps == 1
        assert result.n_epochs == 4
        # The moments of Adam forget nothing and learn nothing bad: 15 steps of 0.1.
        assert model.w.item() == pytest.approx(-1.5, rel=1e-4)
        assert all(math.isfinite(log["loss"]) for log in result.history)
        assert result.history[0]["loss"] == pytest.approx(-0.1, rel=1e-4)  # of the good steps

    def test_after_several_the_error_names_epoch_and_term(self):
        model = Breaking([2, 5, 6, 9, 10, 11])
        with pytest.raises(FloatingPointError, match=r"epoch 3: slope not finite in 5 steps"):
            self.run(model)
        assert len(model.batches) == 10
        assert math.isfinite(model.w.item())

    def test_the_error_says_what_to_try(self):
        with pytest.raises(FloatingPointError, match=r"learning_rate=0\.1.*Try a smaller"):
            self.run(Breaking(range(100)))

    def test_a_gradient_alone_may_be_the_culprit(self):
        class Cusp(Slope):
            def forward(self, batch):
                return super().forward(batch).abs().sqrt()

        with pytest.raises(FloatingPointError, match="epoch 2: gradient not finite"):
            self.run(Cusp())

    def test_a_loss_alone_may_be_the_culprit(self):
        class Offset(Slope):
            def compute_loss(self, batch, output, **kwargs):
                return super().compute_loss(batch, output + math.inf, **kwargs)

        with pytest.raises(FloatingPointError, match="epoch 2: slope not finite"):
            self.run(Offset())

    def test_a_loss_without_terms_is_named_as_such(self):
        class Nameless(Slope):
            def training_loss(self, batch, context):
                return LossResult(self.w.sum() + math.inf)

        with pytest.raises(FloatingPointError, match="epoch 2: loss not finite in 5"):
            self.run(Nameless())

    def test_an_epoch_without_a_good_step(self):
        """Too few bad steps to give up, but nothing to report either."""
        model = Breaking([1, 2])
        config = TrainingConfig(n_epochs=3, batch_size=8, **PLAIN)
        result = train(model, rows(8), config, callbacks=[ProgressBar()])
        losses = [log["loss"] for log in result.history]
        assert np.isnan(losses[:2]).all()
        assert math.isfinite(losses[2])

    def test_a_fit_without_a_good_step_is_an_error(self):
        config = TrainingConfig(n_epochs=MAX_BAD_STEPS - 1, batch_size=8, **PLAIN)
        with pytest.raises(FloatingPointError, match="slope"):
            train(Breaking(range(100)), rows(8), config)

    def test_on_fit_end_is_called(self):
        recorder = Recorder()
        with pytest.raises(FloatingPointError):
            self.run(Breaking(range(100)), callbacks=[recorder])
        assert recorder.events[0] == ("begin", Breaking, 4)
        assert recorder.events[-1] == "end"


class TestInterrupt:
    def interrupt(self, log):
        if log["epoch"] == 7:
            raise KeyboardInterrupt

    def run(self, model, callbacks=(), **kwargs):
        config = TrainingConfig(
            n_epochs=50, batch_size=4, n_iter_no_change=20 if kwargs else None, **PLAIN
        )
        return train(model, rows(4), config, callbacks=[self.interrupt, *callbacks], **kwargs)

    def test_without_early_stopping_it_is_raised_again(self):
        recorder = Recorder()
        with pytest.raises(KeyboardInterrupt):
            self.run(Slope(), [recorder])
        assert recorder.events[-1] == "end"

    def test_with_it_the_best_weights_come_back(self):
        model, recorder = Slope(), Recorder()
        result = self.run(model, [recorder], validation_data=rows(3))
        assert result.interrupted
        assert result.best_epoch == 5
        assert result.n_epochs == 7
        assert model.w.item() == pytest.approx(-0.5, abs=1e-5)
        assert not model.training
        assert recorder.events[-1] == "end"


class TestCallbacks:
    def run(self, *callbacks, n_epochs=5):
        config = TrainingConfig(n_epochs=n_epochs, batch_size=4, **PLAIN)
        return train(Slope(), rows(4), config, callbacks=callbacks)

    def test_objects_hear_of_the_whole_fit(self):
        recorder = Recorder()
        self.run(recorder, n_epochs=2)
        assert recorder.events == [("begin", Slope, 2), ("epoch", 1), ("epoch", 2), "end"]

    def test_functions_hear_of_each_epoch(self):
        logs = []
        result = self.run(logs.append)
        assert logs == result.history

    @pytest.mark.parametrize(
        "stopper",
        [Recorder(stop_after=3), lambda log: log["epoch"] == 3],
        ids=["object", "function"],
    )
    def test_true_ends_the_fit(self, stopper):
        other = Recorder()
        result = self.run(stopper, other)
        assert result.n_epochs == len(result.history) == 3
        assert other.events[-2:] == [("epoch", 3), "end"]

    def test_other_answers_do_not(self):
        assert self.run(lambda log: "yes", lambda log: 1).n_epochs == 5

    @pytest.mark.parametrize("wrong", [3, "stop", None, [print]])
    def test_what_cannot_be_called_is_refused(self, wrong):
        with pytest.raises(TypeError, match="callbacks must be"):
            self.run(wrong)

    def test_an_error_of_a_callback_is_passed_on_after_on_fit_end(self):
        recorder = Recorder()

        def fail(log):
            raise RuntimeError("disk full")

        with pytest.raises(RuntimeError, match="disk full"):
            self.run(recorder, fail)
        assert recorder.events[-1] == "end"

    def test_the_base_does_nothing(self):
        assert self.run(Callback()).n_epochs == 5

    def test_the_progress_bar_goes_to_stderr(self, capsys):
        self.run(ProgressBar("teaching"))
        out, err = capsys.readouterr()
        assert out == ""
        assert "teaching" in err
        assert "5/5" in err
        assert "loss=-0.400" in err

    def test_the_progress_bar_shows_the_validation_loss(self, capsys):
        config = TrainingConfig(n_epochs=5, batch_size=4, **PLAIN)
        train(Slope(), rows(4), config, validation_data=rows(2), callbacks=[ProgressBar()])
        assert "validation=0.000" in capsys.readouterr().err


class TestEvaluate:
    def test_is_the_mean_over_rows_whatever_the_batches(self):
        class Distance(Slope):
            def forward(self, batch):
                return batch[0]

            def compute_loss(self, batch, output, *, beta=1.0, free_nats=0.0):
                return LossResult(output.mean() * beta)

        for batch_size in (1, 3, 10, 100):
            assert evaluate(Distance(), rows(10), batch_size=batch_size) == pytest.approx(4.5)
        assert evaluate(Distance(), rows(10), beta=2.0) == pytest.approx(9.0)

    def test_draws_the_same_noise_at_each_call(self):
        model = tiny_tvae().train()
        state = torch.get_rng_state()
        assert evaluate(model, tiny_table()) == evaluate(model, tiny_table())
        assert torch.equal(torch.get_rng_state(), state)
        assert not model.training
        assert all(p.grad is None for p in model.parameters())


class TestSubnormals:
    @pytest.fixture(autouse=True)
    def _restore(self):
        before = flushes_subnormals()
        yield
        torch.set_flush_denormal(before)

    @pytest.mark.parametrize("setting", [False, True])
    def test_flushed_inside_and_as_the_user_had_it_after(self, setting):
        torch.set_flush_denormal(setting)
        assert flushes_subnormals() == setting
        with flushed_subnormals():
            assert flushes_subnormals()
        assert flushes_subnormals() == setting

    @pytest.mark.parametrize("setting", [False, True])
    def test_training_flushes_and_restores_also_after_an_error(self, setting):
        torch.set_flush_denormal(setting)
        inside = []

        def fail(log):
            inside.append(flushes_subnormals())
            raise RuntimeError

        with pytest.raises(RuntimeError):
            train(Slope(), rows(4), TrainingConfig(n_epochs=1, **PLAIN), callbacks=[fail])
        assert inside == [True]
        assert flushes_subnormals() == setting
