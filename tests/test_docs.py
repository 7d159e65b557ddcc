"""The documentation says what the code does, and its examples run."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skvae import AEStetikClusterer
from skvae.models import LIKELIHOODS, MODELS, WindowAutoencoder, hyper_parameters, make_model
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


PAGES = sorted(path.name for path in DOCS.glob("*.rst") if ">>> " in path.read_text("utf-8"))


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p == "spatial.rst" else ()) for p in PAGES],
)
def test_examples_run(page, monkeypatch):
    if page == "spatial.rst":
        pytest.importorskip("anndata")
    if page == "embedder.rst":
        pytest.importorskip("zuko")
    if page == "report.rst":
        pytest.importorskip("matplotlib")
        monkeypatch.setenv("MPLBACKEND", "agg")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(str(DOCS / page), module_relative=False, optionflags=flags)
    assert result.attempted > 5
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


class TestComingFromAestetik:
    """The mapping of its parameters."""

    PARAMETERS = {
        *("morphology_weight", "n_cluster", "total_weight", "rec_alpha", "triplet_alpha"),
        *("train_size", "window_size", "kernel_size", "latent_dim", "c_hid", "lr", "p"),
        *("max_epochs", "multi_triplet_loss", "n_repeats", "clustering_method", "batch_size"),
        *("n_ensemble", "n_ensemble_encoder", "n_ensemble_decoder", "weight_decay"),
        *("refine_cluster", "n_neighbors", "n_jobs", "num_workers", "used_obsm_transcriptomics"),
        *("used_obsm_morphology", "used_obsm_combined", "used_obs_batch", "validation_split"),
        *("early_stopping_patience", "early_stopping_min_delta", "num_repeats_predict"),
        "random_state",
    }

    @staticmethod
    def mapping(section):
        text = re.split(rf"^{section}\n-+$", read("coming_from_aestetik.rst"), flags=re.MULTILINE)
        text = re.split(r"^\w[\w ]*\n-+$", text[1], flags=re.MULTILINE)[0]
        return [cells for cells in rows(text) if cells[0] != "aestetik"]

    def test_all_its_parameters_are_here(self):
        named = [re.findall(r"``(\w+)``", theirs) for theirs, _ in self.mapping("Parameters")]
        named = [name for names in named for name in names]
        assert len(named) == len(set(named))
        assert set(named) == self.PARAMETERS

    def test_the_parameters_they_become_exist(self):
        ours = set(AEStetikClusterer().get_params()) | {"slide"}
        of_the_network = set(hyper_parameters(WindowAutoencoder))
        for theirs, cell in self.mapping("Parameters"):
            (name, *_) = re.findall(r"``(\w+)", cell) or [None]
            if "of ``model_params``" in cell:
                assert name in of_the_network, theirs
            elif not cell.startswith("none") and "read_annotated" not in cell:
                assert name in ours, theirs

    def test_the_attributes_they_become_exist(self):
        told = AEStetikClusterer.__doc__
        for theirs, cell in self.mapping("Attributes"):
            for name in re.findall(r"``(\w+_)``", cell):
                assert f"    {name} : " in told, theirs


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(path.name for path in DOCS.glob("examples/plot_*.py")))
def test_the_gallery_is_drawn_as_its_pages_show_it(script, tmp_path):
    pytest.importorskip("matplotlib")
    pictures = [
        name
        for path in DOCS.glob("*.rst")
        if script in path.read_text("utf-8")
        for name in re.findall(r"figure:: examples/(.*)", path.read_text("utf-8"))
    ]
    assert pictures
    # A script of one picture takes a file, one of several a folder.
    target = tmp_path / pictures[0] if len(pictures) == 1 else tmp_path
    environment = {**os.environ, "MPLBACKEND": "agg"}
    command = [sys.executable, str(DOCS / "examples" / script), str(target)]
    subprocess.run(command, check=True, env=environment)
    for name in pictures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (DOCS / "examples" / name).stat().st_size < 150_000


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
