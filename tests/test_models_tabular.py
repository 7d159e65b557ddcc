"""The two models of tables: causality and exact joints; the paper's formulas done naively."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skvae.models import AutoregressiveTVAE, FactorizedTVAE, TabularVAE
from skvae.models import tabular as tabular_module
from skvae.models.table_networks import CausalColumns

# 17 columns make four groups of the causal layer, 30 make six.
COLUMN_COUNTS = [1, 2, 3, 5, 17, 30]


@pytest.fixture(autouse=True)
def _leave_the_global_seed_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randomised(model, scale=0.5):
    """Give every parameter random values: nothing is zero, no mask is hidden by an early zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "sigma" and parameter.requires_grad:
                parameter.normal_(std=scale, generator=seeded(parameter.numel()))
    for module in model.modules():
        if isinstance(module, CausalColumns):
            module.project_parameters()
    return model


def autoregressive(cardinalities, *, counts=None, **kwargs):
    scores = [
        (np.arange(n) + 0.5) / n if column % 2 else None for column, n in enumerate(cardinalities)
    ]
    if counts is None:
        counts = [np.arange(n) + 1 for n in cardinalities]
    settings = {"latent_dim": 3, "hidden": (16, 16), "column_hidden": (8, 8), "embedding_dim": 4}
    return AutoregressiveTVAE(cardinalities, scores, counts, **{**settings, **kwargs})


def random_codes(cardinalities, n_rows, seed=0):
    generator = seeded(seed)
    return torch.stack(
        [torch.randint(n, (n_rows,), generator=generator) for n in cardinalities], dim=1
    )


def logits_by_column(model, logits):
    """Return the logits of each column, of shape (batch, n_codes)."""
    if isinstance(model, FactorizedTVAE):
        return logits.split(model.cardinalities, dim=1)
    out = {}
    for bucket, block in zip(model.layout.buckets, logits, strict=True):
        for rank, column in enumerate(bucket.columns):
            out[column] = block[rank, : model.cardinalities[column]].T
    return [out[column] for column in range(model.n_columns)]


def cardinalities_of(n_columns):
    return [2 + (7 * column) % 11 for column in range(n_columns)]


class TestAutoregressiveCausality:
    @pytest.mark.parametrize("n_columns", COLUMN_COUNTS)
    def test_a_code_changes_the_logits_of_later_columns_only(self, n_columns):
        cardinalities = cardinalities_of(n_columns)
        model = randomised(autoregressive(cardinalities))
        codes = random_codes(cardinalities, 4)
        z = torch.randn(4, 3, generator=seeded())
        before = logits_by_column(model, model.decode(z, (codes,)))
        for changed in range(n_columns):
            other = codes.clone()
            other[:, changed] = (other[:, changed] + 1) % cardinalities[changed]
            after = logits_by_column(model, model.decode(z, (other,)))
            for column in range(n_columns):
                same = torch.equal(before[column], after[column])
                assert same == (column <= changed), (changed, column)

    @pytest.mark.parametrize("n_columns", COLUMN_COUNTS)
    def test_the_latent_changes_the_logits_of_every_column(self, n_columns):
        cardinalities = cardinalities_of(n_columns)
        model = randomised(autoregressive(cardinalities))
        codes = random_codes(cardinalities, 4)
        before = logits_by_column(model, model.decode(torch.zeros(4, 3), (codes,)))
        after = logits_by_column(model, model.decode(torch.ones(4, 3), (codes,)))
        assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))

    @pytest.mark.parametrize("n_columns", COLUMN_COUNTS)
    def test_drawing_column_by_column_agrees_with_the_parallel_pass(self, n_columns):
        """Greedy codes are the most probable ones in the pass that training makes, too."""
        cardinalities = cardinalities_of(n_columns)
        model = randomised(autoregressive(cardinalities))
        z = torch.randn(200, 3, generator=seeded())
        codes, _ = model.sample_columns(z, argmax=True)
        for column, logits in enumerate(logits_by_column(model, model.decode(z, (codes,)))):
            best = logits.max(1).values
            taken = logits.gather(1, codes[:, [column]]).squeeze(1)
            torch.testing.assert_close(taken, best, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("column_hidden", [(8,), (8, 8), (8, 8, 8)])
    def test_any_depth_of_the_columns_networks(self, column_hidden):
        cardinalities = cardinalities_of(6)
        model = randomised(autoregressive(cardinalities, column_hidden=column_hidden))
        assert len(model.blocks) == len(column_hidden) - 1
        z = torch.randn(50, 3, generator=seeded())
        codes, _ = model.sample_columns(z, argmax=True)
        for column, logits in enumerate(logits_by_column(model, model.decode(z, (codes,)))):
            taken = logits.gather(1, codes[:, [column]]).squeeze(1)
            torch.testing.assert_close(taken, logits.max(1).values, atol=1e-4, rtol=0)


class TestCausalColumns:
    def layer(self, n_columns):
        order = torch.randperm(n_columns, generator=seeded()).tolist()
        return randomised(CausalColumns(n_columns, 2, 2, 3, order)).double(), order

    @pytest.mark.parametrize("n_columns", [1, 2, 9, 13])
    def test_each_column_is_a_linear_map_of_what_stands_before_it(self, n_columns):
        layer, order = self.layer(n_columns)
        context = torch.randn(4, 2 + 2 * n_columns, generator=seeded()).double()
        found = layer(context)
        for place, column in enumerate(order):
            latent, before = layer.weight_into(column)
            assert before.shape == (column, 2, 3)
            weight = torch.cat([latent, before.reshape(-1, 3)])
            bias = layer.bias[3 * column : 3 * column + 3]
            torch.testing.assert_close(found[place], context[:, : len(weight)] @ weight + bias)

    @pytest.mark.parametrize("n_columns", [1, 2, 9, 13])
    def test_its_own_backward_pass_is_right(self, n_columns):
        layer, _ = self.layer(n_columns)
        context = torch.randn(2, 2 + 2 * n_columns, generator=seeded()).double().requires_grad_()
        causal = [(weight != 0).double() for weight in layer.weights]

        def run(context, bias, *weights):
            # Weights that are not causal are zero and stay it: differences must not move them.
            masked = {f"weights.{i}": w * causal[i] for i, w in enumerate(weights)}
            return torch.func.functional_call(layer, {"bias": bias, **masked}, (context,))

        assert torch.autograd.gradcheck(run, (context, layer.bias, *layer.weights))


class TestAutoregressiveDensity:
    CARDINALITIES = [2, 3, 4]

    def joint(self, model, z):
        """Return all rows, and the exact probability of each given one latent."""
        rows = torch.tensor(list(itertools.product(*(range(n) for n in self.CARDINALITIES))))
        latents = z.expand(len(rows), -1)
        log_prob = model.log_likelihood((rows,), model.decode(latents, (rows,)))
        return rows, log_prob.exp().detach()

    def frequencies(self, rows, codes):
        place = {tuple(row.tolist()): index for index, row in enumerate(rows)}
        found = torch.tensor([place[tuple(row)] for row in codes.tolist()])
        return torch.bincount(found, minlength=len(rows))

    def test_the_joint_sums_to_one(self):
        model = randomised(autoregressive(self.CARDINALITIES))
        for seed in range(3):
            _, probability = self.joint(model, torch.randn(1, 3, generator=seeded(seed)))
            assert probability.sum().item() == pytest.approx(1.0, abs=1e-5)

    def test_samples_follow_the_exact_joint(self):
        model = randomised(autoregressive(self.CARDINALITIES), scale=0.4)
        z = torch.randn(1, 3, generator=seeded(0))
        rows, probability = self.joint(model, z)
        n_draws = 40_000
        codes, _ = model.sample_columns(z.repeat(n_draws, 1), generator=seeded())
        observed = self.frequencies(rows, codes)
        expected = n_draws * probability
        statistic = ((observed - expected) ** 2 / expected).sum()
        assert statistic < 61  # 23 degrees of freedom: exceeded once in 40,000 seeds
        # The columns depend on each other enough for independent draws to fail by far.
        margins = torch.ones(len(rows))
        for column in range(3):
            share = torch.stack(
                [probability[rows[:, column] == code].sum() for code in rows[:, column]]
            )
            margins *= share
        independent = n_draws * margins
        assert ((observed - independent) ** 2 / independent).sum() > 1000

    def test_codes_without_training_rows_are_never_drawn(self):
        counts = [np.array([0, 4]), np.array([3, 0, 3]), np.array([0, 0, 1, 1])]
        model = randomised(autoregressive(self.CARDINALITIES, counts=counts), scale=2.0)
        for argmax in (False, True):
            z = 3 * torch.randn(5000, 3, generator=seeded())
            codes, _ = model.sample_columns(z, generator=seeded(), argmax=argmax)
            for column, count in enumerate(counts):
                assert set(codes[:, column].tolist()) <= set(np.flatnonzero(count))

    def test_places_are_uniform(self):
        model = autoregressive(self.CARDINALITIES)
        _, places = model.sample_columns(torch.zeros(20_000, 3), generator=seeded())
        assert places.shape == (20_000, 3)
        assert places.min() >= 0
        assert places.max() < 1
        np.testing.assert_allclose(places.mean(0), 0.5, atol=0.012)
        np.testing.assert_allclose(places.var(0), 1 / 12, atol=0.004)


class TestSampleColumns:
    def models(self):
        cardinalities = [3, 9, 4, 12, 2]
        counts = [np.arange(n) + 1 for n in cardinalities]
        yield autoregressive(cardinalities)
        yield FactorizedTVAE(
            cardinalities,
            counts,
            place_columns=[1, 3],
            mode_widths=[np.ones(9), np.ones(11)],
            latent_dim=3,
        )

    @pytest.mark.parametrize("n_rows", [0, 1, 7, 8, 9, 40])
    def test_any_number_of_chunks_gives_valid_rows(self, monkeypatch, n_rows):
        monkeypatch.setattr(tabular_module, "DECODE_ROWS", 8)
        for model in self.models():
            randomised(model)
            z = torch.randn(n_rows, 3, generator=seeded())
            codes, places = model.sample_columns(z, generator=seeded())
            assert codes.shape == places.shape == (n_rows, 5)
            assert codes.dtype == torch.int64
            assert places.dtype == torch.float32
            assert (codes >= 0).all()
            assert (codes < torch.tensor(model.cardinalities)).all()
            assert places.isfinite().all()

    def test_argmax_does_not_depend_on_the_chunks(self, monkeypatch):
        for model in self.models():
            randomised(model)
            z = torch.randn(50, 3, generator=seeded())
            whole, _ = model.sample_columns(z, argmax=True)
            with monkeypatch.context() as patch:
                patch.setattr(tabular_module, "DECODE_ROWS", 8)
                parts, _ = model.sample_columns(z, argmax=True)
            assert torch.equal(whole, parts)

    def test_the_generator_alone_decides(self):
        for model in self.models():
            z = torch.randn(50, 3, generator=seeded())
            state = torch.get_rng_state()
            first, again, other = (
                model.sample_columns(z, generator=seeded(seed)) for seed in (1, 1, 2)
            )
            assert torch.equal(state, torch.get_rng_state())
            assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
            assert not torch.equal(first[0], other[0])
            assert not torch.equal(first[1], other[1])

    def test_the_base_leaves_drawing_to_its_models(self):
        class Bare(TabularVAE):
            encode = decode = log_likelihood = None

        with pytest.raises(NotImplementedError):
            Bare([2, 3], latent_dim=1).sample_columns(torch.zeros(1, 1))


class TestAutoregressiveGradients:
    CARDINALITIES = [3, 4, 5, 6, 7, 8, 2, 3, 4]  # two groups

    def backward(self):
        model = randomised(autoregressive(self.CARDINALITIES), scale=0.3)
        batch = (random_codes(self.CARDINALITIES, 400),)
        model.compute_loss(batch, model(batch, generator=seeded())).objective.backward()
        return model

    def test_every_parameter_is_reached(self):
        for name, parameter in self.backward().named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name

    def test_causal_weights_are_reached_exactly_where_they_are_causal(self):
        model = self.backward()
        assert len(model.causal.groups) == 2
        for rank, weight in enumerate(model.causal.weights):
            mask = torch.ones_like(weight)
            causal = model.causal.get_buffer(f"causal_{rank}")
            mask[len(weight) - len(causal) :] = causal
            assert torch.equal(weight.grad != 0, mask.bool())

    def test_every_code_is_reached_and_no_padding_is(self):
        model = self.backward()
        tables = {"encoder": model.encoder_table, "head": model.head_table}
        for name, table in tables.items():
            for free, bucket in zip(table.free, model.layout.buckets, strict=True):
                for rank, column in enumerate(bucket.columns):
                    n_codes = self.CARDINALITIES[column]
                    reached = free.grad[rank].abs().sum(1) > 0
                    assert reached[:n_codes].all(), (name, column)
                    assert not reached[n_codes:].any(), (name, column)
        for rank, bucket in enumerate(model.layout.buckets):
            gradient = model.heads.get_parameter(f"block{rank}_bias").grad
            for row, column in enumerate(bucket.columns):
                n_codes = self.CARDINALITIES[column]
                assert (gradient[row, :n_codes] != 0).all()
                assert (gradient[row, n_codes:] == 0).all()

    def test_the_encoder_sees_every_column(self):
        model = randomised(autoregressive(self.CARDINALITIES))
        codes = random_codes(self.CARDINALITIES, 5)
        mu, log_var = model.encode((codes,))
        assert mu.shape == log_var.shape == (5, 3)
        for column, n_codes in enumerate(self.CARDINALITIES):
            other = codes.clone()
            other[:, column] = (other[:, column] + 1) % n_codes
            assert (model.encode((other,))[0] != mu).any(1).all()


class NaiveTVAE:
    """The paper's model and loss written out: one-hot rows, a loop over columns.

    Shares the weights of a ``FactorizedTVAE`` and none of its code.
    """

    def __init__(self, model, place_columns, place_modes):
        self.model = model
        self.place_of = {c: i for i, c in enumerate(place_columns)}
        self.modes_of = dict(zip(place_columns, place_modes, strict=True))

    def rows_of(self, table, column):
        first = int(self.model.offsets[column])
        return table[first : first + self.model.cardinalities[column]]

    def encode(self, codes, places):
        model, blocks, weights = self.model, [], []
        for column, n_codes in enumerate(model.cardinalities):
            if column in self.place_of:
                blocks.append(places[:, [column]])
                weights.append(model.place_weight[[self.place_of[column]]])
            blocks.append(F.one_hot(codes[:, column], n_codes).float())
            weights.append(self.rows_of(model.input_table, column))
        hidden = F.linear(torch.cat(blocks, 1), torch.cat(weights).T, model.input_bias).relu()
        for layer in model.encoder:
            hidden = layer(hidden)
        return model.mu(hidden), model.log_var(hidden)

    def loss(self, codes, places, eps):
        """``2 * reconstruction + divergence``, as the paper's code weighs them."""
        model, n_rows = self.model, len(codes)
        mu, log_var = self.encode(codes, places)
        hidden = mu + torch.exp(0.5 * log_var) * eps
        for layer in model.decoder:
            hidden = layer(hidden)
        reconstruction = 0.0
        for column in range(model.n_columns):
            weight = self.rows_of(model.output_weight, column)
            bias = self.rows_of(model.output_bias, column)
            scores = F.linear(hidden, weight, bias)
            reconstruction += F.cross_entropy(scores, codes[:, column], reduction="sum")
            if column in self.place_of:
                index = self.place_of[column]
                head = model.place_head
                mean = torch.tanh(F.linear(hidden, head.weight[[index]], head.bias[[index]]))[:, 0]
                sigma = model.sigma[index]
                present = codes[:, column] < self.modes_of[column]
                square = (places[:, column] - mean) ** 2 / (2 * sigma**2)
                reconstruction += (square + torch.log(sigma))[present].sum()
        divergence = -0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp())
        return (2 * reconstruction + divergence) / n_rows


class TestFactorizedAgainstThePaper:
    CARDINALITIES = [4, 11, 2, 10, 3]
    PLACE_COLUMNS, PLACE_MODES = [1, 3], [10, 10]  # the eleventh code of column 1: missing

    @pytest.fixture
    def model(self):
        model = FactorizedTVAE(
            self.CARDINALITIES,
            [np.arange(n) + 1 for n in self.CARDINALITIES],
            place_columns=self.PLACE_COLUMNS,
            mode_widths=[np.full(n, 0.5) for n in self.PLACE_MODES],
            latent_dim=6,
            hidden=(16, 12),
        )
        with torch.no_grad():
            model.sigma.copy_(torch.tensor([0.05, 0.4]))
        return model

    @pytest.fixture
    def batch(self):
        codes = random_codes(self.CARDINALITIES, 64)
        codes[:9, 1] = 10
        places = torch.rand(64, 5, generator=seeded(1)) * 1.98 - 0.99
        return codes, places

    def naive(self, model):
        return NaiveTVAE(model, self.PLACE_COLUMNS, self.PLACE_MODES)

    def test_the_encoder_is_a_linear_map_of_one_hot_rows(self, model, batch):
        for found, expected in zip(
            model.encode(batch), self.naive(model).encode(*batch), strict=True
        ):
            torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("scale", [None, 0.4])
    def test_the_loss_is_half_the_papers_up_to_the_constant_of_the_gaussian(
        self, model, batch, scale
    ):
        if scale is not None:
            randomised(model, scale)
        output = model(batch, generator=seeded(4))
        found = model.compute_loss(batch, output, beta=0.5).objective
        eps = torch.randn(64, 6, generator=seeded(4))
        expected = self.naive(model).loss(*batch, eps) / 2
        n_places = (64 - (batch[0][:, 1] == 10).sum()) + 64
        constant = 0.5 * math.log(2 * math.pi) * n_places / 64
        torch.testing.assert_close(found, expected + constant, atol=1e-4, rtol=1e-5)

    def test_the_gradient_is_half_the_papers(self, model, batch):
        loss = model.compute_loss(batch, model(batch, generator=seeded(4)), beta=0.5).objective
        naive = self.naive(model).loss(*batch, torch.randn(64, 6, generator=seeded(4)))
        trained = [p for p in model.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, trained)
        expected = torch.autograd.grad(naive, trained)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b / 2, atol=1e-5, rtol=1e-4)

    def test_missing_cells_have_no_place_to_explain(self, model, batch):
        codes, places = batch
        moved = places.clone()
        moved[codes[:, 1] == 10, 1] += 5.0
        params = model.decode(torch.zeros(64, 6))
        assert torch.equal(
            model.log_likelihood((codes, places), params),
            model.log_likelihood((codes, moved), params),
        )
        moved[codes[:, 1] < 10, 1] += 5.0
        changed = model.log_likelihood((codes, places), params) != model.log_likelihood(
            (codes, moved), params
        )
        assert torch.equal(changed, codes[:, 1] < 10)

    def test_the_density_sums_over_the_modes_of_a_number(self, model):
        """It integrates to 1 over a column's values, with the other columns given."""
        randomised(model, 0.3)
        params = model.decode(torch.ones(1, 6))
        means, stds = np.linspace(-20, 20, 10), np.full(10, 0.5 / 4)  # 4 of them a width
        values = np.linspace(-25, 25, 20_001)
        codes = torch.zeros(len(values), 5, dtype=torch.int64)
        near = torch.from_numpy((values[:, None] - means) / (4 * stds))
        other = torch.zeros(len(values), 10)
        batch = codes, torch.zeros(len(values), 5), near.float(), other
        params = tuple(part.expand(len(values), -1) for part in params)
        density = model.log_density(batch, params).exp().detach().numpy()
        without = [c for c in range(5) if c != 1]
        logits = params[0].split(model.cardinalities, dim=1)
        rest = sum(logits[c][0].log_softmax(0)[0] for c in without if c != 3)
        third = logits[3][0].log_softmax(0)
        gaussian = torch.distributions.Normal(params[1][0, 1], model.sigma[1]).log_prob(
            torch.tensor(0.0)
        )
        rest = rest + (third + gaussian - math.log(0.5)).logsumexp(0)
        missing = logits[1][0].softmax(0)[10]
        total = np.trapezoid(density, values) / rest.exp().item()
        assert total == pytest.approx(1 - missing.item(), abs=1e-3)

    def test_sigma_is_projected_into_its_range(self, model):
        with torch.no_grad():
            model.sigma.copy_(torch.tensor([-3.0, 7.0]))
        model.project_parameters()
        torch.testing.assert_close(model.sigma.detach(), torch.tensor([0.01, 1.0]))

    def test_gradients_reach_every_parameter_that_trains(self, model, batch):
        randomised(model, 0.3)
        model.compute_loss(batch, model(batch, generator=seeded())).objective.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name

    def test_the_initial_weights_are_those_of_linear_layers(self, model):
        n_inputs = sum(self.CARDINALITIES) + 2
        for weight, fan_in in [
            (model.input_table, n_inputs),
            (model.place_weight, n_inputs),
            (model.input_bias, n_inputs),
            (model.output_weight, 16),
            (model.output_bias, 16),
        ]:
            assert weight.abs().max() <= fan_in**-0.5
            assert weight.abs().max() > 0.8 * fan_in**-0.5
        assert (model.sigma != 0.1).sum() == 2  # set by the fixture
        fresh = FactorizedTVAE(
            [3], [np.ones(3)], place_columns=[0], mode_widths=[[1, 1, 1]], latent_dim=2
        )
        torch.testing.assert_close(fresh.sigma.detach(), torch.tensor([0.1]))


class TestFactorizedSampling:
    def test_draws_follow_the_softmax_and_the_gaussian(self):
        cardinalities = [4, 9]
        model = FactorizedTVAE(
            cardinalities,
            [np.ones(4), np.ones(9)],
            place_columns=[1],
            mode_widths=[np.ones(9)],
            latent_dim=3,
        )
        randomised(model, 0.5)
        with torch.no_grad():
            model.sigma.fill_(0.3)
        z = torch.randn(1, 3, generator=seeded())
        logits, means = model.decode(z)
        n_draws = 30_000
        codes, places = model.sample_columns(z.repeat(n_draws, 1), generator=seeded())
        for column, scores in enumerate(logits_by_column(model, logits)):
            expected = n_draws * scores[0].softmax(0).detach()
            observed = torch.bincount(codes[:, column], minlength=cardinalities[column])
            assert ((observed - expected) ** 2 / expected).sum() < 40
        assert places[:, 1].mean().item() == pytest.approx(means.item(), abs=0.01)
        assert places[:, 1].std().item() == pytest.approx(0.3, abs=0.01)

    @pytest.mark.parametrize("argmax", [False, True])
    def test_codes_without_training_rows_are_never_drawn(self, argmax):
        counts = [np.array([0, 4, 0]), np.array([3, 0])]
        model = FactorizedTVAE([3, 2], counts, latent_dim=3, hidden=(8, 8))
        randomised(model, 2.0)
        z = 3 * torch.randn(5000, 3, generator=seeded())
        codes, _ = model.sample_columns(z, generator=seeded(), argmax=argmax)
        assert set(codes[:, 0].tolist()) == {1}
        assert set(codes[:, 1].tolist()) == {0}

    def test_columns_are_independent_given_the_latent(self):
        model = randomised(FactorizedTVAE([3, 4], [np.ones(3), np.ones(4)], latent_dim=2))
        empty = torch.empty(12, 0)
        rows = torch.tensor(list(itertools.product(range(3), range(4))))
        params = model.decode(torch.ones(12, 2))
        joint = model.log_likelihood((rows, empty), params).exp().detach().view(3, 4)
        assert joint.sum().item() == pytest.approx(1.0, abs=1e-5)
        torch.testing.assert_close(joint, joint.sum(1, keepdim=True) * joint.sum(0))
