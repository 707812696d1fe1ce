"""Does z carry what is knowable of a cell, or do the skips bypass it?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vae_sci.diagnostics.held_out import HeldOut
from vae_sci.model.objective import score


@dataclass(frozen=True)
class Bypass:
    """Mean distortion of held-out cells, nats per tile, by what the decoder is given.

    Parameters
    ----------
    informed : z and u of the cell.
    z_alone : z of the cell, u from its prior.
    shuffled : z of another cell, u from its prior.
    """

    informed: float
    z_alone: float
    shuffled: float

    @property
    def share(self) -> float:
        """S: of what z and u together know of a cell, the share that z itself carries.

        (shuffled − z_alone) / (shuffled − informed): 1, u adds nothing; 0, z is bypassed, or
        empty, as it is where nothing is known at all.
        """
        known = self.shuffled - self.informed
        return (self.shuffled - self.z_alone) / known if known > 0 else 0.0


@torch.no_grad()
def measure_bypass(held: HeldOut, seed: int) -> Bypass:
    """Distortion at draws from the posterior; each cell's z exchanged for that of the next."""
    model, device = held.model, held.levels.device
    random = torch.Generator().manual_seed(seed)
    noises, posteriors = [], []
    for _, levels, visible, _, light in held.batches():
        noises.append(model.draw_noise(len(levels), random).share(slice(None), device))
        posteriors.append(model.inference(levels, visible, light))
    own = torch.cat(
        [seen.z.mean + seen.z.stddev * n.z for seen, n in zip(posteriors, noises, strict=True)]
    )
    other = own.roll(1, dims=0)
    sums = torch.zeros(3, dtype=torch.float64)
    for (rows, levels, visible, plate, light), noise, seen in zip(
        held.batches(), noises, posteriors, strict=True
    ):
        for place, (z, skips) in enumerate(((own, seen.skips), (own, None), (other, None))):
            made = model.generative(z[rows], skips, noise=noise.u, plate=plate, light=light)
            terms = score(seen.z, made, levels, visible)
            sums[place] += terms.distortion.double().sum().cpu()
    return Bypass(*(sums / len(held)).tolist())
