"""What a run writes opens in scanpy, squidpy, ome-zarr, napari, pycytominer and copairs.

They live in an environment of their own (`tests/peers.txt`).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vae_sci.query import answer
from vae_sci.results import open_results

pytestmark = pytest.mark.slow
WELLS = "phenotypes/vae/pycytominer/wells.parquet"
PEERS = Path(__file__).with_name("peers.txt")


@pytest.fixture(scope="module")
def peers(environment: Callable[[Path], Path]) -> Path:
    """Python of the environment in which they are; skips where they cannot be installed."""
    return environment(PEERS)


@pytest.fixture(scope="module")
def ask(peers: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs a script there with arguments; what it prints last is the answer, as JSON."""
    folder = tmp_path_factory.mktemp("peers")
    # What they compile on first use is kept for the next run of the tests.
    kept = {"NUMBA_CACHE_DIR": str(peers.parents[1] / "numba"), "MPLBACKEND": "agg"}

    def call(script: str, *arguments: str | Path) -> Any:
        done = subprocess.run(
            [peers, "-c", script, *map(str, arguments)],
            cwd=folder,
            env=os.environ | kept,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    return call


SCANPY = """
import json, sys
import scanpy as sc
found = []
for path in sys.argv[1:]:
    table = sc.read_h5ad(path)
    sc.pp.neighbors(table, n_neighbors=10, use_rep="X")
    axes = sc.pl.umap(table, color="cluster", show=False)
    drawn = sum(len(c.get_offsets()) for c in axes.collections)
    found.append([*table.shape, table.obsp["connectivities"].nnz, drawn])
print(json.dumps(found))
"""

SQUIDPY = """
import json, sys
import anndata, squidpy
table = anndata.read_h5ad(sys.argv[1])
squidpy.gr.spatial_neighbors(table, coord_type="generic", n_neighs=2, library_key="library_id")
first, second = table.obsp["spatial_connectivities"].nonzero()
fields = table.obs["library_id"].to_numpy()
print(json.dumps([len(first), bool((fields[first] == fields[second]).all())]))
"""


def test_scanpy_takes_all_cells_and_those_of_a_query(
    tiny_results: Path, ask: Callable[..., Any], tmp_path: Path
) -> None:
    some = tmp_path / "found.h5ad"
    answer(tiny_results, "SELECT * FROM cells WHERE plate = 'tiny2'", output=some)
    cells = open_results(tiny_results).cells
    counts = [len(cells), (cells["plate"] == "tiny2").sum()]
    found = ask(SCANPY, tiny_results / "phenotypes/vae/cells.h5ad", some)
    for count, (rows, dimensions, edges, drawn) in zip(counts, found, strict=True):
        assert (rows, dimensions) == (count, 8)
        assert edges >= 9 * rows
        assert drawn >= rows


def test_squidpy_joins_cells_of_a_field_only(tiny_results: Path, ask: Callable[..., Any]) -> None:
    edges, within = ask(SQUIDPY, tiny_results / "phenotypes/vae/cells.h5ad")
    assert edges > 2 * len(open_results(tiny_results).cells) * 0.9
    assert within


OME_ZARR = """
import json, sys
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
(node,) = Reader(parse_url(sys.argv[1]))()
names = {axis["name"]: axis.get("unit") for axis in node.metadata["axes"]}
print(json.dumps([node.data[0].shape, int(node.data[0][-1].sum()), names,
                  node.metadata["channel_names"], node.metadata["contrast_limits"]]))
"""

NAPARI = """
import json, sys
from napari_ome_zarr import napari_get_reader
(layer,) = napari_get_reader(sys.argv[1])(sys.argv[1])
data, options, kind = layer
first = data[0] if isinstance(data, list) else data
print(json.dumps([kind, list(first.shape), options["name"], options["channel_axis"]]))
"""


def test_tiles_open_as_ome_zarr_with_their_channels(
    tiny_results: Path, ask: Callable[..., Any]
) -> None:
    results = open_results(tiny_results)
    store = tiny_results / "tiles/tiny1.zarr"
    table = pd.read_parquet(tiny_results / "measured/cells/tiny1.parquet")
    shape, last, axes, channels, contrast = ask(OME_ZARR, store)
    assert shape == [len(table), 3, 64, 64]
    assert axes == {"t": None, "c": None, "y": "micrometer", "x": "micrometer"}
    assert channels == results.channels
    assert all(0 < low < high < 65535 for low, high in contrast)
    last_cell = table.loc[table["tile"].idxmax(), "cell_id"]
    if last_cell in set(pd.read_parquet(tiny_results / "tiles/tiny1.parquet")["cell_id"]):
        assert last == int(results.tiles(last_cell).sum())


def test_tiles_open_in_napari_s_reader(tiny_results: Path, ask: Callable[..., Any]) -> None:
    results = open_results(tiny_results)
    kind, shape, names, axis = ask(NAPARI, tiny_results / "tiles/tiny1.zarr")
    assert kind == "image"
    assert shape[1:] == [3, 64, 64]
    assert axis == 1
    assert names == [f"tiny1: {channel}" for channel in results.channels]


PYCYTOMINER = """
import json, sys
import pandas as pd, pycytominer
wells = pd.read_parquet(sys.argv[1])
features = [name for name in wells if name.startswith("z_")]
normal = pycytominer.normalize(
    wells, features=features, meta_features="infer",
    samples="Metadata_control == True", method="mad_robustize")
kept = pycytominer.feature_select(
    normal, features=features, operation=["variance_threshold", "drop_na_columns"])
medians = normal.loc[normal["Metadata_control"], features].median().abs().max()
print(json.dumps([list(normal.shape), float(medians), [n for n in kept if n in features]]))
"""

COPAIRS = """
import json, sys
import pandas as pd
from copairs import map as copairs_map
wells = pd.read_parquet(sys.argv[1])
features = [name for name in wells if name.startswith("z_")]
meta = wells.drop(columns=features).reset_index(drop=True)
found = copairs_map.average_precision(
    meta, wells[features].to_numpy(), pos_sameby=["Metadata_treatment"],
    pos_diffby=["Metadata_Well"], neg_sameby=["Metadata_Plate"],
    neg_diffby=["Metadata_treatment"])
print(json.dumps(found.groupby("Metadata_treatment")["average_precision"].mean().to_dict()))
"""


def test_pycytominer_normalises_the_wells(tiny_results: Path, ask: Callable[..., Any]) -> None:
    wells = open_results(tiny_results).profiles
    shape, medians, kept = ask(PYCYTOMINER, tiny_results / WELLS)
    assert shape == list(wells.shape)
    assert medians < 1e-6
    assert kept


def test_copairs_ranks_the_wells(tiny_results: Path, ask: Callable[..., Any]) -> None:
    wells = open_results(tiny_results).profiles
    scores = ask(COPAIRS, tiny_results / WELLS)
    assert set(scores) == set(wells["treatment"])
    assert all(0 < score <= 1 for score in scores.values())
