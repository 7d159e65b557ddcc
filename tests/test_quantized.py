"""Autoencoders with codes: product codes, residual codes."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from skvae.models import HRQVAE, VQVAE, GaussianLikelihood, MLPDecoder, MLPEncoder, StepContext
from skvae.models.codebook import LAPLACE, Codebook
from skvae.training import TrainingConfig, train


def vqvae(latent_dim=4, n_features=8, **params):
    torch.manual_seed(0)
    params = {"n_codes": 16, **params}
    return VQVAE(
        nn.Linear(n_features, latent_dim), nn.Linear(latent_dim, n_features), latent_dim, **params
    )


def hrqvae(latent_dim=4, n_features=8, **params):
    torch.manual_seed(0)
    params = {"n_codes": 16, "n_levels": 3, **params}
    return HRQVAE(
        nn.Linear(n_features, latent_dim), nn.Linear(latent_dim, n_features), latent_dim, **params
    )


def rows(n=64, n_features=8, seed=0, **like):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_features, generator=generator).to(**like)


BOTH = pytest.mark.parametrize("make", [vqvae, hrqvae])


class TestCodes:
    @BOTH
    def test_codes_are_whole_numbers_and_decode_to_the_reconstruction(self, make):
        model, x = make().eval(), rows()
        codes = model.codes(x)
        assert codes.dtype == torch.int64
        assert codes.shape == (64, model.code_length)
        assert 0 <= codes.min() <= codes.max() < 16
        torch.testing.assert_close(model.decode_codes(codes), model(x).x_hat)
        torch.testing.assert_close(model.decode_mean(model.embed(x)), model(x).x_hat)

    @BOTH
    def test_a_latent_is_the_sum_of_the_vectors_of_its_codes(self, make):
        model, x = make().eval(), rows()
        vectors, codes = model.code_vectors(), model.codes(x)
        assert vectors.shape == (model.code_length, 16, 4)
        expected = sum(vectors[j, codes[:, j]] for j in range(model.code_length))
        torch.testing.assert_close(model.embed(x), expected)

    @BOTH
    def test_the_latents_for_samplers_have_the_codes_of_the_rows(self, make):
        model, x = make().eval(), rows()
        assert torch.equal(model.quantize(model.draw_latents(x)), model.codes(x))

    @BOTH
    def test_embedding_is_the_same_in_training_mode_and_leaves_no_trace(self, make):
        model, x = make(), rows()
        before = copy.deepcopy(model.state_dict())
        assert torch.equal(model.train().embed(x), model.eval().embed(x))
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    @BOTH
    @pytest.mark.parametrize(
        "codes",
        [torch.zeros(2, 9, dtype=torch.int64), torch.zeros(4), torch.full((2, 4), 16)],
    )
    def test_codes_that_are_none_are_refused(self, make, codes):
        with pytest.raises(ValueError, match="expected"):
            make().decode_codes(codes)

    @BOTH
    def test_latents_of_another_size_are_refused(self, make):
        model = make()
        model.encoder = nn.Linear(8, 3)
        with pytest.raises(ValueError, match=r"shape \(2, 3\).*latent_dim=4"):
            model(rows(2))

    @BOTH
    def test_a_codebook_needs_a_code(self, make):
        with pytest.raises(ValueError, match="n_codes=0"):
            make(n_codes=0)


class TestVQVAE:
    @pytest.mark.parametrize("n_groups", [1, 2, 4, None])
    def test_each_group_takes_its_nearest_code(self, n_groups):
        model, x = vqvae(n_groups=n_groups).eval(), rows()
        z = model.draw_latents(x)
        n_groups = n_groups or 4
        parts, vectors = z.view(64, n_groups, -1), model.codebook.vectors
        distances = (parts[:, :, None] - vectors).square().sum(3)
        assert torch.equal(model.codes(x), distances.argmin(2))

    def test_groups_multiply_what_can_be_told_apart(self):
        x = rows(500)
        n_latents = [
            len(vqvae(n_codes=3, n_groups=n).eval().embed(x).unique(dim=0)) for n in (1, 4)
        ]
        assert n_latents[0] == 3
        assert n_latents[1] > 30

    def test_groups_must_be_equal(self):
        with pytest.raises(ValueError, match=r"n_groups=3 does not cut latent_dim=4.*\[1, 2, 4\]"):
            vqvae(n_groups=3)

    def test_an_unknown_codebook_is_refused(self):
        with pytest.raises(ValueError, match="codebook='kmeans'"):
            vqvae(codebook="kmeans")

    def test_the_gradient_passes_the_codes_by(self):
        model, x = vqvae(commitment_weight=0.0), rows()
        model.train()
        z_e = model._latents(x)
        output = model(x)
        output.x_hat.square().sum().backward()
        # As if the decoder had been given its codes by an encoder of the same slope.
        z = output.z.detach().requires_grad_()
        model.decoder(z).square().sum().backward()
        (expected,) = torch.autograd.grad(z_e, model.encoder.weight, z.grad)
        torch.testing.assert_close(model.encoder.weight.grad, expected)
        assert model.codebook.vectors.grad is None

    def test_latents_are_the_codes_to_the_last_digit(self):
        output = vqvae().train()(rows())
        assert torch.equal(output.z, output.quantized)

    def test_a_latent_off_the_codes_decodes_as_its_nearest(self):
        model, x = vqvae().eval(), rows()
        off = model.embed(x) + 1e-6
        torch.testing.assert_close(model.decode_mean(off), model(x).x_hat, atol=0, rtol=0)

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
    def test_the_commitment_knows_no_scale(self, scale):
        model, x = vqvae(n_groups=2), rows()
        reference = copy.deepcopy(model)
        with torch.no_grad():
            model.encoder.weight *= scale
            model.encoder.bias *= scale
        found = []
        for each in (model, reference):
            torch.manual_seed(3)
            found.append(each.train().compute_loss(x, each(x)).diagnostics["commitment"])
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize("codebook", ["ema", "gradient"])
    def test_the_loss_is_made_of_its_terms(self, codebook):
        model, x = vqvae(codebook=codebook, commitment_weight=0.4).train(), rows()
        output = model(x)
        result = model.compute_loss(x, output, context=StepContext(beta=0.5))
        terms = result.diagnostics
        assert set(terms) == {"log_likelihood", "commitment", "perplexity"}
        weight = 0.5 * 0.4 + (codebook == "gradient")
        expected = weight * terms["commitment"] - terms["log_likelihood"]
        torch.testing.assert_close(result.objective.detach(), expected)
        squares = (output.z_e - output.quantized).square().sum(1).mean()
        shares = model.codebook.counts / model.codebook.counts.sum(1, keepdim=True)
        vectors = model.codebook.vectors
        mean = torch.einsum("gk,gkd->gd", shares, vectors)
        variance = torch.einsum("gk,gkd->gd", shares, (vectors - mean[:, None]) ** 2).mean()
        torch.testing.assert_close(
            terms["commitment"], (squares / (variance + squares / 4)).detach()
        )

    @pytest.mark.parametrize("codebook", ["ema", "gradient"])
    def test_only_the_codebook_by_gradient_has_a_gradient(self, codebook):
        model, x = vqvae(codebook=codebook).train(), rows()
        model.compute_loss(x, model(x)).objective.backward()
        grad = model.codebook.vectors.grad
        assert (grad is None) == (codebook == "ema")
        if grad is not None:
            assert grad.abs().sum() > 0

    def test_perplexity_counts_the_codes_in_even_use(self):
        model = vqvae(n_groups=2)
        codes = torch.tensor([[0, 5], [1, 5], [2, 5], [3, 5]])
        assert model._perplexity(codes).item() == pytest.approx((4 + 1) / 2)

    def test_evaluation_leaves_the_codebook_alone(self):
        model, x = vqvae().train(), rows()
        model(x)
        before = copy.deepcopy(model.state_dict())
        model.eval()
        first, again = (model.compute_loss(x, model(x)).objective for _ in range(2))
        assert torch.equal(first, again)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_a_batch_gone_wrong_leaves_nothing_in_the_codebook(self):
        for started in (False, True):
            model, x = vqvae().train(), rows()
            if started:
                model(x)
            before = copy.deepcopy(model.codebook.state_dict())
            for bad in (math.nan, math.inf, 1e30):
                wrong = x.clone()
                wrong[3] = bad
                model.compute_loss(wrong, model(wrong))
            after = model.codebook.state_dict()
            assert all(torch.equal(value, before[key]) for key, value in after.items())

    def test_early_stopping_brings_the_codebook_back_with_the_weights(self):
        model, x = vqvae(n_features=8), rows(200)
        seen = []

        def note(log):
            seen.append(model.codebook.vectors.detach().clone())

        # Validation rows far from the others: training makes them worse and worse.
        config = TrainingConfig(20, batch_size=50, learning_rate=0.1, n_iter_no_change=3)
        result = train(model, (x,), config, validation_data=(-5 * rows(50),), callbacks=[note])
        assert result.best_epoch < result.n_epochs
        assert torch.equal(model.codebook.vectors, seen[result.best_epoch - 1])


class TestCodebook:
    def make(self, **params):
        torch.manual_seed(0)
        params = {"n_groups": 2, "n_codes": 4, "group_dim": 3, "decay": 0.9, **params}
        return Codebook(**params, by_gradient=False)

    def clouds(self, n=200, seed=0):
        """Four tight clouds in each of two groups, some of them rare."""
        rng = np.random.default_rng(seed)
        centers = 10 * np.random.default_rng(9).normal(size=(2, 4, 3))
        which = rng.choice(4, size=(n, 2), p=[0.4, 0.3, 0.2, 0.1])
        z = centers[np.arange(2), which] + 0.1 * rng.normal(size=(n, 2, 3))
        return torch.from_numpy(z).float(), torch.from_numpy(centers).float()

    def test_starts_at_different_rows_of_the_first_batch(self):
        codebook, (z, _) = self.make(), self.clouds()
        with torch.no_grad():
            codebook._start(z)
        for group in range(2):
            distances = torch.cdist(codebook.vectors[group], z[:, group])
            assert (distances.min(1).values == 0).all()
            assert len(distances.argmin(1).unique()) == 4

    def test_a_step_is_that_of_running_counts_and_sums(self):
        codebook, (z, _) = self.make(), self.clouds()
        codebook.counts.copy_(torch.rand(2, 4) + 20)
        codebook.n_updates += 10_000
        counts = codebook.counts.clone()
        vectors = codebook.vectors.detach().clone()
        sums = counts[..., None] * vectors
        codes = codebook.nearest(z)
        codebook.learn(z)
        for group in range(2):
            for code in range(4):
                members = z[codes[:, group] == code, group]
                counts[group, code] = 0.9 * counts[group, code] + 0.1 * len(members)
                sums[group, code] = 0.9 * sums[group, code] + 0.1 * members.sum(0)
        torch.testing.assert_close(codebook.counts, counts)
        torch.testing.assert_close(
            codebook.vectors.detach(), sums / counts[..., None], rtol=10 * LAPLACE, atol=1e-3
        )

    def test_finds_the_clouds_even_from_one_place(self):
        codebook, (_, centers) = self.make(), self.clouds()
        with torch.no_grad():
            codebook.vectors.fill_(50.0)  # one code takes all rows, the others are dead
        codebook.counts.fill_(50.0)
        codebook.n_updates += 1
        for seed in range(300):
            codebook.learn(self.clouds(64, seed)[0])
        distances = torch.cdist(codebook.vectors.detach(), centers)
        assert distances.min(1).values.max() < 0.2

    def test_codes_in_use_stay(self):
        codebook, (z, _) = self.make(), self.clouds()
        for seed in range(100):
            codebook.learn(self.clouds(256, seed)[0])
        before = codebook.vectors.detach().clone()
        codebook.learn(z)
        assert (codebook.vectors - before).abs().max() < 0.1

    def test_one_row_at_a_time(self):
        codebook = self.make(n_codes=2, decay=0.99)
        rng = np.random.default_rng(0)
        for sign in rng.choice([-3.0, 3.0], size=1500):
            z = torch.from_numpy(sign + 0.1 * rng.normal(size=(1, 2, 3))).float()
            codebook.learn(z)
        found = codebook.vectors.detach().mean(2).sort(dim=1).values
        torch.testing.assert_close(found, torch.tensor([[-3.0, 3.0]] * 2), atol=0.2, rtol=0)

    def test_a_code_is_nearest_to_itself(self):
        codebook = self.make(n_codes=64, group_dim=1)
        with torch.no_grad():
            codebook.vectors.mul_(1e-3).add_(100.0)
        vectors = codebook.vectors.detach().transpose(0, 1)
        assert torch.equal(codebook(codebook.nearest(vectors)), vectors)


class TestHRQVAE:
    def test_each_level_takes_what_the_ones_before_left(self):
        model, x = hrqvae().eval(), rows()
        rest = model.draw_latents(x)
        for level, codes in enumerate(model.codes(x).T):
            assert torch.equal(codes, torch.cdist(rest, model.vectors[level]).argmin(1))
            rest = rest - model.vectors[level, codes]

    def test_vectors_start_on_spheres_that_shrink(self):
        lengths = hrqvae(init_scale=3.0, init_decay=0.25).vectors.norm(dim=2)
        expected = torch.tensor([3.0, 0.75, 0.1875])[:, None].expand(3, 16)
        torch.testing.assert_close(lengths, expected)

    def test_the_divergence_is_that_from_the_uniform_distribution(self):
        model, x = hrqvae().eval(), rows()
        output = model(x)
        found = model.divergence(output)
        uniform = torch.distributions.Categorical(logits=torch.zeros(16))
        expected = sum(
            torch.distributions.kl_divergence(
                torch.distributions.Categorical(logits=output.logits[:, level]), uniform
            )
            for level in range(3)
        )
        torch.testing.assert_close(found, expected)
        rest = model.draw_latents(x) - output.parts[:, 0]
        torch.testing.assert_close(
            output.logits[:, 1].log_softmax(1),
            (-torch.cdist(rest, model.vectors[1]).square()).log_softmax(1),
            atol=1e-4,
            rtol=1e-4,
        )

    def test_the_loss_is_made_of_its_terms(self):
        model, x = hrqvae(kl_weight=0.3, norm_loss_weight=0.7).eval(), rows()
        context = StepContext(beta=0.5)
        result = model.compute_loss(x, model(x), context=context)
        terms = result.diagnostics
        assert set(terms) == {"log_likelihood", "kl_divergence", "norm_loss", "perplexity"}
        expected = 0.15 * terms["kl_divergence"] + 0.7 * terms["norm_loss"]
        torch.testing.assert_close(result.objective.detach(), expected - terms["log_likelihood"])

    def test_long_levels_are_penalised_by_the_squared_excess(self):
        parts = torch.tensor([[[3.0, 0.0], [0.0, 2.0], [4.0, 0.0]]])
        model = hrqvae(latent_dim=2, norm_loss_scale=1.5)
        # 1.5 * 2 / 3 is no more than one; 1.5 * 4 / 2 is two too many.
        torch.testing.assert_close(model._norm_loss(parts), torch.tensor([(0.0 + 2.0**2) / 2]))
        assert hrqvae(n_levels=1)._norm_loss(parts[:, :1]).item() == 0.0

    def test_temperatures_fall_level_by_level_to_their_floor(self):
        model = hrqvae(temperature_rate=1.0, min_temperature=0.5)
        assert model.temperatures(0.0) == [1.0, 1.0, 1.0]
        assert model.temperatures(0.6) == pytest.approx(
            [math.exp(-0.6), math.exp(-0.4), math.exp(-0.6 / 2.25)]
        )
        assert model.temperatures(1.0)[0] == 0.5

    def test_the_schedule_follows_the_steps_of_the_run(self, monkeypatch):
        model, seen = hrqvae().train(), []
        monkeypatch.setattr(
            HRQVAE, "temperatures", lambda self, progress: seen.append(progress) or [1.0] * 3
        )
        for step in (0, 5, 10):
            model.training_loss((rows(),), StepContext(step=step, n_steps=11))
        model(rows())
        assert seen == [0.0, 0.5, 1.0, 1.0]

    def test_dropped_levels_are_the_last_ones_of_a_row(self):
        model = hrqvae(depth_dropout=0.3, n_levels=4).train()
        torch.manual_seed(0)
        depths = model._depths(torch.ones(20_000, 4, 2))[:, :, 0]
        assert (depths[:, :-1] >= depths[:, 1:]).all()
        torch.testing.assert_close(
            depths.mean(0), torch.tensor([1.0, 0.7, 0.49, 0.343]), atol=0.02, rtol=0
        )

    def test_training_mixes_codes_and_evaluation_takes_one(self):
        model, x = hrqvae(), rows()
        model.train()(x)
        torch.manual_seed(1)
        distances = torch.cdist(model(x).parts[:, 0], model.vectors[0]).min(1).values
        assert distances.median() > 1e-2
        model.eval()
        distances = torch.cdist(model(x).parts[:, 0], model.vectors[0]).min(1).values
        assert distances.max() < 2e-3

    def test_the_first_batch_sets_the_length_of_latents_once(self):
        model = hrqvae().train()
        with torch.no_grad():
            model.encoder.weight *= 1e-4
            model.encoder.bias.fill_(7.0)
        x = rows(500)
        model(x)
        z = model.draw_latents(x)
        assert z.norm(dim=1).square().mean().sqrt().item() == pytest.approx(1.0, rel=1e-3)
        model(100 * x)
        torch.testing.assert_close(model.draw_latents(x), z)


class TestRobustness:
    @BOTH
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_small_batches_in_both_precisions(self, make, dtype, n):
        model = make().to(dtype).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for seed in range(5):
            x = rows(n, seed=seed, dtype=dtype)
            loss = model.training_loss((x,), StepContext(step=seed, n_steps=5))
            assert loss.objective.dtype == dtype
            optimizer.zero_grad()
            loss.objective.backward()
            optimizer.step()
        assert all(torch.isfinite(p).all() for p in model.state_dict().values())
        embedded = model.eval().embed(x)
        assert embedded.dtype == dtype
        assert torch.isfinite(embedded).all()

    @BOTH
    @pytest.mark.parametrize("params", [{"latent_dim": 1}, {"n_codes": 1}])
    def test_the_least_of_everything(self, make, params):
        model = make(**params).train()
        loss = model.training_loss((rows(),), StepContext())
        assert torch.isfinite(loss.objective)

    @BOTH
    def test_pickles_with_its_codebook(self, make):
        model, x = make().train(), rows()
        model(x)
        again = pickle.loads(pickle.dumps(model)).eval()
        assert torch.equal(again.embed(x), model.eval().embed(x))

    @BOTH
    def test_a_state_fits_a_model_that_has_seen_nothing(self, make):
        model, x = make().train(), rows()
        model(x)
        again = make().eval()
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.embed(x), model.eval().embed(x))


class TestDigits:
    @pytest.mark.parametrize(
        ("cls", "params", "max_error", "min_accuracy"),
        [
            (VQVAE, {}, 0.02, 0.93),
            (VQVAE, {"codebook": "gradient"}, 0.02, 0.92),
            (VQVAE, {"n_groups": 4}, 0.024, 0.90),
            (HRQVAE, {}, 0.032, 0.84),
        ],
    )
    def test_codes_keep_the_picture_and_the_class(self, cls, params, max_error, min_accuracy):
        x, y = load_digits(return_X_y=True)
        x = torch.from_numpy(x / 16).float()
        torch.manual_seed(0)
        model = cls(
            MLPEncoder((64,), (256,), 8),
            MLPDecoder(8, (64,), (256,)),
            8,
            likelihood=GaussianLikelihood(),
            **params,
        )
        config = TrainingConfig(
            20, batch_size=64, learning_rate=2e-3, schedule="constant", warmup_steps=0
        )
        train(model, (x[::2],), config, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            z = model.embed(x)
            error = (model.decode_mean(z)[1::2] - x[1::2]).square().mean()
        assert error < max_error
        classifier = KNeighborsClassifier(5).fit(z[::2], y[::2])
        assert classifier.score(z[1::2], y[1::2]) > min_accuracy
