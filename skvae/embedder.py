"""``VAEEmbedder``: embeddings, and the way back, from a zoo of autoencoders."""

from __future__ import annotations

import copy
import inspect
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skvae._assembly import assemble, choose_likelihood, choose_scale
from skvae._estimator import TorchEstimator, isolated_torch_seed, resolve_device
from skvae._random import private_random_state
from skvae.models import LIKELIHOODS, MODELS, NETWORKS, StepContext
from skvae.models.mlp import ACTIVATIONS
from skvae.models.noise import SharedNoise
from skvae.models.vae import log_mean_exp
from skvae.models.zoo import (
    check_hyper_parameters,
    check_model_name,
    is_conditional,
    learns_from_labels,
)
from skvae.rows import Labels, RowFormat, check_numeric, flat
from skvae.samplers import SAMPLERS
from skvae.samplers.choice import choose_sampler
from skvae.streams import RowStream, is_stream
from skvae.training import CallbackList, TrainingConfig

# Rows that a new model is built on: some take their start from them.
BUILD_ROWS = 512
# Latents from which a sampler learns, and rows over which a likelihood's scale is settled.
MAX_SAMPLER_ROWS = 10_000
# Rows encoded or decoded at a time: what passes between layers stays in the cache.
CHUNK_ROWS = 1024
# Numbers in a network's layers for the latents that are scored at a time, roughly.
SCORE_NUMBERS = 2**23
# Parameters that a module of one's own makes void.
MODEL_PARTS = (
    "model_params",
    "encoder",
    "decoder",
    "network",
    "hidden_layer_sizes",
    "activation",
    "likelihood",
)
# Parameters that make a model, by their names in its spec.
SPEC_PARAMETERS = {
    "model": "model",
    "model_params": "params",
    "n_components": "latent_dim",
    "network": "network",
    "hidden_layer_sizes": "hidden_layer_sizes",
    "activation": "activation",
    "likelihood": "likelihood",
}
# What a module of one's own must bring.
MODEL_METHODS = (
    "training_loss",
    "build",
    "embed",
    "decode_mean",
    "draw_latents",
    "log_weights",
    "finalize",
)


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
        self._check_combinations()
        CallbackList(self.callbacks or ())  # refuses what is no callback, before anything is lost
        device = resolve_device(self.device)
        go_on = go_on and hasattr(self, "model_")
        rng = private_random_state(self.random_state)
        seeds = rng.randint(2**31 - 1, size=5)
        if go_on:  # other noise than in the fit before
            seeds = np.random.RandomState(int(seeds[0]) ^ self.n_steps_).randint(2**31 - 1, size=5)
        stream = None
        if is_stream(X):
            stream = RowStream(X, int(seeds[4]))
            self._check_stream(stream, y)
            X, y = stream.rows, stream.labels
        before = dict(vars(self))
        try:
            model, data = self._prepare(X, y, stream, classes, int(seeds[0]), device, go_on)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)  # what was fitted still is
            raise
        if not go_on and hasattr(self, "model_"):
            del self.model_  # from here on, an interrupted fit leaves the estimator unfitted
        n_rows = len(data[0]) if stream is None else stream.n_rows
        result = self._train(
            model,
            data if stream is None else stream.mapped(self._to_batch, self.batch_size),
            lambda n_rows: self._training_config(n_epochs),
            n_rows=n_rows,
            seed=int(seeds[1]),
            validation_fraction=self.validation_fraction if self.early_stopping else None,
            resume_from=resume_from,
            optimizer_state=self._moments() if go_on and n_epochs else None,
        )
        if n_epochs:
            self._optimizer_state = [
                [t.numpy(force=True) for t in p] for p in result.optimizer_state
            ]
        self._settle(model, data, int(seeds[2]), n_rows, whole=not n_epochs)
        self.sampler_ = self._fit_sampler(model, data, int(seeds[3]))
        self._keep_history(result)
        self._sample_rng = np.random.RandomState(rng.randint(2**31 - 1))
        self.model_ = model
        return self

    def _prepare(self, X, y, stream, classes, seed: int, device, go_on: bool):
        """Return the model to train, and rows as tensors: all, or those kept of a stream."""
        rows = self._read(X, reset=not go_on)
        if go_on:
            self._check_same_model()
            model = self.model_
        else:
            spec = self._new_spec(rows, y, stream, classes)
            self._optimizer_state = None
            # From all over the data, which may be sorted.
            chosen = np.random.RandomState(seed).permutation(len(rows))[:BUILD_ROWS]
            model = self._build_model(spec, seed, self._format.to_tensor(rows[chosen])).to(device)
        choose_sampler(self.sampler, model, SAMPLERS)  # refuses a wrong one before the training
        data = self._to_data(rows, y, device)
        if getattr(model, "likelihood", None) is not None:
            model.likelihood.check(data[0])
        if self._labels is not None and stream is None:
            self._labels.add(data[1])
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
        y : array-like of shape (n_samples,), default=None
            Labels, for conditional models; without them rows are means over the classes.

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
        return self._format.restore(self._decode(Z, y, self._double_model()))

    def reconstruct(self, X, y=None):
        """Encode rows and decode them again.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images (n_samples, ...)
            The rows.
        y : array-like of shape (n_samples,), default=None
            Labels, for conditional models.

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
            Labels to draw rows of, for conditional models; without them labels are drawn with
            their frequencies in fit.
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
        elif y is not None and np.ndim(y) == 0:
            y = np.full(n_samples, y)
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
        model = self._double_model()
        device = next(model.parameters()).device
        ends = [torch.from_numpy(Z).to(device) for Z in (Z0, Z1)]
        times = np.linspace(0, 1, n_steps)
        with torch.no_grad():
            ways = [model.interpolate_latents(*ends, float(t)).cpu().numpy() for t in times]
        Z = np.stack(ways, axis=1)
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
        rows = self._read(X)
        model = self._double_model()

        def bound(x):
            # The same noise for each chunk, and for each row of it.
            with isolated_torch_seed(0, x.device), SharedNoise(len(x)):
                return log_mean_exp(model.log_weights(x, n_draws), 1)

        n_latents = SCORE_NUMBERS // max(512, 16 * rows.shape[1])
        scores = self._over_rows(rows, model, bound, max(1, n_latents // n_draws))
        return scores - self._format.log_measure

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
        model = self._double_model()
        return self._over_rows(self._read(X), model, model.embed)

    @property
    def _n_features_out(self):
        return self._latent_dim  # not there, and so no names, before fit

    def _check_combinations(self) -> None:
        """Refuse parameters that do not go together, or that the model does not take."""
        if isinstance(self.model, torch.nn.Module):
            self._check_own_module()
        else:
            check_model_name(self.model)
            check_hyper_parameters(self._model_class(), self.model_params or {})
        sizes = self.hidden_layer_sizes
        if sizes is not None and not all(isinstance(s, Integral) and s > 0 for s in sizes):
            raise ValueError(f"hidden_layer_sizes must be whole numbers above 0, got {sizes!r}.")

    def _check_same_model(self) -> None:
        """Refuse to go on with a model that the parameters no longer describe."""
        for name, key in SPEC_PARAMETERS.items():
            now, before = getattr(self, name), self._spec[key]
            if now == "auto" or now is None or isinstance(now, torch.nn.Module):
                continue
            if isinstance(now, (list, tuple)):
                now, before = list(now), list(before or ())
            if now != before:
                raise ValueError(
                    f"{name}={now!r}, but the model that is to go on was built with {before!r}. "
                    "Fit anew with warm_start=False, or on a clone."
                )

    def _check_own_module(self) -> None:
        for method in MODEL_METHODS:
            if not hasattr(self.model, method):
                raise TypeError(
                    f"model={type(self.model).__name__} has no method {method!r}: derive it from "
                    "skvae.models.VAE, AE or BaseAutoencoder."
                )
        defaults = type(self)().get_params()
        for name in MODEL_PARTS:
            value = getattr(self, name)
            if value is not None and value != defaults[name]:
                raise ValueError(
                    f"{name}={value!r} was given, but model={type(self.model).__name__}(...) is a "
                    f"module that brings its own. Leave {name} out, or give the class."
                )

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

    def _check_stream(self, stream: RowStream, y) -> None:
        if y is not None:
            raise ValueError("X is a stream, which brings its own labels: leave y out.")
        if self.early_stopping and not stream.is_indexed:
            raise ValueError(
                "early_stopping=True needs rows that can be held out: give X as an array or a "
                "map-style Dataset instead of batches."
            )

    def _new_spec(self, rows: np.ndarray, y, stream: RowStream | None, classes) -> dict:
        """Decide what depends on the data: shapes, scaling, likelihood, labels."""
        likelihood = choose_likelihood(self.likelihood, rows)
        if stream is None:
            moments = rows.mean(0, dtype=np.float64), rows.var(0, dtype=np.float64)
        else:
            moments = stream.mean, stream.variance
        image = len(self._format.input_shape) == 3
        self._format.set_scale(*moments, choose_scale(self.scale, likelihood, moments[1], image))
        self.mean_, self.scale_ = self._format.mean_, self._format.scale_
        model_class = self._model_class()
        self._conditional = is_conditional(model_class)
        if self._conditional and y is None:
            raise ValueError(f"model={self.model!r} needs labels: fit(X, y).")
        self._labels = None
        if y is not None and learns_from_labels(model_class):
            if stream is not None:
                self._labels = Labels(stream.classes, stream.counts)
            else:
                self._labels = Labels(np.unique(np.asarray(y if classes is None else classes)))
            self.classes_ = self._labels.classes
        sizes = self.hidden_layer_sizes
        return {
            "model": self.model if isinstance(self.model, type) else copy.deepcopy(self.model),
            "input_shape": self._format.input_shape,
            "latent_dim": self.n_components,
            "likelihood": copy.deepcopy(likelihood),
            "network": self.network,
            "hidden_layer_sizes": None if sizes is None else tuple(int(s) for s in sizes),
            "activation": self.activation,
            "encoder": copy.deepcopy(self.encoder),
            "decoder": copy.deepcopy(self.decoder),
            "n_classes": len(self.classes_) if self._conditional else None,
            "params": {
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in (self.model_params or {}).items()
            },
        }

    def _model_class(self) -> type:
        if isinstance(self.model, str):
            return MODELS[self.model]
        return self.model if isinstance(self.model, type) else type(self.model)

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

    def _training_config(self, n_epochs: int | None) -> TrainingConfig:
        once = n_epochs is not None  # a pass of partial_fit
        return TrainingConfig(
            n_epochs=n_epochs or self.max_epochs,
            batch_size=self.batch_size,
            optimizer="adamw",
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            betas=(0.9, 0.999),
            schedule="constant" if once else self.learning_rate_schedule,
            warmup_steps=0 if once else 50,
            warmup_share=0.1,
            beta_warmup_share=0.0 if once else self.beta_warmup,
            average_decay=None if once else self.weight_averaging,
            max_grad_norm=self.max_grad_norm,
            n_iter_no_change=self.n_iter_no_change if self.early_stopping else None,
            tol=self.tol,
            precision=self.precision,
            compile=self.compile,
        )

    def _moments(self) -> list[list[torch.Tensor]] | None:
        """Return where the optimizer of the last call of ``partial_fit`` stood."""
        state = getattr(self, "_optimizer_state", None)
        return state and [[torch.tensor(array) for array in player] for player in state]

    def _settle(self, model, data, seed: int, n_rows: int, whole: bool) -> None:
        """Let the model take stock of the rows with its final weights.

        If they are the ``whole`` data, the scale of the likelihood becomes theirs, and is no longer
        an average over the last batches.
        """
        model.eval()
        rows = self._some_rows(data, seed)
        with torch.no_grad(), isolated_torch_seed(seed, rows[0].device):
            model.finalize(rows[0])
            likelihood = getattr(model, "likelihood", None)
            if likelihood is None or not whole:
                return
            likelihood.forget_scale()
            likelihood.train()
            # In parts of one size, as each counts the same.
            n_parts = -(-len(rows[0]) // CHUNK_ROWS)
            for batch in zip(*(tensor.tensor_split(n_parts) for tensor in rows), strict=True):
                model.training_loss(batch, StepContext(n_rows=n_rows))
            likelihood.eval()

    def _some_rows(self, data: tuple[torch.Tensor, ...], seed: int) -> tuple[torch.Tensor, ...]:
        """Return rows from all over the data, which may be sorted."""
        device = data[0].device
        generator = torch.Generator(device).manual_seed(seed)
        order = torch.randperm(len(data[0]), generator=generator, device=device)[:MAX_SAMPLER_ROWS]
        return tuple(tensor[order] for tensor in data)

    def _fit_sampler(self, model, data: tuple[torch.Tensor, ...], seed: int):
        """Fit the density of the latents."""
        sampler = choose_sampler(self.sampler, model, SAMPLERS)
        if "random_state" in sampler.get_params() and sampler.random_state is None:
            sampler.set_params(random_state=seed)
        (x, *_) = self._some_rows(data, seed)
        with torch.no_grad(), isolated_torch_seed(seed, x.device):
            Z = torch.cat([model.draw_latents(part) for part in x.split(CHUNK_ROWS)])
        Z = Z.cpu().numpy()
        if "model" in inspect.signature(sampler.fit).parameters:
            return sampler.fit(Z, model=model)
        return sampler.fit(Z)

    def _double_model(self):
        """Copy the model in float64: a row's result then does not depend on its batch."""
        model = copy.deepcopy(self.model_)
        return model.cpu().double() if self.model_device.type == "mps" else model.double()

    @property
    def model_device(self) -> torch.device:
        """Device of the fitted model."""
        return next(self.model_.parameters()).device

    def _over_rows(self, rows: np.ndarray, model, function, chunk: int = CHUNK_ROWS) -> np.ndarray:
        """Apply a function of a float64 batch to all rows."""
        device = next(model.parameters()).device
        parts = []
        with torch.no_grad():
            for start in range(0, len(rows), chunk):
                x = self._format.to_tensor(rows[start : start + chunk], torch.float64).to(device)
                parts.append(function(x).cpu().numpy())
        return np.concatenate(parts)

    def _decode(self, Z: np.ndarray, y, model, noise_seed: int | None = None) -> np.ndarray:
        """Return rows for latents, flat and in the units of the data."""
        parameter = next(model.parameters())
        codes = None
        if y is not None and self._conditional:
            codes = self._labels.to_codes(y, len(Z)).to(parameter.device)
        elif y is not None:
            raise ValueError(f"y was given, but model={self.model!r} does not decode by labels.")
        out = np.empty((len(Z), self.n_features_in_), self._format.dtype)
        with torch.no_grad(), isolated_torch_seed(noise_seed or 0, parameter.device):
            for start in range(0, len(Z), CHUNK_ROWS):
                part = slice(start, start + CHUNK_ROWS)
                z = torch.from_numpy(np.ascontiguousarray(Z[part])).to(parameter)
                labels = () if codes is None else (codes[part],)
                decode = model.decode_mean if noise_seed is None else model.decode_draw
                self._format.to_rows(decode(z, *labels), out[part])
        return out


def check_at_least(name: str, value, minimum: int) -> int:
    """Return a whole number, or raise ValueError for what is none or is too small."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(
            f"{name}={value!r} was asked for, expected a whole number from {minimum} up."
        )
    return int(value)
