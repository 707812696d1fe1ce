# Shared by all rules: the settings, parsed once, and the table of plates.
import functools
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from snakemake.exceptions import WorkflowError

from vae_sci import algorithms
from vae_sci.config import Settings, parse as parse_settings, read_plates
from vae_sci.errors import VaeSciError
from vae_sci.files import exclusive
from vae_sci.images import watch

# Rules call `vae-sci`: the one beside this Python, also where its folder is not on the PATH.
os.environ.update(
    PATH=os.pathsep.join([os.path.dirname(sys.executable), *os.get_exec_path()])
)

# Figure → its caption in workflow/report.
FIGURES = {
    "training": "training",
    "reconstructions": "reconstructions",
    "samples": "samples",
    "resampled": "resampled",
    "morph": "morph",
    "umap_treatment": "umap",
    "umap_concentration": "umap",
    "umap_plate": "umap",
    "umap_cluster": "umap",
    "umap_quality": "umap",
    "gallery": "gallery",
    "enrichment": "enrichment",
    "dose_response": "dose_response",
    "plates": "plates",
}
# The tables of these are in results/generated.
IMAGES = ("reconstructions", "samples", "resampled", "morph")
# What the rules `generate` and `morph` write.
GENERATED = (
    "originals.ome.tif",
    "reconstructions.ome.tif",
    "predictive.ome.tif",
    "samples.ome.tif",
    "resampled.ome.tif",
    "cells.csv",
    "samples.csv",
    "resampled.csv",
)
MORPHS = ("morphs.ome.tif", "morphs.csv")


def told(work):
    """What `work()` returns, or the user's mistake in three lines instead of a traceback."""
    try:
        return work()
    except VaeSciError as error:
        raise WorkflowError(str(error)) from None


RUN = ExitStack()  # what this process holds until it ends
SETTINGS = told(lambda: parse_settings(Settings, config, "the configuration"))
ROWS = {row.plate: row for row in told(lambda: read_plates(SETTINGS.plates))}
RESULTS = SETTINGS.results
PLATES = list(ROWS)
VARIANTS = told(SETTINGS.all_models)
MODELS = list(VARIANTS)
FIGURES |= {f"umap_{column}": "umap" for column in SETTINGS.report.colour_by}
TABLES = (
    "clusters.csv",
    "treatments.csv",
    "enrichment.csv",
    "wells.csv",
    "doses.csv",
    "similarity.csv",
    "normalization.csv",
    "resolutions.csv",
    "profiles.parquet",
    "scores.json",
    "scores.csv",
    "replicates.csv",
)
# Those that figures are drawn from.
DRAWN = (
    "clusters.csv",
    "treatments.csv",
    "enrichment.csv",
    "wells.csv",
    "doses.csv",
    "normalization.csv",
)
SIMULATED = [plate for plate, row in ROWS.items() if row.recipe]


def room(name, without=()):
    """Settings of one room as JSON: a rule reruns when its own settings change, and no others.

    `without`: those that the rule does not read.
    """
    # In the order given: the order of images.channels is the order of channels in a tile.
    return json.dumps(
        getattr(SETTINGS, name).model_dump(mode="json", exclude=set(without))
    )


def model_of(wildcards):
    """The model's own settings as JSON."""
    return json.dumps(VARIANTS[wildcards.model][0].model_dump(mode="json"))


def training_of(wildcards):
    """How this model is trained, as JSON."""
    return json.dumps(VARIANTS[wildcards.model][1].model_dump(mode="json"))


def calibration_of(wildcards):
    """The camera's calibration, where the model's settings name one."""
    return VARIANTS[wildcards.model][0].likelihood.calibration or []


def row_of(wildcards):
    """The plate's row as JSON: a plate reruns when its own row changes.

    Without the platemap, which is joined after embedding; with a recipe's content, not its name.
    """
    row = ROWS[wildcards.plate]
    recipe = Path(row.recipe).read_text() if row.recipe else None
    return json.dumps(
        row.model_dump(exclude={"platemap", "recipe"}) | {"recipe": recipe}
    )


@functools.cache
def scanned(plate):
    return watch.digest(ROWS[plate])


def raw_files(wildcards):
    """Names, sizes and times of a plate's raw files in short: a changed one reruns the plate.

    Images that the run simulates itself follow from their recipe.
    """
    return None if ROWS[wildcards.plate].recipe else scanned(wildcards.plate)


def results_folder(wildcards):
    return RESULTS


def devices_for(wildcards, resources):
    """As many cards as the job was given; one process on the CPU."""
    return max(1, resources.gpu)


def device_for(wildcards, resources):
    """cpu where `--resources gpu=0` took the GPU away."""
    return "auto" if resources.gpu else "cpu"


def inputs_of(wildcards):
    """The user's own files for a plate: platemap and, for ready-made tiles, the table.

    A corrected platemap (`ancient`) does not make tiles anew: it is joined after embedding.
    """
    row = ROWS[wildcards.plate]
    return [ancient(row.platemap)] * bool(row.platemap) + [row.table] * bool(row.table)


def flat_field_of(wildcards):
    """The plate's flat field, where the settings ask for one and there are whole fields."""
    wanted = SETTINGS.images.flat_field == "retrospective"
    whole = ROWS[wildcards.plate].kind == "images"
    return [f"{RESULTS}/flat_field/{wildcards.plate}.npz"] * (wanted and whole)


def platemaps(wildcards):
    return sorted({row.platemap for row in ROWS.values() if row.platemap})
