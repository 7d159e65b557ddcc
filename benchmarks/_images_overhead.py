"""Seconds of an epoch: ``VAEEmbedder``, the bare torch loop of the same maths, peers."""

import math
import os
import time

import _images_data
import _worker

BATCH_SIZES = (64, 500)
LEARNING_RATE = 2e-3
N_COMPONENTS = 10
WIDTH = 512
# Epochs of a fit, so that each takes a second or so.
N_EPOCHS = {"digits": 10, "mnist10k": 2}


def data(name, arguments):
    """Return rows of floats in [0, 1]."""
    if name == "digits":
        return _images_data.digits()[0]
    return (_images_data.mnist(arguments.mnist)[0][:10_000] / 255).astype("float32")


def run(results, arguments, peers):
    """Time the methods in turn on each data set and batch size."""
    for name in arguments.sets:
        for batch_size in BATCH_SIZES:
            key = f"overhead|{name}|{batch_size}"
            if not results.misses(key):
                continue
            rows = data(name, arguments)
            load = os.getloadavg()[0]
            seconds = rounds(rows, name, batch_size, arguments, peers)
            record = {"n_rows": len(rows), "batch_size": batch_size, "n_epochs": N_EPOCHS[name]}
            record["load_average"] = [load, os.getloadavg()[0]]
            record["versions"] = {k: v for peer in peers.values() for k, v in peer.versions.items()}
            results.put(key, {**record, "cpu_s_per_epoch": seconds})


def rounds(rows, name, batch_size, arguments, peers):
    """Return CPU seconds of an epoch, a list of one a round for each method."""
    n_epochs = N_EPOCHS[name]
    methods = {
        "bare": lambda: bare(rows, batch_size, n_epochs, fused=False),
        "bare_fused": lambda: bare(rows, batch_size, n_epochs, fused=True),
        "skvae": lambda: skvae(rows, batch_size, n_epochs),
    }
    if peers:
        import numpy as np

        path = arguments.work / f"{name}.npy"
        np.save(path, rows)
        request = {"data": str(path), "model": "vae", "n_epochs": n_epochs}
        request |= {"batch_size": batch_size, "learning_rate": LEARNING_RATE}
    for label, peer in peers.items():
        methods[label] = lambda label=label, peer=peer: {
            label: peer.ask("train", **request)["cpu_s"] / n_epochs
        }
    seconds = {}
    order = list(methods)
    for number in range(arguments.rounds + 1):
        # Whoever comes first changes, so that nobody always meets the warmest caches.
        for method in order[number % len(order) :] + order[: number % len(order)]:
            for label, value in methods[method]().items():
                if number:  # the round before the first warms up
                    seconds.setdefault(label, []).append(value)
    return seconds


def bare(rows, batch_size, n_epochs, *, fused):
    """Train a hand-written VAE by the plainest loop; everything but the imports is timed."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, n_features):
            super().__init__()
            self.hidden = nn.Sequential(nn.Linear(n_features, WIDTH), nn.ReLU())
            self.mu, self.log_var = (nn.Linear(WIDTH, N_COMPONENTS) for _ in range(2))
            self.decoder = nn.Sequential(
                nn.Linear(N_COMPONENTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n_features)
            )

        def loss(self, x):
            features = self.hidden(x)
            mu, log_var = self.mu(features), self.log_var(features)
            z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
            errors = (self.decoder(z) - x).square().sum(1)
            n_features = x.shape[1]
            # The variance of greatest likelihood for the batch.
            variance = errors.detach().mean() / n_features
            log_px = -0.5 * (errors / variance + n_features * (math.tau * variance).log())
            kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)
            return (kl - log_px).mean()

    start = time.process_time()
    torch.manual_seed(0)
    x = torch.from_numpy(rows)
    x = (x - x.mean(0)) / x.std()
    model = Net(x.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(x)).split(batch_size):
            if 2 * len(batch) < batch_size:
                break  # skvae leaves such a batch out
            optimizer.zero_grad()
            model.loss(x[batch]).backward()
            optimizer.step()
    label = "bare_fused" if fused else "bare"
    return {label: (time.process_time() - start) / n_epochs}


def skvae(rows, batch_size, n_epochs):
    """Fit the embedder: the seconds of the epochs alone, and of the whole fit."""
    from skvae import VAEEmbedder

    clock = []
    embedder = VAEEmbedder(
        N_COMPONENTS,
        max_epochs=n_epochs,
        batch_size=batch_size,
        learning_rate=LEARNING_RATE,
        random_state=0,
        device="cpu",
        callbacks=[Clock(clock)],
    )
    _, cpu, _ = _worker.timed(embedder.fit, rows)
    return {"skvae": (clock[-1] - clock[0]) / n_epochs, "skvae_fit": cpu / n_epochs}


def Clock(readings):
    """Return a callback that notes the CPU time at the start and after each epoch."""
    from skvae.training import Callback

    class Noted(Callback):
        def on_fit_begin(self, model, n_epochs):
            readings.append(time.process_time())

        def on_epoch_end(self, log):
            readings.append(time.process_time())

    return Noted()
