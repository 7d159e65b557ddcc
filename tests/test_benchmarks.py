"""The benchmark's harness: what it writes comes from the committed JSON files and nothing else."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
README = BENCHMARKS.parent / "README.md"


@pytest.fixture
def load(monkeypatch):
    """Import modules of the benchmark, which are scripts beside each other, and forget them."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture
def copy(tmp_path):
    """Return a folder with the committed results alone."""
    shutil.copytree(BENCHMARKS / "results", tmp_path / "results")
    return tmp_path


def test_the_committed_results_give_the_committed_tables_byte_for_byte(load, copy):
    load("_report").write(copy)
    assert (copy / "RESULTS.md").read_bytes() == (BENCHMARKS / "RESULTS.md").read_bytes()


def test_the_numbers_of_the_readme_are_those_of_the_results(load, tmp_path):
    copied = tmp_path / "README.md"
    shutil.copy(README, copied)
    load("_readme").update(copied)
    assert copied.read_bytes() == README.read_bytes()


def test_a_changed_measurement_changes_the_tables(load, copy):
    path = copy / "results" / "tabular.json"
    content = json.loads(path.read_text())
    content["records"]["fit|adult|skvae:paper|0"]["fit"]["fit_cpu_s"] = 987.65
    path.write_text(json.dumps(content))
    text = load("_report").write(copy)
    changed = set(text.splitlines()) - set((BENCHMARKS / "RESULTS.md").read_text().splitlines())
    assert all("987.6" in line for line in changed if "skvae:paper" in line)
    assert any("skvae:paper" in line for line in changed)


def test_the_report_is_written_without_the_sections_that_have_no_results(load, copy):
    for name in ("images", "spatial", "conditional", "speed"):
        (copy / "results" / f"{name}.json").unlink()
    text = load("_report").write(copy)
    assert "## Tabular synthesizers" in text
    assert "## Domains of tissues" not in text


def test_published_rows_are_marked_as_published(load):
    published = load("_tabular_report").PUBLISHED
    text = (BENCHMARKS / "RESULTS.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    for names in published.values():
        for name in names:
            assert f"{name}, published" in rows
            assert name not in rows


def test_pictures_are_drawn_from_the_results(load, copy):
    pytest.importorskip("matplotlib")
    load("_figures").draw(copy)
    for name in ("quality_against_time", "all_tables"):
        content = (copy / "figures" / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 20_000


def test_the_picture_shows_each_fit_that_was_scored(load):
    figures, report = load("_figures"), load("_report")
    found = report.by_task(json.loads((BENCHMARKS / "results" / "tabular.json").read_text()))
    shown = figures.points(found, "magic")
    assert [cell["seed"] for cell in shown["ctgan"]] == [0, 1, 2]
    assert set(shown) <= set(figures.STYLES)


def test_a_store_keeps_the_run_of_each_record_and_forgets_runs_without_any(load, tmp_path):
    store = load("_store")
    path = tmp_path / "results" / "some.json"
    first = store.Store(path, {"command": "first"})
    first.put("a", {"x": 1})
    first.put("b", {"x": 2})
    second = store.Store(path, {"command": "second"})
    assert not second.misses("a")
    assert second.misses("c")
    second.put("a", {"x": 3})
    second.amend("b", y=4)
    content = store.read(path)
    assert [run["command"] for run in content["runs"]] == ["first", "second"]
    assert content["records"] == {"a": {"x": 3, "run": 1}, "b": {"x": 2, "run": 0, "y": 4}}
    second.put("b", {"x": 5})
    content = store.read(path)
    assert [run["command"] for run in content["runs"]] == ["second"]
    assert {record["run"] for record in content["records"].values()} == {0}


def test_force_measures_what_is_there_again(load, tmp_path):
    store = load("_store")
    path = tmp_path / "some.json"
    store.Store(path, {}).put("a", {})
    assert store.Store(path, {}, force=True).misses("a")


def test_a_run_is_told_without_paths(load):
    run = load("_store").this_run(
        ["tabular", "--data", "/home/me/data", "--python", "sdv=/x/python"]
    )
    assert run["command"] == "python benchmarks/run.py tabular --data PATH --python sdv=PATH"


def test_a_peer_without_an_environment_is_left_out_with_what_to_do(load, tmp_path):
    peers = load("_peers").Interpreters(tmp_path, {})
    assert peers.of("skvae") == sys.executable
    assert peers.of("sdv-tvae") is None
    assert "python benchmarks/run.py peers sdv" in peers.left_out("sdv-tvae")
    named = load("_peers").Interpreters(tmp_path, {"sdv": sys.executable})
    assert named.of("ctgan") == sys.executable


def test_an_unknown_environment_is_refused(load, tmp_path):
    with pytest.raises(SystemExit, match=r"ctgna.*sdv"):
        load("_peers").Interpreters(tmp_path, {"ctgna": "python"})


def test_every_method_of_a_peer_has_an_environment_and_a_place_in_the_tables(load):
    candidates = set(load("_candidates").CANDIDATES)
    assert candidates - {"skvae"} <= set(load("_peers").HOME)
    assert candidates <= set(load("_tabular_report").ORDER)


def test_a_method_is_read_with_its_parameters(load):
    method = load("_tabular").Method.parse("skvae:fast,max_epochs=1,column_order=random")
    assert (method.family, method.preset) == ("skvae", "fast")
    assert method.params == {"max_epochs": 1, "column_order": "random"}


@pytest.mark.parametrize("section", ["tabular", "speed", "images", "spatial", "conditional"])
def test_quick_options_are_options_of_the_section(load, section):
    run = load("run")
    quick = importlib.import_module(f"_{section}").QUICK.split()
    assert run.make_parser().parse_args([section, *quick]).command == section


def test_one_command_measures_a_slice_and_writes_tables_and_pictures(load, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("xgboost")
    run, tabular = load("run"), load("_tabular")
    monkeypatch.setattr(run, "SECTIONS", ("tabular",))
    monkeypatch.setattr(load("_data"), "N_SHIPPED", 500)
    # Its settings would stay for the tests after this one.
    monkeypatch.setattr(load("_worker"), "limit_threads", lambda threads: None)
    monkeypatch.setattr(
        tabular, "QUICK", "--methods oracle marginals --datasets adult3000 --seeds 0"
    )
    run.main(["all", "--quick", "--into", str(tmp_path), "--work", str(tmp_path / "work")])
    text = (tmp_path / "RESULTS.md").read_text()
    assert "### adult3000: 500 rows to learn from, 500 held out" in text
    assert "`python benchmarks/run.py all --quick --into PATH --work PATH`" in text
    assert (tmp_path / "figures" / "all_tables.png").exists()
    records = json.loads((tmp_path / "results" / "tabular.json").read_text())["records"]
    scores = {key.split("|")[2]: r["scores"][0] for key, r in records.items() if "scores" in r}
    assert scores["oracle"]["c2st"] > 0.8 > 0.5 > scores["marginals"]["c2st"]
