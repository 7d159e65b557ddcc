"""Quality of the embeddings and reconstructions of the digits, for every model of the zoo."""

import _images_data
import _worker
import numpy as np

N_COMPONENTS = 10
N_EPOCHS = 20


def run(results, arguments, pythae):
    """Fit and score each model and seed, and what they are compared to."""
    from skvae.models import MODELS

    rows, labels = _images_data.digits()
    if results.misses("digits|pca|0"):
        results.put("digits|pca|0", pca(rows, labels))
    if pythae is not None and results.misses("digits|pythae-vae|0"):
        results.put("digits|pythae-vae|0", of_pythae(rows, labels, arguments, pythae))
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


def of_pythae(rows, labels, arguments, pythae):
    """Score pythae's VAE, as many epochs at the same batch size and learning rate."""
    from skvae import VAEEmbedder

    path, out = arguments.work_dir / "digits.npy", arguments.work_dir / "digits_pythae.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rows)
    ours = VAEEmbedder()
    settings = {"batch_size": ours.batch_size, "learning_rate": ours.learning_rate}
    fit = pythae.ask("train", data=str(path), model="vae", n_epochs=N_EPOCHS, **settings)
    pythae.ask("embed", out=str(out))
    with np.load(out) as found:
        return {
            "knn": knn_accuracy(found["embedded"], labels),
            "knn_of_means": knn_accuracy(found["means"], labels),
            "mse": squared_error(rows, found["reconstructed"].reshape(rows.shape)),
            "fit_cpu_s": fit["cpu_s"],
            "versions_of_pythae": pythae.versions,
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
