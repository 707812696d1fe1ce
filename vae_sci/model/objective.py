"""The ELBO and its terms: the only place where beta lives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional

from vae_sci.likelihoods import Light
from vae_sci.model.vae import VAE, Generated, Noise, Posterior

TEMPERATURE = 0.5  # of the similarities in `view_loss`


@dataclass(frozen=True)
class Terms:
    """Distortion and rates of each tile, nats; distortion + rate_z + rate_u is minus the ELBO.

    Parameters
    ----------
    distortion : (N,), −log p(x | z, u).
    dimensions : (N, latent_dim), KL(q(z|x) ‖ p(z)) of every dimension of z.
    levels : (N, skip latents), KL(q(u_l | ·) ‖ p(u_l | ·)), coarse to fine.
    values : (N,), how many values (pixels × channels) the distortion sums over.
    """

    distortion: Tensor
    dimensions: Tensor
    levels: Tensor
    values: Tensor

    @property
    def rate_z(self) -> Tensor:
        """(N,), nats."""
        return self.dimensions.sum(dim=1)

    @property
    def rate_u(self) -> Tensor:
        """(N,), nats, of all skip latents together."""
        return self.levels.sum(dim=1)

    @property
    def bound(self) -> Tensor:
        """(N,), nats: minus the ELBO, an upper bound on −log p(x), all rates counted."""
        return self.distortion + self.rate_z + self.rate_u

    @property
    def bits(self) -> Tensor:
        """(N,), the bound in bits per pixel and channel."""
        return self.bound / (self.values * math.log(2))

    def loss(
        self,
        beta: float,
        beta_skips: float,
        free_bits: float = 0.0,
        capacity: float | None = None,
    ) -> Tensor:
        """distortion + beta · rate_z + beta_skips · rate_u, mean over tiles, nats per tile.

        Higgins 2017; both 1: the ELBO. free_bits: nats that each dimension of z may carry, on
        average over the batch, at no cost (Kingma 2016, IAF). capacity: nats that z is to carry,
        beta then weighs how far the rate is from them, to either side (Burgess 2018).
        """
        rate_z = self.dimensions.mean(dim=0).clamp(min=free_bits).sum()
        if capacity is not None:
            rate_z = (rate_z - capacity).abs()
        return self.distortion.mean() + beta * rate_z + beta_skips * self.rate_u.mean()


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


def consistency_loss(means: Tensor, view_means: Tensor) -> Tensor:
    """Squared distance in z between two views of a cell, over that between random cells, scalar.

    Of posterior means (N, latent_dim), all dimensions together: 0 where views do not move z, 1
    where they move it as far as another cell lies. KL(q(z|view) ‖ q(z|tile)) (Sinha & Dieng 2021)
    weighs every dimension by its own sd instead: z then drops those that views move most, and
    carries less than half as much (docs/decisions.md).
    """
    apart = (means - view_means).square().sum(dim=1).mean()
    spread = torch.stack([means, view_means]).var(dim=1, correction=0).sum(dim=1).mean()
    # The floor: of a batch of one cell nothing is known.
    return apart / (2 * spread).clamp(min=1e-2)


def score(q: Normal, made: Generated, levels: Tensor, visible: Tensor | None = None) -> Terms:
    """Score a batch: levels (N, C, H, W); pixels not `visible` (N, 1, H, W) count for nothing."""
    nats = -made.p.log_prob(levels)
    if visible is None:
        values = torch.full((len(levels),), float(levels[0].numel()), device=nats.device)
    else:
        nats = torch.where(visible, nats, 0.0)
        values = visible.sum(dim=(1, 2, 3)) * float(levels.shape[1])
    dimensions = gaussian_rate(q)
    rates = torch.stack([dimensions.new_zeros(len(levels)), *made.rates], dim=1)[:, 1:]
    return Terms(nats.sum(dim=(1, 2, 3)), dimensions, rates, values)


@torch.no_grad()
def describe(
    model: VAE,
    levels: Tensor,
    visible: Tensor | None = None,
    plate: Tensor | None = None,
    light: Light | None = None,
) -> tuple[Posterior, Terms]:
    """q(z|x) of each tile, and its terms with the distortion at the posterior means of z and u:
    no chance. plate (N,), light : as in `VAE.generative`."""
    seen = model.inference(levels, visible, light)
    shape = (levels.shape[2], levels.shape[3])
    made = model.generative(
        seen.z.mean, seen.skips, temperature=0.0, plate=plate, shape=shape, light=light
    )
    return seen, score(seen.z, made, levels, visible)


@torch.no_grad()
def bound(
    model: VAE,
    levels: Tensor,
    visible: Tensor | None,
    noise: Noise,
    plate: Tensor | None = None,
    light: Light | None = None,
) -> tuple[Posterior, Terms]:
    """q(z|x) of each tile, and its terms at one draw of z and u: their sum is a true bound."""
    seen = model.inference(levels, visible, light)
    z = seen.z.mean + seen.z.stddev * noise.z
    shape = (levels.shape[2], levels.shape[3])
    made = model.generative(z, seen.skips, noise=noise.u, plate=plate, shape=shape, light=light)
    return seen, score(seen.z, made, levels, visible)
