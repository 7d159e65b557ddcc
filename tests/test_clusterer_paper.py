"""``AEStetikClusterer.from_preset("paper")``: AESTETIK 0.3.1, in what of it can be checked."""

import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.mixture import BayesianGaussianMixture

import skvae
from skvae import AEStetikClusterer
from skvae.datasets import make_spatial_domains
from skvae.models import StepContext, spatial_base
from skvae.spatial import visium_places
from skvae.training import TrainingConfig

SIDE = 10
ROW, COLUMN = (axis.ravel() for axis in np.mgrid[:SIDE, :SIDE])
COLUMN = 2 * COLUMN + ROW % 2  # the array of Visium
# Without these spots, there are holes.
KEPT = ~np.isin(np.arange(SIDE**2), [0, 33, 34, 57])
ROW, COLUMN = ROW[KEPT], COLUMN[KEPT]


def paper(n_clusters=3, **params):
    small = {"max_steps": 2, "device": "cpu", "random_state": 0}
    return AEStetikClusterer.from_preset("paper", n_clusters=n_clusters, **{**small, **params})


@pytest.fixture(scope="module")
def tissue():
    """Features of three bands of spots, in two modalities."""
    rng = np.random.RandomState(0)
    band = 4 * ROW // (SIDE + 3)
    X = 3.0 * np.eye(3)[band] @ rng.normal(size=(3, 15)) + rng.normal(size=(len(band), 15)) + 5
    image = np.eye(3)[band] @ rng.normal(size=(3, 15)) + 0.3 * rng.normal(size=(len(band), 15))
    return X, {"coordinates": visium_places(ROW, COLUMN), "morphology": image}


@pytest.fixture(scope="module")
def fitted(tissue):
    X, given = tissue
    return paper().fit(X, **given)


def view_of(clusterer, tissue):
    X, given = tissue
    spots = clusterer._read(X, given["coordinates"], given["morphology"], None, reset=False)
    return clusterer._view(spots)


def test_a_default_fit_has_its_network_of_110_910_parameters(fitted):
    assert sum(parameter.numel() for parameter in fitted.model_.parameters()) == 110_910
    assert fitted.embedding_.shape[1] == 16
    members = fitted.model_.encoder.n_members, fitted.model_.decoder.n_members
    assert members == (3, 3)
    dropout = [m.p for m in fitted.model_.modules() if isinstance(m, torch.nn.Dropout2d)]
    assert dropout == [0.3, 0.3]


def test_a_fit_takes_its_hundred_steps_of_adam(tissue, monkeypatch):
    configs = []

    def watched(**config):
        configs.append(TrainingConfig(**config))
        return configs[-1]

    monkeypatch.setattr("skvae._clustering.networks.TrainingConfig", watched)
    params = AEStetikClusterer.from_preset("paper").get_params()
    assert (params["max_steps"], params["batch_size"]) == (100, 8192)
    X, given = tissue
    one = {"n_encoders": 1, "n_decoders": 1}
    tiny = paper(max_steps=100, hidden_layer_sizes=(2,), model_params=one, window_size=3)
    tiny.fit(X, **given)
    assert tiny.n_steps_ == tiny.n_iter_ == 100  # all spots are in each step
    (config,) = configs
    assert (config.optimizer, config.amsgrad, config.betas) == ("adam", True, (0.9, 0.999))
    assert (config.learning_rate, config.weight_decay) == (1e-3, 1e-6)
    assert (tiny.history_["learning_rate"] == 1e-3).all()
    assert config.average_decay is None


def test_windows_are_those_of_the_array_scaled_to_the_unit_interval_with_medians(fitted, tissue):
    X, given = tissue
    table = np.hstack([X, given["morphology"]])
    table = (table - table.min(axis=0)) / np.ptp(table, axis=0)
    place = {cell: spot for spot, cell in enumerate(zip(ROW, COLUMN, strict=True))}
    expected, n_filled = np.full((len(X), 30, 7, 7), np.nan), 0
    for spot, (row, column) in enumerate(zip(ROW, COLUMN, strict=True)):
        for down in range(7):
            for right in range(7):
                there = place.get((row + down - 3, column + right - 3))
                if there is not None:
                    expected[spot, :, down, right] = table[there]
                    n_filled += 1
    medians = np.nanmedian(expected, axis=(2, 3))[:, :, None, None]
    expected = np.where(np.isnan(expected), medians, expected)
    assert n_filled < 0.5 * len(X) * 49  # by the parity of the array
    view = view_of(fitted, tissue)
    model = pickle.loads(pickle.dumps(fitted.model_))
    model.hold(torch.from_numpy(view.features))
    found, _ = model.gather(torch.from_numpy(view.windows).long())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_the_loss_of_a_batch_is_the_papers(fitted, tissue, monkeypatch):
    drawn, draw_triplets = [], spatial_base.draw_triplets

    def draw(labels, **options):
        assert options == {"every_label": True, "n_repeats": 1}
        drawn.append(draw_triplets(labels, **options))
        return drawn[-1]

    monkeypatch.setattr(spatial_base, "draw_triplets", draw)
    view, labels = view_of(fitted, tissue), np.stack([ROW % 3, COLUMN % 4], axis=1)
    model = pickle.loads(pickle.dumps(fitted.model_)).double()
    chosen = np.arange(40)
    windows, targets = view.batches(model, chosen, labels[chosen])
    loss = model.training_loss((windows, targets), StepContext())
    x, _ = model.gather(windows)
    output = model(windows)
    x, x_hat, z = (part.detach().numpy() for part in (x, output.x_hat, output.z))
    total = 0.0
    for weight, channels, (anchors, positives, negatives), column in zip(
        (3.0 - 1.5, 1.5), (slice(15), slice(15, 30)), drawn, labels[chosen].T, strict=True
    ):
        # One pair for each other label, from one pass over the batch.
        assert len(anchors) == 40 * (len(set(column)) - 1)
        triplets = 0.0
        for a, p, n in zip(anchors, positives, negatives, strict=True):
            assert column[a] == column[p] != column[n]
            near, far = np.linalg.norm(z[a] - z[p]), np.linalg.norm(z[a] - z[n])
            triplets += max(0.0, near - far + 1.0) / len(anchors)
        error = np.abs(x[:, channels] - x_hat[:, channels]).mean()
        total += weight * (error + triplets)
    assert loss.objective.item() == pytest.approx(total, rel=1e-5)


def test_it_learns_from_labels_of_each_modality_that_know_nothing_of_space(tissue, monkeypatch):
    seen, train = [], AEStetikClusterer._train

    def watched(self, model, data, *args, **kwargs):
        seen.append(data[1].numpy())
        return train(self, model, data, *args, **kwargs)

    monkeypatch.setattr(AEStetikClusterer, "_train", watched)
    X, given = tissue
    clusterer = paper(max_steps=1).fit(X, **given)
    moved = np.random.RandomState(0).permutation(given["coordinates"])
    paper(max_steps=1).fit(X, coordinates=moved, morphology=given["morphology"])
    np.testing.assert_array_equal(*seen)
    assert seen[0].shape == (len(X), 2)
    assert clusterer.consensus_ is clusterer.agreement_ is None
    for part, column in zip((X, given["morphology"]), seen[0].T, strict=True):
        same = column[:, None] == column
        band = 4 * ROW // (SIDE + 3)
        assert np.mean(same == (band[:, None] == band)) > 0.9, part.shape


def test_domains_are_those_of_the_bayesian_mixture_and_the_confident(fitted, tissue):
    X, given = tissue
    assert isinstance(fitted.clusterer_, BayesianGaussianMixture)
    assert fitted.clusterer_.covariance_type == "tied"
    proba = fitted.clusterer_.predict_proba(fitted.embedding_)
    sure = np.flatnonzero(proba.max(axis=1) > 0.9)
    domain, places = proba.argmax(axis=1), given["coordinates"]
    names = {}
    for spot in range(len(X)):
        distances = np.linalg.norm(places[sure] - places[spot], axis=1)
        ten = np.sort(distances)[9]
        if np.isclose(np.sort(distances)[10], ten):
            continue  # which ten is not said
        votes = np.bincount(domain[sure[distances <= ten]], minlength=3)
        if np.sum(votes == votes.max()) == 1:
            names.setdefault(int(votes.argmax()), set()).add(int(fitted.labels_[spot]))
    assert len(names) > 1
    assert all(len(found) == 1 for found in names.values())


def test_new_slices_and_copies_have_the_same_embedding_and_labels(fitted, tissue, tmp_path):
    X, given = tissue
    np.testing.assert_array_equal(fitted.transform(X, **given), fitted.embedding_)
    np.testing.assert_array_equal(fitted.predict(X, **given), fitted.labels_)
    skvae.save(fitted, tmp_path / "skvae")
    joblib.dump(fitted, tmp_path / "joblib")
    for again in (
        pickle.loads(pickle.dumps(fitted)),
        skvae.load(tmp_path / "skvae"),
        joblib.load(tmp_path / "joblib"),
    ):
        np.testing.assert_array_equal(again.transform(X, **given), fitted.embedding_)
        np.testing.assert_array_equal(again.predict(X, **given), fitted.labels_)
        assert again.score(X, **given) == fitted.score(X, **given)
    # Scaled as the first slice was, spots do not depend on who else is on the slide.
    part = ROW > 4
    half = {name: rows[part] for name, rows in given.items()}
    inner = ROW[part] > 7
    np.testing.assert_allclose(
        fitted.transform(X[part], **half)[inner], fitted.embedding_[part][inner], atol=1e-5
    )


def test_a_seed_gives_the_same_bits(fitted, tissue):
    X, given = tissue
    again = clone(fitted).fit(X, **given)
    np.testing.assert_array_equal(again.embedding_, fitted.embedding_)
    np.testing.assert_array_equal(again.labels_, fitted.labels_)


def test_rings_learn_from_such_labels_too_and_leave_an_image_of_short_range_out(tissue, tmp_path):
    X, short = tissue
    given = {**short, "morphology": X[:, ::-1]}  # of the same range as the expression
    params = {"neighbourhood": "rings", "max_steps": 20, "model_params": None}
    clusterer = paper(**params, use_morphology="auto").fit(X, **given)
    assert clusterer.model_.blocks == [15, 15]
    np.testing.assert_array_equal(clusterer.predict(X, **given), clusterer.labels_)
    skvae.save(clusterer, tmp_path / "rings")
    again = skvae.load(tmp_path / "rings")
    np.testing.assert_array_equal(again.transform(X, **given), clusterer.embedding_)
    assert clone(clusterer).fit(X, **short).model_.blocks == [15]
    noise = {**short, "morphology": np.random.RandomState(0).normal(size=(len(X), 4))}
    assert clone(clusterer).fit(X, **noise).model_.blocks == [15]


def test_without_an_image_expression_has_the_whole_weight(tissue):
    X, given = tissue
    alone = paper(max_steps=1).fit(X, coordinates=given["coordinates"])
    log = alone.history_.iloc[0]
    expected = 3.0 * (log["reconstruction_expression"] + log["triplet_expression"])
    assert log["loss"] == pytest.approx(expected, rel=1e-5)
    assert "reconstruction_morphology" not in log


def test_predict_asks_for_the_image_that_fit_had(fitted, tissue):
    X, given = tissue
    with pytest.raises(ValueError, match="morphology is missing"):
        fitted.predict(X, coordinates=given["coordinates"])
    image = given["morphology"][:, 1:]
    with pytest.raises(ValueError, match="morphology has 14 columns, but had 15 in fit"):
        fitted.predict(X, coordinates=given["coordinates"], morphology=image)


def test_it_runs_on_simulated_tissue_of_counts():
    tissue = make_spatial_domains(150, 3, n_features=60, signal=2.0, random_state=0)
    given = {"coordinates": tissue.coordinates, "morphology": tissue.morphology}
    clusterer = paper(max_steps=10).fit(tissue.counts, **given)
    np.testing.assert_array_equal(clusterer.predict(tissue.counts, **given), clusterer.labels_)
    loss = clusterer.history_["loss"]
    assert loss.iloc[-1] < 0.95 * loss.iloc[0]
