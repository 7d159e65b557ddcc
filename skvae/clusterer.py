"""``AEStetikClusterer``: tissue domains, and an embedding that knows them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skvae._estimator import TorchEstimator, resolve_device
from skvae._random import private_random_state
from skvae.spatial import Neighbourhoods, SpatialConsensus, choose_n_clusters, fit_from_labels
from skvae.spatial.annotated import annotate, is_annotated, read_annotated, read_totals
from skvae.spatial.checks import check_morphology
from skvae.spatial.inputs import fit_expression_pca, fit_pca, reduce_expression, split_columns
from skvae.spatial.student import RingView
from skvae.training import CallbackList, TrainingConfig

# Spots, spread evenly, that the student and its mixture learn from.
MAX_STUDENT_SPOTS = 40_000
# Share of the steps over which the learning rate rises.
WARMUP_SHARE = 0.3

_ROUTED = {"coordinates": True, "morphology": True, "slide": True}


class _Spots(NamedTuple):
    """Spots as the consensus takes them: components, image features and neighbourhoods."""

    X: np.ndarray
    morphology: np.ndarray | None
    around: Neighbourhoods


class AEStetikClusterer(
    ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, TorchEstimator
):
    """Find domains of a tissue, and one embedding of spots that holds them.

    Domains are the consensus of many Gaussian mixtures on spatially smoothed projections, followed
    by a vote of neighbours (``skvae.spatial.SpatialConsensus``). An autoencoder of spots and the
    rings around them then learns them as a student (``skvae.models.SpatialStudent``): it starts as
    a linear map, reconstructs expression and image, and is drawn to the domains by triplets. Its
    latents are the embedding. Both go on to new slices, under the same label ids.

    Parameters
    ----------
    n_clusters : int or None, default=7
        Number of domains. None chooses it where several clusterings agree, which is a hint, not a
        measurement (``skvae.spatial.choose_n_clusters``).
    n_components : int, default=16
        Size of the embedding; no more than there are features.
    coordinates_columns : sequence of str or int, default=None
        Columns of X, two or three, that are coordinates and not features. So one table carries
        everything through any pipeline.
    morphology_columns : sequence of str or int, default=None
        Columns of X that are image features.
    use_morphology : {"auto"} or bool, default="auto"
        Whether image features are joined to the others; ``"auto"`` if they vary over the tissue
        about as slowly as the expression.
    refine : bool, default=True
        Whether neighbours vote on the domains.
    n_repeats : int or None, default=None
        Mixtures on each projection. None: 3, and 10 below 1,000 spots.
    max_steps : int, default=300
        Training steps of the student.
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
        Domain of each spot, from 0, in the order of their sizes.
    embedding_ : float64 ndarray of shape (n_spots, n_components)
        Latents of the student.
    agreement_ : float
        Mean adjusted Rand index between the mixtures: a sign of quality that needs no labels.
    n_clusters_ : int
        Number of domains.
    consensus_ : SpatialConsensus
        What labels spots.
    mixture_ : TiedMixture
        A mixture of the domains on the embedding, for ``score``.
    expression_pca_ : CountsPCA, PCA or None
        What X is reduced by: the first for counts, the second for more than 50 features that are
        none. None where features are used as they are.
    morphology_pca_ : PCA or None
        The same for more than 50 image features.
    model_ : SpatialStudent
        The torch module, in eval mode.
    history_ : DataFrame of shape (n_epochs, ...)
        Loss of the student and its terms, epoch by epoch.
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
        "refine": ["boolean"],
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
        refine=True,
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
        self.refine = refine
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
        CallbackList(self.callbacks or ())
        before = dict(vars(self))
        vars(self).pop("model_", None)  # an interrupted fit leaves the estimator unfitted
        try:
            self._fit(X, coordinates, morphology, slide)
        except Exception:
            vars(self).clear()
            vars(self).update(before)  # what was fitted still is
            raise
        return self

    def _fit(self, X, coordinates, morphology, slide) -> None:
        device = resolve_device(self.device)
        rng = private_random_state(self.random_state)
        seeds = rng.randint(2**31 - 1, size=4)
        spots = self._read(X, coordinates, morphology, slide, reset=True)
        self.n_clusters_ = self.n_clusters
        if self.n_clusters is None:
            choice_rng = np.random.RandomState(seeds[0])
            self.n_clusters_ = choose_n_clusters(spots.X, spots.around, choice_rng).n_clusters
        self.consensus_ = SpatialConsensus(
            self.n_clusters_,
            refine=self.refine,
            use_morphology=self.use_morphology,
            n_repeats=self.n_repeats,
            random_state=int(seeds[1]),
        ).fit(spots.X, morphology=spots.morphology, neighbourhoods=spots.around)
        self.labels_ = self.consensus_.labels_
        self.agreement_ = self.consensus_.agreement_
        view = self._view(spots)
        chosen = spots.around.spread_sample(MAX_STUDENT_SPOTS, np.random.RandomState(seeds[2]))
        model = self._learn(view, chosen, int(seeds[3]), device)
        self.embedding_ = view.embed(model)
        self.mixture_ = fit_from_labels(
            self.embedding_[chosen], self.labels_[chosen], self.n_clusters_
        )
        self.model_ = model

    def fit_predict(self, X, y=None, *, coordinates=None, morphology=None, slide=None):
        """Fit, and return ``labels_``; parameters are those of ``fit``."""
        self.fit(X, coordinates=coordinates, morphology=morphology, slide=slide)
        return self.labels_

    def fit_transform(self, X, y=None, *, coordinates=None, morphology=None, slide=None):
        """Fit, and return ``embedding_``; parameters are those of ``fit``."""
        self.fit(X, coordinates=coordinates, morphology=morphology, slide=slide)
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
        return self.predict_proba(
            X, coordinates=coordinates, morphology=morphology, slide=slide
        ).argmax(axis=1)

    def predict_proba(self, X, *, coordinates=None, morphology=None, slide=None):
        """Return the probabilities of the domains; parameters are those of ``fit``.

        Returns
        -------
        proba : ndarray of shape (n_spots, n_clusters)
            With ``refine``, shares of the vote.
        """
        check_is_fitted(self)
        return self._proba(self._read(X, coordinates, morphology, slide, reset=False))

    def score(
        self, X, y=None, *, coordinates=None, morphology=None, slide=None, sample_weight=None
    ):
        """Return the mean log-likelihood of the embedding under the mixture of the domains.

        Scores compare between numbers of domains, and not between sizes of the embedding.

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
        log_likelihood = self.mixture_.score_samples(np.asarray(Z))
        return float(np.average(log_likelihood, weights=sample_weight))

    def annotate(self, adata, *, key="aestetik"):
        """Write domains and embedding into an AnnData.

        Parameters
        ----------
        adata : AnnData
            The spots; it is changed: ``obs[key]``, ``obsm["X_<key>"]`` and ``obsm["<key>_proba"]``.
        key : str, default="aestetik"
            The name.

        Returns
        -------
        adata
            The same object.
        """
        check_is_fitted(self)
        spots = self._read(adata, None, None, None, reset=False)
        proba = self._proba(spots)
        Z = self._view(spots).embed(self.model_)
        return annotate(adata, proba.argmax(axis=1), Z, proba, key=key)

    def _read(self, X, coordinates, morphology, slide, *, reset: bool) -> _Spots:
        """Check what was passed, and reduce it to components."""
        total = None
        if is_annotated(X):
            total = read_totals(X)
            found = read_annotated(X)
            X = found.X
            coordinates = found.coordinates if coordinates is None else coordinates
            morphology = found.morphology if morphology is None else morphology
            slide = found.slide if slide is None else slide
        dtypes = [np.float64, np.float32]
        n_least = 2 if reset else 1
        X = validate_data(
            self, X, accept_sparse="csr", dtype=dtypes, reset=reset, ensure_min_samples=n_least
        )
        X, parts = split_columns(
            X,
            getattr(self, "feature_names_in_", ()),
            {"coordinates": self.coordinates_columns, "morphology": self.morphology_columns},
            {"coordinates": coordinates, "morphology": morphology},
        )
        n_spots, morphology = X.shape[0], parts["morphology"]
        if reset and n_spots < (self.n_clusters or 1):
            raise ValueError(
                f"n_samples={n_spots} should be >= n_clusters={self.n_clusters}: lower n_clusters "
                "or pass more spots."
            )
        around = self._neighbourhoods(n_spots, parts["coordinates"], slide, reset)
        if morphology is not None and self.use_morphology is not False:
            morphology = check_morphology(morphology, n_spots)
        else:
            morphology = None
        if reset:
            self.expression_pca_ = fit_expression_pca(X, total)
            self.morphology_pca_ = None if morphology is None else fit_pca(morphology)
        X = reduce_expression(X, self.expression_pca_, total)
        if self.morphology_pca_ is not None and morphology is not None:
            expected = self.morphology_pca_.n_features_in_
            morphology = check_morphology(morphology, n_spots, expected)
            morphology = self.morphology_pca_.transform(morphology)
        return _Spots(X, morphology, around)

    def _neighbourhoods(self, n_spots: int, coordinates, slide, reset: bool) -> Neighbourhoods:
        if reset:
            self._is_spatial = coordinates is not None
        elif self._is_spatial != (coordinates is not None):
            raise ValueError(
                "coordinates is missing: the domains were found with coordinates, pass those of "
                "these spots, too."
                if self._is_spatial
                else "coordinates was given, but fit had none: fit with coordinates, or leave "
                "them out."
            )
        if coordinates is None:
            if slide is not None:
                raise ValueError("slide was given without coordinates: pass coordinates, too.")
            return Neighbourhoods.isolated(n_spots)
        if len(coordinates) != n_spots:
            raise ValueError(
                f"coordinates has {len(coordinates)} rows, but X has {n_spots}: give one row per "
                "spot, in the order of X."
            )
        return Neighbourhoods(coordinates, slide)

    def _view(self, spots: _Spots) -> RingView:
        """Return spots as the network sees them."""
        features = self.consensus_.features(spots.X, spots.morphology)
        return RingView(features, spots.around, self.consensus_.width_factor_)

    def _proba(self, spots: _Spots) -> np.ndarray:
        return self.consensus_.predict_proba(
            spots.X, morphology=spots.morphology, neighbourhoods=spots.around
        )

    def _learn(self, view: RingView, chosen: np.ndarray, seed: int, device) -> torch.nn.Module:
        """Train the network on the domains of the chosen spots."""
        n_features = view.features.shape[1]
        n_expression = self.consensus_.n_leading_
        self._n_features_out = min(self.n_components, n_features)
        arguments = {
            "n_features": n_expression,
            "latent_dim": self._n_features_out,
            "n_morphology_features": n_features - n_expression,
        }
        model = self._build_model((view.network, arguments), seed)
        view.start(model, chosen)
        model = model.to(device)
        result = self._train(
            model,
            view.batches(chosen, self.labels_[chosen]),
            lambda n_rows: self._training_config(view),
            n_rows=len(chosen),
            seed=seed,
            validation_fraction=None,
        )
        self._keep_history(result)
        return model.eval()

    def _training_config(self, view: RingView) -> TrainingConfig:
        return TrainingConfig(
            **{
                **view.training,
                "n_epochs": self.max_steps,  # passes are cut by the number of steps
                "max_steps": self.max_steps,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "warmup_steps": round(WARMUP_SHARE * self.max_steps),
            }
        )
