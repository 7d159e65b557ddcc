"""The command line: runs that repeat, resume and overwrite nothing; messages, not tracebacks."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import skvae
from skvae.cli import image, main
from skvae.datasets import load_digit_images
from skvae.models import MODELS

image_module = pytest.importorskip("matplotlib.image")
pictures = import_module("skvae.cli.pictures")

RESULTS = {
    "model.skvae",
    "config.json",
    "run.json",
    "images/loss_curve.png",
    "images/reconstructions.png",
    "images/samples.png",
}
# Networks small enough for a run to take a moment.
CONFIG = {
    "format": "skvae config",
    "format_version": 1,
    "estimator": "VAEEmbedder",
    "params": {"hidden_layer_sizes": [16], "max_epochs": 4, "n_components": 3},
}


def files(folder):
    """Return the names of all files in a folder, hidden ones too."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def weights(folder):
    return skvae.load(folder / "model.skvae").model_.state_dict()


def same_weights(one, other):
    return one.keys() == other.keys() and all((one[key] == other[key]).all() for key in one)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder with digits in it, and the configuration of a tiny model."""
    monkeypatch.chdir(tmp_path)
    images, labels = load_digit_images()
    np.savez("digits.npz", images=images[:100], labels=labels[:100])
    Path("tiny.json").write_text(json.dumps(CONFIG))
    return tmp_path


def train(*options, data="digits.npz"):
    data = () if data is None else (data,)
    return main(["image", "train", *data, "-q", "--config", "tiny.json", *options])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a run, not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.json").write_text(json.dumps(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train("-o", "run", data=None) == 0
    return folder / "run"


class TestTrain:
    def test_it_leaves_the_model_its_parameters_and_pictures_and_nothing_else(self, trained):
        assert files(trained) == RESULTS
        embedder = skvae.load(trained / "model.skvae")
        assert embedder.sample(2, random_state=0).shape == (2, 8, 8)
        config = skvae.from_config(trained / "config.json")
        assert config.get_params() == {**embedder.get_params(), "callbacks": None}
        assert (config.random_state, config.hidden_layer_sizes) == (0, (16,))

    def test_the_record_tells_the_images_the_command_and_the_figures(self, trained):
        record = json.loads((trained / "run.json").read_text())
        assert record["command"] == "skvae image train -q --config tiny.json -o run"
        assert record["data"]["path"] is None
        # Every tenth of the 1797 digits is held out.
        assert record["data"]["images"] == 1797 - 180
        assert record["figures"]["epochs"] == 4
        embedder = skvae.load(trained / "model.skvae")
        held_out = load_digit_images()[0][-1::-10]
        error = np.sqrt(np.mean((embedder.reconstruct(held_out) - held_out) ** 2))
        assert record["figures"]["held_out_error"] == pytest.approx(error, rel=1e-4)

    def test_it_prints_the_figures_and_the_paths(self, here, capsys):
        assert train("-o", "run") == 0
        out, err = capsys.readouterr()
        assert re.match(r"4 epochs in \d+ s\. Loss: [\d.-]+ nats per image\. Error of held", out)
        assert {line[4:] for line in out.splitlines()[1:]} == RESULTS
        assert err == ""  # no progress bar with -q

    def test_the_configuration_it_wrote_repeats_the_run_bit_for_bit(self, here):
        assert train("-o", "one", "--seed", "5", "--model", "beta", "--param", "beta=3") == 0
        again = ["digits.npz", "-q", "--config", "one/config.json", "-o", "two"]
        assert main(["image", "train", *again]) == 0
        assert same_weights(weights(here / "one"), weights(here / "two"))
        for name in ("config.json", "images/samples.png", "images/reconstructions.png"):
            assert (here / "one" / name).read_bytes() == (here / "two" / name).read_bytes()

    def test_the_seed_makes_the_run(self, here):
        assert train("-o", "one") == train("-o", "two", "--seed", "1") == 0
        assert not same_weights(weights(here / "one"), weights(here / "two"))

    def test_options_override_the_configuration(self, here):
        options = ["--model", "beta", "--param", "beta=3", "--batch-size", "20", "--network", "mlp"]
        assert train("-o", "one", *options) == 0
        one = skvae.from_config("one/config.json")
        assert (one.model, one.model_params) == ("beta", {"beta": 3})
        assert (one.batch_size, one.network, one.max_epochs) == (20, "mlp", 4)
        config = ["-q", "--config", "one/config.json"]
        assert main(["image", "train", "digits.npz", *config, "-o", "two", "--param=beta=2"]) == 0
        assert skvae.from_config("two/config.json").model_params == {"beta": 2}
        # Parameters of one model are not those of another.
        assert main(["image", "train", "digits.npz", *config, "-o", "three", "--model=ae"]) == 0
        three = skvae.from_config("three/config.json")
        assert (three.model, three.model_params, three.batch_size) == ("ae", None, 20)

    def test_without_a_word_it_learns_the_digits_into_runs(self, here, monkeypatch):
        monkeypatch.setattr("skvae.cli.image_run.MAX_EPOCHS", 5)
        assert main(["image", "train", "-q"]) == 0
        assert files(here / "runs" / "vae") == RESULTS
        config = skvae.from_config("runs/vae/config.json")
        assert (config.max_epochs, config.network, config.random_state) == (5, "mlp", 0)

    @pytest.mark.parametrize("model", ["ae", "conditional", "vamp", "spherical", "aae"])
    def test_models_of_all_kinds_come_through(self, here, model):
        assert train("--model", model) == 0
        assert files(here / "runs" / model) == RESULTS
        assert skvae.load(f"runs/{model}/model.skvae").sample(3).shape == (3, 8, 8)

    def test_early_stopping_draws_the_loss_on_images_held_out(self, here):
        assert train("-o", "run", "--early-stopping") == 0
        assert "validation_loss" in skvae.load("run/model.skvae").history_

    def test_it_learns_colours(self, here):
        images = np.random.default_rng(0).integers(0, 256, (30, 12, 10, 3), dtype=np.uint8)
        np.save("colours.npy", images)
        assert train("-o", "run", "--network", "conv", data="colours.npy") == 0
        sample = skvae.load("run/model.skvae").sample(500, random_state=0)
        assert sample.shape == (500, 3, 12, 10)
        # Trained on values between 0 and 1, and not on bytes.
        assert 0.3 < sample.mean() < 0.7

    @pytest.mark.parametrize(
        ("values", "mean"), [((0.0, 1.0), 0.5), ((0.0, 255.0), 0.5), ((0, 200), 0.392)]
    )
    def test_black_is_0_and_white_is_1_in_any_type(self, here, values, mean):
        images = np.tile(np.array(values), (20, 4, 2))
        np.save("a.npy", images)
        load_parts = import_module("skvae.cli.image_data").load_parts
        train_set, held_out = load_parts("a.npy")
        assert train_set.pixels.mean() == held_out.pixels.mean() == pytest.approx(mean, abs=1e-3)

    def test_a_test_part_is_what_is_held_out(self, here):
        images, _ = load_digit_images()
        np.savez("parts.npz", x_train=images[:50], x_test=images[50:60])
        load_parts = import_module("skvae.cli.image_data").load_parts
        train_set, held_out = load_parts("parts.npz")
        np.testing.assert_array_equal(train_set.pixels, images[:50])
        np.testing.assert_array_equal(held_out.pixels, images[50:60])

    def test_no_image_is_both_learnt_and_held_out(self, here):
        train_set, held_out = import_module("skvae.cli.image_data").load_parts("digits.npz")
        images = np.load("digits.npz")["images"]
        assert (len(train_set), len(held_out)) == (90, 10)
        both = np.concatenate([train_set.pixels, held_out.pixels]).reshape(100, -1)
        np.testing.assert_array_equal(
            np.unique(both, axis=0), np.unique(images.reshape(100, -1), axis=0)
        )


class TestOverwriting:
    def test_a_folder_with_a_run_is_refused_as_it_is(self, here, capsys):
        assert train("-o", "run") == 0
        before = {name: (here / "run" / name).read_bytes() for name in RESULTS}
        assert train("-o", "run", "--seed", "1") == 1
        assert "'run' holds model.skvae, config.json" in capsys.readouterr().err
        assert before == {name: (here / "run" / name).read_bytes() for name in files(here / "run")}

    def test_with_force_the_run_takes_the_place_of_the_other(self, here):
        assert train("-o", "run") == 0
        Path("run/notes.txt").write_text("mine")
        before = weights(here / "run")
        assert train("-o", "run", "--seed", "1", "--force") == 0
        assert not same_weights(weights(here / "run"), before)
        assert files(here / "run") == RESULTS | {"notes.txt"}

    @pytest.mark.parametrize(
        "options", [["--model", "vea"], ["--param", "beta=2"], ["--device", "abacus"]]
    )
    def test_a_run_that_cannot_begin_touches_nothing(self, here, capsys, options):
        assert train("-o", "run") == 0
        before = (here / "run" / "model.skvae").read_bytes()
        assert train("-o", "run", "--force", *options) == 1
        assert (here / "run" / "model.skvae").read_bytes() == before
        assert train("-o", "other", *options) == 1
        assert not Path("other").exists()
        message = capsys.readouterr().err
        assert message.count("skvae: error: ") == 2
        assert options[0] != "--param" or "--param has 'beta', which VAE does not" in message

    @pytest.mark.parametrize("command", ["sample", "reconstruct", "interpolate"])
    def test_pictures_are_overwritten_with_force_only(self, trained, here, capsys, command):
        Path("a.png").write_text("mine")
        arguments = ["image", command, str(trained), "-n", "2", "-o", "a.png"]
        assert main(arguments) == 1
        assert "'a.png' is there already: --force overwrites" in capsys.readouterr().err
        assert Path("a.png").read_text() == "mine"
        assert main([*arguments, "--force"]) == 0
        assert image_module.imread("a.png").ndim == 3


class TestInterrupts:
    @pytest.fixture
    def stopped_after(self, monkeypatch):
        """Return a function that presses Ctrl-C after so many checkpoints."""
        checkpoint = import_module("skvae.cli.image_run").Checkpoint
        write = checkpoint.on_state

        def stop(n_written):
            written = []

            def on_state(self, epoch, state):
                if len(written) == n_written:
                    monkeypatch.setattr(checkpoint, "on_state", write)
                    raise KeyboardInterrupt
                write(self, epoch, state)
                written.append(epoch)

            monkeypatch.setattr(checkpoint, "on_state", on_state)

        return stop

    @pytest.mark.parametrize("n_written", [0, 2])
    @pytest.mark.parametrize("options", [[], ["--early-stopping"]], ids=["plain", "stopping"])
    def test_a_resumed_run_is_the_run_that_never_stopped(
        self, here, capsys, stopped_after, n_written, options
    ):
        assert train("-o", "whole", *options) == 0
        stopped_after(n_written)
        assert train("-o", "run", *options) == 130
        if n_written:
            hint = "skvae image train -o run --resume"
            assert f"skvae: interrupted. To go on: {hint}" in capsys.readouterr().err
        checkpoint = {"checkpoint.pt"} if n_written else set()
        assert files(here / "run") == {"config.json", "run.json"} | checkpoint

        assert main(["image", "train", "-q", "-o", "run", "--resume"]) == 0
        assert files(here / "run") == RESULTS
        assert same_weights(weights(here / "run"), weights(here / "whole"))
        histories = [skvae.load(f"{name}/model.skvae").history_ for name in ("run", "whole")]
        pd.testing.assert_frame_equal(*(history.drop(columns="seconds") for history in histories))
        samples = [(here / name / "images/samples.png").read_bytes() for name in ("run", "whole")]
        assert samples[0] == samples[1]

    def test_a_run_that_stopped_while_drawing_is_not_complete(self, here, monkeypatch):
        assert train("-o", "whole") == 0
        draw = pictures.draw_losses
        monkeypatch.setattr(pictures, "draw_losses", lambda history: 1 / 0)
        assert train("-o", "run") == 1
        monkeypatch.setattr(pictures, "draw_losses", draw)
        assert main(["image", "train", "-q", "-o", "run", "--resume"]) == 0
        assert same_weights(weights(here / "run"), weights(here / "whole"))

    def test_what_a_killed_process_left_goes_when_the_run_is_complete(self, here, stopped_after):
        stopped_after(1)
        assert train("-o", "run") == 130
        Path("run/.checkpoint.pt.123").write_text("half a checkpoint")
        assert main(["image", "train", "-q", "-o", "run", "--resume"]) == 0
        assert files(here / "run") == RESULTS

    def test_an_unfinished_run_is_not_overwritten(self, here, capsys, stopped_after):
        stopped_after(1)
        assert train("-o", "run") == 130
        assert train("-o", "run") == 1
        assert "holds an unfinished run: --resume goes on with it" in capsys.readouterr().err
        assert train("-o", "run", "--force") == 0
        assert files(here / "run") == RESULTS

    def test_a_run_does_not_go_on_with_other_images(self, here, capsys, stopped_after):
        stopped_after(1)
        assert train("-o", "run") == 130
        np.savez("digits.npz", images=1 - np.load("digits.npz")["images"])
        assert main(["image", "train", "-q", "-o", "run", "--resume"]) == 1
        assert "is not what the run began with: sha256 was" in capsys.readouterr().err

    def test_a_complete_run_has_nothing_to_go_on_with(self, trained, capsys):
        assert main(["image", "train", "-o", str(trained), "--resume"]) == 0
        assert "is complete" in capsys.readouterr().out

    def test_where_no_run_began_none_goes_on(self, here, capsys):
        assert main(["image", "train", "-o", "nowhere", "--resume"]) == 1
        assert "'nowhere' holds no run to go on with" in capsys.readouterr().err

    def test_half_a_picture_leaves_no_file(self, here, monkeypatch):
        figure = pictures.draw_grid(np.zeros((1, 8, 8)), "")

        def savefig(file, **options):
            file.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(figure, "savefig", savefig)
        with pytest.raises(KeyboardInterrupt):
            pictures.write_figure(figure, here / "images" / "a.png")
        assert files(here / "images") == set()


class TestInference:
    @pytest.mark.parametrize("command", ["sample", "reconstruct", "interpolate"])
    def test_it_takes_the_folder_or_the_file_and_draws_the_same_each_time(
        self, trained, here, command
    ):
        assert main(["image", command, str(trained), "-n", "3", "-o", "one.png"]) == 0
        file = str(trained / "model.skvae")
        assert main(["image", command, file, "-n", "3", "-o", "two.png"]) == 0
        assert Path("one.png").read_bytes() == Path("two.png").read_bytes()

    @pytest.mark.parametrize(
        ("command", "output"),
        [
            ("sample", "images/samples.png"),
            ("reconstruct", "images/reconstructions.png"),
            ("interpolate", "images/interpolations.png"),
        ],
    )
    def test_pictures_go_to_images_unless_told_otherwise(
        self, trained, here, capsys, command, output
    ):
        assert main(["image", command, str(trained)]) == 0
        assert capsys.readouterr().out == f"{output}\n"
        assert files(here / "images") == {Path(output).name}

    def test_the_seed_makes_the_samples(self, trained, here):
        assert main(["image", "sample", str(trained), "-o", "one.png"]) == 0
        assert main(["image", "sample", str(trained), "-o", "two.png", "--seed", "1"]) == 0
        assert Path("one.png").read_bytes() != Path("two.png").read_bytes()

    def test_reconstructions_stand_below_what_they_are_of(self, trained, here, monkeypatch):
        drawn = []
        draw = pictures.draw_pairs
        monkeypatch.setattr(pictures, "draw_pairs", lambda *pair: drawn.append(pair) or draw(*pair))
        assert main(["image", "reconstruct", str(trained), "digits.npz", "-n", "4"]) == 0
        originals, again, _ = drawn[0]
        images = np.load("digits.npz")["images"]
        np.testing.assert_array_equal(originals, images[[0, 33, 66, 99]])
        embedder = skvae.load(trained / "model.skvae")
        np.testing.assert_array_equal(again, embedder.reconstruct(originals))

    def test_without_data_it_shows_what_training_held_out(self, trained, here, monkeypatch):
        drawn = []
        draw = pictures.draw_pairs
        monkeypatch.setattr(pictures, "draw_pairs", lambda *pair: drawn.append(pair) or draw(*pair))
        assert main(["image", "reconstruct", str(trained), "-n", "180"]) == 0
        held_out = load_digit_images()[0][1796 % 10 :: 10]
        np.testing.assert_array_equal(drawn[0][0], held_out)

    def test_ways_lead_from_image_to_image(self, trained, here, monkeypatch):
        drawn = []
        draw = pictures.draw_ways
        monkeypatch.setattr(pictures, "draw_ways", lambda *way: drawn.append(way) or draw(*way))
        arguments = ["digits.npz", "-n", "2", "--steps", "5"]
        assert main(["image", "interpolate", str(trained), *arguments]) == 0
        images = np.load("digits.npz")["images"][[0, 33, 66, 99]]
        again = skvae.load(trained / "model.skvae").reconstruct(images)
        ways = drawn[0][0]
        assert ways.shape == (2, 5, 8, 8)
        np.testing.assert_allclose(ways[:, 0], again[:2], atol=1e-6)
        np.testing.assert_allclose(ways[:, -1], again[2:], atol=1e-6)

    def test_labels_are_for_models_that_know_them(self, trained, here, capsys):
        assert train("-o", "run", "--model", "conditional") == 0
        assert main(["image", "sample", "run", "--label", "7"]) == 0
        assert main(["image", "sample", "run", "--label", "x", "-o", "x.png"]) == 1
        assert "--label x: the model knows the labels ['0', '1'," in capsys.readouterr().err
        assert main(["image", "sample", str(trained), "--label", "7", "-o", "x.png"]) == 1
        message = capsys.readouterr().err
        assert "the model 'vae' knows no labels; one trained with --model conditional" in message

    def test_images_of_another_size_are_refused(self, trained, here, capsys):
        np.save("a.npy", np.zeros((3, 9, 8)))
        assert main(["image", "reconstruct", str(trained), "a.npy"]) == 1
        message = "shape (9, 8), but the model was trained on (8, 8)"
        assert message in capsys.readouterr().err
        assert not Path("images").exists()

    def test_a_model_of_rows_is_refused(self, here, capsys):
        rows = np.random.default_rng(0).random((30, 5))
        skvae.save(skvae.VAEEmbedder(2, max_epochs=1).fit(rows), "rows.skvae")
        assert main(["image", "sample", "rows.skvae"]) == 1
        assert "tables or flat rows, expected one of images" in capsys.readouterr().err


class TestMessages:
    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            ([], "required: COMMAND"),
            (["image"], "required: COMMAND"),
            (["image", "train", "--epochs", "3"], "unrecognized arguments"),
            (["image", "train", "--max-epochs", "0"], "not a whole number from 1 up"),
            (["image", "train", "--param", "beta"], "not of the form KEY=VALUE"),
            (["image", "train", "--resume"], "--resume takes -o"),
            (["image", "train", "--resume", "-o", "a", "--seed", "0"], "--resume takes -o"),
            (["image", "interpolate", "a", "--steps", "1"], "not a whole number from 2 up"),
        ],
    )
    def test_arguments_that_cannot_be_used_exit_with_2(self, here, capsys, argv, message):
        with pytest.raises(SystemExit) as exit:
            main(argv)
        assert exit.value.code == 2
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda path: None, "There is no file or folder"),
            (lambda path: path.mkdir(), "holds no pictures"),
            (lambda path: path.write_bytes(b"\0\0\x08\x03\0\0"), "is truncated"),
            (lambda path: path.write_text("a,b"), "is neither an idx file"),
            (lambda path: np.save(path.open("wb"), np.zeros((1, 4, 4))), "holds one image"),
            (lambda path: np.save(path.open("wb"), np.full((9, 4, 4), -1)), "from -1 to -1"),
            (lambda path: np.save(path.open("wb"), np.full((9, 4, 4), np.nan)), "are NaN"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
    def test_a_failure_is_one_line_and_exits_with_1(self, here, capsys, make, message):
        make(here / "data")
        assert train("-o", "run", data="data") == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(rf"skvae: error: .*{re.escape(message)}.*\n", err)
        assert not (here / "run").exists()

    def test_parameters_are_named_with_what_they_take(self, here, capsys):
        assert train("--model", "bta") == 1
        assert "Did you mean 'beta'?" in capsys.readouterr().err
        assert train("--learning-rate", "-1") == 1
        assert "'learning_rate' parameter of VAEEmbedder" in capsys.readouterr().err
        assert train("--model", "conditional", data=None) == 0  # the digits have labels
        np.save("bare.npy", np.load("digits.npz")["images"])
        assert train("--model", "conditional", "-o", "bare", data="bare.npy") == 1
        assert "needs labels" in capsys.readouterr().err

    def test_a_configuration_of_another_estimator_is_refused(self, here, capsys):
        skvae.to_config(skvae.TVAESynthesizer(), "table.json")
        assert main(["image", "train", "--config", "table.json"]) == 1
        assert "is a configuration of TVAESynthesizer" in capsys.readouterr().err

    def test_a_name_that_no_picture_can_have_is_refused(self, trained, here, capsys):
        assert main(["image", "sample", str(trained), "-o", "a.doc"]) == 1
        assert "'a.doc' must end in one of" in capsys.readouterr().err

    def test_without_matplotlib_the_extra_is_named_before_any_work(self, here, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        assert train("-o", "run") == 1
        assert "pip install skvae[plot]" in capsys.readouterr().err
        assert not (here / "run").exists()

    def test_debug_lets_the_error_through(self, here):
        with pytest.raises(FileNotFoundError):
            main(["image", "train", "nowhere", "--debug"])

    def test_every_command_explains_itself_by_examples_that_parse(self, capsys):
        examples = []
        for command in ("train", "sample", "reconstruct", "interpolate"):
            with pytest.raises(SystemExit, match="0"):
                main(["image", command, "--help"])
            found = re.findall(r"^ +(skvae image .*)$", capsys.readouterr().out, re.MULTILINE)
            assert len(found) >= 2
            examples += found
        parser = import_module("skvae.cli")._parser()
        for example in examples:
            assert callable(parser.parse_args(shlex.split(example)[1:]).run)

    def test_the_models_that_help_names_are_there(self):
        names = image.MODEL_HELP.split(", and more")[0].replace(" (the default)", "").split(", ")
        assert set(names) <= set(MODELS)


class TestPictures:
    @staticmethod
    def drawn(figure, path):
        pictures.write_figure(figure, path)
        return image_module.imread(path)[..., :3]

    def test_grey_is_drawn_as_it_is_and_not_stretched_to_black_and_white(self, tmp_path):
        images = np.stack([np.full((28, 28), grey) for grey in (0.25, 0.5, -3, 7)])
        page = self.drawn(pictures.draw_grid(images, "title"), tmp_path / "a.png")
        side = 28 * 3
        for i, grey in enumerate((0.25, 0.5, 0, 1)):
            left = pictures.MARGIN + i * (side + pictures.GAP)
            tile = page[pictures.TITLE :, left:][:side, :side]
            np.testing.assert_allclose(tile, grey, atol=1 / 255)

    def test_a_pixel_becomes_a_square_of_its_colour(self, tmp_path):
        image = np.random.default_rng(0).random((3, 20, 30))
        page = self.drawn(pictures.draw_grid(image[None], ""), tmp_path / "a.png")
        tile = page[pictures.TITLE :, pictures.MARGIN :][:40, :60]
        np.testing.assert_allclose(
            tile, image.transpose(1, 2, 0).repeat(2, 0).repeat(2, 1), atol=1 / 255
        )

    def test_large_images_are_shrunk(self, tmp_path):
        images = np.random.default_rng(0).random((64, 400, 300))
        page = self.drawn(pictures.draw_grid(images, ""), tmp_path / "a.png")
        assert max(page.shape) < 1000

    @pytest.mark.parametrize(("n", "shape"), [(1, (8, 8)), (23, (3, 5, 9)), (64, (1, 300))])
    def test_any_number_and_shape_of_images_finds_its_place(self, tmp_path, n, shape):
        images = np.ones((n, *shape)) * 0.5
        self.drawn(pictures.draw_grid(images, "title"), tmp_path / "a.png")
        page = self.drawn(pictures.draw_pairs(images, images, "title"), tmp_path / "b.png")
        # The margins stay white: nothing is cut off.
        for edge in (page[:4], page[-4:], page[:, :4], page[:, -4:]):
            np.testing.assert_array_equal(edge, 1)

    def test_every_term_of_the_loss_has_axes_and_no_axes_are_empty(self):
        history = pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "loss": [900.0, 2.0, 1.0],
                "elbo": [-900.0, -2.0, -1.0],
                "log_likelihood": [-899.0, -1.0, 0.0],
                "kl_divergence": [1.0, 1.0, 1.0],
                "mmd": [0.1, np.nan, 0.0],
                "learning_rate": [1.0, 1.0, 1.0],
                "seconds": [1.0, 2.0, 3.0],
                "validation_loss": [900.0, 3.0, 2.0],
            }
        )
        axes = pictures.draw_losses(history).axes
        assert [ax.get_title("left") for ax in axes] == [
            "loss",
            "log likelihood",
            "kl divergence",
            "mmd",
        ]
        assert [len(ax.lines) for ax in axes] == [2, 1, 1, 1]
        np.testing.assert_array_equal(axes[0].lines[1].get_ydata(), [900, 3, 2])

    def test_the_first_epochs_do_not_flatten_the_others(self):
        loss = np.concatenate([[1e6, 1e5], np.linspace(20, 10, 98)])
        history = pd.DataFrame({"epoch": np.arange(1, 101), "loss": loss})
        (ax,) = pictures.draw_losses(history).axes
        low, high = ax.get_ylim()
        assert 9 < low < 10
        assert 19 < high < 21


def test_the_command_is_installed_with_the_package():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    module, function = project["project"]["scripts"]["skvae"].split(":")
    assert getattr(import_module(module), function) is main


def test_help_does_not_wait_for_torch():
    code = """
import sys
from skvae.cli import main
try:
    main(["image", "train", "--help"])
except SystemExit:
    sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
