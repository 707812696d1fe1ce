"""p(x | z): from a phenotype to the parameters of a likelihood at every pixel."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional as F

from vae_sci.model.blocks import ResidualBlock, Up, conv, linear


class Decoder(nn.Module):
    """Residual convolutional decoder, the encoder's mirror.

    Parameters
    ----------
    outputs : numbers per pixel, image channels × parameters of the likelihood.
    size, widths, depth, latent_dim : as in `Encoder`.
    skip : "none": z enters once, at the bottom; "latent": every block is also modulated by z.
    """

    def __init__(
        self,
        outputs: int,
        size: int,
        widths: tuple[int, ...],
        depth: int,
        latent_dim: int,
        skip: str,
    ) -> None:
        super().__init__()
        coarse = widths[::-1]
        self.bottom = (coarse[0], size // 2 ** len(widths), size // 2 ** len(widths))
        self.root = linear(latent_dim, self.bottom[0] * self.bottom[1] * self.bottom[2])
        wire = latent_dim if skip == "latent" else None
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, wire) for _ in range(depth)) for width in coarse
        )
        self.ups = nn.ModuleList(Up(a, b) for a, b in itertools.pairwise(coarse))
        fine = max(coarse[-1] // 2, 8)
        self.last_up = Up(coarse[-1], fine)
        self.refine = conv(fine, fine, 3, gain=2**0.5)
        # Near zero: the first prediction is each channel's own mean and spread (see Likelihood).
        self.head = conv(fine, outputs, 1, gain=0.1)

    def forward(self, z: Tensor) -> Tensor:
        """z (N, latent_dim) → raw parameters (N, outputs, size, size)."""
        h = self.root(z).unflatten(1, self.bottom)
        for level, blocks in enumerate(self.stages):
            if level:
                h = self.ups[level - 1](h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, z)
        h = self.last_up(h)
        h = h + self.refine(F.silu(h))
        # Likelihoods run faster on image planes one after the other; here they are still few.
        return self.head(F.silu(h).contiguous())
