"""Quality of the embeddings and reconstructions of the digits, for every model of the zoo."""

import _images_data
import _worker
import numpy as np

N_COMPONENTS = 10
N_EPOCHS = 20


def run(results, arguments, peers):
    """Fit and score each model and seed, and what they are compared to."""
    from skvae.models import MODELS

    rows, labels = _images_data.digits()
    if results.misses("digits|pca|0"):
        results.put("digits|pca|0", pca(rows, labels))
    for name, peer in peers.items():
        if results.misses(f"digits|{name}-vae|0"):
            results.put(f"digits|{name}-vae|0", of_peer(rows, labels, arguments, peer))
    for model in arguments.models or MODELS:
        for seed in arguments.seeds:
            key = f"digits|{model}|{seed}"
            if results.misses(key):
                results.put(key, of_model(model, seed, rows, labels))


def of_model(model, seed, rows, labels):
    """Fit one model with the embedder's defaults; labels go to those that take them."""
    from skvae import VAEEmbedder
    from skvae.models import MODELS
    from skvae.models.zoo import is_conditional, learns_from_labels

    embedder = VAEEmbedder(N_COMPONENTS, model=model, max_epochs=N_EPOCHS, random_state=seed)
    given = (labels,) if learns_from_labels(MODELS[model]) else ()
    decoded_with = (labels,) if is_conditional(MODELS[model]) else ()
    try:
        _, cpu, _ = _worker.timed(embedder.fit, rows, *given)
        embedded = embedder.transform(rows)
        error = squared_error(rows, embedder.inverse_transform(embedded, *decoded_with))
    except (ValueError, RuntimeError, FloatingPointError) as failure:
        return {"error": f"{type(failure).__name__}: {failure}"[:300]}
    return {
        "knn": knn_accuracy(embedded, labels),
        "mse": error,
        "fit_cpu_s": cpu,
        "labels": bool(given),
    }


def pca(rows, labels):
    """Score as many principal components, and the pixels themselves."""
    from sklearn.decomposition import PCA

    model = PCA(N_COMPONENTS, random_state=0)
    embedded, cpu, _ = _worker.timed(model.fit_transform, rows)
    return {
        "knn": knn_accuracy(embedded, labels),
        "mse": squared_error(rows, model.inverse_transform(embedded)),
        "fit_cpu_s": cpu,
        "knn_of_pixels": knn_accuracy(rows, labels),
        "mse_of_mean": squared_error(rows, rows.mean(0)),
    }


def of_peer(rows, labels, arguments, peer):
    """Score a peer's VAE, as many epochs at the same batch size and learning rate.

    Where its embedding is not the mean of the posterior, both are scored.
    """
    from skvae import VAEEmbedder

    path, out = arguments.work / "digits.npy", arguments.work / f"digits_{peer.name}.npz"
    np.save(path, rows)
    ours = VAEEmbedder()
    settings = {"batch_size": ours.batch_size, "learning_rate": ours.learning_rate}
    fit = peer.ask("train", data=str(path), model="vae", n_epochs=N_EPOCHS, **settings)
    peer.ask("embed", out=str(out))
    with np.load(out) as found:
        embedded = found["embedded"] if "embedded" in found else found["means"]
        return {
            "knn": knn_accuracy(embedded, labels),
            "knn_of_means": knn_accuracy(found["means"], labels),
            "mse": squared_error(rows, found["reconstructed"].reshape(rows.shape)),
            "fit_cpu_s": fit["cpu_s"],
            "versions": peer.versions,
        }


def knn_accuracy(embedded, labels):
    """Accuracy of the 5 nearest neighbours over 5 folds of rows in their order.

    Rows that are shuffled before score higher, as each writer's digits are then in all folds.
    """
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    return float(cross_val_score(KNeighborsClassifier(5), embedded, labels, cv=5).mean())


def squared_error(rows, decoded):
    """Mean squared error of pixels in [0, 1]."""
    return float(np.square(np.asarray(decoded, np.float64) - rows).mean())
