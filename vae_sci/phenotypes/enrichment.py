"""Which treatments fill which clusters, against the controls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vae_sci.phenotypes.profiles import TREATMENT


def treatment_enrichment(cells: pd.DataFrame) -> pd.DataFrame:
    """The table `ENRICHMENT` from table `CELLS`, one row per treatment, concentration, cluster.

    Fisher's exact test, two-sided, of cells in and out of the cluster, treated against all
    controls; q-values after Benjamini & Hochberg (1995) over the whole table. Cells of a well are
    not independent, so p-values are too small: they rank, the auroc of `TREATMENTS` decides. To
    both shares of the log2 ratio half a cell of the smaller group is added, so that it is 0 where
    both are empty. Without controls shares remain; what compares with controls is empty.
    """
    from scipy.stats import false_discovery_control, fisher_exact

    clusters = sorted(cells["cluster"].unique(), key=int)
    controls = cells.loc[cells["control"], "cluster"].value_counts().reindex(clusters, fill_value=0)
    n_control = int(controls.sum())
    rows = []
    treated = cells[~cells["control"]]
    for (treatment, concentration), members in treated.groupby(TREATMENT, dropna=False):
        inside = members["cluster"].value_counts().reindex(clusters, fill_value=0)
        n = len(members)
        for cluster in clusters:
            a, c = int(inside[cluster]), int(controls[cluster])
            row = {
                "treatment": treatment,
                "concentration": concentration,
                "control": False,
                "cluster": cluster,
                "n_cells": a,
                "share": a / n,
            }
            if n_control:
                half = 0.5 / min(n, n_control)
                row |= {
                    "share_control": c / n_control,
                    "log2_enrichment": np.log2((a / n + half) / (c / n_control + half)),
                    "p_value": fisher_exact([[a, n - a], [c, n_control - c]]).pvalue,
                }
            rows.append(row)
    columns = [*TREATMENT, "control", "cluster", "n_cells", "share", "share_control"]
    table = pd.DataFrame(rows, columns=[*columns, "log2_enrichment", "p_value"])
    table["q_value"] = np.nan
    if n_control and rows:
        table["q_value"] = false_discovery_control(np.minimum(table["p_value"], 1.0), method="bh")
    return table
