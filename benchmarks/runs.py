"""The finished run that a benchmark measures, and under which normalisation it was made."""

from __future__ import annotations

from pathlib import Path

from vae_sci.config import PhenotypesSettings
from vae_sci.errors import ContractError
from vae_sci.results import Results, open_results


def open_run(data: Path, results: Path, model: str) -> Results:
    """The finished run on the BBBC021 cells of `data`; `ContractError` where there is none."""
    if not (results / "phenotypes" / model / "cells.parquet").is_file():
        raise ContractError(
            required=f"the results of a run on {data}",
            found=f"no phenotypes of model '{model}' in {results}",
            action=f"make example-bbbc021 DATA={data}",
        )
    return open_results(results, model)


def run_settings(run: Results) -> PhenotypesSettings:
    """The settings with which the run normalised, from its cells.h5ad."""
    import anndata

    path = run.path / "phenotypes" / run.model / "cells.h5ad"
    table = anndata.read_h5ad(path, backed="r")
    values = table.uns["vae_sci"]["settings"]
    table.file.close()
    return PhenotypesSettings.model_validate(
        {name: v.tolist() if hasattr(v, "tolist") else v for name, v in values.items()}
    )
