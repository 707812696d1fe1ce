"""Which treatments fill which clusters, against the controls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vae_sci.phenotypes.permutation import Array, differences, p_values, q_values, too_few
from vae_sci.phenotypes.profiles import TREATMENT


def treatment_enrichment(cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table `ENRICHMENT` from table `CELLS`, one row per treatment, concentration, cluster.

    A treatment is compared with the controls of its plates, where it has any; otherwise with all.
    Odds ratio and log2 ratio of shares are of cells taken together, half a cell added to each of
    the four counts, and half a cell of the smaller group to both shares, so that they are 1 and 0
    where both are empty. The p-value is that of the mean difference of shares, well by well, with
    wells exchanged within plates; q-values after Benjamini & Hochberg (1995) over the whole table.
    Without controls shares remain; what compares with controls is empty.
    """
    clusters = sorted(cells["cluster"].unique(), key=int)
    counts = (
        cells.groupby(["plate", "well"])["cluster"].value_counts().unstack(fill_value=0)
    ).reindex(columns=clusters, fill_value=0)
    about = cells.groupby(["plate", "well"])[[*TREATMENT, "control"]].first()
    plates = about.index.get_level_values("plate").to_numpy(dtype=str)
    control = about["control"].to_numpy(dtype=bool)
    found = counts.to_numpy(dtype=np.float64)
    parts = []
    for (treatment, concentration), members in about[~control].groupby(TREATMENT, dropna=False):
        treated = about.index.isin(members.index)
        own = control & np.isin(plates, plates[treated])
        inside, among = found[treated].sum(axis=0), found[own if own.any() else control].sum(axis=0)
        n, n_control = inside.sum(), among.sum()
        part = pd.DataFrame(
            {
                "treatment": treatment,
                "concentration": concentration,
                "control": False,
                "cluster": clusters,
                "n_cells": inside.astype(np.int64),
                "share": inside / n,
            }
        )
        if n_control:
            half = 0.5 / min(n, n_control)
            odds = (inside + 0.5) / (n - inside + 0.5)
            part["share_control"] = among / n_control
            part["odds_ratio"] = odds / ((among + 0.5) / (n_control - among + 0.5))
            part["log2_enrichment"] = np.log2((inside / n + half) / (among / n_control + half))
            part["p_value"] = _p_values(found, treated, own, plates, seed)
        parts.append(part)
    columns = [*TREATMENT, "control", "cluster", "n_cells", "share", "share_control"]
    columns += ["odds_ratio", "log2_enrichment", "p_value"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    table = table.reindex(columns=columns)
    return table.assign(q_value=q_values(table["p_value"]))


def _p_values(
    counts: Array, treated: np.ndarray, controls: np.ndarray, plates: np.ndarray, seed: int
) -> Array | float:
    """p-value of each cluster from cells per well and cluster (W, K); NaN: too few wells."""
    compared = np.isin(plates, plates[controls])
    wells = (treated | controls) & compared
    labels, plates = treated[wells].astype(np.float64), plates[wells]
    if not labels.any() or too_few(labels, plates):
        return np.nan
    shares = counts[wells] / counts[wells].sum(axis=1, keepdims=True)

    def difference(dealt: Array) -> Array:
        return np.asarray(np.abs(differences(dealt, plates) @ shares))

    return p_values(labels, plates, difference, seed)
