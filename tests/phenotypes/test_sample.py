"""No well is forgotten when cells are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vae_sci.phenotypes.sample import evenly, in_proportion


def test_no_well_is_lost_and_shares_are_kept() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 400, 60)
    cells = pd.DataFrame({"plate": "P", "well": np.repeat([f"W{k:02d}" for k in range(60)], sizes)})
    cells = cells.sample(frac=1, random_state=0, ignore_index=True)
    rows = in_proportion(cells, 3000, seed=1)
    assert len(rows) == len(np.unique(rows)) == 3000
    kept = cells.iloc[rows]["well"].value_counts()
    expected = cells["well"].value_counts() * 3000 / len(cells)
    assert set(kept.index) == set(cells["well"])
    assert (kept - expected).abs().max() <= 1.5  # the one that each well has for certain
    assert np.array_equal(rows, in_proportion(cells, 3000, seed=1))
    assert not np.array_equal(rows, in_proportion(cells, 3000, seed=2))


def test_few_cells_are_all_drawn_and_few_places_go_to_other_wells_each() -> None:
    cells = pd.DataFrame({"plate": "P", "well": [f"W{k // 3}" for k in range(30)]})
    assert in_proportion(cells, 30, seed=0).tolist() == list(range(30))
    rows = in_proportion(cells, 4, seed=0)
    assert cells.iloc[rows]["well"].nunique() == len(rows) == 4


def test_every_cell_of_a_well_can_be_drawn() -> None:
    cells = pd.DataFrame({"plate": "P", "well": np.repeat(["1", "2"], [30, 10])})
    seen = {row for seed in range(200) for row in in_proportion(cells, 20, seed)}
    assert seen == set(range(40))


def test_cells_are_drawn_evenly_from_wells() -> None:
    cells = pd.DataFrame({"plate": "P", "well": ["A"] * 100 + ["B"] * 5 + ["C"] * 30})
    drawn = cells["well"].iloc[evenly(cells, 25, 0)].value_counts()
    assert drawn.to_dict() == {"A": 10, "C": 10, "B": 5}
    assert len(evenly(cells, 1000, 0)) == 135
    assert len(evenly(cells, 1000, 0, per_well=20)) == 45
