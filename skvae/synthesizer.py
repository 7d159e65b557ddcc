"""``TVAESynthesizer``: a synthetic table from a real one."""

from __future__ import annotations

import time
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted

from skvae._estimator import TorchEstimator, resolve_device
from skvae._random import private_random_state
from skvae._synthesis.conditional import ConditionalMixin
from skvae._synthesis.constrained import ConstrainedMixin
from skvae._synthesis.growing import RELEASED, GrowingMixin
from skvae._synthesis.imputation import ImputationMixin
from skvae._synthesis.metadata import MetadataMixin
from skvae._synthesis.missing_rates import hold_missing_rates
from skvae._synthesis.probabilities import ProbabilitiesMixin
from skvae._synthesis.scoring import ScoringMixin, posterior_means, table_tensors
from skvae._synthesis.table_model import (
    check_combinations,
    fit_sampler,
    model_spec,
    pass_config,
    training_config,
)
from skvae.constraints.resampling import redraw_broken
from skvae.models import AutoregressiveTVAE, FactorizedTVAE
from skvae.samplers.choice import OF_ANY_MODEL
from skvae.tabular import TabularTransformer
from skvae.tabular.frames import restore_container
from skvae.tabular.libraries import as_pandas
from skvae.training import CallbackList, LastWeights

# Parameters handed through to the transformer.
_SHARED_PARAMETERS = (
    "categorical_features",
    "column_kinds",
    "max_categories",
    "numeric_encoding",
    "n_bins",
    "min_rows_per_value",
    "rare_category_min_count",
    "random_state",
)


class TVAESynthesizer(
    ConditionalMixin,
    ImputationMixin,
    ProbabilitiesMixin,
    ConstrainedMixin,
    GrowingMixin,
    MetadataMixin,
    ScoringMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    TorchEstimator,
):
    """Learn a table and write synthetic rows like it.

    A variational autoencoder of mixed-type tables. By default its decoder is autoregressive over
    columns: p(x | z) is the product over columns of p(x_j | x_<j, z), each a softmax over the
    column's categories, repeated values and quantile bins. ``from_preset("paper")`` is the TVAE
    of [1]_ instead: Gaussian mixtures for numbers, and columns independent given the latent.

    Parameters
    ----------
    n_components : int, default=16
        Size of the latent.
    categorical_features : "auto" or array-like of names, positions or booleans, default="auto"
        Columns to take as categorical whatever their dtype: short for ``column_kinds`` with the
        kind "categorical". Strings, booleans and pandas categories are so by themselves.
    column_kinds : dict of names to kinds, default=None
        Kinds of columns: "numeric", "datetime", "timedelta", "time", "categorical", "identifier",
        "text", "name", "first_name", "last_name", "email", "phone", "address" or "company". Those
        of the other columns follow from dtype and cells; ``transformer_.kinds_`` says which.
        Identifiers, text and personal data are not learnt, but made anew.
    max_categories : int, default=1000
        Most codes of a layer that a categorical column needs; one of more levels takes several.
    numeric_encoding : {"quantile", "mixture"}, default="quantile"
        How a number becomes a mode and a place within it; ``"mixture"`` needs
        ``decoder="factorized"``.
    n_bins : int, default=128
        Most quantile bins in a numeric column.
    min_rows_per_value : int, default=5
        No value held by fewer training rows is stored or reproduced on purpose.
    rare_category_min_count : int or None, default=None
        The same threshold for categories alone; None takes ``min_rows_per_value``.
    constraints : list of constraints, default=None
        What rows keep to, from ``skvae.constraints``: ``Inequality``, ``Range``,
        ``FixedCombinations``, ``Total``, ``Predicate``. No row that comes out breaks one.
    enforce_range : bool, default=True
        Whether numbers stay within the range of the table. False lets the outermost ones of a
        column go beyond it, by about as much as they lie apart.
    enforce_rounding : bool, default=True
        Whether numbers have the decimals, or lie on the grid, of their column. Integers are whole
        in any case.
    decoder : {"autoregressive", "factorized"}, default="autoregressive"
        Whether columns see those before them, or are independent given the latent.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of the encoder's layers, and of the factorized decoder's in reverse.
    column_layer_sizes : tuple of int, default=(64, 64)
        Widths of each column's own network in the autoregressive decoder; all equal.
    embedding_dim : int, default=16
        Size of the vector by which a column enters the networks of those after it.
    condition_columns : list of column names or None, default=None
        Columns that are decoded before the others, in this order: conditions on them (the first
        of them, or all) are met at no cost and steer all other columns. Autoregressive decoder.
    column_order : {"table", "random"}, default="table"
        Whether columns are decoded as they stand in the table, or in another random order in each
        step of the training, so that any cells may be given and the others follow: for heavy
        imputation. It takes more epochs to learn as much.
    beta : float, default=1.0
        Weight of the divergence of the latent from its prior.
    free_nats : float, default=2.0
        Mean divergence a row, in nats, below which there is nothing to gain: it keeps the latent
        alive beside a decoder that could do without. More makes ``transform`` say more.
    max_epochs : int or "auto", default="auto"
        Passes over the table. ``"auto"`` makes 10 to 20, by the numbers of rows and of codes.
    max_steps : int or None, default=None
        Most optimizer steps; the last epoch may end early.
    max_seconds : float or None, default=None
        Most time until the training ends. The first steps are timed, and the rest is planned so
        that the learning rate has run its course when time is up; the density of the latent and
        missing rates come after it. Two fits of one seed then differ.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present weights, with a new course of the learning rate,
        on a table with the columns of the first one.
    batch_size : int, default=256
        Rows in a step.
    optimizer : {"adamw", "adam"}, default="adamw"
        Weight decay is decoupled in the first, part of the gradient in the second.
    learning_rate : float, default=0.01
        Step size; with the cosine schedule, after a short warm-up.
    learning_rate_schedule : {"cosine", "constant"}, default="cosine"
        Course of the learning rate.
    weight_decay : float, default=0.3
        Strength of the weight decay; 1.0 trades the last bit of utility for likelihood. On a few
        thousand rows it also keeps the model further from learning them by heart.
    weight_averaging : float or None, default=0.995
        Decay of the running average of the weights, which is the model that comes out.
    max_grad_norm : float or None, default=5.0
        Norm to which the gradient is clipped.
    early_stopping : bool, default=False
        Whether to hold rows out, stop when their likelihood no longer gains, and restore the
        best weights. The fixed budget gives the better tables: rare conditionals still gain when
        the likelihood no longer does.
    validation_fraction : float, default=0.1
        Share of rows held out for early stopping.
    n_iter_no_change : int, default=5
        Epochs without gain after which early stopping stops.
    tol : float, default=1e-3
        Least gain that counts, nats a row.
    sampler : {"normal", "gaussian_mixture", "kde", "two_stage", "maf", "iaf"}, default="normal"
        Density of the latent that rows are drawn from. One that is fitted, such as the mixture,
        pays at large ``free_nats``.
    decoding : {"draw", "argmax"}, default="draw"
        Whether each cell's mode is drawn or the most probable one. The latter is the paper's code;
        it loses rare values.
    temperature : float, default=1.0
        Divides the logits that modes are drawn by: below 1 rows are more alike than the table's,
        above 1 less.
    device : str, default="auto"
        A torch device; ``"auto"`` takes a CUDA GPU where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the fit, and the samples drawn without a seed of their own.
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
    n_steps_ : int
        Optimizer steps made.
    n_skipped_steps_ : int
        Steps skipped because their loss or gradient was not finite.
    best_epoch_ : int
        The epoch whose weights were restored; with early stopping only.
    transformer_ : TabularTransformer
        The fitted encoding of the table.
    model_ : TabularVAE
        The torch module, in eval mode.
    sampler_ : sampler
        The fitted density of the latent.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_columns,)
        Their names, if all are strings.

    References
    ----------
    .. [1] Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling Tabular Data using
       Conditional GAN", NeurIPS 2019.

    Examples
    --------
    >>> from skvae import TVAESynthesizer
    >>> from skvae.datasets import load_adult
    >>> table = load_adult().head(500)
    >>> synthesizer = TVAESynthesizer(max_epochs=2, random_state=0).fit(table)
    >>> rows = synthesizer.sample(100)
    >>> rows.shape, bool((rows.dtypes == table.dtypes).all())
    ((100, 15), True)
    >>> synthesizer.transform(table).shape
    (500, 16)
    """

    _preset_folder = "tvae_synthesizer"
    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        **{name: TabularTransformer._parameter_constraints[name] for name in _SHARED_PARAMETERS},
        "constraints": [list, tuple, None],
        "enforce_range": ["boolean"],
        "enforce_rounding": ["boolean"],
        "decoder": [StrOptions({"autoregressive", "factorized"})],
        "hidden_layer_sizes": ["array-like"],
        "column_layer_sizes": ["array-like"],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "condition_columns": ["array-like", None],
        "column_order": [StrOptions({"table", "random"})],
        "beta": [Interval(Real, 0, None, closed="left")],
        "free_nats": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_steps": [Interval(Integral, 1, None, closed="left"), None],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
        "warm_start": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [StrOptions({"adamw", "adam"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate_schedule": [StrOptions({"cosine", "constant"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "weight_averaging": [Interval(Real, 0, 1, closed="neither"), None],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "sampler": [StrOptions(set(OF_ANY_MODEL))],
        "decoding": [StrOptions({"draw", "argmax"})],
        "temperature": [Interval(Real, 0, 100, closed="right")],
        "device": [str],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
    }

    def __init__(
        self,
        n_components=16,
        *,
        categorical_features="auto",
        column_kinds=None,
        max_categories=1000,
        numeric_encoding="quantile",
        n_bins=128,
        min_rows_per_value=5,
        rare_category_min_count=None,
        constraints=None,
        enforce_range=True,
        enforce_rounding=True,
        decoder="autoregressive",
        hidden_layer_sizes=(128, 128),
        column_layer_sizes=(64, 64),
        embedding_dim=16,
        condition_columns=None,
        column_order="table",
        beta=1.0,
        free_nats=2.0,
        max_epochs="auto",
        max_steps=None,
        max_seconds=None,
        warm_start=False,
        batch_size=256,
        optimizer="adamw",
        learning_rate=0.01,
        learning_rate_schedule="cosine",
        weight_decay=0.3,
        weight_averaging=0.995,
        max_grad_norm=5.0,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        tol=1e-3,
        sampler="normal",
        decoding="draw",
        temperature=1.0,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_components = n_components
        self.categorical_features = categorical_features
        self.column_kinds = column_kinds
        self.max_categories = max_categories
        self.numeric_encoding = numeric_encoding
        self.n_bins = n_bins
        self.min_rows_per_value = min_rows_per_value
        self.rare_category_min_count = rare_category_min_count
        self.constraints = constraints
        self.enforce_range = enforce_range
        self.enforce_rounding = enforce_rounding
        self.decoder = decoder
        self.hidden_layer_sizes = hidden_layer_sizes
        self.column_layer_sizes = column_layer_sizes
        self.embedding_dim = embedding_dim
        self.condition_columns = condition_columns
        self.column_order = column_order
        self.beta = beta
        self.free_nats = free_nats
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.max_seconds = max_seconds
        self.warm_start = warm_start
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.learning_rate_schedule = learning_rate_schedule
        self.weight_decay = weight_decay
        self.weight_averaging = weight_averaging
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.sampler = sampler
        self.decoding = decoding
        self.temperature = temperature
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def fit(self, X, y=None, *, sample_weight=None):
        """Learn a table.

        The order of its rows plays no part. With ``warm_start`` a fitted model goes on learning.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            The table: numbers, booleans, strings, pandas categories, dates and times, with missing
            cells. A target to be synthesised too is one of its columns.
        y : None
            Ignored; present for scikit-learn's API.
        sample_weight : array-like of shape (n_rows,), default=None
            How much rows count. Whole numbers count rows: 3 does what three equal rows do, also
            for ``min_rows_per_value``, and 0 leaves a row out. Others say how often a row is drawn
            relative to the others; divide weights by their mean to have them taken so.

        Returns
        -------
        self : TVAESynthesizer

        Raises
        ------
        ValueError, TypeError
            A parameter or the table cannot be used; the message names it and the way out.
        FloatingPointError
            The loss stayed non-finite.
        """
        return self._fit(X, sample_weight, go_on=self.warm_start)

    def partial_fit(self, X, y=None, *, schema=None, sample_weight=None):
        """Make one pass over a batch of rows, and keep what was learnt before.

        The first call settles what columns hold, which categories there are and where the bins of
        numbers lie, from ``schema`` if it is given and from its own rows otherwise. Later, an
        unseen category counts as a rare one and a number out of the range as its nearest end.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            The rows.
        y : None
            Ignored; present for scikit-learn's API.
        schema : DataFrame, array-like or TabularTransformer, default=None
            What the table to come looks like: a sample of its rows, or a fitted transformer.
            For the first call only.
        sample_weight : array-like of shape (n_rows,), default=None
            How much rows count; see ``fit``.

        Returns
        -------
        self : TVAESynthesizer

        Raises
        ------
        ValueError, TypeError
            As in ``fit``; or the rows, the parameters or ``schema`` do not go with the model that
            is to go on, which stays as it was.

        Examples
        --------
        >>> from skvae import TVAESynthesizer
        >>> from skvae.datasets import load_adult
        >>> table = load_adult().head(2000)
        >>> synthesizer = TVAESynthesizer(random_state=0)
        >>> for start in range(0, 2000, 500):
        ...     batch = table[start : start + 500]
        ...     synthesizer = synthesizer.partial_fit(batch, schema=None if start else table)
        >>> synthesizer.sample(3).shape
        (3, 15)
        """
        if schema is not None and hasattr(self, "model_"):
            raise ValueError(
                "schema was given, but the first call of partial_fit settled it. Leave it out, or "
                "start anew on a clone."
            )
        return self._fit(X, sample_weight, go_on=True, schema=schema, once=True)

    def _fit(self, X, sample_weight, *, go_on: bool, schema=None, once: bool = False):
        self._validate_params()
        check_combinations(self)
        CallbackList(self.callbacks or ())  # refuses what is no callback, before anything is lost
        with self._former_fit_kept():
            self._learn(X, sample_weight, go_on and hasattr(self, "model_"), schema, once)
        return self

    def _learn(self, X, sample_weight, go_on: bool, schema, once: bool) -> None:
        """Fit from scratch or go on; ``once`` makes one pass."""
        start = time.perf_counter()
        device = resolve_device(self.device)
        rng = private_random_state(self.random_state)
        seeds = rng.randint(2**31 - 1, size=4)
        n_before = self._n_steps_in_all if go_on else 0
        if go_on:  # other noise than in the fits before
            seeds = np.random.RandomState(int(seeds[0]) ^ n_before).randint(2**31 - 1, size=4)
            table = self._prepare_more(X, sample_weight)
        else:
            table = self._prepare(X, sample_weight, schema, int(seeds[0]))
        if self.early_stopping and len(table.encoded.codes) < 2:
            raise ValueError(
                "early_stopping=True holds rows out, but X has only 1 row that counts. Give more "
                "rows, or set early_stopping=False."
            )
        spec = model_spec(self, table.transformer)
        model = self._grown_model(spec, once) if go_on else self._build_model(spec, int(seeds[1]))
        if not go_on and hasattr(self, "model_"):
            del self.model_  # from here on, an interrupted fit leaves the estimator unfitted
        model = model.to(device)
        data = table_tensors(model, table.encoded, device)
        config, last = training_config, None
        if once:
            config, last = pass_config, LastWeights()
        n_codes = int(table.transformer.cardinalities_.sum())
        result = self._train(
            model,
            data,
            lambda n_rows: config(self, n_rows, n_codes, n_before),
            n_rows=len(data[0]),
            seed=int(seeds[2]),
            validation_fraction=self.validation_fraction if self.early_stopping else None,
            weights=None if table.weights is None else torch.from_numpy(table.weights).to(device),
            seconds=self.max_seconds and self.max_seconds - (time.perf_counter() - start),
            optimizer_state=self._moments() if go_on else None,
            watcher=last,
        )
        if once and go_on:
            self._average_over_calls(model, result.n_steps, n_before)
        self._spec = spec
        if not go_on:
            self._released = {key: getattr(self, key) for key in RELEASED}
        self._keep_history(result)
        self._keep_course(result, n_before, last, moments=once or self.warm_start)
        self.sampler_ = fit_sampler(self.sampler, model, data, int(seeds[3]))
        if not once and isinstance(model, AutoregressiveTVAE):
            hold_missing_rates(model, self.sampler_, table.transformer, int(seeds[3]))
        self._sample_rng = np.random.RandomState(rng.randint(2**31 - 1))
        self.transformer_, self._plan = table.transformer, table.plan
        if table.seen is not None:
            self._take_columns_of(table.seen, table.columns)
        self.model_ = model

    def sample(
        self, n_samples=1, *, conditions=None, rebalance=None, n_particles=8, random_state=None
    ):
        """Draw synthetic rows.

        Identifiers are unique within a call, and may come again in another: draw all rows that
        are to stand in one table at once.

        Conditions always hold in each row. Those on ``condition_columns`` steer all other columns;
        others do so by particles: many rows are drawn as far as the last of the conditions, and
        those that make it likely go on.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows; 0 gives an empty table with the same columns and dtypes.
        conditions : dict or DataFrame, default=None
            What rows are to hold. A dict from columns to a value (None or NaN for a missing cell),
            a list of values, or a range: a tuple (low, high), both included, either of them None
            for no bound. Or a table of fixed cells of any columns, missing where a cell is free:
            it makes one row each, under its index.
        rebalance : dict, default=None
            Shares of columns' values, such as ``{"income": {">50K": 0.5}, "sex": {"Male": 0.5}}``;
            values that are not named share what is left as they do by nature. Those of several
            columns are all met to the row, and the ratios of odds between the columns stay those
            of the model's own rows (iterative proportional fitting).
        n_particles : int, default=8
            Particles for each row under conditions; more follow them closer and take longer. An
            eighth to three eighths of them do, which look ahead: rows drawn without conditions
            tell what the conditions say of the columns before. All are drawn for tables of more
            than 32 different rows.
        random_state : int, RandomState instance or None, default=None
            Seeds the draw. None continues the stream that ``random_state`` of the estimator
            began in fit, so that each call gives other rows.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_columns)
            In the container, column order and dtypes that fit saw.

        Raises
        ------
        ValueError
            ``n_samples``, ``conditions``, ``rebalance`` or ``n_particles`` cannot be met; or too
            few rows keep to constraints that are not built in.

        Warns
        -----
        UserWarning
            Few particles fulfil the conditions, so that rows are near copies of each other.

        Examples
        --------
        >>> from skvae import TVAESynthesizer
        >>> from skvae.datasets import load_adult
        >>> table = load_adult().head(500)
        >>> synthesizer = TVAESynthesizer(max_epochs=2, random_state=0).fit(table)
        >>> rows = synthesizer.sample(50, conditions={"age": (30, 40), "sex": "Female"})
        >>> int(rows["age"].min()) >= 30, set(rows["sex"])
        (True, {'Female'})
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 0:
            raise ValueError(
                f"n_samples={n_samples!r} was asked for, expected a whole number of rows from 0 up."
            )
        rng = self._sample_rng if random_state is None else check_random_state(random_state)
        if not isinstance(n_particles, Integral) or n_particles < 1:
            raise ValueError(f"n_particles={n_particles!r}, expected a whole number from 1 up.")
        conditions, _ = as_pandas(conditions)
        if isinstance(conditions, dict) and not conditions:
            conditions = None
        if isinstance(conditions, pd.DataFrame) and len(conditions) == 0:
            n_samples, conditions, rebalance = 0, None, None
        wanted = int(n_samples), conditions, rebalance, n_particles, rng
        if self._plan is not None:
            rows = self._sample_constrained(*wanted)
        elif conditions is not None or rebalance is not None:
            rows = self._sample_given(*wanted)
        else:
            Z = self.sampler_.sample(wanted[0], random_state=rng)
            rows = self._decode(Z, rng.randint(2**31 - 1), argmax=self.decoding == "argmax")
        return restore_container(self, rows)

    def transform(self, X):
        """Embed rows: the mean of the posterior q(z | x).

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            A table with the columns of fit. Categories that fit did not see count as rare ones.

        Returns
        -------
        Z : float64 array of shape (n_rows, n_components)
            Each row's embedding depends on that row alone.
        """
        check_is_fitted(self)
        _, frame = self._read(X)
        places = isinstance(self.model_, FactorizedTVAE)
        return posterior_means(self.model_, self.transformer_.encode(frame, places=places))

    def inverse_transform(self, Z):
        """Turn embeddings into rows: the most probable cell of each column in turn.

        Parameters
        ----------
        Z : array-like of shape (n_rows, n_components)
            Latents.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_rows, n_columns)
            In the container and dtypes that fit saw. For synthetic data use ``sample``: the most
            probable cells lack the variety of real ones. Where these break a constraint, the cells
            of the row are drawn.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float32)
        latent_dim = self.model_.latent_dim
        if Z.shape[1] != latent_dim:
            raise ValueError(
                f"Z has {Z.shape[1]} features, but inverse_transform expects "
                f"n_components={latent_dim}."
            )
        rows = self._decode(Z, 0, argmax=True, centre=True)
        if self._plan is not None:
            rng = np.random.RandomState(0)
            rows = redraw_broken(
                rows,
                lambda broken: self._decode(Z[broken], rng.randint(2**31 - 1), argmax=False),
                self._plan,
            )
        return restore_container(self, rows)

    @property
    def _n_features_out(self):
        return self.model_.latent_dim  # not there, and so no names, before fit

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags
