"""Fitting on datasets and on batches: the same moments, the same quality, clear refusals."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from skvae import VAEEmbedder
from skvae.models import VAE
from skvae.streams import KEPT_ROWS, RowStream, is_stream
from skvae.training.data import rows_at


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X.astype(np.float32) / 16, y


class Pictures(Dataset):
    """Rows as a dataset of dictionaries."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return {"data": torch.from_numpy(self.X[index]), "labels": int(self.y[index])}


class Endless:
    """Batches as arrays, begun anew each time, without a length."""

    def __init__(self, X, size=100):
        self.X, self.size = X, size

    def __iter__(self):
        for start in range(0, len(self.X), self.size):
            yield self.X[start : start + self.size]


class Lines(IterableDataset):
    """Rows one by one, with as many as its length."""

    def __init__(self, X):
        self.X = X

    def __iter__(self):
        return iter(torch.from_numpy(self.X))

    def __len__(self):
        return len(self.X)


def watched(steps):
    """Return a VAE that adds the context of each training step to ``steps``."""

    class Watched(VAE):
        def training_loss(self, batch, context):
            if self.training and torch.is_grad_enabled():
                steps.append(context)
            return super().training_loss(batch, context)

    return Watched


def embedder(**params):
    defaults = {"max_epochs": 10, "hidden_layer_sizes": (64,), "random_state": 0}
    return VAEEmbedder(4, **defaults | params)


def streams(X, y):
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    return {
        "tensor dataset": TensorDataset(*tensors),
        "dictionaries": Pictures(X, y),
        "loader": DataLoader(TensorDataset(*tensors), batch_size=64, shuffle=True),
        "batches": Endless(X),
        "lines": Lines(X),
    }


@pytest.mark.parametrize("kind", ["tensor dataset", "dictionaries", "loader", "batches", "lines"])
class TestEveryKind:
    def test_moments_and_rows_are_those_of_the_data(self, kind, digits):
        stream = RowStream(streams(*digits)[kind], 0)
        np.testing.assert_allclose(stream.mean, digits[0].mean(0, dtype=np.float64), atol=1e-9)
        np.testing.assert_allclose(stream.variance, digits[0].var(0, dtype=np.float64), atol=1e-9)
        assert stream.n_rows == len(stream.rows) == 1797
        order = np.lexsort(stream.rows.T), np.lexsort(digits[0].T)
        np.testing.assert_array_equal(stream.rows[order[0]], digits[0][order[1]])

    def test_a_fit_is_as_good_as_on_the_array(self, kind, digits):
        X, y = digits
        stream = streams(X, y)[kind]
        params = {"batch_size": 64 if kind != "batches" else 100}
        found = np.mean((embedder(**params).fit(stream).reconstruct(X) - X) ** 2)
        expected = np.mean((embedder(**params).fit(X).reconstruct(X) - X) ** 2)
        assert found < 1.1 * expected

    def test_results_depend_on_random_state_alone(self, kind, digits):
        X, y = digits[0][:300], digits[1][:300]
        weights = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            fitted = embedder(max_epochs=2).fit(streams(X, y)[kind])
            assert torch.equal(torch.get_rng_state(), before)
            weights.append(torch.cat([p.detach().flatten() for p in fitted.model_.parameters()]))
        assert torch.equal(*weights)

    def test_schedules_end_where_the_run_does(self, kind, digits):
        steps = []
        embedder(model=watched(steps), max_epochs=4, beta_warmup=0.5, batch_size=128).fit(
            streams(*digits)[kind]
        )
        assert {step.n_steps for step in steps} == {len(steps)}
        betas = [min(1, (i + 1) / round(0.5 * len(steps))) for i in range(len(steps))]
        assert [step.beta for step in steps] == pytest.approx(betas)


def test_few_rows_of_many_are_kept_from_everywhere():
    X = np.arange(3 * KEPT_ROWS, dtype=np.float32)[:, None]
    stream = RowStream(Endless(X, 999), 0)
    assert len(np.unique(stream.rows)) == KEPT_ROWS
    # Six standard errors of the mean of a third of the numbers.
    error = X.std() / KEPT_ROWS**0.5 * (2 / 3) ** 0.5
    assert abs(stream.rows.mean() - X.mean()) < 6 * error


def test_labels_come_with_the_stream(digits):
    X, y = digits
    fitted = embedder(model="conditional").fit(Pictures(X, y))
    assert fitted.classes_.tolist() == list(range(10))
    np.testing.assert_allclose(fitted._labels.frequencies, np.bincount(y) / len(y))
    assert fitted.sample(3, y=7).shape == (3, 64)


def test_datasets_can_be_held_out_for_early_stopping(digits):
    X, y = digits
    fitted = embedder(early_stopping=True, max_epochs=3).fit(Pictures(X[:300], y[:300]))
    assert "validation_loss" in fitted.history_


def test_batches_cannot(digits):
    with pytest.raises(ValueError, match="early_stopping=True needs rows that can be held out"):
        embedder(early_stopping=True).fit(Endless(digits[0]))


def test_a_generator_is_refused(digits):
    with pytest.raises(TypeError, match="which ends after one pass"):
        embedder().fit(batch for batch in Endless(digits[0]))


def test_labels_beside_a_stream_are_refused(digits):
    X, y = digits
    with pytest.raises(ValueError, match="brings its own labels"):
        embedder(model="conditional").fit(Endless(X), y)


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match="X gave no rows"):
        embedder().fit(Endless(np.empty((0, 3), np.float32)))


def test_images_come_back_as_images(digits):
    X = digits[0][:200].reshape(-1, 8, 8)
    fitted = embedder(network="mlp", max_epochs=1).fit(Endless(X))
    assert fitted.sample(2).shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (np.zeros((2, 2)), False),
        ([[1.0, 2.0]], False),
        (torch.zeros(2, 2), False),
        ("rows.csv", False),
        (3, False),
        (TensorDataset(torch.zeros(2, 2)), True),
        (Endless(np.zeros((2, 2))), True),
    ],
)
def test_what_counts_as_a_stream(X, expected):
    assert is_stream(X) is expected


def test_rows_of_an_iterable_dataset_are_read_as_batches(digits):
    fitted = embedder(max_epochs=1).fit(DataLoader(Lines(digits[0][:500]), batch_size=50))
    assert fitted.transform(digits[0]).shape == (1797, 4)


def test_rows_one_by_one_are_trained_on_in_batches_of_the_given_size(digits):
    fitted = embedder(max_epochs=2, batch_size=100).fit(Lines(digits[0][:450]))
    assert fitted.n_steps_ == 2 * 5


def test_a_function_of_rows_by_index_sees_whole_batches(digits):
    sizes = []

    def double(x, y):
        sizes.append(len(x))
        return torch.from_numpy(2 * x), torch.from_numpy(y)

    X, y = digits
    x, labels = rows_at(RowStream(Pictures(X, y), 0).mapped(double, 64), [5, 1, 7])
    assert sizes == [3]
    np.testing.assert_array_equal(x, 2 * X[[5, 1, 7]])
    np.testing.assert_array_equal(labels, y[[5, 1, 7]])
