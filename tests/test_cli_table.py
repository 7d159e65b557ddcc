"""The commands of tables: fit, sample, info; files, conditions, messages."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import skvae
from skvae.cli import main
from skvae.cli.table_files import read_table, write_table
from skvae.datasets import load_adult

FEW = ("-q", "--max-epochs", "2")


def people(n=400):
    rng = np.random.default_rng(0)
    table = load_adult().head(n)[["age", "education", "income"]].reset_index(drop=True)
    table["joined"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D")
    table["member"] = rng.random(n) < 0.5
    table["points"] = pd.Series(rng.integers(0, 50, n), dtype="Int64").mask(rng.random(n) < 0.2)
    return table


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with a table and its model, not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    people().to_csv(folder / "people.csv", index=False)
    options = ("-o", str(folder / "people.skvae"), *FEW)
    assert main(["fit", str(folder / "people.csv"), *options]) == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """Work in an empty folder with the table and its model in it."""
    for name in ("people.csv", "people.skvae"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sample(*options, output="new.csv"):
    return main(["sample", "people.skvae", "-o", output, *options])


class TestFiles:
    @pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "csv.gz", "jsonl.gz", "parquet"])
    def test_a_table_comes_back_as_it_was_written(self, tmp_path, ending):
        if ending == "parquet":
            pytest.importorskip("pyarrow")
        table = people(50)
        write_table(table, tmp_path / f"table.{ending}")
        again = read_table(tmp_path / f"table.{ending}")
        pd.testing.assert_frame_equal(again, table, check_dtype=ending == "parquet")
        assert again["joined"].dtype.kind == "M"
        assert str(again["points"].dtype) == "Int64"

    def test_zipped_files_are_the_same_each_time(self, tmp_path):
        for name in ("one.csv.gz", "two.csv.gz"):
            write_table(people(5), tmp_path / name)
        one, two = (
            gzip.decompress((tmp_path / n).read_bytes()) for n in ("one.csv.gz", "two.csv.gz")
        )
        assert one == two

    def test_a_bad_line_is_named_with_the_way_out(self, here, capsys):
        Path("bad.csv").write_text("a,b\n" + "1,2\n" * 20 + "1,2,3\n" + "3,4\n" * 20)
        assert main(["fit", "bad.csv", "-o", "bad.skvae", *FEW]) == 1
        message = capsys.readouterr().err
        assert "bad.csv" in message
        assert "line 22" in message
        assert "--skip-bad-lines" in message
        assert not Path("bad.skvae").exists()
        assert main(["fit", "bad.csv", "-o", "bad.skvae", "--skip-bad-lines", *FEW]) == 0
        assert "left out 1 line" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("semicolons.csv", b"a;b\n1;2\n", "Say --sep ';'"),
            ("tabs.csv", b"a\tb\tc|d\n1\t2\t3\n", r"Say --sep '\t'"),
            ("decimals.csv", b"a;b\n1,5;2,5\n2,5;3,5\n", "Say --sep ';'"),
            ("trailing.csv", b"a,b\n1,2,\n3,4,\n", "first line has 2 cells, but the others 3"),
            ("latin.csv", "name\nJos\u00e9\n".encode("latin-1"), "not UTF-8"),
            ("empty.csv", b"", "it is empty"),
            ("header.csv", b"a,b\n", "holds no rows"),
            ("table.xlsx", b"", "expected a .csv"),
            ("noending", b"", "expected a .csv"),
        ],
    )
    def test_what_cannot_be_read_says_why(self, here, capsys, name, content, words):
        Path(name).write_bytes(content)
        assert main(["fit", name, "-o", "x.skvae", *FEW]) == 1
        message = capsys.readouterr().err
        assert name in message
        assert words in message

    def test_cells_may_be_set_apart_by_anything(self, here):
        people().to_csv("semicolons.csv", sep=";", index=False)
        assert main(["fit", "semicolons.csv", "--sep", ";", "-o", "x.skvae", *FEW]) == 0
        assert skvae.load("x.skvae").n_features_in_ == 6

    def test_a_table_of_semicolons_goes_all_the_way_with_one_option(self, here, capsys):
        people().to_csv("semicolons.csv", sep=";", index=False)
        sign = ("--sep", ";")
        assert main(["fit", "semicolons.csv", *sign, "-o", "x.skvae", *FEW]) == 0
        assert main(["sample", "x.skvae", *sign, "-n", "50", "-o", "new.csv"]) == 0
        assert Path("new.csv").read_text().startswith("age;education;")
        assert main(["evaluate", "semicolons.csv", "new.csv", *sign]) == 0
        assert "400 real rows, 50 synthetic rows" in capsys.readouterr().out

    def test_the_wrong_separator_is_told_the_right_one(self, here, capsys):
        assert main(["fit", "people.csv", "--sep", ";", "-o", "x.skvae", *FEW]) == 1
        assert "Say --sep ','" in capsys.readouterr().err

    def test_a_tab_may_be_typed_as_in_code(self, here, capsys):
        people().to_csv("tabs.csv", sep="\t", index=False)
        assert main(["fit", "tabs.csv", "--sep", r"\t", "-o", "x.skvae", *FEW]) == 0
        assert skvae.load("x.skvae").n_features_in_ == 6
        with pytest.raises(SystemExit):
            main(["fit", "tabs.csv", "--sep", "::", "-o", "y.skvae"])
        assert "'::' is not one character" in capsys.readouterr().err

    def test_spaces_in_the_name_of_an_only_column_are_noted(self, here):
        Path("spaces.csv").write_text("a b\n1 2\n")
        with pytest.warns(UserWarning, match="one column, 'a b'. If spaces .* say --sep ' '"):
            assert read_table(Path("spaces.csv")).shape == (1, 1)
        assert read_table(Path("spaces.csv"), separator=" ").shape == (1, 2)

    def test_decimal_commas_are_noted(self, here):
        table = pd.DataFrame({"a": ["1,5", "2", None], "b": ["1,5", "x", "2"], "c": [1, 2, 3]})
        table.to_csv("commas.csv", index=False)
        with pytest.warns(UserWarning, match=r"Columns \['a'\] hold numbers with commas"):
            assert read_table(Path("commas.csv"))["a"].tolist()[:2] == ["1,5", "2"]
        Path("codes.jsonl").write_text('{"code": "01"}\n{"code": "02"}\n')
        assert len(read_table(Path("codes.jsonl"))) == 2  # and no note

    def test_a_file_that_is_not_there_is_named(self, here, capsys):
        assert main(["fit", "nowhere.csv", "-o", "x.skvae"]) == 1
        assert "There is no file 'nowhere.csv'" in capsys.readouterr().err


class TestFit:
    def test_parameters_and_columns_are_taken_from_the_options(self, here):
        options = ("--drop", "joined", "--kind", "age=categorical", "--condition-on", "income")
        more = ("--param", "free_nats=4", "--n-components", "3", "--seed", "5")
        assert main(["fit", "people.csv", "-o", "x.skvae", *options, *more, *FEW]) == 0
        model = skvae.load("x.skvae")
        assert "joined" not in model.feature_names_in_
        assert model.transformer_.kinds_["age"] == "categorical"
        params = model.get_params()
        assert params["free_nats"] == 4
        assert params["condition_columns"] == ["income"]
        assert (model.n_components, model.random_state, model.verbose) == (3, 5, 0)

    def test_a_preset_and_a_configuration(self, here, capsys):
        skvae.to_config(skvae.TVAESynthesizer(n_components=7, max_epochs=1), "c.json")
        assert main(["fit", "people.csv", "-o", "x.skvae", "-q", "--config", "c.json"]) == 0
        assert skvae.load("x.skvae").n_components == 7
        assert main(["fit", "people.csv", "-o", "y.skvae", "--preset", "fast", *FEW]) == 0
        options = ("--preset", "fast", "--config", "c.json")
        assert main(["fit", "people.csv", "-o", "z.skvae", *options]) == 1
        assert "give one of them" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--drop", "ages"), "--drop ages: no such column. Did you mean 'age'?"),
            (("--kind", "AGE=numeric"), "--kind AGE: no such column. Did you mean 'age'?"),
            (("--condition-on", "xyz"), "--condition-on xyz: no such column. The columns are ['a"),
            (("--param", "free_nat=4"), "has no such parameter. Did you mean 'free_nats'?\n"),
            (("--param", "xyz=4"), "has no such parameter. It has batch_size, beta, "),
            (("--param", "free_nats=word"), "free_nats"),
            (("--kind", "age=numbr"), "--kind age is 'numbr', expected one of 'numeric'"),
            (("--param", "column_kinds=3"), "The 'column_kinds' parameter of"),
        ],
    )
    def test_options_that_cannot_be_used_are_named(self, here, capsys, options, words):
        assert main(["fit", "people.csv", "-o", "x.skvae", *options, *FEW]) == 1
        assert words in capsys.readouterr().err
        assert not Path("x.skvae").exists()

    def test_nothing_is_overwritten_unless_asked_for(self, here, capsys):
        before = Path("people.skvae").read_bytes()
        assert main(["fit", "people.csv", "-o", "people.skvae", *FEW]) == 1
        assert "--force overwrites" in capsys.readouterr().err
        assert Path("people.skvae").read_bytes() == before
        assert main(["fit", "people.csv", "-o", "people.skvae", "--force", *FEW]) == 0

    @pytest.mark.filterwarnings("default")
    def test_guesses_are_said_without_a_line_of_code(self, here, capsys):
        keys = {"key": range(1000, 1400), "the code": range(2000, 2400)}
        people().assign(**keys).to_csv("keys.csv", index=False)
        assert main(["fit", "keys.csv", "-o", "x.skvae", *FEW]) == 0
        said = capsys.readouterr().err
        assert "skvae: note: These columns are not learnt" in said
        assert "say --kind key=identifier --kind 'the code=identifier' and this warning" in said
        assert ".py" not in said

    def test_control_c_leaves_no_file(self, here, monkeypatch):
        def interrupted(*_args, **_kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(skvae.TVAESynthesizer, "fit", interrupted)
        assert main(["fit", "people.csv", "-o", "x.skvae", *FEW]) == 130
        assert {file.name for file in here.iterdir()} == {"people.csv", "people.skvae"}


class TestSample:
    def test_rows_have_the_columns_and_types_of_the_table(self, here):
        assert sample("-n", "30") == 0
        new, real = read_table(Path("new.csv")), read_table(Path("people.csv"))
        assert len(new) == 30
        assert list(new.columns) == list(real.columns)
        assert list(new.dtypes) == list(real.dtypes)

    def test_a_seed_gives_the_same_rows(self, here):
        for name, seed in (("a.csv", "1"), ("b.csv", "1"), ("c.csv", "2")):
            assert sample("-n", "30", "--seed", seed, output=name) == 0
        one, two, other = (Path(name).read_bytes() for name in ("a.csv", "b.csv", "c.csv"))
        assert one == two != other

    @pytest.mark.parametrize(
        ("condition", "holds"),
        [
            ("income=>50K", lambda t: t["income"] == ">50K"),
            ("age=30..40", lambda t: t["age"].between(30, 40)),
            ("age=60..", lambda t: t["age"] >= 60),
            ("age=..25", lambda t: t["age"] <= 25),
            ("age=30|31", lambda t: t["age"].isin([30, 31])),
            ("education=Masters|HS-grad", lambda t: t["education"].isin(["Masters", "HS-grad"])),
            (
                "joined=2021-01-01..2021-06-30",
                lambda t: t["joined"].between("2021-01-01", "2021-06-30"),
            ),
            ("member=true", lambda t: t["member"]),
            ("points=", lambda t: t["points"].isna()),
        ],
    )
    def test_every_row_holds_what_was_asked_for(self, here, condition, holds):
        assert sample("-n", "20", "--where", condition) == 0
        rows = read_table(Path("new.csv"))
        assert len(rows) == 20
        assert holds(rows.astype({"points": "Int64"})).all()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--where", "ages=3"), "names no column. Did you mean 'age'?"),
            (("--where", "income"), "names no column"),
            (("--where", "age=old"), "'old' is not of the column's type"),
            (("--where", "member=perhaps"), "'perhaps' is not of the column's type"),
            (("--where", "education=Maters"), "--where education asks for 'Maters', which"),
            (("--where", "age=30", "--where", "age=31"), "names 'age' twice"),
        ],
    )
    def test_conditions_that_cannot_hold_are_named(self, here, capsys, options, words):
        assert sample(*options) == 1
        assert words in capsys.readouterr().err
        assert not Path("new.csv").exists()

    def test_other_files_are_no_models(self, here, capsys):
        assert main(["sample", "people.csv", "-o", "new.csv"]) == 1
        assert "people.csv" in capsys.readouterr().err
        assert main(["sample", "nowhere.skvae", "-o", "new.csv"]) == 1
        assert "skvae fit writes one" in capsys.readouterr().err

    def test_a_bad_ending_is_refused_before_anything_is_read(self, here, capsys):
        assert main(["sample", "nowhere.skvae", "-o", "new.doc"]) == 1
        assert "expected a .csv" in capsys.readouterr().err


class TestEvaluate:
    def test_a_verdict_is_printed_and_a_page_written(self, here, capsys):
        assert sample("-n", "300") == 0
        people(800).tail(400).to_csv("unseen.csv", index=False)
        options = ("--holdout", "unseen.csv", "--target", "income", "--html", "report.html")
        capsys.readouterr()
        assert main(["evaluate", "people.csv", "new.csv", *options]) == 0
        said = capsys.readouterr().out
        assert "column shapes" in said.lower()
        assert "report.html" in said
        page = Path("report.html").read_text(encoding="utf-8")
        assert page.lower().startswith("<!doctype html>")
        assert main(["evaluate", "people.csv", "new.csv", "--html", "report.html"]) == 1
        assert "--force overwrites" in capsys.readouterr().err

    def test_columns_that_were_not_learnt_are_left_out_on_demand(self, here, capsys):
        people(300).drop(columns=["joined", "points"]).to_csv("new.csv", index=False)
        assert main(["evaluate", "people.csv", "new.csv"]) == 1
        message = capsys.readouterr().err
        assert "'new.csv' lacks the columns ['joined', 'points'] of 'people.csv'" in message
        options = ("--drop", "joined", "--drop", "points")
        assert " ".join(options) in message
        assert main(["evaluate", "people.csv", "new.csv", "--holdout", "people.csv", *options]) == 0

    def test_tables_of_other_columns_are_refused(self, here, capsys):
        people()[["age"]].rename(columns={"age": "years"}).to_csv("new.csv", index=False)
        assert main(["evaluate", "people.csv", "new.csv"]) == 1
        assert "education" in capsys.readouterr().err


def test_info_names_columns_kinds_and_parameters(here, capsys):
    assert main(["info", "people.skvae"]) == 0
    said = capsys.readouterr().out
    for words in ("AutoregressiveTVAE", "2 epochs", "max_epochs=2", "joined", "datetime", "Int64"):
        assert words in said


def test_the_module_is_the_command():
    said = [
        subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
        for command in (
            [sys.executable, "-m", "skvae"],
            [sys.executable, "-c", "from skvae.cli import main; main()"],
        )
    ]
    assert said[0] == said[1]
    assert "skvae sample" in said[0]
