"""``evaluate`` and the page it writes."""

import doctest
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import skvae
from skvae import metrics
from skvae.datasets import load_adult
from skvae.report import QualityReport


def people(n, seed):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    table = pd.DataFrame(
        {
            "age": age,
            "income": np.where(rng.random(n) < 0.1, np.nan, 500.0 * age + rng.normal(0, 5000, n)),
            "since": pd.Timestamp("2020-01-01") - pd.to_timedelta(age * 100, "D"),
            "job <a&b>": rng.choice(["nurse", "<script>alert(1)</script>", None], n),
            "member": np.where(age + rng.normal(0, 8, n) > 50, "yes", "no"),
        }
    )
    return table


@pytest.fixture(scope="module")
def real():
    return people(700, seed=0)


@pytest.fixture(scope="module")
def holdout():
    return people(600, seed=1)


@pytest.fixture(scope="module")
def report(real, holdout):
    return skvae.evaluate(real, people(700, seed=2), holdout=holdout, target="member")


class Page(HTMLParser):
    """Collect tags and the places they point to; complain about tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def grades(report):
    return [grade for grade, _ in report.verdicts]


class TestVerdict:
    def test_fresh_rows_pass(self, report):
        assert report.passed
        assert grades(report) == ["good", "good", "good"]

    def test_a_memoriser_leaks(self, real, holdout):
        copies = real.sample(700, replace=True, random_state=0)
        report = skvae.evaluate(real, copies, holdout=holdout)
        assert not report.passed
        assert "leaks" in report.verdicts[-1][1]
        assert "exact copies" in report.verdicts[-1][1]

    def test_independent_columns_are_told_apart_and_teach_nothing(self, real, holdout):
        rng = np.random.default_rng(0)
        shuffled = pd.DataFrame({c: real[c].to_numpy()[rng.permutation(700)] for c in real})
        report = skvae.evaluate(real, shuffled, holdout=holdout, target="member")
        assert grades(report) == ["bad", "bad", "good"]
        assert "not like them" in report.verdicts[0][1]

    def test_without_a_holdout_it_says_what_it_cannot_say(self, real):
        report = skvae.evaluate(real, people(500, 3), target="member")
        assert grades(report) == ["good", "fair", "fair"]
        assert "cannot be judged without a holdout" in report.verdicts[2][1]
        assert "membership inference" not in report.results

    def test_copies_are_seen_without_a_holdout_too(self, real):
        report = skvae.evaluate(real, real.copy())
        assert report.verdicts[0][0] == "bad"
        assert "repeat these very rows" in report.verdicts[0][1]

    @pytest.mark.parametrize(("error", "grade"), [(0.01, "bad"), (0.04, "good")])
    def test_an_auc_below_chance_is_of_copies_only_where_chance_is_ruled_out(
        self, report, error, grade
    ):
        name = "two-sample score, unseen rows"
        told = replace(report.results[name], auc=0.42, value=1.0, standard_error=error)
        assert grades(replace(report, results=report.results | {name: told}))[0] == grade


class TestFigures:
    def test_are_those_of_the_metrics(self, report, real, holdout):
        rows = people(700, seed=2)
        frame = report.to_frame()
        shapes = metrics.column_shapes(real, rows, holdout=holdout)
        assert frame.loc["column shapes", "value"] == shapes.value
        assert frame.loc["column shapes", "real_rows"] == shapes.oracle
        share = metrics.closest_record_share(real, rows, holdout)
        assert frame.loc["closest-record share", "value"] == share.value
        assert frame.loc["closest-record share", "ideal"] == 0.5

    def test_print_as_a_table(self, report):
        text = repr(report)
        assert text.startswith("+ A classifier")
        for name in report.results:
            assert re.search(rf"^{re.escape(name)} +-?\d\.\d{{4}}", text, re.MULTILINE)
        assert "700 real rows, 700 synthetic rows, 600 holdout rows" in text

    def test_the_worst_column_comes_first(self, real):
        report = skvae.evaluate(real, people(700, 4).assign(income=0.0))
        worst = report.worst_columns(2)
        assert worst.index[0] == "income"
        assert list(worst) == ["shape", "trend"]

    def test_the_same_twice(self, report, real, holdout):
        again = skvae.evaluate(real, people(700, seed=2), holdout=holdout, target="member")
        pd.testing.assert_frame_equal(again.to_frame(), report.to_frame())


class TestPage:
    def test_is_one_file_that_asks_for_nothing(self, report, tmp_path):
        path = tmp_path / "report.html"
        report.save(path)
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert set(page.links) == {"data:,"}
        assert "script" not in page.tags and "url(" not in text and "@import" not in text
        assert len(text) < 200_000
        assert [file.name for file in tmp_path.iterdir()] == ["report.html"]

    def test_begins_with_the_verdict_and_has_every_part(self, report, tmp_path):
        report.save(tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        parts = ["verdict", "Measures", "Worst columns", "Columns", "Pairs", "What gave", "Privacy"]
        places = [
            text.index(f">{part}") if part != "verdict" else text.index("<ul") for part in parts
        ]
        assert places == sorted(places)
        assert text.count("<figure>") == 5
        assert "&lt;script&gt;" in text and "job &lt;a&amp;b&gt;" in text

    def test_in_a_notebook_it_is_short(self, report):
        text = report._repr_html_()
        Page(text)
        assert "<li" in text and "column shapes" in text and "<figure>" not in text

    @pytest.mark.parametrize(
        "columns",
        [["age"], ["member"], ["income", "nothing", "none"], ["since", "job <a&b>", "one"]],
    )
    def test_of_few_or_empty_columns(self, real, columns, tmp_path):
        tables = (
            t.assign(nothing=np.nan, none=None, one=1)[columns] for t in (real, people(300, 9))
        )
        report = skvae.evaluate(*tables)
        report.save(tmp_path / "report.html")
        Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert "nan" not in repr(report)

    def test_of_many_columns_and_rows_of_every_kind(self, tmp_path):
        rng = np.random.default_rng(0)
        wide = pd.DataFrame(rng.normal(size=(2, 60, 70)).reshape(120, 70))
        skvae.evaluate(wide[:60], wide[60:]).save(tmp_path / "wide.html")
        text = (tmp_path / "wide.html").read_text(encoding="utf-8")
        assert "The 60 worst of 70" in text
        assert len(text) < 3_000_000


class TestInput:
    def test_identifiers_are_left_out_and_named(self, real, holdout, tmp_path):
        tables = [
            table.assign(
                name=[f"{k}-{i}" for i in range(len(table))],
                row=np.arange(len(table)),
                shuffled=3 * np.random.default_rng(k).permutation(len(table)),
            )
            for k, table in enumerate((real, people(700, seed=2), holdout))
        ]
        report = skvae.evaluate(tables[0], tables[1], holdout=tables[2], target="member")
        assert report.identifiers == ["name", "row", "shuffled"]
        assert report.passed
        report.save(tmp_path / "report.html")
        assert "name, row, shuffled" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_a_table_of_identifiers(self):
        table = pd.DataFrame({"id": np.arange(50)})
        with pytest.raises(ValueError, match=r"look like identifiers: \['id'\]"):
            skvae.evaluate(table, table)

    def test_errors_come_before_any_work(self, real, holdout):
        with pytest.raises(ValueError, match="target 'salary' is not a column"):
            skvae.evaluate(real, real, target="salary")
        with pytest.raises(ValueError, match=r"synthetic lacks \['age'\]"):
            skvae.evaluate(real, real.drop(columns="age"))
        with pytest.raises(ValueError, match="holdout is empty"):
            skvae.evaluate(real, real, holdout=holdout.iloc[:0])
        with pytest.raises(ValueError, match=r"do not have: \['grade'\]"):
            skvae.evaluate(real, real, discrete_columns=["grade"])

    def test_arrays(self):
        x = np.random.default_rng(0).normal(size=(2, 100, 3))
        assert isinstance(skvae.evaluate(x[0], x[1]), QualityReport)


@pytest.mark.slow
class TestAdult:
    """A memoriser is flagged, independent columns are told apart, real rows pass everything."""

    @pytest.fixture(scope="class")
    @classmethod
    def parts(cls):
        rows = load_adult().sample(frac=1, random_state=0)
        return rows[:11_000], rows[11_000:22_000], rows[22_000:]

    def test_real_rows_pass(self, parts, tmp_path):
        real, fresh, holdout = parts
        report = skvae.evaluate(real, fresh, holdout=holdout, target="income")
        assert grades(report) == ["good", "good", "good"]
        report.save(tmp_path / "report.html")
        assert (tmp_path / "report.html").stat().st_size < 300_000

    def test_a_memoriser_is_flagged_by_every_attack(self, parts):
        real, _, holdout = parts
        copies = real.sample(len(real), replace=True, random_state=0)
        flagged = skvae.evaluate(real, copies, holdout=holdout).to_frame()["flagged"].dropna()
        assert len(flagged) == 6 and flagged.all()

    def test_independent_columns_are_told_apart(self, parts):
        real, _, holdout = parts
        rng = np.random.default_rng(0)
        shuffled = pd.DataFrame({c: rng.permutation(real[c].to_numpy()) for c in real})
        report = skvae.evaluate(real, shuffled, holdout=holdout, target="income")
        assert grades(report) == ["bad", "bad", "good"]
        assert report.results["two-sample score"].value < 0.1


@pytest.mark.parametrize("page", ["metrics.rst", "report.rst"])
def test_the_examples_of_the_documentation_run(page):
    path = Path(__file__).parents[1] / "docs" / page
    if not path.is_file():
        pytest.skip("the documentation is not here")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(str(path), module_relative=False, optionflags=flags)
    assert result.attempted > 5
    assert result.failed == 0
