"""Every option is in the guide, in an example that runs."""

import argparse
import ast
import doctest
import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import skvae
from skvae import constraints, metrics, report
from skvae.cli import _parser, main
from skvae.datasets import load_adult
from skvae.samplers import SAMPLERS
from skvae.training import Checkpoint, ConsoleLog, EarlyStopping, ProgressBar

DOCS = Path(__file__).parents[1] / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not here")

# The pages that are the guide of an estimator: on them ``sample`` means its ``sample``.
GUIDES = {
    skvae.TVAESynthesizer: (
        *("getting_started.rst", "columns.rst", "tabular.rst", "conditions.rst"),
        *("constraints.rst", "growing.rst", "training.rst"),
    ),
    skvae.TVAEOverSampler: ("growing.rst",),
    skvae.tabular.TabularTransformer: ("tabular.rst",),
    skvae.VAEEmbedder: ("embedder.rst",),
    skvae.AEStetikClusterer: ("spatial.rst",),
}
CONSTRAINTS = [c for c in constraints.Constraint.__subclasses__() if c.__name__ in dir(constraints)]
METRICS = [
    metric
    for name, metric in inspect.getmembers(metrics, inspect.isfunction)
    if name in metrics.__all__ and not name.endswith("_scorer")
]
PAGES = {
    **dict.fromkeys(CONSTRAINTS, "constraints.rst"),
    **dict.fromkeys([*METRICS, metrics.SampleScorer], "metrics.rst"),
    skvae.evaluate: "report.rst",
    **dict.fromkeys([skvae.save, skvae.load], "getting_started.rst"),
    **dict.fromkeys([skvae.to_config, skvae.from_config], "configuration.rst"),
    **dict.fromkeys((cls for cls in SAMPLERS.values() if cls().get_params()), "embedder.rst"),
    **dict.fromkeys([Checkpoint, ConsoleLog, EarlyStopping, ProgressBar], "embedder.rst"),
}
DISPLAYS = [getattr(report, name) for name in report.__all__ if name.endswith("Display")]
# The same in each method of the clusterer: two that show them will do.
OF_SPOTS = {"coordinates", "morphology", "slide"}
# How a synthesizer talks to its transformer.
BETWEEN_FLOORS = {"encode", "encode_with_measure", "fit_encode", "decode"}


def read(page):
    return (DOCS / page).read_text(encoding="utf-8")


def examples(page):
    """Yield the examples of a page that are run and succeed."""
    for example in doctest.DocTestParser().get_examples(read(page)):
        if not example.options.get(doctest.SKIP) and example.exc_msg is None:
            yield example


def calls(pages):
    """Yield (name, what it is called on, the call) for the calls in the examples of pages."""
    for page in pages:
        for example in examples(page):
            for node in ast.walk(ast.parse(example.source)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    yield node.func.id, None, node
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    yield node.func.attr, getattr(node.func.value, "id", None), node


def not_shown(function, pages, called=None, of=None):
    """Return the parameters of a function that no example gives, by name or by position."""
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]
    by_position = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    called = called or function.__name__
    shown, is_called = set(), False
    for name, owner, call in calls(pages):
        keywords = {keyword.arg for keyword in call.keywords}
        if name == called and of in (None, owner):
            is_called = True
            shown |= keywords | set(by_position[: len(call.args)])
        elif inspect.isclass(function) and name in ("set_params", "from_preset"):
            shown |= keywords
    return [p.name for p in parameters if p.name not in shown] if is_called else ["the call itself"]


def methods(cls):
    """Return the names of the public methods that skvae gives a class."""
    return [
        name
        for name, method in inspect.getmembers(cls, callable)
        if not name.startswith("_")
        and name not in BETWEEN_FLOORS
        and getattr(method, "__module__", "").startswith("skvae.")
    ]


@pytest.mark.parametrize("cls", GUIDES)
def test_the_guide_shows_every_parameter_of_an_estimator(cls):
    assert not_shown(cls, GUIDES[cls]) == []


@pytest.mark.parametrize("cls", GUIDES)
def test_the_guide_shows_every_option_of_its_methods(cls):
    absent = {}
    for name in methods(cls):
        method = getattr(cls, name)
        absent[name] = set(not_shown(method, GUIDES[cls], called=name))
        absent[name] -= {"input_features"}  # of no effect, like y where it is None
        if not re.search(r"^ *y : (?!None)", method.__doc__, flags=re.MULTILINE):
            absent[name] -= {"y"}
    if cls is skvae.AEStetikClusterer:
        for name in set(absent) - {"fit", "fit_predict"}:
            absent[name] -= OF_SPOTS
    assert {name: found for name, found in absent.items() if found} == {}


@pytest.mark.parametrize("function", PAGES)
def test_the_guide_shows_every_option_of_a_function(function):
    assert not_shown(function, [PAGES[function]]) == []


@pytest.mark.parametrize("display", DISPLAYS)
def test_the_guide_shows_every_option_of_a_display(display):
    name = display.__name__
    absent = {
        method: not_shown(
            getattr(display, method),
            ["report.rst"],
            called=method,
            of=name if method.startswith("from_") else None,
        )
        for method in methods(display)
    }
    assert {method: found for method, found in absent.items() if found} == {}


def commands(page):
    """Yield the arguments of each command ``skvae`` in the console blocks of a page."""
    for block in re.findall(r"\.\. code-block:: console\n\n((?:   .*\n|\n)+)", read(page)):
        for line in re.findall(r"^ +\$ (.*)$", block, flags=re.MULTILINE):
            first, *arguments = shlex.split(line, comments=True)
            assert first == "skvae"
            yield arguments


def options(parser, under=()):
    """Yield (command, strings of an option) for each option of a parser and those under it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from options(inner, (*under, name))
        elif action.option_strings and not {"--help", "--version"} & set(action.option_strings):
            yield under, action.option_strings


def test_the_guide_shows_every_option_of_the_commands():
    shown = [*commands("command_line.rst"), *commands("images.rst")]
    absent = [
        " ".join(("skvae", *command, strings[-1]))
        for command, strings in options(_parser())
        if "--debug" not in strings
        and not any(
            tuple(words[: len(command)]) == command and set(words) & set(strings) for words in shown
        )
    ]
    assert absent == []


def write_idx(path, array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return tmp_path


@pytest.mark.filterwarnings("default")  # guesses are reported
def test_the_commands_of_tables_run(here, capsys):
    adult = load_adult()[["age", "education", "hours.per.week", "income"]]
    people = adult.head(600).assign(
        row=range(1, 601), email=[f"somebody{n}@mail.example" for n in range(600)]
    )
    people.head(400).to_csv("people.csv", index=False)
    people.tail(200).to_csv("unseen.csv", index=False)
    adult.head(200).to_csv("export.csv", index=False, sep=";")
    with open("export.csv", "a") as file:
        file.write("1;too;many;cells;here\n")
    skvae.to_config(skvae.TVAESynthesizer(max_epochs=2), "own.json")
    for arguments in commands("command_line.rst"):
        assert main(arguments) == 0, (arguments, capsys.readouterr().err)


@pytest.mark.slow
def test_the_commands_of_images_run(here, capsys):
    pytest.importorskip("matplotlib")
    from PIL import Image

    digits = load_digits()
    images = (digits.images[:120] * 15).astype(np.uint8)
    np.savez("x.npz", images=images)
    for folder in ("mnist", "digits", "photos"):
        Path(folder).mkdir()
    for folder in ("mnist", "digits"):
        write_idx(Path(folder, "train-images-idx3-ubyte"), images)
        write_idx(Path(folder, "train-labels-idx1-ubyte"), digits.target[:120])
    for number, image in enumerate(images[:40]):
        Image.fromarray(image).save(Path("photos", f"{number}.png"))
    for arguments in commands("images.rst"):
        if "train" in arguments and "--resume" not in arguments:
            arguments += ["--max-epochs", "1"]
        assert main(arguments) == 0, (arguments, capsys.readouterr().err)
