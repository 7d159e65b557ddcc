"""pythae, asked to train, sample and embed; runs in an environment of its own."""

import logging
from importlib import metadata

import _worker
from _images_peer import serve

_worker.limit_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from pythae import models, samplers  # noqa: E402
from pythae.pipelines import TrainingPipeline  # noqa: E402
from pythae.trainers import BaseTrainerConfig  # noqa: E402

logging.disable(logging.CRITICAL)
torch.set_num_threads(1)

MODELS = {
    "vae": (models.VAE, models.VAEConfig),
    "vamp": (models.VAMP, models.VAMPConfig),
    "spherical": (models.SVAE, models.SVAEConfig),
    "poincare": (models.PoincareVAE, models.PoincareVAEConfig),
    "rhvae": (models.RHVAE, models.RHVAEConfig),
}
# Sampler, and whether it is fitted.
SAMPLERS = {
    "normal": (samplers.NormalSampler, False),
    "gaussian_mixture": (samplers.GaussianMixtureSampler, True),
    "two_stage": (samplers.TwoStageVAESampler, True),
    "maf": (samplers.MAFSampler, True),
    "iaf": (samplers.IAFSampler, True),
    "vamp": (samplers.VAMPSampler, False),
    "hypersphere": (samplers.HypersphereUniformSampler, False),
    "poincare_disk": (samplers.PoincareDiskSampler, False),
    "rhvae_manifold": (samplers.RHVAESampler, False),
}


class Server:
    """The requests, and the model and sampler that later ones refer to."""

    def __init__(self, folder):
        self.folder = folder
        self.model = self.sampler = self.rows = None

    def train(self, data, model, n_epochs, batch_size, learning_rate):
        """Train a new model with 10 latents and pythae's default networks."""
        self.rows = np.load(data)
        cls, make_config = MODELS[model]
        torch.manual_seed(0)
        self.model = cls(make_config(input_dim=self.rows.shape[1:], latent_dim=10))
        pipeline = TrainingPipeline(
            model=self.model, training_config=self._config(n_epochs, batch_size, learning_rate)
        )
        _, cpu, wall = _worker.timed(pipeline, self.rows)
        return {"cpu_s": cpu, "wall_s": wall}

    def embed(self, out):
        """Write embeddings, means of the posteriors and reconstructions of the training rows."""
        self.model.eval()
        x = torch.from_numpy(self.rows)
        with torch.no_grad():
            np.savez(
                out,
                embedded=self.model.embed(x).numpy(),
                means=self.model.encoder(x).embedding.numpy(),
                reconstructed=self.model.reconstruct(x).numpy(),
            )
        return {}

    def fit_sampler(self, name, n_epochs):
        """Fit a sampler with its defaults."""
        cls, fitted = SAMPLERS[name]
        self.model.eval()
        self.sampler = cls(self.model)
        if not fitted:
            return {"cpu_s": 0.0}
        config = self._config(n_epochs, 64, 1e-3)
        _, cpu, _ = _worker.timed(lambda: self.sampler.fit(self.rows, training_config=config))
        return {"cpu_s": cpu}

    def sample(self, n_rows):
        """Draw rows, in batches of pythae's default size."""
        rows, cpu, wall = _worker.timed(self.sampler.sample, n_rows)
        return {"cpu_s": cpu, "wall_s": wall, "shape": list(rows.shape)}

    def describe(self):
        """Return the versions of what runs here, and the samplers that there are."""
        return {"versions": {"pythae": metadata.version("pythae")}, "samplers": list(SAMPLERS)}

    def _config(self, n_epochs, batch_size, learning_rate):
        return BaseTrainerConfig(
            output_dir=self.folder,
            num_epochs=n_epochs,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
        )


if __name__ == "__main__":
    serve(Server)
