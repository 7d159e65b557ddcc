"""A training run of images: how it begins, goes on and ends, and what it leaves in its folder."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from skvae._files import open_replacement
from skvae.cli import pictures
from skvae.cli.image_data import ImageSet, load_parts
from skvae.config import from_config, read_config, to_config
from skvae.embedder import VAEEmbedder
from skvae.models import MODELS
from skvae.models.zoo import is_conditional
from skvae.persistence import load, save
from skvae.training import Callback, Checkpoint

MODEL, CONFIG, RECORD, CHECKPOINT = "model.skvae", "config.json", "run.json", "checkpoint.pt"
LOSS_CURVE = "images/loss_curve.png"
RECONSTRUCTIONS = "images/reconstructions.png"
SAMPLES = "images/samples.png"
RESULTS = (MODEL, CONFIG, RECORD, LOSS_CURVE, RECONSTRUCTIONS, SAMPLES)

# What differs from the estimator's own defaults: found good on small images.
DEFAULTS = {
    "batch_size": 100,
    "learning_rate": 0.004,
    "weight_averaging": 0.999,
    "random_state": 0,
}
# The number of epochs, where nobody gives it, makes about so many steps.
N_STEPS, MIN_EPOCHS, MAX_EPOCHS = 2500, 5, 100
# Images of so few pixels, all colours counted, are too small for convolutions and for threads.
TINY = 256
# Epochs of less than a second would spend their time on checkpoints: at most so many are written.
MAX_CHECKPOINTS = 50


class Run:
    """A run and its folder.

    Parameters
    ----------
    folder : Path
        Where its files are, or will be.
    estimator : VAEEmbedder
        Not fitted.
    data : str or None
        Path of the images; None stands for the built-in digits.
    command : str
        The command line that began it.
    """

    def __init__(
        self, folder: Path, estimator: VAEEmbedder, data: str | None, command: str
    ) -> None:
        self.folder, self.estimator, self.data, self.command = folder, estimator, data, command
        self.train_set, self.held_out = load_parts(data)
        self.fingerprint = self.train_set.fingerprint()

    @classmethod
    def new(
        cls, folder: Path | None, params: Mapping[str, Any], data: str | None, command: str
    ) -> Run:
        """Return a run that is to begin; nothing is written yet."""
        params = {**DEFAULTS, **params}
        estimator = from_config(
            {
                "format": "skvae config",
                "format_version": 1,
                "estimator": "VAEEmbedder",
                "params": params,
            }
        )
        if folder is None:
            folder = Path("runs") / str(estimator.model)
        run = cls(folder, estimator, data and str(Path(data).resolve()), command)
        run._settle_defaults(params)
        return run

    def _settle_defaults(self, stated: Mapping[str, Any]) -> None:
        """Choose what nobody stated, and what depends on model and images."""
        estimator = self.estimator
        n_steps = -(-len(self.train_set) // estimator.batch_size)
        own = getattr(MODELS.get(estimator.model), "default_sampler", None)
        chosen = {
            "max_epochs": min(max(round(N_STEPS / n_steps), MIN_EPOCHS), MAX_EPOCHS),
            "n_components": 8 if self._is_tiny() else 16,
            "network": "mlp" if self._is_tiny() else "auto",
            # A mixture knows where the codes of images lie, and a normal prior only roughly.
            "sampler": "gaussian_mixture" if own == "normal" else "auto",
        }
        estimator.set_params(**{key: chosen[key] for key in chosen if key not in stated})

    def _is_tiny(self) -> bool:
        return math.prod(self.train_set.pixels.shape[1:]) <= TINY

    @classmethod
    def reopen(cls, folder: Path) -> Run:
        """Return the unfinished run of a folder.

        Raises
        ------
        ValueError
            There is none, or its images have changed.
        """
        if not (folder / CONFIG).exists() or not (folder / RECORD).exists():
            raise ValueError(f"{str(folder)!r} holds no run to go on with: begin without --resume.")
        record = read_record(folder)
        began_with = record["data"]
        run = cls(folder, from_config(folder / CONFIG), began_with["path"], record["command"])
        for key, now in run.fingerprint.items():
            if began_with[key] != now:
                raise ValueError(
                    f"{run.data!r} is not what the run began with: {key} was {began_with[key]}, "
                    f"and is {now}. Bring the images back, or start anew with --force."
                )
        return run

    @property
    def is_complete(self) -> bool:
        """Whether all has been written."""
        return (self.folder / MODEL).exists()

    def check_free(self) -> None:
        """Raise an error if the run would overwrite files."""
        there = [name for name in (*RESULTS, CHECKPOINT) if (self.folder / name).exists()]
        if CHECKPOINT in there:
            raise ValueError(
                f"{str(self.folder)!r} holds an unfinished run: --resume goes on with it, --force "
                "starts anew, -o takes another folder."
            )
        if there:
            raise ValueError(
                f"{str(self.folder)!r} holds {', '.join(there)} already: --force overwrites, -o "
                "takes another folder."
            )

    def begin(self) -> None:
        """Make the folder that of this run, with nothing of an earlier one."""
        for name in RESULTS:
            (self.folder / name).unlink(missing_ok=True)
        self._drop_checkpoints()
        self.folder.mkdir(parents=True, exist_ok=True)
        params = self.estimator.get_params(deep=False)
        to_config(VAEEmbedder(**{**params, "callbacks": None, "verbose": 0}), self.folder / CONFIG)
        self._write_record(None)

    def train(self, *, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
        """Train, draw and save; return the figures.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C; the message says how to go on.
        """
        start = time.perf_counter()
        checkpoint = self.folder / CHECKPOINT
        goes_on = resume and checkpoint.exists()
        every = -(-self.estimator.max_epochs // MAX_CHECKPOINTS)
        callbacks = [Checkpoint(checkpoint, every)]
        if not goes_on:
            callbacks.insert(0, _Begin(self))
        self.estimator.set_params(callbacks=callbacks, verbose=int(not quiet))
        with self._interruptible(), _threads(1 if self._is_tiny() else None):
            self.estimator.fit(
                self.train_set.pixels,
                self.train_set.labels,
                resume_from=checkpoint if goes_on else None,
            )
            self.estimator.set_params(callbacks=None, verbose=0)
            figures = {**self._draw(), "seconds": round(time.perf_counter() - start, 1)}
            self._write_record(figures)
            save(self.estimator, self.folder / MODEL)  # the last: with it the run is complete
        self._drop_checkpoints()
        return figures

    def _drop_checkpoints(self) -> None:
        """Remove the checkpoint, and what a killed process had written of one."""
        for file in (self.folder / CHECKPOINT, *self.folder.glob(f".{CHECKPOINT}.*")):
            file.unlink(missing_ok=True)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C say how to go on, also where early stopping would take it for an end."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "The fit was interrupted", UserWarning)
                yield
        except (KeyboardInterrupt, UserWarning) as interrupt:
            if isinstance(interrupt, UserWarning) and "was interrupted" not in str(interrupt):
                raise
            there = (self.folder / CHECKPOINT).exists()
            go_on = f"To go on: skvae image train -o {self.folder} --resume" if there else ""
            raise KeyboardInterrupt(go_on) from None

    def _write_record(self, figures: Mapping[str, Any] | None) -> None:
        record = {
            "command": self.command,
            "data": {"path": self.data, **self.fingerprint},
            "versions": {name: version(name) for name in ("skvae", "torch", "numpy")},
            "figures": figures,
        }
        with open_replacement(self.folder / RECORD) as file:
            file.write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))

    def _draw(self) -> dict[str, Any]:
        """Write the pictures; return the figures."""
        estimator, name = self.estimator, self.estimator.model
        again = reconstruct(estimator, self.held_out)
        shown = self.held_out.spread(pictures.N_COLUMNS)
        drawn = {
            LOSS_CURVE: pictures.draw_losses(estimator.history_),
            RECONSTRUCTIONS: pictures.draw_pairs(
                shown.pixels, reconstruct(estimator, shown), f"{name}: held-out images"
            ),
            SAMPLES: pictures.draw_grid(estimator.sample(64, random_state=0), f"{name}: samples"),
        }
        for file, figure in drawn.items():
            pictures.write_figure(figure, self.folder / file)
        return {
            "epochs": int(estimator.n_iter_),
            "loss": float(estimator.loss_curve_[-1]),
            "held_out_error": float(np.sqrt(np.mean((again - self.held_out.pixels) ** 2))),
        }


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let torch use so many threads; None leaves them to torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Begin(Callback):
    """Takes the folder once parameters and images have proved good, and not before."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_fit_begin(self, model: Any, n_epochs: int) -> None:
        """Clear the folder and write the run's beginning."""
        self.run.begin()


def read_params(path: str | None) -> dict[str, Any]:
    """Return the parameters that a configuration states."""
    if path is None:
        return {}
    name, params = read_config(path)
    if name != "VAEEmbedder":
        raise ValueError(f"{path!r} is a configuration of {name}, expected one of VAEEmbedder.")
    return params


def merged_params(
    stated: Mapping[str, Any], given: Mapping[str, Any], model_params: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parameters of a configuration, overridden by those of the command line."""
    params = {**stated, **given}
    if params.get("model") != stated.get("model"):
        params["model_params"] = None  # those of another model
    if model_params:
        params["model_params"] = {**(params.get("model_params") or {}), **model_params}
    return params


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a run wrote of itself."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {key: record[key] for key in ("command", "data")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not what skvae image train wrote: {error!r}.") from None


def load_model(path: Path) -> tuple[Path, VAEEmbedder]:
    """Load a model of images from its file or its folder; return the folder, too."""
    file = path / MODEL if path.is_dir() else path
    if not file.exists():
        raise FileNotFoundError(
            f"There is no model {str(file)!r}: skvae image train writes one when it is through."
        )
    estimator = load(file)
    if not isinstance(estimator, VAEEmbedder) or len(image_shape(estimator)) < 2:
        raise ValueError(
            f"{str(file)!r} holds a {type(estimator).__name__} of tables or flat rows, expected "
            "one of images, as skvae image train writes it."
        )
    return file.parent, estimator


def image_shape(estimator: VAEEmbedder) -> tuple[int, ...]:
    """Return the shape of the images that an estimator gives."""
    rows = estimator.sample(1, random_state=0)
    return () if isinstance(rows, pd.DataFrame) else rows.shape[1:]


def reconstruct(estimator: VAEEmbedder, images: ImageSet) -> np.ndarray:
    """Encode and decode images, with their labels if the model decodes by labels."""
    by_label = is_conditional(MODELS[estimator.model])
    return estimator.reconstruct(images.pixels, images.labels if by_label else None)
