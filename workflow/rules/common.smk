# Shared by all rules: the settings, parsed once, and the table of plates.
import json
import os
import sys

from snakemake.exceptions import WorkflowError

from vae_sci import algorithms
from vae_sci.config import Settings, parse as parse_settings, read_plates
from vae_sci.errors import VaeSciError

# Rules call `vae-sci`: the one beside this Python, also where its folder is not on the PATH.
os.environ.update(
    PATH=os.pathsep.join([os.path.dirname(sys.executable), *os.get_exec_path()])
)

# Figure → its caption in workflow/report.
FIGURES = {
    "training": "training",
    "reconstructions": "reconstructions",
    "umap_treatment": "umap",
    "umap_concentration": "umap",
    "umap_plate": "umap",
    "umap_cluster": "umap",
    "umap_quality": "umap",
    "gallery": "gallery",
    "enrichment": "enrichment",
}


def parsed(config):
    """Settings and plates, or the user's mistake in three lines instead of a traceback."""
    try:
        settings = parse_settings(Settings, config, "the configuration")
        return settings, {row.plate: row for row in read_plates(settings.plates)}
    except VaeSciError as error:
        raise WorkflowError(str(error)) from None


SETTINGS, ROWS = parsed(config)
RESULTS = SETTINGS.results
PLATES = list(ROWS)
MODELS = [SETTINGS.model.name]
FIGURES |= {f"umap_{column}": "umap" for column in SETTINGS.report.colour_by}
SIMULATED = [plate for plate, row in ROWS.items() if row.recipe]


def room(name):
    """Settings of one room as JSON: a rule reruns when its own settings change, and no others."""
    return json.dumps(getattr(SETTINGS, name).model_dump(mode="json"), sort_keys=True)


def row_of(wildcards):
    """The plate's row as JSON: a plate reruns when its own row changes."""
    return ROWS[wildcards.plate].model_dump_json()


def results_folder(wildcards):
    return RESULTS


def device_for(wildcards, resources):
    """cpu where `--resources gpu=0` took the GPU away."""
    return "auto" if resources.gpu else "cpu"


def inputs_of(wildcards):
    """The user's own files for a plate: platemap and, for ready-made tiles, the table."""
    row = ROWS[wildcards.plate]
    return [path for path in (row.platemap, row.table) if path]


def platemaps(wildcards):
    return sorted({row.platemap for row in ROWS.values() if row.platemap})
