"""What each treatment did: how far it moved its cells, whether to believe it, and what is alike."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vae_sci.config import PhenotypesSettings
from vae_sci.contracts import DOSES, SIMILARITY, TREATMENTS
from vae_sci.phenotypes.normalize import enough_controls
from vae_sci.phenotypes.permutation import (
    SIGNIFICANT,
    Array,
    distance_p_value,
    q_values,
    too_few,
    trend_p_value,
)
from vae_sci.phenotypes.profiles import TREATMENT, latent_columns, mean_of_wells
from vae_sci.phenotypes.scores import probe_auroc

PROBE_CELLS = 1_000
"""Most cells of a treatment, and most of the controls, that a probe is given."""

FEW_CELLS = 0.5
"""Cells per well, as a share of the controls', below which toxicity is suspected."""

AGREE = 0.2
"""Mean cosine between what a treatment did on its plates, below which plates disagree."""

NEAREST = 5


def treatment_table(
    cells: pd.DataFrame,
    wells: pd.DataFrame,
    empty: pd.DataFrame,
    intensities: Array,
    enrichment: pd.DataFrame,
    settings: PhenotypesSettings,
    seed: int,
) -> pd.DataFrame:
    """The table `TREATMENTS`.

    A probe compares a treatment with the controls of its own plates where they are enough by
    `settings`, so that it wins little by telling plates apart; otherwise with all controls.

    Parameters
    ----------
    cells, enrichment : tables `CELLS` and `ENRICHMENT`.
    wells : of these cells, as `well_effects` gives them.
    empty : wells without a cell, with their plate, treatment and concentration.
    intensities : (N, m), grey-level statistics of the cells, normalised as z is.
    """
    names = latent_columns(cells)
    z = cells[names].to_numpy()
    controls = np.flatnonzero(cells["control"])
    of_controls = cells[["plate", "well"]].iloc[controls]
    groups = (cells["plate"] + "/" + cells["well"]).to_numpy(dtype=str)
    number = wells.groupby(TREATMENT, dropna=False).ngroup().rename("number")
    of_cells = cells[["plate", "well"]].merge(wells[["plate", "well"]].join(number), how="left")
    rows = []
    for code, own_wells in wells.groupby(number):
        members = np.flatnonzero(of_cells["number"] == code)
        treatment, concentration = own_wells.iloc[0][TREATMENT]
        is_control = bool(own_wells["control"].iloc[0])
        row = {
            "treatment": treatment,
            "concentration": concentration,
            "control": is_control,
            "n_cells": len(members),
            "n_wells": len(own_wells),
            "n_plates": own_wells["plate"].nunique(),
            "distance": float(np.linalg.norm(own_wells[names].mean())),
            "top_cluster": cells["cluster"].iloc[members].mode().iloc[0],
        }
        here = of_controls["plate"].isin(own_wells["plate"]).to_numpy()
        enough = enough_controls(of_controls[here], settings)
        against = controls[here] if enough else controls
        beside = wells[wells["control"] & wells["plate"].isin(own_wells["plate"])]
        row |= _beside_controls(own_wells, _same(empty, treatment, concentration), beside, names)
        if not is_control:
            rng = np.random.default_rng(seed)
            drawn = [rng.permutation(part)[:PROBE_CELLS] for part in (members, against)]
            both, treated = np.concatenate(drawn), np.repeat([True, False], list(map(len, drawn)))
            row |= _tested(own_wells, beside, names, seed) | {
                "auroc": probe_auroc(z[both], treated, groups[both], seed=seed),
                "auroc_intensity": probe_auroc(intensities[both], treated, groups[both], seed=seed)
                if intensities.shape[1]
                else np.nan,
            }
            row["suspicion"] = _suspicion(row)
        rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=[column.name for column in TREATMENTS.columns])
    table["q_value"] = q_values(stepped_down(table))
    table["suspicion"] = with_doses(table)
    ranked = enrichment[enrichment["log2_enrichment"] > 0].sort_values(
        ["p_value", "log2_enrichment"], ascending=[True, False], kind="stable"
    )
    top = ranked.groupby(TREATMENT, dropna=False)["cluster"].first().rename("most").reset_index()
    most = table.merge(top, on=TREATMENT, how="left", validate="one_to_one")["most"]
    return table.assign(top_cluster=most.fillna(table["top_cluster"]).to_numpy())


def stepped_down(table: pd.DataFrame) -> pd.Series:
    """p-values of table `TREATMENTS`, none smaller than that of a higher dose.

    Doses are tested from the highest down, as in toxicology, and the first that does not differ
    ends it (Tukey, Ciminera & Heyse 1985): the largest p-value so far is the adjusted one.
    """
    known = table[table["concentration"].notna()].sort_values("concentration", ascending=False)
    return known.groupby("treatment")["p_value"].cummax().combine_first(table["p_value"])


def dose_table(wells: pd.DataFrame, treatments: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table `DOSES` from the wells as `well_effects` gives them and table `TREATMENTS`.

    A well's position is the length of its effect along the mean effect of all wells of its
    treatment: exchanging doses leaves that direction as it is, so that the test is exact.
    """
    names = latent_columns(wells)
    active = treatments[treatments["q_value"] <= SIGNIFICANT]
    rows = []
    treated = wells[~wells["control"] & wells["concentration"].notna()]
    for treatment, own in treated.groupby("treatment"):
        z = own[names].to_numpy(dtype=np.float64)
        mean = z.mean(axis=0)
        position = z @ mean / max(float(np.linalg.norm(mean)), 1e-12)
        dose, plates = own["concentration"], own["plate"].to_numpy(dtype=str)
        ranks = np.asarray(dose.rank(method="dense"), dtype=np.float64)
        found = active.loc[active["treatment"] == treatment, "concentration"]
        row = {
            "treatment": treatment,
            "n_doses": dose.nunique(),
            "n_wells": len(own),
            "lowest_active": found.min(),
        }
        untested = (
            too_few(ranks, plates, two_sided=False) if row["n_doses"] > 1 else "one concentration"
        )
        if row["n_doses"] > 1:
            row["trend"] = stats.spearmanr(ranks, position).statistic
        row |= (
            {"untested": untested}
            if untested
            else {"p_value": trend_p_value(position, ranks, plates, seed)}
        )
        rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=[column.name for column in DOSES.columns])
    return table.assign(q_value=q_values(table["p_value"]))


def similarity_table(wells: pd.DataFrame) -> pd.DataFrame:
    """The table `SIMILARITY`: per treatment and concentration the others that moved z alike."""
    names = latent_columns(wells)
    treated = wells[~wells["control"]]
    means = mean_of_wells(treated[names], treated["n_cells"], [treated[name] for name in TREATMENT])
    z = means.to_numpy(dtype=np.float64)
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    n = min(NEAREST, len(z) - 1)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :n]
    keys = means.index.to_frame(index=False)
    source, place = np.repeat(np.arange(len(z)), n), order.ravel()
    other = keys.iloc[place].add_prefix("other_").reset_index(drop=True)
    table = keys.iloc[source].reset_index(drop=True).join(other)
    table["rank"] = np.tile(np.arange(1, n + 1), len(z))
    table["cosine"] = cosine[source, place]
    table["distance"] = np.linalg.norm(z[source] - z[place], axis=1)
    return table[[column.name for column in SIMILARITY.columns]]


def _same(wells: pd.DataFrame, treatment: Any, concentration: Any) -> pd.DataFrame:
    """Those of one treatment at one concentration; missing is missing."""
    alike = [
        wells[name].isna() if pd.isna(value) else (wells[name] == value).fillna(False)
        for name, value in zip(TREATMENT, (treatment, concentration), strict=True)
    ]
    return wells[(alike[0] & alike[1]).to_numpy(dtype=bool)]


def _beside_controls(
    own: pd.DataFrame, empty: pd.DataFrame, controls: pd.DataFrame, names: list[str]
) -> dict[str, float]:
    """Cell count, heterogeneity, place and agreement of a treatment's wells."""
    of_controls = controls.groupby("plate")[["n_cells", "spread"]].median()
    beside = own[["plate", "n_cells", "spread"]].join(
        of_controls, on="plate", rsuffix="_control", how="inner"
    )
    without = empty["plate"].isin(of_controls.index).sum()
    counts = np.append((beside["n_cells"] / beside["n_cells_control"]), np.zeros(without))
    spreads = (beside["spread"] / beside["spread_control"]).dropna()
    means = own.groupby("plate")[names].mean().to_numpy(dtype=np.float64)
    lengths = np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    cosines = (means / lengths) @ (means / lengths).T
    pairs = [cosines[i, j] for i, j in combinations(range(len(means)), 2)]
    return {
        "cell_count": float(np.median(counts)) if len(counts) else np.nan,
        "n_empty_wells": len(empty),
        "heterogeneity": float(np.median(spreads)) if len(spreads) else np.nan,
        "edge_share": own["edge"].mean(),
        "edge_share_control": controls["edge"].mean(),
        "agreement": float(np.mean(pairs)) if pairs and not own["control"].any() else np.nan,
    }


def _suspicion(row: dict[str, float]) -> object:
    """What else than the treatment may have moved the cells; missing: nothing was seen."""
    told = []
    if row["cell_count"] < FEW_CELLS:
        told.append(f"few cells: {row['cell_count']:.2f} of the controls'")
    if row["n_empty_wells"]:
        told.append(f"wells without a cell: {row['n_empty_wells']}")
    if row["edge_share"] > 0.5 and row["edge_share_control"] < 0.25:
        told.append("most wells on the edge of the plate, few of the controls")
    if row["agreement"] < AGREE and row.get("p_value", 1.0) <= SIGNIFICANT:
        told.append(f"plates do not agree: mean cosine {row['agreement']:.2f}")
    if row["n_wells"] == 1:
        told.append("one well")
    elif row["n_plates"] == 1:
        told.append("one plate")
    return "; ".join(told) or pd.NA


def with_doses(table: pd.DataFrame) -> pd.Series:
    """The suspicions, and where a dose is not active only since a higher one is not."""
    told = table["suspicion"].copy()
    alone = q_values(table["p_value"]) <= SIGNIFICANT
    held_back = stepped_down(table) > table["p_value"]
    for row in table.index[alone & held_back & (table["q_value"] > SIGNIFICANT)]:
        before = "" if pd.isna(told[row]) else f"{told[row]}; "
        told[row] = f"{before}a higher dose is not active"
    return told


def _tested(
    own: pd.DataFrame, controls: pd.DataFrame, names: list[str], seed: int
) -> dict[str, object]:
    """The p-value of a treatment, or why there is none."""
    own = own[own["plate"].isin(controls["plate"])]
    if own.empty:
        return {"untested": "no control well on its plates"}
    wells = pd.concat([own, controls])
    treated, plates = np.arange(len(wells)) < len(own), wells["plate"].to_numpy(dtype=str)
    why = too_few(treated, plates)
    if why:
        return {"untested": why}
    z = wells[names].to_numpy(dtype=np.float64)
    return {"p_value": distance_p_value(z, treated, plates, seed)}
