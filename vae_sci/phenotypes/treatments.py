"""What each treatment did: how far it moved its cells, and whether a probe can tell."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vae_sci.config import PhenotypesSettings
from vae_sci.phenotypes.normalize import enough_controls
from vae_sci.phenotypes.profiles import TREATMENT, latent_columns
from vae_sci.phenotypes.scores import probe_auroc

PROBE_CELLS = 1_000
"""Most cells of a treatment, and most of the controls, that a probe is given."""


def treatment_table(
    cells: pd.DataFrame, enrichment: pd.DataFrame, settings: PhenotypesSettings, seed: int
) -> pd.DataFrame:
    """The table `TREATMENTS` from tables `CELLS` and `ENRICHMENT`.

    A probe compares a treatment with the controls of its own plates where they are enough by
    `settings`, so that it cannot win by telling plates apart; otherwise with all controls.
    """
    names = latent_columns(cells)
    controls = cells[cells["control"]]
    rows = []
    for (treatment, concentration), members in cells.groupby(TREATMENT, dropna=False):
        control = bool(members["control"].iloc[0])
        own = controls[controls["plate"].isin(members["plate"])]
        against = own if enough_controls(own, settings) else controls
        rows.append(
            {
                "treatment": treatment,
                "concentration": concentration,
                "control": control,
                "n_cells": len(members),
                "n_wells": len(members[["plate", "well"]].drop_duplicates()),
                "n_plates": members["plate"].nunique(),
                "distance": float(np.linalg.norm(members[names].mean())),
                "auroc": np.nan if control else _auroc(members, against, names, seed),
                "top_cluster": members["cluster"].mode().iloc[0],
            }
        )
    table = pd.DataFrame(rows)
    ranked = enrichment[enrichment["log2_enrichment"] > 0].sort_values("p_value", kind="stable")
    top = ranked.groupby(TREATMENT, dropna=False)["cluster"].first().rename("most").reset_index()
    most = table.merge(top, on=TREATMENT, how="left", validate="one_to_one")["most"]
    return table.assign(top_cluster=most.fillna(table["top_cluster"]).to_numpy())


def _auroc(members: pd.DataFrame, controls: pd.DataFrame, names: list[str], seed: int) -> float:
    parts = [
        part.sample(min(len(part), PROBE_CELLS), random_state=seed) for part in (members, controls)
    ]
    both = pd.concat(parts)
    treated = np.repeat([True, False], [len(part) for part in parts])
    wells = (both["plate"] + "/" + both["well"]).to_numpy(dtype=str)
    return probe_auroc(both[names].to_numpy(), treated, wells, seed=seed)
