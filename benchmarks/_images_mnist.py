"""Negative log likelihood on statically binarised MNIST."""

import pickle
import time

import _images_data
import _worker

N_DRAWS = 500
# Images scored at a time: the decoder's maps of 500 latents each then stay in the cache.
CHUNK = 2
# Images on which the evaluation is repeated by score_samples, in double precision.
N_CHECKED = 64

COMMON = {
    "n_components": 40,
    "likelihood": "bernoulli",
    "image_shape": (28, 28),
    "network": "conv",
    "weight_decay": 0.01,
    "weight_averaging": 0.999,
    "random_state": 0,
}
MODELS = {
    "vae": {
        "model": "vae",
        "max_epochs": 25,
        "learning_rate": 4e-3,
        "batch_size": 100,
        "beta_warmup": 0.04,
    },
    "iwae": {
        "model": "iwae",
        "model_params": {"n_samples": 10, "gradient": "doubly_reparametrized"},
        "max_epochs": 8,
        "learning_rate": 3e-3,
        "batch_size": 50,
    },
}


def run(name, results, arguments):
    """Fit one model, unless its file is in the work directory, and score the test images."""
    train, test = _images_data.binarised_mnist(arguments.mnist)
    path = arguments.work / f"mnist_{name}.pickle"
    if not path.exists() or arguments.force:
        path.write_bytes(pickle.dumps(fit(MODELS[name], train)))
    embedder, record = pickle.loads(path.read_bytes())
    nll, record["score_cpu_s"], record["score_wall_s"] = _worker.timed(scores, embedder, test)
    checked = -embedder.score_samples(test[:N_CHECKED], n_draws=N_DRAWS)
    results.put(
        f"mnist|{name}",
        {
            "settings": MODELS[name],
            **record,
            "n_images": len(test),
            "n_draws": N_DRAWS,
            "nll": float(nll.mean()),
            "nll_standard_error": float(nll.std() / len(nll) ** 0.5),
            "elbo": bound(embedder, test, 1),
            "iw10": bound(embedder, test, 10),
            "nll_of_checked": float(nll[:N_CHECKED].mean()),
            "score_samples_of_checked": float(checked.mean()),
            "n_checked": N_CHECKED,
        },
    )


def fit(settings, rows):
    """Return the fitted embedder and what the fit took."""
    from skvae import VAEEmbedder

    start = time.process_time()

    def tell(log):
        print(f"{time.process_time() - start:7.0f} CPU s  {log}", flush=True)

    embedder = VAEEmbedder(**COMMON, **settings, callbacks=[tell])
    _, cpu, wall = _worker.timed(embedder.fit, rows)
    n_weights = sum(parameter.numel() for parameter in embedder.model_.parameters())
    return embedder.set_params(callbacks=None), {
        "fit_cpu_s": cpu,
        "fit_wall_s": wall,
        "n_weights": n_weights,
        "train_loss": float(embedder.loss_curve_[-1]),
    }


def scores(embedder, rows, n_draws=N_DRAWS, chunk=CHUNK):
    """Importance weighted estimate of -log p(x) of each row, in float32.

    The estimate is that of ``score_samples``, which computes in double precision: ten times the
    time in convolutions on a processor.
    """
    import torch

    from skvae.models.vae import log_mean_exp

    torch.manual_seed(0)
    images = torch.from_numpy(rows).unflatten(1, (1, 28, 28))
    with torch.no_grad():
        parts = [
            log_mean_exp(embedder.model_.log_weights(part, n_draws), 1)
            for part in images.split(chunk)
        ]
    return -torch.cat(parts).double()


def bound(embedder, rows, n_draws):
    """Mean of the bound of a few latents a row, in nats."""
    return -float(scores(embedder, rows, n_draws, chunk=1000 // n_draws).mean())
