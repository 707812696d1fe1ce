"""What z is read from: statistics of a tile that are the same when it is turned or mirrored.

They say what is in the tile, not where it lies: amounts, texture by scale, whether texture runs one
way, and which channels go together. None of it is learned (docs/decisions.md says why): what to
make of it, the encoder's head learns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 7  # squares of 2 × 2 pixels, so 8 pixels: the second scale of `coherence`
CENTRE = 0.15  # sd of the weight by which the tile's middle counts, in edges of the tile


@torch.no_grad()
def tile_statistics(x: Tensor, octaves: int) -> Tensor:
    """Standardised input (N, C, H, W) → (N, C (8 + 3 octaves) + (1 + octaves) C (C − 1) / 2).

    Of every channel: `moments` and `coherence`. Of its `bands`, that many octaves and what is
    left: `moments` around the middle of the tile, where its own cell lies, and `correlations`
    between channels. In float32 also under autocast: cells differ by a few per cent.
    """
    with torch.autocast(x.device.type, enabled=False):
        # The few channels side by side would leave a CPU's vectors half empty.
        x = x.float().contiguous()
        found = [moments(x), coherence(x)]
        for band in bands(x, octaves):
            found += [moments(band, middle(band)), correlations(band)]
        return torch.cat(found, dim=1)


def bands(x: Tensor, octaves: int) -> list[Tensor]:
    """Laplacian pyramid (Burt & Adelson 1983): detail by octave, fine to coarse, and the rest.

    (N, C, H, W), then half of both edges each time; the pieces sum up to x again.
    """
    found = []
    for _ in range(octaves):
        low = F.avg_pool2d(x, 2)
        found.append(x - upsampled(low))
        x = low
    return [*found, x]


def upsampled(x: Tensor) -> Tensor:
    """Twice the height and width."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def middle(x: Tensor) -> Tensor:
    """Weights (H, W) that sum to 1, a Gaussian around the middle of maps (N, C, H, W)."""
    across, along = (
        torch.exp(-0.5 * (((torch.arange(edge, device=x.device) + 0.5) / edge - 0.5) / CENTRE) ** 2)
        for edge in x.shape[2:]
    )
    weight = torch.outer(across, along)
    return weight / weight.sum()


def moments(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean, standard deviation and fourth root of the fourth central moment of each map.

    (N, C, H, W) → (N, 3 C), in units of x: how much, how textured, and whether the texture is made
    of few strong spots or of many weak ones. weight (H, W): how much each place counts.
    """
    if weight is None:
        weight = torch.full_like(x[0, 0], 1 / x[0, 0].numel())
    mean = (x * weight).sum(dim=(2, 3), keepdim=True)
    square = (x - mean).square()
    variance, fourth = ((power * weight).sum(dim=(2, 3)) for power in (square, square.square()))
    return torch.cat([mean.flatten(1), variance.sqrt(), fourth.sqrt().sqrt()], dim=1)


def coherence(x: Tensor) -> Tensor:
    """Whether each map's texture runs one way: (N, C, H, W) → (N, 2 C), 0 no way, 1 one way.

    (λ₁ − λ₂) / (λ₁ + λ₂) of the eigenvalues of the structure tensor (Bigün & Granlund 1987), the
    same for any direction: first of the whole map (are its filaments parallel?), then of windows
    of 8 × 8 pixels, weighted by their gradients (filaments or dots?).
    """
    # Across a 2 × 2 square, along its two diagonals: both at the same place.
    down, up = x[:, :, 1:, 1:] - x[:, :, :-1, :-1], x[:, :, :-1, 1:] - x[:, :, 1:, :-1]
    tensor = (down * down, up * up, down * up)
    size = min(WINDOW, *down.shape[2:])
    step = (size + 1) // 2
    whole = anisotropy(*(t.mean(dim=(2, 3), keepdim=True) for t in tensor))
    # What no window reaches is left out alike at both ends, so that turned tiles read the same.
    spare = [(edge - size) % step // 2 for edge in down.shape[2:]]
    parts = (t[:, :, spare[0] :, spare[1] :] for t in tensor)
    windows = anisotropy(*(F.avg_pool2d(t, size, step) for t in parts))
    return torch.cat([whole, windows], dim=1)


def anisotropy(a: Tensor, b: Tensor, both: Tensor) -> Tensor:
    """Structure tensors [[a, both], [both, b]] (N, C, H, W) → (N, C), over all places."""
    apart = ((a - b).square() + 4 * both.square()).sqrt()
    # The floor: a map without texture has no direction.
    return apart.mean(dim=(2, 3)) / ((a + b).mean(dim=(2, 3)) + 1e-2)


def correlations(x: Tensor) -> Tensor:
    """Between all pairs of channels: (N, C, H, W) → (N, C (C − 1) / 2), −1 to 1."""
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    # The floor: what hardly varies goes with nothing.
    scaled = centred / (centred.square().mean(dim=(2, 3), keepdim=True) + 1e-4).sqrt()
    one, other = torch.triu_indices(x.shape[1], x.shape[1], 1)
    return (scaled[:, one] * scaled[:, other]).mean(dim=(2, 3))
