"""The default model and others that differ from it in one thing, trained on the cells of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from budget import train_for

from vae_sci.config import (
    DiagnosticsSettings,
    EmbeddingSettings,
    LikelihoodSettings,
    ModelSettings,
    TrainingSettings,
)
from vae_sci.diagnostics.make import diagnose
from vae_sci.embedding.encode import embed_plate
from vae_sci.results import Results

DEFAULT = "default"
_LIKELIHOODS = get_args(LikelihoodSettings.model_fields["name"].annotation)

# Name → what differs from the defaults of the settings: of the model, of the training.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    DEFAULT: ({}, {}),
    "none": ({"decoder": {"skip": "none"}}, {}),
    "latent": ({"decoder": {"skip": "latent"}}, {}),
    "consistency": ({}, {"consistency": 300_000.0}),
    **{
        name: ({"likelihood": {"name": name}}, {})
        for name in _LIKELIHOODS
        if name != ModelSettings().likelihood.name
    },
    "uncoupled": ({"likelihood": {"coupling": False}}, {}),
}


def measure(name: str, run: Results, work: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Train a variant for `minutes` on the tiles of `run`, unless `work` has it; its diagnostics on
    held-out cells, as numbers by name. Its embeddings lie in `work/embeddings/name`."""
    if not (work / "tiles").exists():
        work.mkdir(parents=True, exist_ok=True)
        (work / "tiles").symlink_to((run.path / "tiles").resolve(), target_is_directory=True)
    model, training = VARIANTS[name]
    plates = sorted(path.stem for path in (run.path / "tiles").glob("*.parquet"))
    settings = ModelSettings.model_validate({"name": name} | model)
    history = train_for(
        minutes, work, plates, settings, TrainingSettings.model_validate(training), seed
    )
    table = diagnose(work, plates, name, DiagnosticsSettings(), seed)
    for plate in plates:
        embed_plate(work, plate, name, EmbeddingSettings())
    found = dict(zip(table["diagnostic"], map(float, table["value"]), strict=True))
    return {"model": name, "minutes": minutes, "epochs": len(history)} | found
