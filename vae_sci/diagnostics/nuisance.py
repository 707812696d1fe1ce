"""How far z moves with what cannot be phenotype: turns, other angles, shifts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_sci.diagnostics.held_out import BATCH, HeldOut
from vae_sci.phenotypes.normalize import FLOOR
from vae_sci.training.augment import augment, disc, turned_disc

SHIFT = 2  # pixels
ANGLES = 4  # drawn per cell


@torch.no_grad()
def nuisance_sensitivity(held: HeldOut, seed: int) -> dict[str, float]:
    """Mean distance in z between two views of a cell, in mean distances between random cells.

    Every number of z counts in its sd over the cells (or in 0.1, where it is less), much as in
    phenotypes, where z is normalised: what nuisances leave alone, told on a larger scale, would
    lower distances in z as it is and make nothing better (docs/decisions.md).

    quarter_turns : the tile and it turned by 90, 180 and 270 degrees.
    angles : on a central disc, the same fill outside for both, at random angles.
    shifts : by 2 pixels up, down, left and right, the edge mirrored.

    0: z does not move; 1: a nuisance moves a cell as far as another cell lies.
    """
    random = torch.Generator().manual_seed(seed)
    x = held.inputs()
    whole, round_ = _encoded(held, x), _encoded(held, disc(x))
    n = len(x)

    def moved(dy: int, dx: int) -> Tensor:
        moves = torch.tensor([0, 0, 0, dy, dx])[:, None, None].expand(5, n, 1)
        return augment(x, moves)

    def turned() -> Tensor:
        return turned_disc(x, (2 * math.pi * torch.rand(n, generator=random)).to(x.device))

    steps = ((SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT))
    views = {
        "quarter_turns": (whole, [x.rot90(k, (2, 3)) for k in (1, 2, 3)]),
        "angles": (round_, [turned() for _ in range(ANGLES)]),
        "shifts": (whole, [moved(*step) for step in steps]),
    }
    found = {}
    for name, (own, others) in views.items():
        sd = own.std(dim=0, correction=0).clamp(min=FLOOR)
        moved_by = torch.stack([((_encoded(held, x) - own) / sd).norm(dim=1) for x in others])
        apart = ((own - own.roll(1, dims=0)) / sd).norm(dim=1)
        found[name] = float(moved_by.mean() / apart.mean())
    return found


def _encoded(held: HeldOut, x: Tensor) -> Tensor:
    """Posterior means (N, latent_dim) of encoder inputs (N, C, H, W)."""
    return torch.cat([held.model.phenotype(part).mean for part in x.split(BATCH)])
