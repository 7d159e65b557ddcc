"""The callbacks that come with the package. The loop's calls of them are in test_training.py."""

import io
import math
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from skvae.models import LossResult
from skvae.training import (
    Callback,
    ConsoleLog,
    EarlyStopping,
    MLflow,
    ProgressBar,
    TensorBoard,
    TrainingConfig,
    train,
)


class Slope(nn.Module):
    """Goes down by 0.1 an epoch; scored on other rows, up."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 1))

    def training_loss(self, batch, context):
        w = self.w.sum()
        return LossResult(
            w if self.training else -w, {"slope": w.detach(), "big": 1e6 * w.detach()}
        )


def run(*callbacks, n_epochs=12, validate=False):
    config = TrainingConfig(
        n_epochs, batch_size=4, learning_rate=0.1, schedule="constant", warmup_steps=0
    )
    return train(
        Slope(),
        (torch.ones(4, 1),),
        config,
        validation_data=(torch.ones(2, 1),) if validate else None,
        callbacks=callbacks,
    )


class TestConsoleLog:
    def test_a_line_an_epoch_with_all_terms_in_columns(self):
        stream = io.StringIO()
        result = run(ConsoleLog(stream), validate=True)
        lines = stream.getvalue().splitlines()
        assert len(lines) == 12
        assert lines[0].startswith("epoch  1/12  loss ")
        assert lines[11].startswith("epoch 12/12  loss ")
        for name, value in result.history[-1].items():
            if name != "epoch":
                assert f"{name} {value:>10.5g}" in lines[-1]
            # Aligned: a name stands at one place in all lines.
            assert len({line.index(f"{name} ") for line in lines}) == 1

    def test_goes_to_standard_output(self, capsys):
        run(ConsoleLog(), n_epochs=2)
        assert capsys.readouterr().out.count("\n") == 2


class TestEarlyStopping:
    def test_ends_the_fit_and_keeps_the_last_weights(self):
        result = run(EarlyStopping(patience=3), validate=True)  # is worse from the second epoch on
        assert result.n_epochs == 4
        assert result.best_epoch is None

    def test_any_column(self):
        assert run(EarlyStopping("slope", patience=3)).n_epochs == 12
        assert run(EarlyStopping("slope", patience=3, mode="max")).n_epochs == 4
        assert run(EarlyStopping("learning_rate", patience=5)).n_epochs == 6

    def test_gains_of_the_least_size_only(self):
        # Three epochs gain 0.3, two 0.2.
        assert run(EarlyStopping("loss", patience=3, min_delta=0.25)).n_epochs == 12
        assert run(EarlyStopping("loss", patience=2, min_delta=0.25)).n_epochs == 3

    def test_remembers_the_best(self):
        stopping = EarlyStopping("loss", patience=3)
        run(stopping)
        assert stopping.best_epoch == 12
        assert stopping.best == pytest.approx(-1.1)

    def test_serves_a_second_fit(self):
        stopping = EarlyStopping(patience=3)
        for _ in range(2):
            assert run(stopping, validate=True).n_epochs == 4

    def test_values_that_are_no_number_are_no_gain(self):
        stopping = EarlyStopping("slope", patience=3)
        logs = [{"slope": 1.0, "loss": 1.0}, {"slope": math.nan, "loss": 1.0}, {"loss": math.nan}]
        logs = [{"epoch": epoch, **log} for epoch, log in enumerate([*logs, logs[1]], start=1)]
        assert [stopping.on_epoch_end(log) for log in logs] == [False, False, False, True]

    def test_a_column_that_is_not_there_is_named_with_those_that_are(self):
        with pytest.raises(ValueError, match=r"monitor='validation_loss'.*'loss'.*'slope'"):
            run(EarlyStopping())

    @pytest.mark.parametrize("wrong", [{"mode": "low"}, {"patience": 0}])
    def test_wrong_parameters_are_refused(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EarlyStopping(**wrong)


@pytest.fixture
def tensorboard(monkeypatch):
    """Put a writer that remembers in the place of torch's."""
    module = types.ModuleType("torch.utils.tensorboard")
    module.writers = []

    class SummaryWriter:
        def __init__(self, log_dir):
            self.log_dir, self.scalars, self.closed = log_dir, [], False
            module.writers.append(self)

        def add_scalar(self, name, value, step):
            assert not self.closed
            self.scalars.append((name, value, step))

        def close(self):
            self.closed = True

    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return module


@pytest.fixture
def mlflow(monkeypatch):
    """Put a small stand-in for MLflow's fluent interface in its place."""
    module = types.ModuleType("mlflow")
    module.active, module.calls, module.experiments = None, [], {}

    def start_run(**kwargs):
        module.calls.append(("start", kwargs))
        module.active = object()

    def end_run():
        module.calls.append("end")
        module.active = None

    def create_experiment(name):
        module.experiments[name] = types.SimpleNamespace(experiment_id=f"id of {name}")
        return f"id of {name}"

    module.active_run = lambda: module.active
    module.start_run, module.end_run = start_run, end_run
    module.create_experiment = create_experiment
    module.get_experiment_by_name = lambda name: module.experiments.get(name)
    module.log_metrics = lambda metrics, step: module.calls.append((step, metrics))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def numbers(log):
    return {name: value for name, value in log.items() if name != "epoch"}


class TestTensorBoard:
    def test_gets_each_number_of_each_epoch(self, tensorboard, tmp_path):
        result = run(TensorBoard(tmp_path), n_epochs=3, validate=True)
        (writer,) = tensorboard.writers
        assert writer.log_dir == str(tmp_path)
        assert writer.closed
        assert writer.scalars == [
            (name, value, log["epoch"])
            for log in result.history
            for name, value in numbers(log).items()
        ]

    def test_an_error_closes_it(self, tensorboard, tmp_path):
        def fail(log):
            raise RuntimeError

        with pytest.raises(RuntimeError):
            run(TensorBoard(tmp_path), fail)
        assert tensorboard.writers[0].closed


class TestMLflow:
    def test_gets_each_number_in_a_run_of_its_own(self, mlflow):
        result = run(MLflow(run_name="first"), n_epochs=2)
        start, *metrics, end = mlflow.calls
        assert start == ("start", {"experiment_id": None, "run_name": "first"})
        assert metrics == [(log["epoch"], numbers(log)) for log in result.history]
        assert end == "end"

    def test_the_experiment_is_made_once(self, mlflow):
        for _ in range(2):
            run(MLflow(experiment="digits"), n_epochs=1)
        starts = [call[1]["experiment_id"] for call in mlflow.calls if call[0] == "start"]
        assert starts == ["id of digits"] * 2
        assert list(mlflow.experiments) == ["digits"]

    def test_a_run_of_the_users_is_used_and_left_open(self, mlflow):
        mlflow.start_run()
        run(MLflow(), n_epochs=1)
        assert mlflow.active is not None
        assert [call[0] for call in mlflow.calls] == ["start", 1]


class TestMissingPackages:
    @pytest.mark.parametrize(
        ("callback", "module", "package"),
        [(TensorBoard("logs"), "tensorboard", "tensorboard"), (MLflow(), "mlflow", "mlflow")],
    )
    def test_are_named_with_the_command(self, monkeypatch, callback, module, package):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
        with pytest.raises(ImportError, match=f"pip install {package}"):
            run(ProgressBar(), callback)

    def test_nothing_is_imported_before_it_is_used(self):
        code = (
            "import sys; from skvae.training import MLflow, TensorBoard; "
            "MLflow(); TensorBoard('x'); "
            "sys.exit(any(name in sys.modules for name in ('mlflow', 'tensorboard')))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


def test_history_without_validation_has_no_such_column():
    (log,) = run(n_epochs=1).history
    assert not any(name.startswith("validation") for name in log)
    (log,) = run(n_epochs=1, validate=True).history
    assert [name for name in log if name.startswith("validation")] == [
        "validation_loss",
        "validation_slope",
        "validation_big",
    ]
    assert np.isfinite(list(log.values())).all()


def test_time_that_is_up_before_the_first_step_still_leaves_a_step_that_trains():
    class Late(Callback):
        def progress(self):
            return 1.0

    model = Slope()
    config = TrainingConfig(n_epochs=3, batch_size=4, warmup_steps=0)
    result = train(model, (torch.zeros(16, 1),), config, callbacks=[Late()])
    assert result.n_steps == 1
    assert result.history[-1]["learning_rate"] > 0
    assert model.w.item() < 0
