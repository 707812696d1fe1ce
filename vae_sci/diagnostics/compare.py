"""Several models on the same held-out cells, side by side."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vae_sci.contracts import COMPARISON, DIAGNOSTICS, TREATMENTS
from vae_sci.errors import ContractError
from vae_sci.model.checkpoint import load_model


def compare(results: Path, models: list[str]) -> pd.DataFrame:
    """Write `comparison/models.csv` from the diagnostics and phenotypes of `models`; returns it.

    Raises `ContractError` naming the first model that was not measured yet.
    """
    rows = []
    for name in models:
        path = results / DIAGNOSTICS.path.format(model=name)
        if not path.is_file():
            raise ContractError(
                required=f"the diagnostics of model {name}",
                found=f"no {path}",
                action=f"vae-sci diagnose --model {name}",
            )
        found = DIAGNOSTICS.read(path).set_index("diagnostic")["value"]
        model, _ = load_model(results / "models" / name)
        known = [column.name for column in COMPARISON.columns if column.name in found]
        rows.append(
            {
                "model": name,
                "skip": model.settings.decoder.skip,
                "likelihood": model.settings.likelihood.name,
                "latent_dim": model.settings.latent_dim,
                "parameters": sum(weight.numel() for weight in model.parameters()),
                **found[known].to_dict(),
                "auroc": _auroc(results / TREATMENTS.path.format(model=name)),
            }
        )
    table = pd.DataFrame(rows).sort_values("bits", kind="stable", ignore_index=True)
    COMPARISON.write(table, results / COMPARISON.path)
    return table


def _auroc(path: Path) -> float:
    """Mean over treatments of the AUROC of their highest concentration; NaN: none is known."""
    if not path.is_file():
        return float("nan")
    table = TREATMENTS.read(path)
    active = table[~table["control"] & table["auroc"].notna()]
    top = active.sort_values("concentration").groupby("treatment").tail(1)
    return float(top["auroc"].mean())
