"""The ELBO and its two terms: the only place where beta lives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional

from vae_sci.likelihoods import LevelDistribution
from vae_sci.model.vae import VAE

TEMPERATURE = 0.2  # of the similarities in `view_loss`


@dataclass(frozen=True)
class Terms:
    """Distortion and rate of each tile, (N,), nats; their sum is minus the ELBO.

    `values` (N,) is how many values (pixels × channels) the distortion sums over.
    """

    distortion: Tensor
    rate: Tensor
    values: Tensor

    def loss(self, beta: float) -> Tensor:
        """distortion + beta · rate, mean over tiles, nats per tile (Higgins 2017; beta 1: ELBO)."""
        return (self.distortion + beta * self.rate).mean()


def gaussian_rate(q: Normal) -> Tensor:
    """KL(q ‖ N(0, 1)) per dimension, nats, the shape of q (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (q.mean.square() + q.stddev.square() - 1) - q.stddev.log()


def view_loss(means: Tensor, view_means: Tensor) -> Tensor:
    """How badly two views of a cell are told from those of the batch's other cells, nats, scalar.

    InfoNCE on the posterior means (N, latent_dim), cosine similarity (van den Oord 2018; Chen
    2020, SimCLR): log N minus a lower bound of the mutual information between the views' z. Zero
    if each view finds its partner among N cells, log N by chance. What a mirror or a turn changes
    cannot help, and a z that leaves out what tells cells apart is costly: collapse is, and so is
    ignoring texture.
    """
    a, b = (functional.normalize(m, dim=1) for m in (means, view_means))
    similarity = a @ b.T / TEMPERATURE
    partner = torch.arange(len(a), device=a.device)
    forward = functional.cross_entropy(similarity, partner)
    return 0.5 * (forward + functional.cross_entropy(similarity.T, partner))


def score(q: Normal, p: LevelDistribution, levels: Tensor, visible: Tensor | None = None) -> Terms:
    """Score a batch: levels (N, C, H, W); pixels not `visible` (N, 1, H, W) count for nothing."""
    nats = -p.log_prob(levels)
    if visible is None:
        values = torch.full((len(levels),), float(levels[0].numel()), device=nats.device)
    else:
        nats = torch.where(visible, nats, 0.0)
        values = visible.sum(dim=(1, 2, 3)) * float(levels.shape[1])
    return Terms(nats.sum(dim=(1, 2, 3)), gaussian_rate(q).sum(dim=1), values)


@torch.no_grad()
def describe(model: VAE, levels: Tensor, visible: Tensor | None = None) -> tuple[Normal, Terms]:
    """q(z|x) of each tile, and its terms with the distortion at the posterior mean: no chance."""
    q = model.inference(levels, visible)
    return q, score(q, model.generative(q.mean), levels, visible)
