"""The displays: what is drawn is what the data say."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skvae import VAEEmbedder
from skvae.metrics import pair_trends
from skvae.report import (
    ColumnShapesDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    PairTrendsDisplay,
    ReconstructionDisplay,
    SpatialDomainsDisplay,
)

plt = pytest.importorskip("matplotlib.pyplot")
plt.switch_backend("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300]


@pytest.fixture(scope="module")
def embedder(digits):
    model = VAEEmbedder(n_components=3, max_epochs=4, early_stopping=True, random_state=0)
    return model.fit(digits[0])


def table(n, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "count": rng.poisson(4, n),
            "x": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "when": pd.Timestamp("2020-03-01") + pd.to_timedelta(rng.integers(0, 300, n), "D"),
            "colour": rng.choice(["red", "green", None], n, p=[0.6, 0.3, 0.1]),
            "town": [f"town {k}" for k in rng.integers(0, 30, n)],
        }
    )


def drawn(figure):
    """Draw the figure, which finds what its layout cannot hold."""
    figure.canvas.draw()
    return figure


class TestLossCurve:
    def test_one_picture_a_term_with_the_held_out_curve(self, embedder):
        display = LossCurveDisplay.from_estimator(embedder)
        titles = [ax.get_title(loc="left") for ax in display.axes_]
        assert titles == ["loss", "log likelihood", "kl divergence"]
        loss, held_out = display.axes_[0].lines
        assert list(loss.get_ydata()) == list(embedder.history_["loss"])
        assert list(held_out.get_ydata()) == list(embedder.history_["validation_loss"])
        assert drawn(display.figure_) is display.axes_[0].figure

    def test_the_first_epochs_do_not_flatten_the_rest(self):
        loss = np.r_[1e6, np.linspace(3, 1, 99)]
        display = LossCurveDisplay(pd.DataFrame({"epoch": range(100), "loss": loss})).plot()
        assert display.axes_[0].get_ylim()[1] < 4

    def test_terms_are_chosen_and_checked(self, embedder):
        display = LossCurveDisplay(embedder.history_).plot(terms=["learning_rate"])
        assert len(display.axes_) == 1
        with pytest.raises(ValueError, match=r"got \['accuracy'\]"):
            LossCurveDisplay(embedder.history_).plot(terms=["accuracy"])

    def test_an_unfitted_estimator(self):
        with pytest.raises(ValueError, match="VAEEmbedder has no history_ yet: fit it first"):
            LossCurveDisplay.from_estimator(VAEEmbedder())

    def test_a_term_by_itself_and_no_columns_are_refused(self, embedder):
        with pytest.raises(TypeError, match=r"terms='loss' is one name.*\['loss'\]"):
            LossCurveDisplay.from_estimator(embedder, terms="loss")
        with pytest.raises(ValueError, match="n_columns == 0, must be >= 1"):
            LossCurveDisplay.from_estimator(embedder, n_columns=0)


class TestColumnShapes:
    def test_shares_add_up_to_all_rows(self):
        display = ColumnShapesDisplay.from_tables(table(500, 0), table(300, 1))
        drawn(display.figure_)
        names = [ax.get_title(loc="left") for ax in display.axes_]
        assert names == ["count", "x", "when", "colour", "town"]
        for panel in display.panels:
            known = 1.0 if panel.column != "x" else 0.9
            assert panel.real.sum() == pytest.approx(known, abs=0.04)
            assert panel.synthetic.sum() == pytest.approx(known, abs=0.06)
        colour, town = display.panels[3:]
        assert colour.labels == ["red", "green", "(missing)"]
        assert len(town.labels) == 7 and town.labels[-1] == "24 others"
        assert display.panels[2].labels[0] == "2020-03-01"

    def test_whole_numbers_fill_whole_bins(self):
        display = ColumnShapesDisplay.from_tables(table(500, 0), table(300, 1))
        assert set(np.diff(display.panels[0].edges)) == {1.0}
        assert display.panels[0].labels[0] == "0"

    def test_empty_constant_and_infinite_columns(self):
        real = pd.DataFrame(
            {"none": [None] * 9, "nan": np.nan, "one": 1, "inf": [np.inf, 1] * 4 + [2]}
        )
        drawn(ColumnShapesDisplay.from_tables(real, real).figure_)


class TestPairTrends:
    def test_colours_are_the_scores(self):
        real, synthetic = table(400, 0), table(400, 1)
        display = PairTrendsDisplay.from_tables(real, synthetic)
        details = pair_trends(real, synthetic, bins="real").details
        scores = display.ax_.images[0].get_array()
        for row in details.itertuples():
            i, j = (list(real.columns).index(c) for c in (row.column_1, row.column_2))
            assert scores[i, j] == scores[j, i] == row.score
        assert [label.get_text() for label in display.ax_.get_yticklabels()] == list(real.columns)
        drawn(display.figure_)

    def test_on_axes_of_ones_own(self):
        _, ax = plt.subplots()
        display = PairTrendsDisplay.from_tables(table(90, 0), table(90, 1), ax=ax)
        assert display.ax_ is ax and display.figure_ is ax.figure


class TestLatentSpace:
    def test_two_components_are_drawn_as_they_are(self):
        Z = np.random.default_rng(0).normal(size=(40, 2))
        display = LatentSpaceDisplay(Z).plot()
        assert np.array_equal(display.ax_.collections[0].get_offsets(), Z)
        assert display.ax_.get_ylabel() == "latent 2"

    def test_more_become_principal_ones_and_classes_get_a_legend(self, embedder, digits):
        display = LatentSpaceDisplay.from_estimator(embedder, *digits)
        assert sum(len(c.get_offsets()) for c in display.ax_.collections) == 300
        names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert names == [str(k) for k in range(10)]
        share = PCA(2).fit(embedder.transform(digits[0])).explained_variance_ratio_[0]
        assert display.ax_.get_xlabel() == f"component 1 ({100 * share:.0f} %)"
        drawn(display.figure_)

    def test_numbers_get_a_colour_bar(self):
        rng = np.random.default_rng(0)
        display = LatentSpaceDisplay(rng.normal(size=(40, 2)), rng.normal(size=40)).plot()
        assert len(display.figure_.axes) == 2
        assert display.ax_.get_legend() is None

    def test_errors(self):
        with pytest.raises(ValueError, match=r"not shape \(5, 1\)"):
            LatentSpaceDisplay(np.zeros((5, 1))).plot()
        with pytest.raises(ValueError, match="5 rows but 4 labels"):
            LatentSpaceDisplay(np.zeros((5, 2)), [1, 2, 3, 4]).plot()


class TestReconstruction:
    def test_flat_images_are_folded(self, embedder, digits):
        display = ReconstructionDisplay.from_estimator(embedder, digits[0], image_shape=(8, 8))
        assert display.axes_.shape == (2, 10)
        assert display.axes_[0, 0].get_ylabel() == "original"
        shown = display.axes_[0, 3].images[0].get_array()
        assert np.allclose(shown, digits[0][3].reshape(8, 8) / digits[0][:10].max())
        drawn(display.figure_)

    def test_rows_of_numbers_are_curves(self, embedder, digits):
        display = ReconstructionDisplay.from_estimator(embedder, digits[0], n_rows=3)
        assert display.axes_.shape == (1, 3)
        original, reconstruction = display.axes_[0, 1].lines
        assert np.array_equal(original.get_ydata(), digits[0][1])
        assert np.allclose(reconstruction.get_ydata(), embedder.reconstruct(digits[0][:3])[1])
        drawn(display.figure_)

    @pytest.mark.parametrize(("channels", "shown"), [(1, (5, 4)), (2, (5, 4)), (3, (5, 4, 3))])
    def test_colours(self, channels, shown):
        images = np.random.default_rng(0).random((2, channels, 5, 4))
        display = ReconstructionDisplay(images, images).plot()
        assert display.axes_[1, 1].images[0].get_array().shape == shown

    def test_errors(self, embedder, digits):
        with pytest.raises(ValueError, match=r"64 numbers do not fold into \(7, 7\)"):
            ReconstructionDisplay.from_estimator(embedder, digits[0], image_shape=(7, 7))
        with pytest.raises(ValueError, match=r"not \(2, 4\) and \(3, 4\)"):
            ReconstructionDisplay(np.zeros((2, 4)), np.zeros((3, 4))).plot()


class TestSpatialDomains:
    @pytest.fixture
    def places(self):
        return np.stack(np.meshgrid(np.arange(6.0), np.arange(5.0)), axis=-1).reshape(-1, 2)

    def test_every_spot_is_drawn_at_its_place_upside_down_as_in_an_image(self, places):
        labels = np.repeat([10, 2, 0], 10)
        display = SpatialDomainsDisplay.from_predictions(places, labels)
        names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert names == ["0", "2", "10"]
        assert np.array_equal(display.ax_.collections[2].get_offsets(), places[labels == 10])
        assert display.ax_.yaxis_inverted()
        drawn(display.figure_)

    def test_spots_without_a_domain(self, places):
        class Annotated:
            obsm = {"spatial": places}
            obs = pd.DataFrame({"aestetik": pd.Categorical(["0", "1", None] * 10)})

        display = SpatialDomainsDisplay.from_annotated(Annotated())
        names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert names == ["none", "0", "1"]

    def test_labels_of_a_fitted_clusterer(self, places):
        class Clusterer:
            pass

        with pytest.raises(ValueError, match="Clusterer has no labels_ yet"):
            SpatialDomainsDisplay.from_estimator(Clusterer(), places)
        fitted = Clusterer()
        fitted.labels_ = np.zeros(30, int)
        assert SpatialDomainsDisplay.from_estimator(fitted, places).labels is fitted.labels_

    def test_other_numbers_of_places_and_labels(self, places):
        with pytest.raises(ValueError, match=r"\(30, 2\) and 3 labels"):
            SpatialDomainsDisplay(places, [0, 1, 2]).plot()


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install skvae\[plot\]"):
        LatentSpaceDisplay(np.zeros((5, 2))).plot()


def test_the_report_needs_no_matplotlib_and_no_torch():
    code = (
        "import sys, skvae.report, numpy as np; sys.modules['matplotlib'] = None\n"
        "x = np.random.default_rng(0).normal(size=(2, 60, 2))\n"
        "skvae.evaluate(x[0], x[1])._repr_html_(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
