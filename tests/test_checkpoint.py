"""Runs that stop and go on: bit for bit those that never stopped."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skvae.models import LossResult
from skvae.training import Callback, Checkpoint, EarlyStopping, TrainingConfig, train
from skvae.training.checkpoint import read_checkpoint, write_checkpoint

N_EPOCHS, N_BEFORE = 6, 3


class Model(nn.Module):
    """Has all that a run may have to remember: dropout, buffers, a player, noise of both kinds."""

    def __init__(self, width=5):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.3), nn.Linear(width, 3)
        )
        self.critic = nn.Linear(3, 1)

    def player_parameters(self):
        return {"critic": list(self.critic.parameters())}

    def training_loss(self, batch, context):
        x = batch[0]
        y = self.net(x + 0.1 * torch.randn(x.shape, generator=context.generator))
        error = (y - x).square().sum(1).mean() * (1 + context.step / context.n_steps)
        gap = self.critic(y).mean() - self.critic(x).mean()
        plays = context.step % 2 == 0
        return LossResult(
            error + 0.1 * gap, {"error": error.detach()}, {"critic": -gap if plays else None}
        )


def table(n=44, seed=3):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


CONFIG = {
    "n_epochs": N_EPOCHS,
    "batch_size": 8,
    "learning_rate": 0.05,
    "warmup_steps": 4,
    "beta_warmup_steps": 20,
    "average_decay": 0.9,
    "max_grad_norm": 1.0,
    "weight_decay": 0.1,
    "amsgrad": True,
    "n_iter_no_change": 4,
    "player_learning_rates": {"critic": 0.5},
}


def run(model=None, *, data=None, callbacks=(), resume_from=None, seed=0, **config):
    if model is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = Model()
    result = train(
        model,
        (table(),) if data is None else data,
        TrainingConfig(**{**CONFIG, **config}),
        generator=torch.Generator().manual_seed(seed),
        validation_data=(table(9, seed=4),),
        callbacks=callbacks,
        resume_from=resume_from,
    )
    return model, result


def stop_after(epoch):
    return lambda log: log["epoch"] == epoch


def without_seconds(history):
    return [{k: v for k, v in log.items() if k != "seconds"} for log in history]


def assert_same_run(one, other):
    (model, result), (other_model, other_result) = one, other
    for (name, a), b in zip(
        model.state_dict().items(), other_model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert without_seconds(result.history) == without_seconds(other_result.history)
    for name in ("n_epochs", "n_steps", "best_epoch", "n_skipped_steps"):
        assert getattr(result, name) == getattr(other_result, name), name


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.pt"


class TestResume:
    @pytest.mark.parametrize(
        "config",
        [
            {},
            {"n_iter_no_change": None},
            {"n_iter_no_change": None, "average_decay": None, "optimizer": "adam"},
            {"schedule": "constant", "max_steps": 27},
        ],
    )
    def test_goes_on_bit_for_bit(self, path, config):
        whole = run(**config)
        run(callbacks=[Checkpoint(path), stop_after(N_BEFORE)], **config)
        torch.rand(5)
        # The other seed would give another run, if the file did not have the generator.
        resumed = run(resume_from=path, seed=99, **config)
        assert_same_run(whole, resumed)
        seconds = [log["seconds"] for log in resumed[1].history]
        assert seconds == sorted(seconds)

    def test_of_a_loader_that_shuffles(self, path):
        data = DataLoader(TensorDataset(table()), batch_size=8, shuffle=True)
        whole = run(data=data)
        run(data=data, callbacks=[Checkpoint(path), stop_after(N_BEFORE)])
        assert_same_run(whole, run(data=data, resume_from=path))

    def test_of_batches_without_a_length(self, path):
        class Stream:
            def __iter__(self):
                yield from table().split(8)

        whole = run(data=Stream())
        run(data=Stream(), callbacks=[Checkpoint(path), stop_after(N_BEFORE)])
        assert_same_run(whole, run(data=Stream(), resume_from=path))

    def test_after_a_crash(self, path):
        def crash(log):
            if log["epoch"] == N_BEFORE + 1:
                raise RuntimeError

        whole = run()
        with pytest.raises(RuntimeError):
            run(callbacks=[Checkpoint(path), crash])
        assert len(read_checkpoint(path)["history"]) == N_BEFORE
        assert_same_run(whole, run(resume_from=path))

    def test_early_stopping_waits_no_longer_and_brings_back_the_best(self, path):
        config = {"n_epochs": 60, "n_iter_no_change": 2, "learning_rate": 0.3}
        whole = run(**config)
        best, last = whole[1].best_epoch, whole[1].n_epochs
        assert 1 < best < last < 60
        run(callbacks=[Checkpoint(path), stop_after(best + 1)], **config)
        assert_same_run(whole, run(resume_from=path, **config))

    def test_of_a_run_at_its_end_trains_no_more(self, path):
        whole = run(callbacks=[Checkpoint(path)])
        logs = []
        assert_same_run(whole, run(resume_from=path, callbacks=[logs.append]))
        assert logs == []

    def test_a_longer_budget(self, path):
        config = {"schedule": "constant", "n_iter_no_change": None}
        constant = Constant()  # knows nothing of the run's length
        whole = run(copy.deepcopy(constant), **config)
        run(copy.deepcopy(constant), callbacks=[Checkpoint(path)], n_epochs=2, **config)
        resumed = run(copy.deepcopy(constant), resume_from=path, **config)
        assert_same_run(whole, resumed)

    def test_skipped_steps_go_on_counting(self, path):
        run(Two(), callbacks=[Checkpoint(path), stop_after(2)])
        assert read_checkpoint(path)["n_skipped_steps"] == 4
        with pytest.raises(FloatingPointError, match="in 5 steps"):
            run(Two(), resume_from=path)

    def test_callbacks_hear_of_what_was_made(self, path):
        class Listener(Callback):
            heard = None

            def on_resume(self, history):
                self.heard = [log["epoch"] for log in history]

        listener = Listener()
        run(callbacks=[Checkpoint(path), stop_after(N_BEFORE), listener])
        assert listener.heard is None
        run(callbacks=[listener], resume_from=path)
        assert listener.heard == [1, 2, 3]

    def test_the_callback_that_stops_early_remembers(self, path):
        def stopping():
            return EarlyStopping("learning_rate", patience=4)  # falls after the warm-up only

        config = {"n_epochs": 30, "warmup_steps": 1000, "n_iter_no_change": None}
        whole = run(callbacks=[stopping()], **config)
        assert whole[1].n_epochs == 5
        run(callbacks=[stopping(), Checkpoint(path), stop_after(3)], **config)
        assert_same_run(whole, run(callbacks=[stopping()], resume_from=path, **config))


class Constant(Model):
    def training_loss(self, batch, context):
        context.n_steps, context.step = 1, 0
        return super().training_loss(batch, context)


class Two(Model):
    """Not finite in the first two steps of each epoch of five."""

    def training_loss(self, batch, context):
        result = super().training_loss(batch, context)
        if self.training and context.step % 6 < 2:
            result.objective = result.objective * math.nan
        return result


class TestFile:
    def test_it_is_written_every_few_epochs_and_at_the_end(self, path):
        written = []

        class Watch(Callback):
            def on_state(self, epoch, state):
                if path.exists():
                    written.append(len(read_checkpoint(path)["history"]))

        run(callbacks=[Checkpoint(path, every=4), Watch()], n_iter_no_change=None)
        assert written == [4, 4, 6]
        with pytest.raises(ValueError, match="every=0"):
            Checkpoint(path, every=0)

    def test_it_is_written_when_a_callback_ends_the_run(self, path):
        run(callbacks=[Checkpoint(path, every=4), stop_after(3)])
        assert len(read_checkpoint(path)["history"]) == 3
        assert_same_run(run(), run(resume_from=path))

    def test_it_is_written_when_patience_or_the_steps_end_the_run(self, path):
        for ends in ({"n_iter_no_change": 1, "tol": 1e9}, {"max_steps": 7}):
            path.unlink(missing_ok=True)
            _, result = run(callbacks=[Checkpoint(path, every=100)], **ends)
            assert result.n_epochs < N_EPOCHS
            assert len(read_checkpoint(path)["history"]) == result.n_epochs

    def test_a_folder_that_is_not_there_is_refused_before_the_first_epoch(self, tmp_path):
        seen = []
        missing = tmp_path / "missing" / "run.pt"
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
            run(callbacks=[Checkpoint(missing), lambda log: seen.append(log)])
        assert not seen

    def test_nothing_else_is_left_in_the_folder(self, path):
        run(callbacks=[Checkpoint(path)])
        assert [file.name for file in path.parent.iterdir()] == ["run.pt"]

    def test_a_failure_leaves_the_file_before_it(self, path, monkeypatch):
        write_checkpoint(path, {"step": 1})

        def fail(content, file):
            file.write(b"half")
            raise OSError("disk full")

        monkeypatch.setattr(torch, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            write_checkpoint(path, {"step": 2})
        assert read_checkpoint(path)["step"] == 1
        assert len(list(path.parent.iterdir())) == 1

    def test_to_write_it_changes_nothing_in_the_run(self, path):
        assert_same_run(run(), run(callbacks=[Checkpoint(path)]))

    def test_reading_runs_no_code(self, path, tmp_path):
        class Payload:
            def __reduce__(self):
                return (type(tmp_path).mkdir, (tmp_path / "ran",))

        torch.save({"format": "skvae checkpoint", "payload": Payload()}, path)
        with pytest.raises(ValueError, match="not a checkpoint"):
            run(resume_from=path)
        path.write_bytes(pickle.dumps(Payload()))
        with pytest.raises(ValueError, match="not a checkpoint"):
            run(resume_from=path)
        assert not (tmp_path / "ran").exists()

    def test_other_files_are_refused(self, path):
        with pytest.raises(FileNotFoundError):
            run(resume_from=path)
        path.write_text("nothing")
        with pytest.raises(ValueError, match="not a checkpoint"):
            run(resume_from=path)
        torch.save({"weights": torch.ones(2)}, path)
        with pytest.raises(ValueError, match="not a checkpoint"):
            run(resume_from=path)
        write_checkpoint(path, {"format_version": 9})
        with pytest.raises(ValueError, match=r"format version 9.*update"):
            run(resume_from=path)


class TestOtherRuns:
    class Renamed(Model):
        pass

    class OnePlayer(Model):
        def player_parameters(self):
            return {}

        def training_loss(self, batch, context):
            return LossResult(super().training_loss(batch, context).objective)

    OnePlayer.__qualname__ = "Model"

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"model": Model(width=7)}, r"net\.0\.weight is float32 of shape \(5, 3\).*\(7, 3\)"),
            ({"model": Model().double()}, r"net\.0\.weight is float32.*float64"),
            ({"model": Renamed()}, "class is Model in it and TestOtherRuns.Renamed here"),
            ({"model": OnePlayer(), "player_learning_rates": {}}, "players"),
            ({"learning_rate": 0.01}, r"config\.learning_rate is 0\.05 in it and 0\.01 here"),
            ({"average_decay": None}, r"config\.average_decay is 0\.9 in it and None"),
            ({"data": (table(45),)}, "number of rows in data is 44 in it and 45 here"),
        ],
    )
    def test_are_refused_by_the_name_of_the_difference(self, path, kwargs, message):
        run(callbacks=[Checkpoint(path), stop_after(1)])
        with pytest.raises(ValueError, match=message):
            run(resume_from=path, **kwargs)
