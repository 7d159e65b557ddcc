"""``skvae image``: train on images, sample, reconstruct, interpolate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from skvae.cli import pictures
from skvae.cli.arguments import add_command, key_and_value, positive, seed, whole

# The commands import torch, which takes seconds, only when they run: --help is quick.

TRAIN_EXAMPLES = """\
examples:
  skvae image train
      the built-in digits, to runs/vae, in some ten seconds
  skvae image train mnist/ -o runs/mnist
      a folder with MNIST's idx files
  skvae image train photos/ --n-components 32
      a folder of PNG or JPEG pictures of one size; subfolders are labels
  skvae image train x.npz --model beta --param beta=4
      images of an npz file, by another model
  skvae image train -o runs/mnist --resume
      after Ctrl-C, or worse: goes on, bit for bit as if nothing had happened
  skvae image train mnist/ --config runs/mnist/config.json -o runs/again
      the same run once more: the same weights

written to the output folder:
  model.skvae     the fitted model; in Python, skvae.load gives a VAEEmbedder
  config.json     all parameters, the seed too, for --config
  run.json        the command, the data, versions and figures
  images/         loss_curve.png, reconstructions.png, samples.png
  checkpoint.pt   only until the run is complete

Is the machine busy? OMP_NUM_THREADS=1 skvae image train ... may be much faster.
"""
MODEL_HELP = (
    "vae (the default), ae, beta, beta_tc, factor, iwae, vamp, wae_mmd, info_mmd, rae_gp, aae, "
    "vae_gan, spherical, conditional, and more: skvae.models.MODELS"
)
DATA_HELP = (
    "an idx file (.gz or not) or a folder of them, an .npz or .npy file, or a folder of PNG or "
    "JPEG pictures"
)
ESTIMATOR_OPTIONS = (
    "model",
    "n_components",
    "likelihood",
    "network",
    "sampler",
    "max_epochs",
    "batch_size",
    "learning_rate",
    "early_stopping",
    "random_state",
    "device",
)


def register(commands: Any) -> None:
    """Add ``image`` and the commands under it."""
    parser = commands.add_parser(
        "image",
        help="train on images, sample, reconstruct, interpolate",
        description="Variational autoencoders of images. With no data at hand they learn the "
        "handwritten digits that scikit-learn brings.",
    )
    under = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _register_train(under)
    _register_sample(under)
    _register_reconstruct(under)
    _register_interpolate(under)


def train(arguments: argparse.Namespace) -> None:
    """Train, or go on training, and leave model, parameters and pictures in a folder."""
    pictures.require_matplotlib()
    given = {name: getattr(arguments, name) for name in ESTIMATOR_OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    others = (given, arguments.param, arguments.config, arguments.data, arguments.force)
    if arguments.resume and (any(others) or arguments.output is None):
        arguments.usage_error("--resume takes -o, the folder, and goes on with the run as it began")
    from skvae.cli.image_run import RESULTS, Run, merged_params, read_params

    if arguments.resume:
        run = Run.reopen(arguments.output)
        if run.is_complete:
            print(f"{run.folder} is complete: there is nothing to go on with.")
            return
    else:
        params = merged_params(read_params(arguments.config), given, dict(arguments.param))
        run = Run.new(arguments.output, params, arguments.data, arguments.command_line)
        if not arguments.force:
            run.check_free()
    figures = run.train(resume=arguments.resume, quiet=arguments.quiet)
    print(
        f"{figures['epochs']} epochs in {figures['seconds']:.0f} s. Loss: {figures['loss']:.2f} "
        f"nats per image. Error of held-out pixels: {figures['held_out_error']:.3f}, where black "
        "and white are 1 apart."
    )
    print("\n".join(str(run.folder / name) for name in RESULTS))


def sample(arguments: argparse.Namespace) -> None:
    """Draw new images."""
    _, estimator = _load(arguments)
    label = _class_of(estimator, arguments.label)
    images = estimator.sample(arguments.n, y=label, random_state=arguments.seed)
    of = "samples" if label is None else f"samples of {arguments.label}"
    figure = pictures.draw_grid(images, f"{estimator.model}: {of}, seed {arguments.seed}")
    _write(figure, arguments)


def reconstruct(arguments: argparse.Namespace) -> None:
    """Encode images and decode them again."""
    folder, estimator = _load(arguments)
    from skvae.cli.image_run import reconstruct

    images = _images(arguments, folder, estimator).spread(arguments.n)
    again = reconstruct(estimator, images)
    _write(
        pictures.draw_pairs(images.pixels, again, f"{estimator.model}: reconstructions"), arguments
    )


def interpolate(arguments: argparse.Namespace) -> None:
    """Decode the way between the codes of images."""
    folder, estimator = _load(arguments)
    images = _images(arguments, folder, estimator).spread(2 * arguments.n).pixels
    n_ways = len(images) // 2
    if not n_ways:
        raise ValueError("There is one image, and a way goes from one to another.")
    ways = estimator.interpolate(images[:n_ways], images[n_ways:][:n_ways], arguments.steps)
    title = f"{estimator.model}: from one image to another, both decoded"
    _write(pictures.draw_ways(ways, title), arguments)


def _load(arguments: argparse.Namespace) -> tuple[Path, Any]:
    """Check what can be checked at once, then load the model; return its folder, too."""
    pictures.require_matplotlib()
    if arguments.output.exists() and not arguments.force:
        raise ValueError(
            f"{str(arguments.output)!r} is there already: --force overwrites, -o takes another "
            "name."
        )
    pictures.check_format(arguments.output)
    from skvae.cli.image_run import load_model

    return load_model(arguments.model)


def _images(arguments: argparse.Namespace, folder: Path, estimator: Any) -> Any:
    """Return the images of the command line, or those that training held out."""
    from skvae.cli.image_data import load_images, load_parts
    from skvae.cli.image_run import RECORD, image_shape, read_record

    if arguments.data is not None:
        images = load_images(arguments.data)
    elif (folder / RECORD).exists():
        _, images = load_parts(read_record(folder)["data"]["path"])
    else:
        raise ValueError(f"{str(folder)!r} has no {RECORD} that tells the images: name them, DATA.")
    found, expected = images.pixels.shape[1:], image_shape(estimator)
    if found != expected:
        raise ValueError(
            f"The images have shape {found}, but the model was trained on {expected}: both are "
            "([channels,] height, width)."
        )
    return images


def _class_of(estimator: Any, label: str | None) -> Any:
    """Return the class that a label on the command line stands for."""
    if label is None:
        return None
    classes = getattr(estimator, "classes_", ())
    for known in classes:
        if str(known) == label:
            return known
    raise ValueError(
        f"--label {label}: the model knows the labels {[str(known) for known in classes]}."
        if len(classes)
        else f"--label {label}: the model {estimator.model!r} knows no labels; one trained "
        "with --model conditional, on images with labels, does."
    )


def _write(figure: Any, arguments: argparse.Namespace) -> None:
    pictures.write_figure(figure, arguments.output)
    print(arguments.output)


def _register_train(under: Any) -> None:
    parser = add_command(under, "train", train, TRAIN_EXAMPLES)
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help=f"{DATA_HELP}; by default the built-in digits"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="default: runs/ and the model's name"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an earlier run")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    model = parser.add_argument_group("the model")
    model.add_argument("--model", help=MODEL_HELP)
    model.add_argument(
        "--param",
        action="append",
        type=key_and_value,
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the model's own, such as beta=4; may be repeated",
    )
    model.add_argument(
        "--n-components",
        type=positive,
        metavar="N",
        help="size of the latent; default: 16, and 8 for tiny images",
    )
    model.add_argument(
        "--network", help="mlp, conv or resnet; default: conv, and mlp for tiny images"
    )
    model.add_argument(
        "--likelihood",
        help="gaussian, gaussian_per_feature, gaussian_unit, laplace or bernoulli; default: "
        "bernoulli for images of zeros and ones, gaussian for others",
    )
    model.add_argument(
        "--sampler",
        help="normal, gaussian_mixture, kde, maf, ...; default: gaussian_mixture, or the model's "
        "own where its prior is not normal",
    )
    fit = parser.add_argument_group("the training")
    fit.add_argument(
        "--max-epochs",
        type=positive,
        metavar="N",
        help="passes over the images; default: 5 to 100, as many as make 2,500 steps",
    )
    fit.add_argument("--batch-size", type=positive, metavar="N", help="default: 100")
    fit.add_argument("--learning-rate", type=float, metavar="RATE", help="default: 0.004")
    fit.add_argument(
        "--early-stopping",
        action="store_true",
        default=None,
        help="stop when the loss on images held out falls no more, and draw it",
    )
    fit.add_argument("--seed", dest="random_state", type=seed, metavar="N", help="default: 0")
    fit.add_argument("--device", help="cpu, cuda or mps; default: a GPU where there is one")
    fit.add_argument(
        "--config",
        metavar="FILE",
        help="take all parameters from a config.json, but for those given as options",
    )


def _register_sample(under: Any) -> None:
    examples = """\
examples:
  skvae image sample runs/mnist
  skvae image sample runs/mnist -n 100 --seed 7 -o images/hundred.png
"""
    parser = add_command(under, "sample", sample, examples)
    _add_model(parser, "images/samples.png")
    parser.add_argument("-n", type=positive, default=64, metavar="N", help="images; default: 64")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument("--label", help="of conditional models: draw images of this label")


def _register_reconstruct(under: Any) -> None:
    examples = """\
examples:
  skvae image reconstruct runs/mnist
  skvae image reconstruct runs/mnist photos/ -n 20 -o images/photos.png
"""
    parser = add_command(under, "reconstruct", reconstruct, examples)
    _add_model(parser, "images/reconstructions.png")
    _add_data(parser)
    parser.add_argument("-n", type=positive, default=10, metavar="N", help="images; default: 10")


def _register_interpolate(under: Any) -> None:
    examples = """\
examples:
  skvae image interpolate runs/mnist
  skvae image interpolate runs/mnist -n 8 --steps 12 -o images/ways.png
"""
    parser = add_command(under, "interpolate", interpolate, examples)
    _add_model(parser, "images/interpolations.png")
    _add_data(parser)
    parser.add_argument("-n", type=positive, default=5, metavar="N", help="ways; default: 5")
    parser.add_argument(
        "--steps", type=_steps, default=10, metavar="N", help="images on a way; default: 10"
    )


def _add_model(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="the folder that train wrote, or its model.skvae"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(output),
        metavar="FILE",
        help=f"default: {output}; its ending chooses the format",
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help=f"{DATA_HELP}; by default the images that training held out",
    )


def _steps(text: str) -> int:
    return whole(text, 2)
