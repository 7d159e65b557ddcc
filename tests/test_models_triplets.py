"""Triplets: who may meet whom, how often, and the loss against a plain one."""

import pytest
import torch

from skvae.models import draw_triplets, triplet_loss


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


LABELS = torch.tensor([2, 0, 5, 0, 2, 0, 7, -1, 5, -1])


@pytest.mark.parametrize("every_label", [False, True])
def test_positives_share_the_label_negatives_do_not_and_no_row_meets_itself(every_label):
    for _ in range(50):
        anchors, positives, negatives = draw_triplets(LABELS, every_label=every_label)
        assert torch.equal(LABELS[anchors], LABELS[positives])
        assert (LABELS[anchors] != LABELS[negatives]).all()
        assert (anchors != positives).all()
        assert (LABELS[torch.cat([anchors, positives, negatives])] >= 0).all()


def test_each_row_with_a_partner_is_an_anchor_and_a_lone_one_is_a_negative_only():
    seen = [set(), set(), set()]
    for _ in range(100):
        for rows, found in zip(seen, draw_triplets(LABELS), strict=True):
            rows.update(found.tolist())
    partnered = {0, 1, 2, 3, 4, 5, 8}
    assert seen == [partnered, partnered, partnered | {6}]


def test_draws_of_positives_and_of_labels_and_rows_of_negatives_are_uniform():
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    counts = torch.zeros(2, 7)
    n_draws = 4000
    for _ in range(n_draws):
        anchors, positives, negatives = draw_triplets(labels)
        of_first = (anchors == 0).nonzero().item()
        counts[0, positives[of_first]] += 1
        counts[1, negatives[of_first]] += 1
    expected = torch.tensor([[0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0], [0, 0, 0, 0, 1 / 2, 1 / 4, 1 / 4]])
    # Four standard deviations of a share of 4,000.
    assert (counts / n_draws - expected).abs().max() < 4 * 0.5 / n_draws**0.5
    assert (counts[expected == 0] == 0).all()


@pytest.mark.parametrize("n_repeats", [1, 2])
def test_every_label_gives_an_anchor_one_negative_of_each_other_label(n_repeats):
    anchors, _, negatives = draw_triplets(LABELS, every_label=True, n_repeats=n_repeats)
    for anchor in (0, 1, 2, 3, 4, 5, 8):
        met = LABELS[negatives[anchors == anchor]].tolist()
        others = [label for label in (0, 2, 5, 7) if label != LABELS[anchor]]
        assert sorted(met) == sorted(others * n_repeats)


@pytest.mark.parametrize("labels", [[3, 3, 3], [-1, -1, -1], [0, 1, 2], [4], [], [2, 2, -1]])
@pytest.mark.parametrize("every_label", [False, True])
def test_without_a_pair_or_another_label_there_are_no_triplets_and_no_loss(labels, every_label):
    labels = torch.tensor(labels, dtype=torch.int64)
    triplets = draw_triplets(labels, every_label=every_label)
    assert [len(rows) for rows in triplets] == [0, 0, 0]
    z = torch.randn(len(labels), 2, requires_grad=True)
    loss = triplet_loss(z, triplets)
    (grad,) = torch.autograd.grad(loss, z)
    assert loss == 0
    assert (grad == 0).all()


def test_the_loss_is_that_of_a_plain_loop():
    z = torch.randn(10, 3, dtype=torch.float64)
    triplets = draw_triplets(LABELS, every_label=True)
    terms = [
        max(0.0, float((z[a] - z[p]).norm() - (z[a] - z[n]).norm()) + 0.7)
        for a, p, n in zip(*(rows.tolist() for rows in triplets), strict=True)
    ]
    assert 0 < sum(term == 0 for term in terms) < len(terms)
    assert triplet_loss(z, triplets, margin=0.7).item() == pytest.approx(
        sum(terms) / len(terms), abs=1e-5
    )


def test_the_gradient_is_finite_where_rows_coincide():
    z = torch.zeros(4, 2, requires_grad=True)
    triplet_loss(z, draw_triplets(torch.tensor([0, 0, 1, 1]))).backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("labels", [torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64)])
def test_labels_that_are_no_whole_numbers_one_a_row_are_refused(labels):
    with pytest.raises(ValueError, match="expected whole numbers"):
        draw_triplets(labels)
