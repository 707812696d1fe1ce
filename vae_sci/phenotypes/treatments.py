"""What each treatment did: how far it moved its cells, and whether a probe can tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import TREATMENTS
from vae_sci.phenotypes.normalize import enough_controls
from vae_sci.phenotypes.permutation import LARGEST, arrangements, permutation_p_value
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
    wells = cells.groupby(["plate", "well"])[[*names, "control"]].mean().reset_index()
    wells["control"] = wells["control"] == 1  # a well is, or is not
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
                **({} if control else _tested(wells, members, names, seed)),
                "auroc": np.nan if control else _auroc(members, against, names, seed),
                "top_cluster": members["cluster"].mode().iloc[0],
            }
        )
    table = pd.DataFrame(rows, columns=[column.name for column in TREATMENTS.columns])
    tested = table["p_value"].notna()
    if tested.any():  # all treatments together (Benjamini & Hochberg 1995)
        found = table.loc[tested, "p_value"].to_numpy(dtype=np.float64)
        table.loc[tested, "q_value"] = stats.false_discovery_control(found)
    ranked = enrichment[enrichment["log2_enrichment"] > 0].sort_values("p_value", kind="stable")
    top = ranked.groupby(TREATMENT, dropna=False)["cluster"].first().rename("most").reset_index()
    most = table.merge(top, on=TREATMENT, how="left", validate="one_to_one")["most"]
    return table.assign(top_cluster=most.fillna(table["top_cluster"]).to_numpy())


def _tested(
    wells: pd.DataFrame, members: pd.DataFrame, names: list[str], seed: int
) -> dict[str, object]:
    """The p-value of a treatment, or why there is none."""
    key = members[["plate", "well"]].drop_duplicates().assign(treated=True)
    wells = wells.merge(key, on=["plate", "well"], how="left")
    treated = wells["treated"].notna()
    with_controls = wells.loc[wells["control"], "plate"]
    kept = (treated | wells["control"]) & wells["plate"].isin(with_controls)
    wells, here = wells[kept], treated[kept].to_numpy(dtype=bool)
    if not here.any():
        return {"untested": "no control well on its plates"}
    plates = wells["plate"].to_numpy(dtype=str)
    ways = arrangements(here, plates)
    if ways * LARGEST < 1:
        return {
            "untested": f"{ways} ways to exchange its wells, p could not be below {1 / ways:.2g}"
        }
    return {"p_value": permutation_p_value(wells[names].to_numpy(), here, plates, seed)}


def _auroc(members: pd.DataFrame, controls: pd.DataFrame, names: list[str], seed: int) -> float:
    parts = [
        part.sample(min(len(part), PROBE_CELLS), random_state=seed) for part in (members, controls)
    ]
    both = pd.concat(parts)
    treated = np.repeat([True, False], [len(part) for part in parts])
    wells = (both["plate"] + "/" + both["well"]).to_numpy(dtype=str)
    return probe_auroc(both[names].to_numpy(), treated, wells, seed=seed)
