"""``VAEEmbedder``: embeddings, and the way back, from a zoo of autoencoders."""

from __future__ import annotations

import copy
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skvae._embedding.assembly import assemble, plan_model, training_config
from skvae._embedding.checks import (
    check_at_least,
    check_combinations,
    check_labels,
    check_rows_to_hold_out,
    check_same_model,
    check_stream,
)
from skvae._embedding.coding import decode, log_density_bound, over_rows, ways_between
from skvae._embedding.finishing import fit_sampler, settle
from skvae._estimator import TorchEstimator, isolated_torch_seed, resolve_device
from skvae._random import private_random_state
from skvae.models import LIKELIHOODS, NETWORKS
from skvae.models.mlp import ACTIVATIONS
from skvae.models.precision import in_double_precision
from skvae.rows import RowFormat, check_numeric, flat
from skvae.samplers import SAMPLERS
from skvae.samplers.choice import choose_sampler
from skvae.streams import RowStream, is_stream
from skvae.training import CallbackList

# Rows that a new model is built on: some take their start from them.
BUILD_ROWS = 512


class VAEEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchEstimator):
    """Embed rows of numbers, or images, by an autoencoder of your choice.

    Parameters
    ----------
    n_components : int, default=8
        Size of the latent.
    model : str, class or module, default="vae"
        A name of the zoo (``skvae.models.MODELS``), a subclass of ``skvae.models.VAE`` or ``AE``,
        or a module of your own with their methods; the last brings its own networks, likelihood
        and size of the latent.
    model_params : dict or None, default=None
        The model's own parameters, such as ``{"beta": 4.0}``. Unknown ones raise.
    encoder : module or callable, default=None
        Instead of the built-in encoder: a module from rows to features (it is copied; the model
        adds the layer that it needs), or a function ``(input_shape) -> module``.
    decoder : module or callable, default=None
        Instead of the built-in decoder: a module from latents to rows, or a function
        ``(latent_dim, input_shape) -> module``. Its last layer should be linear.
    network : {"auto", "mlp", "conv", "resnet"}, default="auto"
        Built-in networks: ``"auto"`` takes ``"conv"`` for images and ``"mlp"`` for the rest.
    hidden_layer_sizes : tuple of int or None, default=None
        Widths of the layers of the encoder, or its channels; the decoder's are the same in reverse.
        None takes the network's own: (512,) for ``"mlp"``, (16, 32) for the others.
    activation : {"relu", "silu", "gelu", "tanh"} or None, default=None
        What follows each hidden layer. None takes the network's own: ReLU for ``"mlp"``, SiLU for
        the others.
    likelihood : str or Likelihood, default="auto"
        What the decoder says of the data: ``"gaussian"`` (variance of greatest likelihood),
        ``"gaussian_per_feature"`` (a variance learnt for each feature), ``"gaussian_unit"``
        (variance one), ``"laplace"``, ``"bernoulli"`` (data in [0, 1]), ``"ms_ssim"`` (images), or
        a module of ``skvae.models``, such as ``MixedLikelihood`` for rows with one-hot parts.
        ``"auto"`` is Bernoulli for data of zeros and ones, and Gaussian otherwise.
    image_shape : tuple of int or None, default=None
        (height, width) or (channels, height, width) of rows that are flattened images. Arrays of
        more than two dimensions tell it themselves.
    scale : {"auto", "global", "per_feature"} or None, default="auto"
        How rows are centred and scaled for the networks; results are in the units of the data
        whatever it is. ``"global"`` divides all features by one number and keeps their weights
        relative to each other, ``"per_feature"`` evens them out. ``"auto"`` is None for
        likelihoods that are not on the real line, ``"per_feature"`` for flat rows that have no
        common unit (the deviation of a column is over 30 times the median one), and ``"global"``
        for images and all else.
    sampler : str or sampler, default="auto"
        Density of the latents from which ``sample`` draws (``skvae.samplers``). ``"auto"`` is the
        one that is right for the model: its prior, where it has one.
    max_epochs : int, default=100
        Passes over the data.
    batch_size : int, default=64
        Rows in a step.
    learning_rate : float, default=0.002
        Step size of Adam, after a short warm-up.
    learning_rate_schedule : {"cosine", "constant"}, default="cosine"
        Course of the learning rate.
    weight_decay : float, default=0.0
        Strength of the decoupled weight decay.
    weight_averaging : float or None, default=None
        Decay of a running average of the weights, which is then the model that comes out.
    max_grad_norm : float or None, default=None
        Norm to which the gradient is clipped.
    beta_warmup : float, default=0.0
        Share of the training over which the weight of the divergence rises to its value.
    early_stopping : bool, default=False
        Whether to hold rows out, stop when their loss no longer falls, and restore the best
        weights.
    validation_fraction : float, default=0.1
        Share of rows held out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without gain after which early stopping stops.
    tol : float, default=1e-3
        Least gain that counts, nats a row.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        Type of floats in which the networks compute in training; ``"float16"`` needs a GPU.
    compile : bool, default=False
        Whether torch's compiler takes the loss: it pays in long runs.
    warm_start : bool, default=False
        Whether fit goes on from the weights of the fit before.
    device : str, default="auto"
        A torch device; ``"auto"`` takes a CUDA GPU where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the fit, and the samples drawn without a seed of their own.
    verbose : int, default=0
        Whether to show a progress bar.
    callbacks : list of Callback or function, default=None
        Told of each epoch (``skvae.training.Callback``); one that returns True ends the fit.

    Attributes
    ----------
    history_ : DataFrame of shape (n_epochs, ...)
        ``epoch``, ``loss`` and its terms in nats a row, ``learning_rate``, ``seconds``, and
        ``validation_loss`` with early stopping.
    loss_curve_ : list of float
        Loss of each epoch.
    n_iter_ : int
        Epochs made.
    model_ : BaseAutoencoder
        The torch module, in eval mode, on centred and scaled rows.
    sampler_ : sampler
        The fitted density of the latents.
    mean_ : ndarray of shape (n_features,)
        What is subtracted from rows.
    scale_ : ndarray of shape (n_features,)
        What they are divided by.
    classes_ : ndarray of shape (n_classes,)
        Labels, for models that take them.
    n_features_in_ : int
        Number of features of a row.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if all are strings.

    References
    ----------
    .. [1] Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    .. [2] Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skvae import VAEEmbedder
    >>> X, _ = load_digits(return_X_y=True)
    >>> embedder = VAEEmbedder(n_components=4, max_epochs=2, random_state=0).fit(X)
    >>> Z = embedder.transform(X)
    >>> Z.shape, embedder.inverse_transform(Z).shape, embedder.sample(3).shape
    ((1797, 4), (1797, 64), (3, 64))
    """

    _preset_folder = "vae_embedder"
    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "model": [str, torch.nn.Module, type],
        "model_params": [dict, None],
        "encoder": [torch.nn.Module, callable, None],
        "decoder": [torch.nn.Module, callable, None],
        "network": [StrOptions({"auto", *NETWORKS})],
        "hidden_layer_sizes": ["array-like", None],
        "activation": [StrOptions(set(ACTIVATIONS)), None],
        "likelihood": [StrOptions({"auto", *LIKELIHOODS}), torch.nn.Module],
        "image_shape": ["array-like", None],
        "scale": [StrOptions({"auto", "global", "per_feature"}), None],
        "sampler": [StrOptions({"auto", *SAMPLERS}), *SAMPLERS.values()],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate_schedule": [StrOptions({"cosine", "constant"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "weight_averaging": [Interval(Real, 0, 1, closed="neither"), None],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "beta_warmup": [Interval(Real, 0, 1, closed="both")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "precision": [StrOptions({"float32", "bfloat16", "float16"})],
        "compile": ["boolean"],
        "warm_start": ["boolean"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
    }

    def __init__(
        self,
        n_components=8,
        *,
        model="vae",
        model_params=None,
        encoder=None,
        decoder=None,
        network="auto",
        hidden_layer_sizes=None,
        activation=None,
        likelihood="auto",
        image_shape=None,
        scale="auto",
        sampler="auto",
        max_epochs=100,
        batch_size=64,
        learning_rate=0.002,
        learning_rate_schedule="cosine",
        weight_decay=0.0,
        weight_averaging=None,
        max_grad_norm=None,
        beta_warmup=0.0,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-3,
        precision="float32",
        compile=False,
        warm_start=False,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_components = n_components
        self.model = model
        self.model_params = model_params
        self.encoder = encoder
        self.decoder = decoder
        self.network = network
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.image_shape = image_shape
        self.scale = scale
        self.sampler = sampler
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_schedule = learning_rate_schedule
        self.weight_decay = weight_decay
        self.weight_averaging = weight_averaging
        self.max_grad_norm = max_grad_norm
        self.beta_warmup = beta_warmup
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.precision = precision
        self.compile = compile
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def fit(self, X, y=None, *, resume_from=None):
        """Learn to embed rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), images (n_samples, ...), or stream
            The rows. A stream is a torch ``Dataset``, or an iterable of batches such as a
            ``DataLoader``, with labels or without; it is read once before the training, for the
            scale.
        y : array-like of shape (n_samples,), default=None
            Labels, for models that take them (``"conditional"``, ``"ada_gvae"``); ignored by the
            others. A stream brings its own.
        resume_from : path, default=None
            A file of ``skvae.training.Checkpoint``, among ``callbacks`` in a fit that was cut off.
            With the same parameters and data the fit goes on as if it had not been.

        Returns
        -------
        self : VAEEmbedder

        Raises
        ------
        ValueError, TypeError
            A parameter or the data cannot be used; the message names it and the way out.
        FloatingPointError
            The loss stayed non-finite.
        """
        return self._fit(X, y, n_epochs=None, go_on=self.warm_start, resume_from=resume_from)

    def partial_fit(self, X, y=None, classes=None):
        """Make one pass over a batch of rows, at the constant learning rate.

        The first call decides the scaling: let it have some hundred rows. A sampler that is fitted
        to latents sees those of the last call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images (n_samples, ...)
            The rows.
        y : array-like of shape (n_samples,), default=None
            Labels, for models that take them.
        classes : array-like of shape (n_classes,), default=None
            All labels there will be; of use in the first call alone. None: those of its ``y``.

        Returns
        -------
        self : VAEEmbedder
        """
        return self._fit(X, y, n_epochs=1, go_on=True, classes=classes)

    def _fit(self, X, y, *, n_epochs: int | None, go_on: bool, resume_from=None, classes=None):
        self._validate_params()
        check_combinations(self)
        CallbackList(self.callbacks or ())  # refuses what is no callback, before anything is lost
        with self._former_fit_kept():
            self._learn(X, y, n_epochs, go_on and hasattr(self, "model_"), resume_from, classes)
        return self

    def _learn(self, X, y, n_epochs: int | None, go_on: bool, resume_from, classes) -> None:
        """Fit from scratch or go on; ``n_epochs`` are those of ``partial_fit``."""
        device = resolve_device(self.device)
        rng = private_random_state(self.random_state)
        seeds = rng.randint(2**31 - 1, size=5)
        if go_on:  # other noise than in the fit before
            seeds = np.random.RandomState(int(seeds[0]) ^ self.n_steps_).randint(2**31 - 1, size=5)
        stream = None
        if is_stream(X):
            stream = RowStream(X, int(seeds[4]))
            check_stream(self, stream, y)
            X, y = stream.rows, stream.labels
        model, data = self._prepare(X, y, stream, classes, int(seeds[0]), device, go_on)
        n_rows = len(data[0]) if stream is None else stream.n_rows
        check_rows_to_hold_out(self, n_rows)
        result = self._train(
            model,
            data if stream is None else stream.mapped(self._to_batch, self.batch_size),
            lambda n_rows: training_config(self, n_epochs),
            n_rows=n_rows,
            seed=int(seeds[1]),
            validation_fraction=self.validation_fraction if self.early_stopping else None,
            resume_from=resume_from,
            optimizer_state=self._moments() if go_on and n_epochs else None,
        )
        if n_epochs:
            self._keep_moments(result)
        settle(model, data, int(seeds[2]), n_rows, whole=not n_epochs)
        self.sampler_ = fit_sampler(self.sampler, model, data, int(seeds[3]))
        self._keep_history(result)
        self._sample_rng = np.random.RandomState(rng.randint(2**31 - 1))
        if self._labels is not None and stream is None:
            self._labels.add(data[1])
        self.model_ = model

    def _prepare(self, X, y, stream, classes, seed: int, device, go_on: bool):
        """Return the model to train, and rows as tensors: all, or those kept of a stream."""
        if not go_on:
            vars(self).pop("model_", None)  # an interrupted fit leaves the estimator unfitted
        rows = self._read(X, reset=not go_on)
        if go_on:
            check_same_model(self, self._spec)
            model = copy.deepcopy(self.model_)  # one that fails leaves the model as it was
        else:
            spec, self._labels = plan_model(self, self._format, rows, y, stream, classes)
            self._conditional = spec["n_classes"] is not None
            vars(self).pop("classes_", None)  # of an earlier fit
            if self._labels is not None:
                self.classes_ = self._labels.classes
            self.mean_, self.scale_ = self._format.mean_, self._format.scale_
            self._optimizer_state = None
            # From all over the data, which may be sorted.
            chosen = np.random.RandomState(seed).permutation(len(rows))[:BUILD_ROWS]
            model = self._build_model(spec, seed, self._format.to_tensor(rows[chosen])).to(device)
        choose_sampler(self.sampler, model, SAMPLERS)  # refuses a wrong one before the training
        if stream is None and y is not None and self._labels is not None:
            check_labels(y, self.classes_)
        data = self._to_data(rows, y, device)
        if getattr(model, "likelihood", None) is not None:
            model.likelihood.check(data[0])
        return model, data

    def transform(self, X):
        """Embed rows: the mean of the posterior q(z | x), or the code of the encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images (n_samples, ...)
            The rows.

        Returns
        -------
        Z : float64 array of shape (n_samples, n_components)
            Each row's embedding depends on that row alone.
        """
        return self._embed(X)

    def inverse_transform(self, Z, y=None):
        """Turn embeddings into rows: the mean of p(x | z).

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents.
        y : array-like of shape (n_samples,) or label, default=None
            Labels, for conditional models, or one for all rows; without them rows are means over
            the classes.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_samples, n_features), or images
            In the units of the data, in the container that fit saw.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float64)
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has {Z.shape[1]} features, but inverse_transform expects "
                f"n_components={self._n_features_out}."
            )
        return self._format.restore(self._decode(Z, y, in_double_precision(self.model_)))

    def reconstruct(self, X, y=None):
        """Encode rows and decode them again.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images (n_samples, ...)
            The rows.
        y : array-like of shape (n_samples,) or label, default=None
            Labels, for conditional models, or one for all rows.

        Returns
        -------
        X : ndarray or DataFrame of the shape of ``X``
        """
        rows = self.inverse_transform(self._embed(X), y)
        if isinstance(rows, pd.DataFrame) and isinstance(X, pd.DataFrame):
            rows.index = X.index
        return rows

    def sample(self, n_samples=1, *, y=None, noise=False, random_state=None):
        """Draw new rows: latents from the sampler, decoded.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        y : array-like of shape (n_samples,) or label, default=None
            Labels to draw rows of, for conditional models, or one for all rows; without them
            labels are drawn with their frequencies in fit.
        noise : bool, default=False
            Whether to draw from p(x | z), or to return its mean.
        random_state : int, RandomState instance or None, default=None
            Seeds the draw. None continues the stream that ``random_state`` of the estimator
            began in fit, so that each call gives other rows.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_samples, n_features), or images
        """
        check_is_fitted(self)
        n_samples = check_at_least("n_samples", n_samples, 0)
        rng = self._sample_rng if random_state is None else check_random_state(random_state)
        Z = self.sampler_.sample(n_samples, random_state=rng)
        if self._conditional and y is None:
            y = rng.choice(self.classes_, size=n_samples, p=self._labels.frequencies)
        return self._format.restore(
            self._decode(Z, y, self.model_, noise_seed=rng.randint(2**31 - 1) if noise else None)
        )

    def interpolate(self, X0, X1, n_steps=10):
        """Decode the way between the embeddings of rows.

        Parameters
        ----------
        X0, X1 : array-like of shape (n_samples, n_features), or images (n_samples, ...)
            Rows to start from and to end at.
        n_steps : int, default=10
            Points on each way, both ends included.

        Returns
        -------
        X : ndarray of shape (n_samples, n_steps, n_features), or images
        """
        n_steps = check_at_least("n_steps", n_steps, 2)
        Z0, Z1 = self._embed(X0), self._embed(X1)
        if Z0.shape != Z1.shape:
            raise ValueError(
                f"X0 has {len(Z0)} rows and X1 has {len(Z1)}: each row needs one to end at."
            )
        model = in_double_precision(self.model_)
        Z = ways_between(Z0, Z1, model, n_steps)
        decoded = self._decode(Z.reshape(-1, Z.shape[2]), None, model)
        return decoded.reshape(len(Z), n_steps, *self._format.row_shape)

    def score_samples(self, X, *, n_draws=64):
        """Lower bound on the log density of each row, in nats, in the units of the data.

        The importance-weighted bound (Burda et al. 2016, eq. 8) for models with a density; for the
        others the log likelihood of the row given its own code, which is no bound.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images (n_samples, ...)
            The rows.
        n_draws : int, default=64
            Latents drawn a row: more tighten the bound. The noise is the same at each call.

        Returns
        -------
        log_density : float64 array of shape (n_samples,)
        """
        check_is_fitted(self)
        n_draws = check_at_least("n_draws", n_draws, 1)
        model = in_double_precision(self.model_)
        return log_density_bound(self._read(X), self._format, model, n_draws)

    def score(self, X, y=None):
        """Mean of ``score_samples``: higher is better, among models with a density.

        Those without one (autoencoders, WAE, quantised and adversarial models) score the rows
        given their own codes, which is more than any density gives: do not compare them with the
        others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images (n_samples, ...)
            The rows.
        y : None
            Ignored.

        Returns
        -------
        float
            Nats a row.
        """
        return float(self.score_samples(X).mean())

    def _embed(self, X) -> np.ndarray:
        check_is_fitted(self)
        model = in_double_precision(self.model_)
        return over_rows(model.embed, self._read(X), self._format, model)

    @property
    def _n_features_out(self):
        return self._latent_dim  # not there, and so no names, before fit

    def _read(self, X, *, reset: bool = False) -> np.ndarray:
        """Check rows as scikit-learn does; return them flat, float64 or float32."""
        check_numeric(X)
        flat_rows = flat(X)
        rows = validate_data(self, flat_rows, reset=reset, dtype=(np.float64, np.float32))
        if reset:
            seen = X if isinstance(X, pd.DataFrame) or flat_rows is not X else rows
            self._format = RowFormat(seen, self.image_shape)
        elif flat_rows is not X:
            self._format.check_shape(np.shape(X)[1:])
        return rows

    def _build_model(self, spec: dict, seed: int, sample: torch.Tensor | None = None):
        """Build the module of a spec on the CPU, and keep the spec for dumps."""
        self._spec = spec
        if sample is None:
            sample = torch.zeros(2, *spec["input_shape"])
        with isolated_torch_seed(seed):
            model = assemble(spec, sample)
        with torch.no_grad():
            self._latent_dim = model.eval().embed(sample[:1]).shape[1]
        return model

    def _to_data(self, rows: np.ndarray, y, device) -> tuple[torch.Tensor, ...]:
        """Return the tensors to train on: rows, and labels where the model takes them."""
        data = (self._format.to_tensor(rows).to(device),)
        if self._labels is None:
            return data
        return *data, self._labels.to_codes(y, len(rows)).to(device)

    def _to_batch(self, rows: np.ndarray, y) -> tuple[torch.Tensor, ...]:
        """Return a batch of a stream as the model takes it."""
        return self._to_data(self._read(rows), y, torch.device("cpu"))

    @property
    def model_device(self) -> torch.device:
        """Device of the fitted model."""
        return next(self.model_.parameters()).device

    def _decode(self, Z: np.ndarray, y, model, noise_seed: int | None = None) -> np.ndarray:
        """Return rows for latents, flat and in the units of the data."""
        codes = None
        if y is not None:
            if not self._conditional:
                raise ValueError(
                    f"y was given, but model={self.model!r} does not decode by labels."
                )
            codes = self._labels.to_codes(np.full(len(Z), y) if np.ndim(y) == 0 else y, len(Z))
        return decode(Z, codes, self._format, model, noise_seed)
