"""The floors of the house, checked by walking the imports.

The package is built in rooms: the modules and sub-packages directly under ``skvae/``. Each room
stands on a floor. The rule, for every import statement wherever it stands (at the top of a file,
inside a function, under ``if TYPE_CHECKING``):

- a module may import from its own room and from rooms on floors strictly below;
- rooms on one floor do not know each other, but for the pairs in ``NEIGHBOURS``, of which one may
  know the other and not both: rooms never import each other in a circle;
- the rooms apart stand on the ground: every floor may use them, and they use nothing of skvae;
- nobody inside imports the front door, ``skvae/__init__.py``, which looks down on everything.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import skvae

PACKAGE = Path(skvae.__file__).parent

FRONT_DOOR = "skvae"
FLOORS = {
    # apart
    "datasets": 0,
    "metrics": 0,
    "_files": 0,
    "_random": 0,
    "_warnings": 0,
    # the torch core
    "models": 1,
    "training": 1,
    # data to and from tensors
    "rows": 2,
    "samplers": 2,
    "spatial": 2,
    "streams": 2,
    "tabular": 2,
    # what the doors share
    "_clustering": 3,
    "_embedding": 3,
    "_estimator": 3,
    "_synthesis": 3,
    "config": 3,
    "constraints": 3,
    "persistence": 3,
    # the doors
    "clusterer": 4,
    "embedder": 4,
    "synthesizer": 4,
    # on a door
    "oversampler": 5,
    # reporting
    "cli": 6,
    "__main__": 7,
    "report": 5,
    FRONT_DOOR: 6,
}
NEIGHBOURS = [
    {"models", "training"},
    {"_synthesis", "constraints"},  # what a door does about them
    {"_estimator", "config"},  # presets are configurations
    {"config", "persistence"},  # one table of estimators
]


def imported_modules(file, package):
    """Yield (line, dotted name) of every module, or name in a module, that a file imports."""
    module = ".".join((package.name, *file.relative_to(package).with_suffix("").parts))
    # A relative import starts from the package the file is in.
    here = module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), filename=str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"


def room_of_file(file, package):
    first = file.relative_to(package).parts[0].removesuffix(".py")
    return FRONT_DOOR if first == "__init__" else first


def room_of_import(name, package):
    """Return the room a dotted name belongs to, None if it is not ours."""
    parts = name.split(".")
    if parts[0] != package.name:
        return None
    room = parts[1] if len(parts) > 1 else ""
    is_room = (package / room).is_dir() or (package / f"{room}.py").is_file()
    # `from skvae import X` asks the front door, unless X is itself a room.
    return room if room and is_room else FRONT_DOOR


def room_imports(package):
    """Yield (place, room, imported room) of every import from one room into another."""
    for file in sorted(package.rglob("*.py")):
        room = room_of_file(file, package)
        for line, name in imported_modules(file, package):
            target = room_of_import(name, package)
            if target not in (None, room):
                yield f"{file.relative_to(package.parent)}:{line}", room, target


def breaches(package):
    """List, in words, what in a package goes against the rule of the floors."""
    found = []
    graph = {}
    for file in sorted(package.rglob("*.py")):
        room = room_of_file(file, package)
        if room not in FLOORS:
            found.append(f"{file.relative_to(package.parent)}: room {room!r} stands on no floor")
    for place, room, target in room_imports(package):
        if room not in FLOORS or target not in FLOORS:
            continue
        graph.setdefault(room, set()).add(target)
        if FLOORS[target] >= FLOORS[room] and {room, target} not in NEIGHBOURS:
            found.append(
                f"{place}: {room!r} (floor {FLOORS[room]}) imports "
                f"{target!r} (floor {FLOORS[target]})"
            )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("circle of imports: " + " <- ".join(error.args[1]))
    return found


def files_importing(library, package):
    return sorted(
        {
            file.relative_to(package).as_posix()
            for file in package.rglob("*.py")
            for _, name in imported_modules(file, package)
            if name.split(".")[0] == library
        }
    )


def test_no_import_goes_up_a_floor_or_round_in_a_circle():
    assert breaches(PACKAGE) == []


@pytest.mark.parametrize("room", [room for room, floor in FLOORS.items() if floor == 0])
def test_the_rooms_apart_use_nothing_of_skvae(room):
    assert [place for place, source, _ in room_imports(PACKAGE) if source == room] == []


def test_rdt_is_imported_in_exactly_one_module():
    # Its licence is not a free one: what depends on it must stay easy to see, and to replace.
    assert len(files_importing("rdt", PACKAGE)) == 1


def test_metrics_and_datasets_name_no_torch():
    users = files_importing("torch", PACKAGE)
    assert [file for file in users if file.startswith(("metrics", "datasets"))] == []


@pytest.mark.parametrize("module", ["skvae", "skvae.datasets", "skvae.metrics"])
def test_importing_it_leaves_torch_out(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", skvae.__all__)
def test_every_public_name_is_there(name):
    assert getattr(skvae, name) is not None
    assert name in dir(skvae)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'TVAESynthesiser'"):
        _ = skvae.TVAESynthesiser


@pytest.fixture
def house(tmp_path):
    """Return a function that writes a small package and lists its breaches."""

    def build(sources):
        package = tmp_path / "skvae"
        for name, source in {"__init__.py": "", **sources}.items():
            file = package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        return breaches(package)

    return build


def test_the_checker_lets_a_sound_house_pass(house):
    sources = {
        "__init__.py": "from skvae.synthesizer import TVAESynthesizer",
        "synthesizer.py": "import torch\nfrom skvae import tabular\nfrom .models.core import VAE",
        "tabular/__init__.py": "from . import schema\nfrom skvae.datasets import load_adult",
        "tabular/schema.py": "import pandas",
        "models/core.py": "from ..training import loop",
        "training/loop.py": "",
        "datasets.py": "",
    }
    assert house(sources) == []


@pytest.mark.parametrize(
    ("source", "culprit"),
    [
        ("import skvae.synthesizer", "synthesizer"),
        ("from skvae.synthesizer import TVAESynthesizer", "synthesizer"),
        ("from skvae import synthesizer", "synthesizer"),
        ("from .. import synthesizer", "synthesizer"),
        ("from ..synthesizer import TVAESynthesizer", "synthesizer"),
        ("def fit():\n    from skvae import synthesizer", "synthesizer"),
        ("if TYPE_CHECKING:\n    from ..synthesizer import TVAESynthesizer", "synthesizer"),
        ("from skvae.samplers import GaussianMixtureSampler", "samplers"),
        ("import skvae", "skvae"),
        ("from skvae import TVAESynthesizer", "skvae"),
    ],
)
def test_the_checker_flags_a_planted_breach(house, source, culprit):
    found = house({"tabular/schema.py": source, "synthesizer.py": "", "samplers.py": ""})
    assert len(found) == 1
    assert found[0].startswith("skvae/tabular/schema.py:")
    assert f"imports {culprit!r}" in found[0]


def test_the_checker_flags_a_circle_of_neighbours(house):
    found = house(
        {"models/core.py": "from .. import training", "training.py": "from . import models"}
    )
    assert len(found) == 1
    assert found[0].startswith("circle of imports: ")


def test_the_checker_flags_a_room_it_does_not_know(house):
    assert house({"attic.py": ""}) == ["skvae/attic.py: room 'attic' stands on no floor"]


def test_the_checker_flags_a_room_apart_that_leans_on_the_house(house):
    found = house({"metrics/shapes.py": "from skvae.tabular import schema", "tabular.py": ""})
    assert len(found) == 1
    assert "'metrics' (floor 0) imports 'tabular' (floor 2)" in found[0]
