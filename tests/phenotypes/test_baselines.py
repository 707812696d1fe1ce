"""What z is compared with, against what mathematics says it must be."""

from __future__ import annotations

import numpy as np
import pytest

from vae_sci.phenotypes.baselines import fit_principal_components, intensity_statistics


def test_pca_components_are_uncorrelated_and_explain_most_of_a_planted_pattern() -> None:
    rng = np.random.default_rng(0)
    strength = rng.uniform(0, 3, size=200)
    pattern = rng.normal(size=(1, 1, 8, 8))
    tiles = rng.poisson((10 + strength[:, None, None, None] * pattern).clip(0) ** 2)
    train = np.arange(200) < 150
    found = fit_principal_components(tiles[train], 3, seed=0)(tiles)
    assert abs(np.corrcoef(found[~train, 0], strength[~train])[0, 1]) > 0.95
    assert np.abs(np.corrcoef(found[train].T) - np.eye(3)).max() < 1e-3


def test_intensity_statistics_by_hand() -> None:
    tile = np.arange(101).reshape(1, 1, 1, 101)
    found = intensity_statistics(np.concatenate([tile, 7 + 0 * tile], axis=1))
    assert found.shape == (1, 20)
    spread = np.std(np.arange(101))
    assert found[0, :10].tolist() == pytest.approx([50, spread, 0, 5, 25, 50, 75, 95, 99, 100])
    assert found[0, 10:].tolist() == [7, 0, 7, 7, 7, 7, 7, 7, 7, 7]
