"""The documentation says what the code does, and its examples run."""

import doctest
import re
from pathlib import Path

import pytest

from skvae.models import LIKELIHOODS, MODELS, hyper_parameters, make_model
from skvae.samplers import SAMPLERS

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not here")


def read(page):
    return (DOCS / page).read_text(encoding="utf-8")


def rows(text):
    """Return the cells of each row of the list tables in a text."""
    for row in re.split(r"^   \* - ", text, flags=re.MULTILINE)[1:]:
        row = re.split(r"\n(?=\S)", row)[0]
        cells = re.split(r"^     -(?: |$)", row, flags=re.MULTILINE)
        yield [" ".join(cell.split()) for cell in cells]


def named_rows(page, names):
    """Return the rows whose first cell is one of the names, as a string is written."""
    found = {cells[0].strip("`").strip('"'): cells for cells in rows(read(page))}
    return {name: found[name] for name in names if name in found}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("embedder.rst", marks=pytest.mark.slow),
        "models.rst",
        "constraints.rst",
        "growing.rst",
        "coming_from_pyautoencoder.rst",
    ],
)
def test_examples_run(page):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(str(DOCS / page), module_relative=False, optionflags=flags)
    assert result.attempted > 10
    assert result.failed == 0


class TestTheZoo:
    @pytest.mark.parametrize("name", MODELS)
    def test_the_table_tells_class_parameters_bound_and_sampler(self, name):
        _, cls, _, params, bound, sampler = named_rows("models.rst", MODELS)[name]
        model = make_model(name, (4,), 2, n_classes=2)
        assert f".{MODELS[name].__name__}`" in cls
        stated = dict(entry.split("=") for entry in re.findall(r"``([^`]+=[^`]+)``", params))
        defaults = hyper_parameters(MODELS[name])
        assert stated == {key: repr(value).replace("'", '"') for key, value in defaults.items()}
        assert bound == ("yes" if model.has_density else "no")
        assert sampler == f'``"{model.default_sampler}"``'

    @pytest.mark.parametrize("name", MODELS)
    def test_the_readme_lists_each_model_under_its_class(self, name):
        line = rf'^\| `{MODELS[name].__name__}` \|.*\| `"{name}"` \|$'
        assert re.search(line, README.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("registry", "extra"), [(SAMPLERS, set()), (LIKELIHOODS, {"auto"})])
def test_samplers_and_likelihoods_are_in_the_guide(registry, extra):
    assert set(named_rows("embedder.rst", {*registry, *extra})) == {*registry, *extra}


def test_the_guide_names_the_class_of_each_sampler():
    for name, cells in named_rows("embedder.rst", SAMPLERS).items():
        assert f"``{SAMPLERS[name].__name__}``" in cells[1]


class TestComingFromPythae:
    """The mapping of its models and samplers, in a section each."""

    @staticmethod
    def mapping(section):
        text = re.split(rf"^{section}\n-+$", read("coming_from_pythae.rst"), flags=re.MULTILINE)[1]
        text = re.split(r"^\w[\w ]*\n-+$", text, flags=re.MULTILINE)[0]
        return [[theirs, *cells] for theirs, *cells in rows(text) if theirs != "pythae"]

    @pytest.mark.parametrize(
        ("section", "registry", "n_theirs", "not_theirs"),
        [
            ("Models", MODELS, 26, {"conditional", "denoising_ae", "ada_gvae"}),
            ("Samplers", SAMPLERS, 10, {"kde"}),
        ],
    )
    def test_all_that_it_has_is_here(self, section, registry, n_theirs, not_theirs):
        mapping = self.mapping(section)
        ours = [re.search(r'"(\w+)"', cells[1]).group(1) for cells in mapping]
        assert len({cells[0] for cells in mapping}) == len(mapping) == n_theirs
        assert set(ours) == set(registry) - not_theirs

    def test_the_parameters_of_models_exist(self):
        for theirs, model, params in self.mapping("Models"):
            known = hyper_parameters(MODELS[re.search(r'"(\w+)"', model).group(1)])
            ours = re.findall(r": ``(\w+)``", params)
            assert set(ours) <= {*known, "beta_warmup"}, theirs

    def test_the_parameters_of_samplers_exist(self):
        for theirs, sampler, params in self.mapping("Samplers"):
            known = SAMPLERS[sampler.strip('`"')]().get_params()
            assert set(re.findall(r": ``(\w+)``", params)) <= set(known), theirs


@pytest.mark.slow
def test_the_examples_of_embeddings_in_the_readme_run():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    text = README.read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (section,) = (part for part in section if part.startswith("Embeddings"))
    names = {}
    for block in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
        exec(block, names)
    assert names["Z"].shape == (len(names["X"]), 8)
    assert names["new"].shape == (10, 64)
