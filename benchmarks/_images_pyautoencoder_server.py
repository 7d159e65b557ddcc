"""pyautoencoder, asked to train and embed; runs in an environment of its own.

It has no training loop and no networks: both are as plain here as in the bare loop of
``_images_overhead.py``, batches by index, Adam as it comes.
"""

from importlib import metadata

import _worker
from _images_peer import serve

_worker.limit_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from pyautoencoder.variational import VAE  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(1)

WIDTH, N_COMPONENTS = 512, 10


class Server:
    """The requests, and the model that later ones refer to."""

    def __init__(self, folder):
        self.model = self.rows = None

    def train(self, data, model, n_epochs, batch_size, learning_rate):
        """Train a new VAE with its Gaussian likelihood, whose variance is one."""
        self.rows = torch.from_numpy(np.load(data))
        _, cpu, wall = _worker.timed(self._train, n_epochs, batch_size, learning_rate)
        return {"cpu_s": cpu, "wall_s": wall}

    def _train(self, n_epochs, batch_size, learning_rate):
        rows, n_features = self.rows, self.rows.shape[1]
        torch.manual_seed(0)
        self.model = VAE(
            nn.Sequential(nn.Linear(n_features, WIDTH), nn.ReLU()),
            nn.Sequential(nn.Linear(N_COMPONENTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n_features)),
            N_COMPONENTS,
        )
        self.model.build(rows[:2])
        optimizer = torch.optim.Adam(self.model.parameters(), lr=learning_rate)
        for _ in range(n_epochs):
            for positions in torch.randperm(len(rows)).split(batch_size):
                batch = rows[positions]
                optimizer.zero_grad()
                self.model.compute_loss(batch, self.model(batch)).objective.backward()
                optimizer.step()

    def embed(self, out):
        """Write means of the posteriors and reconstructions of the training rows."""
        found = self.model.encode(self.rows)
        decoded = self.model.decode(found.mu.unsqueeze(1)).x_hat
        np.savez(out, means=found.mu.numpy(), reconstructed=decoded.squeeze(1).numpy())
        return {}

    def describe(self):
        """Return the version, and that there are no samplers."""
        return {"versions": {"pyautoencoder": metadata.version("pyautoencoder")}, "samplers": []}


if __name__ == "__main__":
    serve(Server)
