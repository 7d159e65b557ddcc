"""``AEStetikClusterer``: tissue domains, and an embedding that knows them."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from skvae._clustering.embedding_domains import EmbeddingDomains, labels_of, make_clusterer
from skvae._clustering.networks import (
    check_network_params,
    check_places,
    make_view,
    network_spec,
    training_config,
    warn_of_fewer_components,
)
from skvae._clustering.pseudo_labels import check_pseudo_label_params, find_pseudo_labels
from skvae._clustering.rings import RingView
from skvae._clustering.spots import Spots, SpotsMixin
from skvae._clustering.windows import WindowView
from skvae._estimator import TorchEstimator, resolve_device
from skvae._random import private_random_state
from skvae.spatial import SpatialConsensus, fit_from_labels
from skvae.training import CallbackList

# Spots, spread evenly, that the student and its mixture learn from.
MAX_STUDENT_SPOTS = 40_000
_ROUTED = {"coordinates": True, "morphology": True, "slide": True}


class AEStetikClusterer(
    SpotsMixin, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, TorchEstimator
):
    """Find domains of a tissue, and one embedding of spots that holds them.

    Domains are the consensus of many Gaussian mixtures on spatially smoothed projections, followed
    by a vote of neighbours (``skvae.spatial.SpatialConsensus``). An autoencoder of spots and the
    rings around them then learns them as a student (``skvae.models.SpatialStudent``): it starts as
    a linear map, reconstructs expression and image, and is drawn to the domains by triplets. Its
    latents are the embedding. Both go on to new slices, under the same label ids.

    ``from_preset("paper")`` is AESTETIK [1]_ itself: its windows, network, labels to learn from,
    training and clustering.

    Parameters
    ----------
    n_clusters : int or None, default=7
        Number of domains. None leaves a ``clusterer`` its own number; where that has none, it is
        chosen where several clusterings agree, which is a hint, not a measurement
        (``skvae.spatial.choose_n_clusters``).
    n_components : int, default=16
        Size of the embedding; with rings, no more than there are features, of which a warning
        tells unless it was left at the default.
    coordinates_columns : sequence of str or int, default=None
        Columns of X, two or three, that are coordinates and not features. So one table carries
        everything through any pipeline.
    morphology_columns : sequence of str or int, default=None
        Columns of X that are image features.
    use_morphology : {"auto"} or bool, default="auto"
        Whether image features are joined to the others; ``"auto"`` if they vary over the tissue
        about as slowly as the expression.
    clusterer : None, "leiden", "bgm" or clusterer, default=None
        What finds the domains. None is the consensus; anything else clusters the embedding: a
        clusterer or mixture of scikit-learn, of which a clone is fitted, the Leiden algorithm
        (``skvae.spatial.leiden``, ``pip install 'skvae[leiden]'``) or the Bayesian tied mixture of
        the paper. The clone's ``n_clusters``, or else ``n_components``, is set to ``n_clusters``,
        in a pipeline that of its last step, and its ``random_state``, if None, to a seed. New
        spots are put into domains by its ``predict_proba`` or ``predict``, or by the nearest spot
        of the fit where it has neither. Its noise, labels below 0, stays -1.
    refine : bool or "confident", default=True
        Whether neighbours vote on the domains. ``"confident"``, for a ``clusterer``: the 10
        nearest whose posterior is above .9, as in the paper.
    pseudo_labels : {"consensus", "clusterer"}, default="consensus"
        What the network learns from: the consensus, or labels of each modality by itself, from
        ``clusterer`` and without regard to space, as in the paper. There is no consensus then.
    neighbourhood : {"rings", "window", "paper_window"}, default="rings"
        What the network sees of the tissue around a spot: means over rings; or, on square and
        hexagonal lattices, a window of cells, by the convolutions of the paper
        (``skvae.models.WindowAutoencoder``), which take a hundred times as long. In the paper's
        own windows every second cell of a hexagonal lattice is empty and filled with the window's
        median, and each feature is brought to [0, 1]; ``"window"`` leaves no cell of the lattice
        out and masks missing spots. Only rings are the same for a slice that is turned.
    window_size : int, default=7
        Cells along a side of the window, odd.
    hidden_layer_sizes : sequence of int, default=(64,)
        Widths of the hidden layers of the encoder; those of the decoder in reverse. For windows
        one number, the channels between the convolutions.
    likelihood : {"gaussian", "laplace"}, default="gaussian"
        What the reconstruction is measured by, each of a fixed scale: the mean squared or the mean
        absolute error.
    triplet_weight : float, default=0.3
        Weight of the triplets, which draw spots of one label together, to one of the
        reconstruction.
    contrast_weight : float, default=0.0
        Weight of a contrast (InfoNCE) that draws neighbours together; with rings only.
    modality_weights : (float, float), default=(1.0, 1.0)
        Weights of expression and image in reconstruction and triplets. Labels that both share
        count with that of expression.
    model_params : dict, default=None
        More parameters of the network, ``skvae.models.SpatialStudent`` or ``WindowAutoencoder``.
    n_repeats : int or None, default=None
        Mixtures on each projection. None: 1, and 3 below 1,000 spots.
    max_steps : int, default=300
        Training steps of the network.
    batch_size : int, default=256
        Spots in a step.
    learning_rate : float, default=0.0025
        Step size of Adam, at its highest.
    device : str, default="auto"
        A torch device; ``"auto"`` takes a CUDA GPU where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the mixtures, the weights and the training.
    verbose : int, default=0
        Whether to show a progress bar.
    callbacks : list of Callback or function, default=None
        Told of each epoch of the student (``skvae.training.Callback``).

    Attributes
    ----------
    labels_ : int64 ndarray of shape (n_spots,)
        Domain of each spot, from 0, in the order of their sizes; -1 for noise of ``clusterer``.
    embedding_ : float64 ndarray of shape (n_spots, n_components)
        Latents of the network.
    agreement_ : float or None
        Mean adjusted Rand index between the mixtures: a sign of quality that needs no labels. None
        without a consensus.
    n_clusters_ : int
        Number of domains.
    consensus_ : SpatialConsensus or None
        What the network learnt from, and without a ``clusterer`` what labels spots. With
        ``n_clusters=None`` its ``selection_`` holds the numbers that were tried.
    clusterer_ : clusterer or None
        The fitted clone.
    mixture_ : TiedMixture
        A mixture of the domains on the embedding, for ``score``.
    expression_pca_ : CountsPCA, PCA or None
        What X is reduced by: the first for counts, the second for more than 50 features that are
        none. None where features are used as they are.
    morphology_pca_ : PCA or None
        The same for more than 50 image features.
    model_ : SpatialStudent or WindowAutoencoder
        The torch module, in eval mode.
    history_ : DataFrame of shape (n_epochs, ...)
        Loss of the network and its terms, epoch by epoch.
    loss_curve_ : list of float
        Loss of each epoch.
    n_iter_ : int
        Epochs made.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if all are strings.

    See Also
    --------
    skvae.spatial.SpatialConsensus : The domains without the embedding.

    Notes
    -----
    Without coordinates spots have no neighbours, and this clusters them one by one.

    Where AESTETIK leaves things to chance the preset does not: the embedding is one pass without
    dropout, where there it is the mean of 1,000 with, and features of new slices are scaled as
    those of the first. One hundred steps are its hundred epochs for up to 8,192 spots.

    With scikit-learn's metadata routing enabled, pipelines and searches hand ``coordinates``,
    ``morphology`` and ``slide`` on by themselves. Folds that split a slide at random tear its
    neighbourhoods apart: split by slide, or by blocks of space.

    References
    ----------
    .. [1] Nonchev et al., "Representation learning for multi-modal spatially resolved
       transcriptomics data", medRxiv 2024.06.04.24308256.

    Examples
    --------
    >>> from skvae import AEStetikClusterer
    >>> from skvae.datasets import make_spatial_domains
    >>> tissue = make_spatial_domains(400, n_domains=3, random_state=0)
    >>> clusterer = AEStetikClusterer(n_clusters=3, n_repeats=1, max_steps=20, random_state=0)
    >>> labels = clusterer.fit_predict(tissue.counts, coordinates=tissue.coordinates)
    >>> labels.shape, clusterer.embedding_.shape
    ((400,), (400, 16))
    """

    _preset_folder = "aestetik_clusterer"
    _parameter_constraints: dict = {
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "coordinates_columns": ["array-like", None],
        "morphology_columns": ["array-like", None],
        "use_morphology": ["boolean", StrOptions({"auto"})],
        "clusterer": [StrOptions({"bgm", "leiden"}), HasMethods("fit"), None],
        "refine": ["boolean", StrOptions({"confident"})],
        "pseudo_labels": [StrOptions({"consensus", "clusterer"})],
        "neighbourhood": [StrOptions({"rings", "window", "paper_window"})],
        "window_size": [Interval(Integral, 3, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "likelihood": [StrOptions({"gaussian", "laplace"})],
        "triplet_weight": [Interval(Real, 0, None, closed="left")],
        "contrast_weight": [Interval(Real, 0, None, closed="left")],
        "modality_weights": ["array-like"],
        "model_params": [dict, None],
        "n_repeats": [Interval(Integral, 1, None, closed="left"), None],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
    }

    __metadata_request__fit = _ROUTED
    __metadata_request__predict = _ROUTED
    __metadata_request__predict_proba = _ROUTED
    __metadata_request__transform = _ROUTED
    # Searches over a pipeline pass sample_weight on.
    __metadata_request__score = {**_ROUTED, "sample_weight": True}

    def __init__(
        self,
        n_clusters=7,
        *,
        n_components=16,
        coordinates_columns=None,
        morphology_columns=None,
        use_morphology="auto",
        clusterer=None,
        refine=True,
        pseudo_labels="consensus",
        neighbourhood="rings",
        window_size=7,
        hidden_layer_sizes=(64,),
        likelihood="gaussian",
        triplet_weight=0.3,
        contrast_weight=0.0,
        modality_weights=(1.0, 1.0),
        model_params=None,
        n_repeats=None,
        max_steps=300,
        batch_size=256,
        learning_rate=2.5e-3,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.coordinates_columns = coordinates_columns
        self.morphology_columns = morphology_columns
        self.use_morphology = use_morphology
        self.clusterer = clusterer
        self.refine = refine
        self.pseudo_labels = pseudo_labels
        self.neighbourhood = neighbourhood
        self.window_size = window_size
        self.hidden_layer_sizes = hidden_layer_sizes
        self.likelihood = likelihood
        self.triplet_weight = triplet_weight
        self.contrast_weight = contrast_weight
        self.modality_weights = modality_weights
        self.model_params = model_params
        self.n_repeats = n_repeats
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def fit(self, X, y=None, *, coordinates=None, morphology=None, slide=None):
        """Find the domains, and learn the embedding.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_spots, n_features), or AnnData
            Features of spots: counts, which are put through ``CountsPCA``, or principal components
            in the order of their variance. More than 50 features that are no counts, such as
            logarithms, are reduced by PCA. Both may be sparse. An AnnData brings its coordinates,
            slides and image features (``skvae.spatial.annotated.read_annotated``) and is not
            changed.
        y : None
            Ignored.
        coordinates : array-like of shape (n_spots, 2) or (n_spots, 3), default=None
            Where the spots lie, in any one unit.
        morphology : array-like of shape (n_spots, n_image_features), default=None
            Features of the image at the spots.
        slide : array-like of shape (n_spots,), default=None
            Slide of each spot; neighbours never cross slides.

        Returns
        -------
        self : AEStetikClusterer

        Raises
        ------
        ValueError
            A parameter or the data cannot be used; the message names it and the way out.
        """
        self._validate_params()
        shape = getattr(y, "shape", ())
        if len(shape) == 2 and shape[1] in (2, 3):
            raise ValueError(
                f"y of shape {shape} looks like coordinates, and y is ignored: pass them as "
                "coordinates=."
            )
        CallbackList(self.callbacks or ())
        with self._former_fit_kept():
            vars(self).pop("model_", None)  # an interrupted fit leaves the estimator unfitted
            self._fit(X, coordinates, morphology, slide)
        return self

    def _fit(self, X, coordinates, morphology, slide) -> None:
        params = self.get_params(deep=False)
        check_pseudo_label_params(params)
        check_network_params(params)
        # Of any size: the network refuses model_params before the consensus takes its time.
        self._build_model(network_spec(params, 1, 1), seed=0)
        device = resolve_device(self.device)
        rng = private_random_state(self.random_state)
        seeds = [int(seed) for seed in rng.randint(2**31 - 1, size=4)]
        spots = self._read(X, coordinates, morphology, slide, reset=True)
        check_places(spots.around, self._reader.is_spatial, self.neighbourhood)
        chosen = spots.around.spread_sample(MAX_STUDENT_SPOTS, np.random.RandomState(seeds[2]))
        labels, self._source = find_pseudo_labels(spots, chosen, params, seeds[1])
        view = self._view(spots)
        model = self._learn(view, labels, chosen, seeds[3], device)
        self.embedding_ = view.embed(model)
        if self.clusterer is None:
            self._domains, self.labels_ = None, labels
            self.n_clusters_ = self._source.n_clusters_
        else:
            self._domains = EmbeddingDomains(
                make_clusterer(self.clusterer, self.n_clusters, np.random.RandomState(seeds[0])),
                self.refine,
                self._source.width_factor_,
            )
            self.labels_ = labels_of(self._domains.fit(self.embedding_, chosen, spots.around))
            self.n_clusters_ = self._domains.n_clusters
        known = chosen[self.labels_[chosen] >= 0]
        self.mixture_ = fit_from_labels(
            self.embedding_[known], self.labels_[known], self.n_clusters_
        )
        self.model_ = model

    def fit_predict(self, X, y=None, *, coordinates=None, morphology=None, slide=None):
        """Fit, and return ``labels_``; parameters are those of ``fit``."""
        self.fit(X, y, coordinates=coordinates, morphology=morphology, slide=slide)
        return self.labels_

    def fit_transform(self, X, y=None, *, coordinates=None, morphology=None, slide=None):
        """Fit, and return ``embedding_``; parameters are those of ``fit``."""
        self.fit(X, y, coordinates=coordinates, morphology=morphology, slide=slide)
        return self.embedding_

    def transform(self, X, *, coordinates=None, morphology=None, slide=None):
        """Embed spots of any slides; parameters are those of ``fit``.

        Returns
        -------
        Z : float64 ndarray of shape (n_spots, n_components)
        """
        check_is_fitted(self)
        spots = self._read(X, coordinates, morphology, slide, reset=False)
        return self._view(spots).embed(self.model_)

    def predict(self, X, *, coordinates=None, morphology=None, slide=None):
        """Return the domains of spots of any slides; parameters are those of ``fit``.

        Returns
        -------
        labels : int64 ndarray of shape (n_spots,)
            With the ids of ``labels_``.
        """
        return labels_of(
            self.predict_proba(X, coordinates=coordinates, morphology=morphology, slide=slide)
        )

    def predict_proba(self, X, *, coordinates=None, morphology=None, slide=None):
        """Return the probabilities of the domains; parameters are those of ``fit``.

        Returns
        -------
        proba : ndarray of shape (n_spots, n_clusters)
            With ``refine``, shares of the vote. Rows of noise are 0.
        """
        check_is_fitted(self)
        return self._proba(self._read(X, coordinates, morphology, slide, reset=False))

    def score(
        self, X, y=None, *, coordinates=None, morphology=None, slide=None, sample_weight=None
    ):
        """Return the mean log-likelihood of the embedding under the mixture of the domains.

        It tells whether spots look like those of the fit. Fits are not to be compared by it: the
        network draws each embedding to its own domains, and its scale follows from them, from
        ``n_components``, the features and the steps. Numbers of domains compare by
        ``skvae.spatial.choose_n_clusters``; anything else by labels, where a slide has some.

        Parameters
        ----------
        X, coordinates, morphology, slide
            As in ``fit``.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_spots,), default=None
            Weights of the spots.

        Returns
        -------
        score : float
            Nats a spot.
        """
        Z = self.transform(X, coordinates=coordinates, morphology=morphology, slide=slide)
        Z = np.asarray(Z)
        weight = _check_sample_weight(sample_weight, Z, ensure_non_negative=True)
        return float(np.average(self.mixture_.score_samples(Z), weights=weight))

    @property
    def consensus_(self):
        """What the network learnt from, or None."""
        check_is_fitted(self)
        return self._source if isinstance(self._source, SpatialConsensus) else None

    @property
    def agreement_(self):
        """Mean adjusted Rand index between the mixtures of the consensus, or None."""
        return getattr(self.consensus_, "agreement_", None)

    @property
    def clusterer_(self):
        """The fitted clone of ``clusterer``, or None."""
        check_is_fitted(self)
        return getattr(self._domains, "clusterer", None)

    def _view(self, spots: Spots) -> RingView | WindowView:
        """Return spots as the network sees them."""
        features = self._source.features(spots.X, spots.morphology)
        width_factor = self._source.width_factor_
        return make_view(features, spots.around, width_factor, self.get_params(deep=False))

    def _learn(self, view, labels, chosen: np.ndarray, seed: int, device) -> torch.nn.Module:
        """Train the network on the labels of the chosen spots."""
        params = self.get_params(deep=False)
        n_expression = self._source.n_leading_
        n_morphology = view.features.shape[1] - n_expression
        model = self._build_model(network_spec(params, n_expression, n_morphology), seed)
        warn_of_fewer_components(self.n_components, model.latent_dim, type(self)().n_components)
        view.start(model, chosen)
        model = model.to(device)
        result = self._train(
            model,
            view.batches(model, chosen, labels[chosen]),
            lambda n_rows: training_config(view, params),
            n_rows=len(chosen),
            seed=seed,
            validation_fraction=None,
        )
        model.hold(None)
        self._keep_history(result)
        self._n_features_out = model.latent_dim
        return model.eval()

    def _proba(self, spots: Spots, Z: np.ndarray | None = None) -> np.ndarray:
        if self._domains is None:
            return self._source.predict_proba(
                spots.X, morphology=spots.morphology, neighbourhoods=spots.around
            )
        Z = self._view(spots).embed(self.model_) if Z is None else Z
        return self._domains.proba(Z, spots.around)
