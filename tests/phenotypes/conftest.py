"""A small screen as the rooms before this one leave it: real tables, made-up cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vae_sci.config import PlateRow
from vae_sci.contracts import EMBEDDINGS, TILES

DMSO = ("DMSO", 0.0, True)
MOVED, SAME = ("moved", 1.0, False), ("same", 1.0, False)
LAYOUT = {
    "B02": DMSO,
    "B03": DMSO,
    "B04": DMSO,
    "C02": MOVED,
    "C03": MOVED,
    "D02": SAME,
    "D03": SAME,
}


@dataclass
class Screen:
    """Plates under `folder`; `treated[plate][well]` is (treatment, concentration, control)."""

    folder: Path
    rows: list[PlateRow] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def add(
        self,
        plate: str,
        layout: dict[str, tuple[str, float, bool]] = LAYOUT,
        cells_per_well: int = 20,
        d: int = 6,
        shift: float = 6.0,
        offset: float = 0.0,
        batch: str = "screen",
        platemap: bool = True,
        seed: int = 0,
    ) -> Screen:
        """A plate: z ~ N(offset, 1); treatment `moved` lies `shift` away along z_000.

        With `platemap` False the tile table carries treatment, concentration, control and moa.
        """
        rng = np.random.default_rng([seed, len(self.rows)])
        wells = np.repeat(list(layout), cells_per_well)
        n = len(wells)
        about = pd.DataFrame(
            [layout[w] for w in wells], columns=["treatment", "concentration", "control"]
        )
        z = rng.normal(size=(n, d)) + offset
        z[:, 0] += shift * (about["treatment"] == "moved")
        label = [str(i) for i in range(n)]
        tiles = pd.DataFrame(
            {
                "cell_id": [f"{plate}/{w}/1/{k}" for w, k in zip(wells, label, strict=True)],
                "plate": plate,
                "well": wells,
                "site": "1",
                "batch": batch,
                "tile": np.arange(n),
                "split": "train",
                "y": rng.uniform(size=n),
                "x": np.nan,
                "y0": pd.NA,
                "x0": pd.NA,
                "area": np.nan,
                "nucleus_area": np.nan,
                "saturated": 0.0,
                "autocorrelation": 0.9,
                "focus": 0.5,
                "difference": 1.0,
                "intensity_dna": 100.0,
                "spread_dna": 10.0,
                "store_digest": "0",
            }
        )
        path = self.folder / f"{plate}.csv"
        if platemap:
            pd.DataFrame(
                [(w, *what, "mechanism of " + what[0]) for w, what in layout.items()],
                columns=["well", "treatment", "concentration", "control", "moa"],
            ).to_csv(path, index=False)
        else:
            tiles = tiles.join(about.assign(moa="mechanism of " + about["treatment"]))
        embedding = pd.DataFrame(z, columns=[f"z_{i:03d}" for i in range(d)])
        embedding.insert(0, "cell_id", tiles["cell_id"])
        for i in range(d):
            embedding[f"sd_{i:03d}"] = 0.1
        embedding = embedding.assign(rate_z=5.0, rate_u=50.0, distortion=900.0, novelty=50.0)
        TILES.write(tiles, self.tiles(plate))
        # The store's row order is nobody's business: joins go by cell_id.
        EMBEDDINGS.write(embedding.sample(frac=1, random_state=seed), self.embedding(plate))
        self.rows.append(
            PlateRow(
                plate=plate,
                kind="tiles",
                table="cells.csv",
                batch=batch,
                platemap=str(path) if platemap else None,
            )
        )
        return self

    def tiles(self, plate: str) -> Path:
        return self.results / "tiles" / f"{plate}.parquet"

    def embedding(self, plate: str) -> Path:
        return self.results / "embeddings" / "vae" / f"{plate}.parquet"


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    return Screen(tmp_path)
