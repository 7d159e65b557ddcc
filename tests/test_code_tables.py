"""Layout, embeddings and softmax heads of many categorical columns at once."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skvae.models import CategoricalHeads, CodeLayout, CodeTable, SegmentedSoftmax, draw_codes
from skvae.models.code_tables import MAX_PADDING, NARROW, PADDING_LOGIT, draw_tilted

CARDINALITIES = [
    [1],
    [2, 2, 2],
    [5, 2, 130, 3, 128, 17, 2, 40],
    [1, 1000, 7],
    list(range(1, 60)),
]


def ranks(n_codes):
    return (np.arange(n_codes) + 0.5) / n_codes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class TestCodeLayout:
    @pytest.mark.parametrize("cardinalities", CARDINALITIES)
    def test_every_column_stands_in_one_bucket_and_no_places_overlap(self, cardinalities):
        layout = CodeLayout(cardinalities)
        columns = sorted(column for bucket in layout.buckets for column in bucket.columns)
        assert columns == list(range(len(cardinalities)))
        places = np.concatenate(
            [offset + np.arange(n) for offset, n in zip(layout.offsets, cardinalities, strict=True)]
        )
        assert len(np.unique(places)) == sum(cardinalities)
        assert places.min() >= 0
        assert places.max() < layout.size

    @pytest.mark.parametrize("cardinalities", CARDINALITIES)
    def test_padding_is_bounded(self, cardinalities):
        assert CodeLayout(cardinalities).size <= (1 + MAX_PADDING) * sum(cardinalities)

    def test_columns_of_like_size_share_a_bucket(self):
        layout = CodeLayout([10, 200, 11, 190, 12])
        assert [bucket.columns for bucket in layout.buckets] == [(0, 2, 4), (1, 3)]
        assert [bucket.width for bucket in layout.buckets] == [12, 200]

    @pytest.mark.parametrize("cardinalities", CARDINALITIES)
    def test_scattered_values_lie_at_the_offsets(self, cardinalities):
        layout = CodeLayout(cardinalities)
        values = [100.0 * column + np.arange(n) for column, n in enumerate(cardinalities)]
        flat = torch.cat([block.flatten() for block in layout.scatter(values, fill=-1.0)])
        assert len(flat) == layout.size
        for offset, value in zip(layout.offsets, values, strict=True):
            np.testing.assert_array_equal(flat[offset : offset + len(value)], value)
        assert (flat == -1).sum() == layout.size - sum(cardinalities)


class TestCodeTable:
    def table(self, **kwargs):
        torch.manual_seed(0)
        self.layout = CodeLayout([64, 64, 3, 50])
        settings = {"basis_size": 8, "free_std": 1.0, "smooth_std": 8**-0.5, **kwargs}
        return CodeTable(self.layout, 32, [ranks(64), None, None, ranks(50)], **settings)

    def rows(self, table, column):
        first = int(self.layout.offsets[column])
        return table()[first : first + self.layout.cardinalities[column]].detach()

    @pytest.fixture(autouse=True)
    def _leave_the_global_seed_alone(self):
        with torch.random.fork_rng(devices=[]):
            yield

    def test_the_flat_table_is_its_blocks_in_the_order_of_the_layout(self):
        table = self.table()
        assert table().shape == (self.layout.size, 32)
        for block, bucket in zip(table.blocks(), self.layout.buckets, strict=True):
            for rank, column in enumerate(bucket.columns):
                n_codes = self.layout.cardinalities[column]
                assert torch.equal(block[rank, :n_codes], self.rows(table, column))

    @pytest.mark.parametrize("column", [0, 3])
    def test_neighbours_in_an_ordered_column_begin_alike(self, column):
        rows = self.rows(self.table(), column)
        # The outermost bins lie in the steep tails of the normal quantile.
        steps = rows[4:-4].diff(dim=0).norm(dim=1)
        apart = torch.pdist(rows).mean()
        assert steps.max() < 0.6 * apart
        assert steps.mean() < 0.35 * apart

    def test_nominal_columns_begin_without_an_order(self):
        rows = self.rows(self.table(), 1)
        steps = rows.diff(dim=0).norm(dim=1)
        assert 0.9 < steps.mean() / torch.pdist(rows).mean() < 1.1
        assert rows.std().item() == pytest.approx(1.0, abs=0.1)

    def test_any_code_of_an_ordered_column_may_part_from_its_neighbours(self):
        table = self.table()
        before = self.rows(table, 0)
        self.rows_with_gradient(table)[10].sum().backward()
        with torch.no_grad():
            for parameter in table.free:
                parameter -= parameter.grad
        after = self.rows(table, 0)
        assert (after - before)[10].abs().min() > 0.5
        assert torch.equal(after[:10], before[:10])
        assert torch.equal(after[11:], before[11:])

    def rows_with_gradient(self, table):
        first = int(self.layout.offsets[0])
        return table()[first : first + 64]

    def test_a_table_of_nominal_columns_has_no_basis(self):
        table = CodeTable(
            CodeLayout([3, 4]), 5, [None, None], basis_size=8, free_std=1.0, smooth_std=1.0
        )
        assert len(table.smooth) == 0
        assert not list(table.buffers())

    def test_few_codes_with_an_order(self):
        table = CodeTable(
            CodeLayout([2, 1]), 5, [ranks(2), ranks(1)], basis_size=8, free_std=1.0, smooth_std=1.0
        )
        assert table().isfinite().all()


class TestCategoricalHeads:
    CARDINALITIES = [3, 20, 4, 1, 18]

    def heads(self, counts=None):
        if counts is None:
            rng = np.random.default_rng(0)
            counts = [rng.integers(1, 50, n) for n in self.CARDINALITIES]
        layout = CodeLayout(self.CARDINALITIES)
        return CategoricalHeads(layout, counts)

    def inputs(self, heads, batch=6, width=7):
        hidden = torch.randn(len(self.CARDINALITIES), batch, width, generator=seeded(1))
        flat = torch.randn(heads.layout.size, width, generator=seeded(2))
        tables = [
            flat[b.start : b.start + len(b.columns) * b.width].view(len(b.columns), b.width, width)
            for b in heads.layout.buckets
        ]
        return hidden, flat, tables

    def reference(self, heads, hidden, flat, column):
        """Log probabilities of one column, from its own rows of the table."""
        first = int(heads.layout.offsets[column])
        n_codes = self.CARDINALITIES[column]
        features = hidden[heads.layout.order.index(column)]
        scores = features @ flat[first : first + n_codes].T + heads.column_bias(column)
        return F.log_softmax(scores, dim=1)

    def test_log_prob_is_the_sum_of_each_columns_log_softmax(self):
        heads = self.heads()
        hidden, flat, tables = self.inputs(heads)
        codes = torch.stack(
            [torch.randint(n, (6,), generator=seeded(n)) for n in self.CARDINALITIES], dim=1
        )
        expected = sum(
            self.reference(heads, hidden, flat, column)[torch.arange(6), codes[:, column]]
            for column in range(len(self.CARDINALITIES))
        )
        found = heads.log_prob(codes, heads.logits(hidden, tables))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("column", range(5))
    def test_the_codes_of_a_column_share_out_all_probability(self, column):
        heads = self.heads()
        hidden, _, tables = self.inputs(heads)
        logits = heads.logits(hidden, tables)
        total = torch.zeros(6)
        for code in range(self.CARDINALITIES[column]):
            codes = torch.zeros(6, 5, dtype=torch.int64)
            base = heads.log_prob(codes, logits)
            codes[:, column] = code
            total += (heads.log_prob(codes, logits) - base).exp()
        # Relative to code 0 of the column; with its own probability they sum to 1.
        first = self.reference(heads, hidden, self.inputs(heads)[1], column)[:, 0].exp()
        torch.testing.assert_close(total * first, torch.ones(6), atol=1e-5, rtol=1e-5)

    def test_biases_begin_at_the_log_frequencies(self):
        counts = [np.array([1, 2, 7]), *[np.ones(n, int) for n in self.CARDINALITIES[1:]]]
        heads = self.heads(counts)
        flat_tables = [torch.zeros(len(b.columns), b.width, 7) for b in heads.layout.buckets]
        logits = heads.logits(torch.zeros(5, 1, 7), flat_tables)
        codes = torch.zeros(3, 5, dtype=torch.int64)
        codes[:, 0] = torch.arange(3)
        repeated = [block.expand(-1, -1, 3) for block in logits]
        relative = heads.log_prob(codes, repeated).exp()
        expected = torch.tensor([1.5, 2.5, 7.5])  # half a row beside each count
        torch.testing.assert_close(relative / relative.sum(), expected / expected.sum())

    def test_a_code_without_rows_has_a_likelihood_but_is_blocked_from_draws(self):
        counts = [np.array([5, 0, 5]), *[np.ones(n, int) for n in self.CARDINALITIES[1:]]]
        heads = self.heads(counts)
        hidden, _, tables = self.inputs(heads)
        codes = torch.zeros(6, 5, dtype=torch.int64)
        codes[:, 0] = 1
        assert (heads.log_prob(codes, heads.logits(hidden, tables)) > -100).all()
        bias = heads.column_bias(0)
        assert bias[1] < PADDING_LOGIT / 2
        assert bias[[0, 2]].min() > -10

    def test_a_column_that_nothing_can_be_drawn_from_is_refused(self):
        with pytest.raises(ValueError, match="needs a code"):
            CategoricalHeads(CodeLayout([2, 2]), [np.array([1, 1]), np.array([0, 0])])

    def test_an_unknown_column_has_no_bias(self):
        with pytest.raises(IndexError):
            self.heads().column_bias(5)


class TestDrawCodes:
    def test_frequencies_follow_the_softmax(self):
        logits = 1.5 * torch.randn(1, 9, generator=seeded())
        n_draws = 50_000
        codes = draw_codes(logits.expand(n_draws, 9).clone(), seeded(1))
        expected = n_draws * logits.softmax(1)[0]
        observed = torch.bincount(codes, minlength=9)
        statistic = ((observed - expected) ** 2 / expected).sum()
        assert statistic < 36  # eight degrees of freedom: exceeded once in 50,000 seeds

    @pytest.mark.parametrize("n_codes", [9, NARROW + 1])
    def test_odds_tilt_the_softmax(self, n_codes):
        logits = torch.randn(1, n_codes, generator=seeded())
        odds = torch.linspace(0.1, 3.0, n_codes)[None]
        weight = odds * logits.softmax(1)
        n_draws = 50_000
        codes, mean_odds = draw_tilted(logits.repeat(n_draws, 1), odds, seeded(1))
        torch.testing.assert_close(mean_odds, weight.sum(1).expand(n_draws))
        shares = torch.bincount(codes, minlength=n_codes) / n_draws
        assert (shares - weight[0] / weight.sum()).abs().sum() / 2 < 0.01

    def test_each_row_has_its_own_distribution_and_draw(self):
        logits = torch.full((1000, 5), -1e4)
        wanted = torch.arange(1000) % 5
        logits[torch.arange(1000), wanted] = 0.0
        assert torch.equal(draw_codes(logits, seeded()), wanted)
        codes = draw_codes(torch.zeros(1000, 5), seeded())
        assert (codes[1:] == codes[:-1]).float().mean() < 0.3

    def test_codes_without_probability_are_never_drawn(self):
        blocked = [0, 3, 4, 9]
        logits = torch.zeros(200_000, 10)
        logits[:, blocked] = PADDING_LOGIT
        codes = draw_codes(logits, seeded())
        assert sorted(codes.unique().tolist()) == [1, 2, 5, 6, 7, 8]

    @pytest.mark.parametrize("n_codes", [5, NARROW, NARROW + 1, 200])
    def test_no_uniform_number_leads_to_a_blocked_code(self, monkeypatch, n_codes):
        edges = torch.tensor([0.0, 2**-24, 0.25, 0.5, 0.75, 1 - 2**-24])

        def extreme(*shape, device, generator):
            return edges

        logits = torch.full((n_codes,), PADDING_LOGIT)
        logits[[1, 3]] = 0.0
        monkeypatch.setattr(torch, "rand", extreme)
        codes = draw_codes(logits.expand(len(edges), n_codes).clone(), None)
        assert set(codes.tolist()) == {1, 3}

    def test_argmax_takes_the_most_probable_code(self):
        logits = torch.randn(50, 7, generator=seeded())
        expected = logits.argmax(1)
        assert torch.equal(draw_codes(logits.clone(), None, argmax=True), expected)

    def test_the_generator_alone_decides(self):
        state = torch.get_rng_state()
        first, second = (draw_codes(torch.zeros(100, 7), seeded(5)) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, draw_codes(torch.zeros(100, 7), seeded(6)))
        assert torch.equal(state, torch.get_rng_state())

    def test_large_logits_do_not_overflow(self):
        codes = draw_codes(torch.tensor([[500.0, 0.0], [0.0, 500.0]]), seeded())
        assert codes.tolist() == [0, 1]


class TestSegmentedSoftmax:
    SIZES = [3, 1, 7]

    def reference(self, scores, codes):
        parts = scores.split(self.SIZES, dim=1)
        return sum(
            part.log_softmax(1).gather(1, codes[:, [column]])[:, 0]
            for column, part in enumerate(parts)
        )

    @pytest.mark.parametrize("spread", [1.0, 300.0], ids=["usual", "underflowing"])
    def test_values_and_gradients_are_those_of_a_log_softmax_for_each_column(self, spread):
        softmax = SegmentedSoftmax([np.ones(size) for size in self.SIZES])
        scores = spread * torch.randn(40, 11, generator=seeded(1))
        scores.requires_grad_()
        codes = torch.stack(
            [torch.randint(size, (40,), generator=seeded(size)) for size in self.SIZES], dim=1
        )
        weights = torch.rand(40, generator=seeded(2))
        found = softmax.log_prob(scores, codes + torch.tensor([0, 3, 4]))
        expected = self.reference(scores, codes)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(
            *(
                torch.autograd.grad((weights * value).sum(), scores)[0]
                for value in (found, expected)
            ),
            atol=1e-5,
            rtol=1e-4,
        )
