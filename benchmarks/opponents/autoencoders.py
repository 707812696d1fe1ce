"""Embeddings of every tile by pythae's VAE, β-VAE and VQ-VAE, trained on the training tiles.

    python benchmarks/opponents/autoencoders.py --model NAME --tiles FILE.npz --out FILE.parquet

NAME is vae, beta_vae (β = 4) or vq_vae (codes by moving averages). Inputs: the square root of the
counts, each channel divided by the 99.9 % of its training tiles and cut at 1. Networks are pythae's
ResNets for CelebA (3 × 64 × 64; its plain convolutions there take 25 times as long); loss, Adam and
batches of 64 are pythae's defaults, the learning rate is 1e-3. Kept are the weights of the epoch
that is best on validation tiles. An embedding is the posterior mean; of VQ-VAE, which has a map of
4 × 4 codes, it is the mean of the code vectors over places.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pythae.models import VAE, VQVAE, BetaVAE, BetaVAEConfig, VAEConfig, VQVAEConfig
from pythae.models.nn.benchmarks.celeba import (
    Decoder_ResNet_AE_CELEBA,
    Decoder_ResNet_VQVAE_CELEBA,
    Encoder_ResNet_VAE_CELEBA,
    Encoder_ResNet_VQVAE_CELEBA,
)
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig

BETA = 4.0
MODELS: dict[str, tuple[Any, Any, Any, Any, dict[str, Any]]] = {
    "vae": (VAE, VAEConfig, Encoder_ResNet_VAE_CELEBA, Decoder_ResNet_AE_CELEBA, {}),
    "beta_vae": (
        *(BetaVAE, BetaVAEConfig, Encoder_ResNet_VAE_CELEBA, Decoder_ResNet_AE_CELEBA),
        {"beta": BETA},
    ),
    "vq_vae": (
        *(VQVAE, VQVAEConfig, Encoder_ResNet_VQVAE_CELEBA, Decoder_ResNet_VQVAE_CELEBA),
        # Without moving averages the commitment loss ran away here (loss 10⁵ after 20 epochs).
        {"use_ema": True},
    ),
}


def build(name: str, latent_dim: int) -> Any:
    """The untrained model `name` with its networks, for tiles (3, 64, 64)."""
    model, config, encoder, decoder, options = MODELS[name]
    settings = config(input_dim=(3, 64, 64), latent_dim=latent_dim, **options)
    return model(settings, encoder(settings), decoder(settings))


def embed(model: Any, tiles: torch.Tensor) -> torch.Tensor:
    """Embeddings (N, d) of tiles (N, 3, 64, 64) by a trained model."""
    model.eval()
    found = []
    with torch.no_grad():
        for batch in tiles.split(256):
            code = model.encoder(batch).embedding
            if code.ndim == 4:  # a map of codes
                code = model.quantizer(code.permute(0, 2, 3, 1)).quantized_vector.mean((2, 3))
            found.append(code)
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--tiles", type=Path, required=True, help="as written by make.py")
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--latent-dim", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    data = np.load(given.tiles)
    split = data["split"]
    tiles = np.sqrt(data["tiles"], dtype=np.float32)
    top = np.quantile(tiles[split == "train"], 0.999, axis=(0, 2, 3)).astype(np.float32)
    tiles = np.minimum(tiles / top[:, None, None], 1)

    torch.manual_seed(given.seed)
    model = build(given.model, given.latent_dim)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=given.epochs, learning_rate=1e-3, seed=given.seed
        )
        pipeline = TrainingPipeline(model, config)
        start = time.perf_counter()
        pipeline(tiles[split == "train"], tiles[split == "validation"])
        seconds = time.perf_counter() - start
        best = pipeline.trainer._best_model.cpu()
    code = embed(best, torch.from_numpy(tiles)).numpy()
    # z_ says: a latent vector under a standard normal prior, which codes are not.
    prefix = "code" if given.model == "vq_vae" else "z"
    names = [f"{prefix}_{i:03d}" for i in range(code.shape[1])]
    table = pd.DataFrame(code, columns=names)
    table.insert(0, "cell_id", data["cell_id"])
    table.to_parquet(given.out, index=False)
    print(
        json.dumps(
            {
                "model": given.model,
                "epochs": given.epochs,
                "seconds_per_epoch": seconds / given.epochs,
                "dimensions_used": int((code.std(axis=0) > 0.1).sum()),
            }
        )
    )


if __name__ == "__main__":
    main()
