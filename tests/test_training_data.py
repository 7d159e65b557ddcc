"""What may be trained on: tensors, datasets, and iterables of batches."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from skvae.models import LossResult
from skvae.training import TrainingConfig, evaluate, steps_per_epoch, train
from skvae.training.data import Collated

PLAIN = {"schedule": "constant", "warmup_steps": 0}
N = 10


class Reader(nn.Module):
    """Keeps what it is shown; its loss is the mean of the rows' first numbers."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 1, dtype=dtype))
        self.batches, self.contexts = [], []

    def training_loss(self, batch, context):
        if self.training:
            self.batches.append(batch)
            self.contexts.append(context)
        return LossResult(self.w.sum() + batch[0].double().mean())

    def sizes(self):
        return [len(batch[0]) for batch in self.batches]

    def rows(self, part=0):
        return [int(row[0]) for batch in self.batches for row in batch[part]]


def table(n=N):
    return torch.arange(float(n)).view(n, 1)


class Rowwise(Dataset):
    """A map-style dataset whose rows are made by a function of their number."""

    def __init__(self, make, n=N):
        self.make, self.n = make, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return self.make(table(self.n)[index])


class Reiterable:
    """Batches of a table anew in each pass, without a length."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __iter__(self):
        yield from table(sum(self.sizes)).split(self.sizes)


def run(data, model=None, n_epochs=2, batch_size=4, **kwargs):
    model = model or Reader()
    config = {"n_epochs": n_epochs, "batch_size": batch_size, **PLAIN, **kwargs.pop("config", {})}
    generator = torch.Generator().manual_seed(0)
    return model, train(model, data, TrainingConfig(**config), generator=generator, **kwargs)


class Together(Rowwise):
    """Gives several rows at once, as a list or as a batch."""

    def __init__(self, kind):
        super().__init__(None)
        self.kind = kind

    def __getitems__(self, index):
        return self.kind([table()[index]]) if self.kind is Collated else list(table()[index])


class TestRows:
    @pytest.mark.parametrize(
        "data",
        [
            table(),
            table().numpy(),
            (table(),),
            (table().numpy(),),
            TensorDataset(table()),
            Rowwise(lambda row: row),
            Rowwise(lambda row: row.numpy()),
            Rowwise(lambda row: {"data": row}),
            Rowwise(lambda row: (row,)),
            Together(list),
            Together(Collated),
            Subset(Together(Collated), range(N)),
        ],
        ids=[
            "tensor",
            "array",
            "tuple",
            "arrays",
            "TensorDataset",
            "rows",
            "rows of arrays",
            "dictionaries",
            "tuples",
            "lists of rows",
            "batches",
            "batches of a subset",
        ],
    )
    def test_all_ways_to_hold_them_give_the_same_batches(self, data):
        expected, _ = run((table(),))
        model, result = run(data)
        assert model.sizes() == [4, 4, 2] * 2
        assert model.rows() == expected.rows()
        assert model.rows() != list(range(N)) * 2
        assert sorted(model.rows()[:N]) == list(range(N))
        assert all(len(batch) == 1 and batch[0].shape[1:] == (1,) for batch in model.batches)
        assert result.n_steps == 6
        assert {context.n_rows for context in model.contexts} == {N}
        assert {context.n_steps for context in model.contexts} == {6}

    @pytest.mark.parametrize(
        "data",
        [
            (table(), table() + 100),
            Rowwise(lambda row: (row, row + 100)),
            Rowwise(lambda row: {"labels": row + 100, "data": row}),
            DataLoader(TensorDataset(table(), table() + 100), batch_size=4, shuffle=True),
        ],
        ids=["tuple", "rows", "dictionaries", "loader"],
    )
    def test_labels_stay_with_their_rows(self, data):
        model, _ = run(data)
        assert [row + 100 for row in model.rows()] == model.rows(part=1)

    def test_floats_take_the_type_of_the_model_and_integers_keep_theirs(self):
        for dtype in (torch.float32, torch.float64):
            model, _ = run((table().half(), torch.arange(N)), Reader(dtype))
            assert {part.dtype for part in model.batches[0]} == {dtype, torch.int64}

    def test_read_only_arrays_are_copied_in_silence(self):
        array = table().numpy()
        array.flags.writeable = False
        run(array)
        run([array])

    @pytest.mark.parametrize(
        ("n_rows", "batch_size", "steps"), [(9, 4, 2), (10, 4, 3), (3, 2, 1), (1, 5, 1), (3, 1, 3)]
    )
    def test_steps_in_a_pass(self, n_rows, batch_size, steps):
        assert steps_per_epoch(n_rows, batch_size) == steps
        model, result = run(Rowwise(lambda row: row, n_rows), n_epochs=1, batch_size=batch_size)
        assert result.n_steps == len(model.batches) == steps

    def test_batch_normalisation_survives_any_number_of_rows_but_one(self):
        class Normalised(Reader):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm1d(1)

            def training_loss(self, batch, context):
                return LossResult(self.norm(batch[0]).sum() + self.w.sum())

        for n in range(2, 10):
            run((table(n),), Normalised(), batch_size=2)
            run(DataLoader(table(n), batch_size=2), Normalised())
            run(Reiterable(*[2] * (n // 2), 1), Normalised())


class TestIterables:
    def test_a_loader_gives_one_pass_an_epoch_in_its_own_order(self):
        model, result = run(DataLoader(table(), batch_size=3), batch_size=999)
        assert model.sizes() == [3, 3, 3] * 2  # the last row is alone
        assert model.rows() == list(range(9)) * 2
        assert result.n_steps == 6

    def test_its_shuffling_follows_the_seed_of_the_run(self):
        loader = DataLoader(table(), batch_size=3, shuffle=True)
        first, _ = run(loader)
        torch.rand(3)
        second, _ = run(loader)
        assert first.rows() == second.rows()
        assert first.rows()[:9] != first.rows()[9:]

    @pytest.mark.parametrize(
        "data",
        [
            [table()[:4], table()[4:]],
            [table().numpy()[:4], table().numpy()[4:]],
            [{"data": table()[:4]}, {"data": table()[4:]}],
            [[table()[:4]], (table()[4:],)],
        ],
        ids=["tensors", "arrays", "dictionaries", "sequences"],
    )
    def test_a_list_of_batches(self, data):
        model, _ = run(data)
        assert model.sizes() == [4, 6] * 2
        assert model.rows() == list(range(N)) * 2

    def test_single_rows_are_taken_where_there_is_nothing_else(self):
        assert run(Reiterable(1, 1))[0].sizes() == [1, 1] * 2
        assert run(Reiterable(3, 1))[0].sizes() == [3] * 2

    def test_a_length_makes_schedules_go_by_steps(self):
        config = {"schedule": "cosine", "learning_rate": 0.2}
        model, result = run(DataLoader(table(), batch_size=5), config=config)
        assert {context.n_steps for context in model.contexts} == {4}
        rates = [0.2 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in (1, 3)]
        assert [log["learning_rate"] for log in result.history] == pytest.approx(rates)

    def test_without_a_length_they_go_by_epochs(self):
        config = {"schedule": "cosine", "learning_rate": 0.2, "warmup_steps": 4}
        model, result = run(Reiterable(5, 5), n_epochs=4, config=config)
        rates = [
            0.2 * 0.5 * (1 + math.cos(math.pi * epoch / 4)) * warm
            for epoch, warm in zip(range(4), (0.5, 1, 1, 1), strict=True)
        ]
        assert [log["learning_rate"] for log in result.history] == pytest.approx(rates)
        # What models see of the run's length is a guess, never under what they have seen.
        assert all(context.step < context.n_steps for context in model.contexts)
        assert model.contexts[-1].n_steps == 8
        assert [context.n_rows for context in model.contexts] == [5, 10, 10, 10, 10, 10, 10, 10]

    @pytest.mark.parametrize("data", [DataLoader(table(), batch_size=2), Reiterable(2, 2, 2)])
    def test_max_steps_ends_a_pass_early(self, data):
        _, result = run(data, n_epochs=9, config={"max_steps": 4, "schedule": "cosine"})
        assert result.n_steps == 4
        assert result.n_epochs == len(result.history) < 9

    def test_a_generator_serves_one_epoch(self):
        assert run(iter(Reiterable(4, 4)), n_epochs=1)[0].sizes() == [4, 4]

    def test_and_is_refused_for_more_with_the_way_out(self):
        with pytest.raises(ValueError, match=r"data is a generator.*n_epochs is 2.*DataLoader"):
            run(iter(Reiterable(4, 4)))
        with pytest.raises(ValueError, match="validation_data is a generator"):
            run(table(), validation_data=iter(Reiterable(4, 4)))

    @pytest.mark.parametrize("empty", [[], Reiterable(), DataLoader([], batch_size=2)])
    def test_no_batch_at_all_is_an_error(self, empty):
        with pytest.raises(ValueError, match="data gave no batch"):
            run(empty)


class TestRefused:
    class Stream(IterableDataset):
        def __iter__(self):
            yield from table()

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (Stream(), r"data is a Stream.*DataLoader\(dataset"),
            ((table(3), table(4)), r"\[3, 4\] rows"),
            ((), "empty tuple"),
            ((table(0),), "no rows"),
            (3, "data is a int, expected a tuple of tensors"),
            ("rows", "data is a str"),
            ({"data": table()}, "data is a dict"),
            (["rows"], "holds <class 'str'>"),
            ([{"x": table()}], r"keys \['x'\], expected 'data'"),
            ((np.array(["a", "b"]),), "an array of <U1"),
            ((np.array([{}, None]),), "an array of object"),
        ],
    )
    def test_what_is_no_data(self, data, message):
        with pytest.raises((TypeError, ValueError), match=message):
            run(data)

    def test_a_stream_of_rows_serves_in_a_loader(self):
        model, _ = run(DataLoader(self.Stream(), batch_size=5))
        assert model.sizes() == [5, 5] * 2


class TestEvaluate:
    @pytest.mark.parametrize(
        "data",
        [
            (table(),),
            table().numpy(),
            Rowwise(lambda row: {"data": row}),
            DataLoader(table(), batch_size=3),
            Reiterable(7, 2, 1),
            iter([table()]),
        ],
        ids=["tuple", "array", "rows", "loader", "iterable", "once"],
    )
    def test_is_the_mean_over_rows_however_they_come(self, data):
        assert evaluate(Reader(), data, batch_size=4) == pytest.approx(4.5)

    @pytest.mark.parametrize("data", [DataLoader(table(), batch_size=3), Rowwise(lambda row: row)])
    def test_validation_takes_the_same(self, data):
        _, result = run((table(),), validation_data=data)
        model, _ = run((table(),), config={"n_epochs": 1})
        first = result.history[0]["validation_loss"]
        assert first == pytest.approx(4.5 + model.w.item(), abs=1e-5)
