"""Seconds to draw 10,000 rows with each sampler, decoding included, and pythae's beside them."""

import os

import _worker
from _images_overhead import LEARNING_RATE, N_COMPONENTS, data

N_ROWS = 10_000
BATCH_SIZE = 64
# Of the models; the quality of what is drawn is no matter here.
N_EPOCHS = {"digits": 10, "mnist10k": 1}
# The models that samplers of one kind of latents need; the others sample for a VAE.
MODEL_OF = {
    "vamp": "vamp",
    "hypersphere": "spherical",
    "poincare_disk": "poincare",
    "rhvae_manifold": "rhvae",
    "codes": "vq",
}
# pythae's chains move through all training rows for each draw: it draws fewer, of the digits alone.
FEWER = {"rhvae_manifold": 10}


def run(results, arguments, peers):
    """Fit and time each sampler that is there."""
    from skvae.models import MODELS
    from skvae.samplers import SAMPLERS

    for name in arguments.sets:
        rows = data(name, arguments)
        for sampler in SAMPLERS:
            key = f"sampling|{name}|{sampler}"
            model = MODEL_OF.get(sampler, "vae")
            if results.misses(key) and model in MODELS:
                results.put(
                    key, compare(rows, name, model, sampler, arguments, peers.get("pythae"))
                )


def compare(rows, name, model, sampler, arguments, pythae):
    """Fit both samplers, then let them draw in turn."""
    record = {"model": model, "n_rows": N_ROWS, "load_average": os.getloadavg()[0]}
    embedder, record["sampler_fit_cpu_s"] = fitted(rows, model, sampler, N_EPOCHS[name])
    peer = None
    if pythae and sampler in pythae.samplers and (sampler not in FEWER or name == "digits"):
        peer = fit_peer(rows, name, model, sampler, arguments, pythae)
        record |= peer
    n_peer = FEWER.get(sampler, N_ROWS)
    for number in range(arguments.rounds + 1):
        _, cpu, _ = _worker.timed(embedder.sample, N_ROWS)
        if number:  # the first round warms up
            record.setdefault("cpu_s", []).append(cpu)
        if peer and (sampler not in FEWER or number == 1):
            cpu = pythae.ask("sample", n_rows=n_peer)["cpu_s"]
            if number:
                record.setdefault("pythae_cpu_s", []).append(cpu * N_ROWS / n_peer)
    if peer and n_peer != N_ROWS:
        record["pythae_drew"] = n_peer
    return record


def fitted(rows, model, sampler, n_epochs):
    """Return an embedder with the sampler, and the CPU seconds that the sampler alone took."""
    from skvae import VAEEmbedder

    embedder = VAEEmbedder(
        N_COMPONENTS,
        model=model,
        sampler=sampler,
        max_epochs=n_epochs,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        random_state=0,
        device="cpu",
    )
    seconds = []
    fit_sampler = embedder._fit_sampler

    def timed_fit(*args):
        sampler, cpu, _ = _worker.timed(fit_sampler, *args)
        seconds.append(cpu)
        return sampler

    embedder._fit_sampler = timed_fit
    return embedder.fit(rows), seconds[0]


def fit_peer(rows, name, model, sampler, arguments, pythae):
    """Let pythae fit its own; return its seconds."""
    import numpy as np

    path = arguments.work / f"{name}.npy"
    np.save(path, rows)
    pythae.ask(
        "train",
        data=str(path),
        model=model,
        n_epochs=N_EPOCHS[name],
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
    )
    fit = pythae.ask("fit_sampler", name=sampler, n_epochs=N_EPOCHS[name])
    return {"pythae_sampler_fit_cpu_s": fit["cpu_s"], "versions": pythae.versions}
