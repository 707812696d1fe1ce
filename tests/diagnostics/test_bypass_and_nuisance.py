"""The audit and the nuisances, on models whose answer is known beforehand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from vae_sci.config import ModelSettings
from vae_sci.diagnostics.bypass import Bypass, measure_bypass
from vae_sci.diagnostics.held_out import HeldOut
from vae_sci.diagnostics.nuisance import nuisance_sensitivity
from vae_sci.likelihoods import GreyLevels
from vae_sci.model.objective import score
from vae_sci.model.vae import VAE, Scaling

SIZE, N = 16, 96


def cells() -> torch.Tensor:
    """Tiles whose two channels are bright to a degree that differs from cell to cell."""
    draw = torch.Generator().manual_seed(0)
    level = 200 + 600 * torch.rand(N, 2, 1, 1, generator=draw)
    noise = 10 * torch.randn(N, 2, SIZE, SIZE, generator=draw)
    return (level + noise).round().clamp(0, 4095).to(torch.int32)


def fresh(skip: str = "ladder") -> HeldOut:
    torch.manual_seed(0)
    settings = ModelSettings.model_validate(
        {"latent_dim": 4, "widths": [8, 8], "decoder": {"skip": skip, "skip_channels": [2, 2]}}
    )
    scaling = Scaling((500.0, 500.0), (170.0, 170.0), (22.0, 22.0), (4.0, 4.0))
    model = VAE(settings, SIZE, GreyLevels((0, 0), (1, 1), (4095, 4095)), scaling)
    return HeldOut(model.eval(), "test", cells(), None, None)


def fit(held: HeldOut, dropout: float, use_z: bool) -> HeldOut:
    """Some steps of the ELBO; without `use_z`, z reaches the decoder as noise: bypassed."""
    model = held.model
    x = model.standardized(held.levels)
    model.encoder.standardize(x)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    draw = torch.Generator().manual_seed(1)
    for _ in range(150):
        noise = model.draw_noise(N, draw)
        kept = round((1 - dropout) * N)
        if not use_z:
            nn.init.zeros_(model.encoder.head.weight)
            nn.init.constant_(model.encoder.head.bias, 0.0)
        q, made, _ = model(x, x, noise, kept)
        optimizer.zero_grad()
        (score(q, made, held.levels).loss(1.0, 1.0) / held.levels[0].numel()).backward()
        optimizer.step()
    return held


def test_the_share_is_one_where_u_adds_nothing_and_zero_where_z_adds_nothing():
    assert Bypass(informed=10, z_alone=10, shuffled=50).share == 1
    assert Bypass(informed=10, z_alone=50, shuffled=50).share == 0
    assert Bypass(informed=10, z_alone=20, shuffled=50).share == 0.75
    assert Bypass(informed=50, z_alone=50, shuffled=50).share == 0  # nothing is known at all


@pytest.mark.slow
def test_a_planted_bypass_fails_the_audit_and_an_honest_model_passes():
    honest = measure_bypass(fit(fresh(), dropout=0.5, use_z=True), seed=0)
    planted = measure_bypass(fit(fresh(), dropout=0.0, use_z=False), seed=0)
    # The bypassed model reconstructs too: only the audit tells them apart.
    assert planted.informed < planted.shuffled - 200
    assert planted.share < 0.2 < honest.share


@pytest.mark.parametrize("skip", ["none", "latent"])
def test_without_skip_latents_z_carries_all_there_is(skip: str):
    found = measure_bypass(fresh(skip), seed=0)
    assert found.informed == pytest.approx(found.z_alone)


class Reads(nn.Module):
    """An encoder that reads something known off the tile."""

    def __init__(self, what) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: torch.Tensor):
        mean = self.what(x)
        return mean, torch.ones_like(mean)


def sensitivity(what) -> dict[str, float]:
    held = fresh()
    held.model.encoder = Reads(what)
    draw = torch.Generator().manual_seed(0)
    textured = held.levels + torch.randint(0, 200, (N, 2, SIZE, SIZE), generator=draw)
    return nuisance_sensitivity(dataclasses.replace(held, levels=textured.int()), seed=0)


def test_what_does_not_move_has_no_sensitivity_to_turns():
    found = sensitivity(lambda x: x.mean(dim=(2, 3)))
    assert found["quarter_turns"] == pytest.approx(0, abs=1e-5)
    assert found["shifts"] < 0.2  # the edge that is mirrored in
    assert found["angles"] < 0.2  # pixels at the rim


def test_single_pixels_move_as_far_as_another_cell_lies():
    held = fresh()
    draw = torch.Generator().manual_seed(2)
    noise = torch.randint(0, 4096, (N, 2, SIZE, SIZE), generator=draw, dtype=torch.int32)
    held.model.encoder = Reads(lambda x: x[:, :, 4:12, 4:12].flatten(1))
    found = nuisance_sensitivity(dataclasses.replace(held, levels=noise), seed=0)
    assert found["quarter_turns"] == pytest.approx(1, abs=0.05)
    assert found["shifts"] == pytest.approx(1, abs=0.05)


def test_a_number_told_on_a_larger_scale_does_not_hide_what_moves():
    """Of two numbers, means stay and single pixels move: whichever is the larger."""

    def read(scale: float):
        # At an sd of more than 0.1, so that no number counts as unused.
        return sensitivity(
            lambda x: torch.cat([scale * x.mean(dim=(2, 3)), 100 * x[:, :, 4, 4]], dim=1)
        )

    found = read(100)
    assert found["quarter_turns"] > 0.1
    for name, value in read(1e5).items():
        assert value == pytest.approx(found[name], rel=1e-3)
