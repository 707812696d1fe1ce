"""The results of a run in Python: tables as pandas frames, tiles as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vae_sci.contracts import CELLS, TILES
from vae_sci.errors import ContractError, QueryError
from vae_sci.query import VIEWS, find_model, run_query, view_files

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """The results of one model. Make it with `open_results`.

    Each table is read on first use and kept. Its columns are those of `vae_sci.contracts`.
    """

    path: Path
    model: str

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per cell, sorted by `cell_id`: metadata, cluster, UMAP, normalised z."""
        return self._read("cells")

    @cached_property
    def clusters(self) -> pd.DataFrame:
        """One row per latent phenotype."""
        return self._read("clusters")

    @cached_property
    def treatments(self) -> pd.DataFrame:
        """One row per treatment and concentration."""
        return self._read("treatments")

    @cached_property
    def profiles(self) -> pd.DataFrame:
        """One row per well: mean normalised z."""
        return self._read("profiles")

    @cached_property
    def enrichment(self) -> pd.DataFrame:
        """One row per treatment, concentration and cluster."""
        return self._read("enrichment")

    @cached_property
    def fields(self) -> pd.DataFrame:
        """One row per field and channel, all plates; no row where tiles came ready-made."""
        return self._read("fields")

    @cached_property
    def channels(self) -> list[str]:
        """Names of the channels, in the order of a tile's first axis."""
        stores = sorted((self.path / "tiles").glob("*.zarr"))
        if not stores:
            raise _missing(self.path / TILES.path.format(plate="*").replace(".parquet", ".zarr"))
        from vae_sci.tiles.store import store_about

        return list(store_about(stores[0])["channels"])

    def query(self, sql: str) -> pd.DataFrame:
        """The answer to one SELECT over the tables, as `vae_sci.query.run_query`.

        Raises `QueryError` where the statement is refused or fails.
        """
        return run_query(self.path, sql, self.model).to_pandas()

    def neighbors(self, cell_id: str, k: int = 20) -> pd.DataFrame:
        """The k cells nearest to one in normalised z, nearest first, that cell itself left out.

        Exact. `cells` with a column `distance` more: in sds of the controls, over all dimensions.

        Raises `QueryError` where there is no such cell.
        """
        import numpy as np
        import pandas as pd

        ids, z = self._latent
        place = int(ids.get_indexer(pd.Index([cell_id]))[0])
        if place < 0:
            raise _unknown(cell_id, self.path / CELLS.path.format(model=self.model))
        distance = np.linalg.norm(z - z[place], axis=1)
        distance[place] = np.inf
        k = min(k, len(ids) - 1)
        near = np.argpartition(distance, k - 1)[:k] if k else np.empty(0, dtype=np.int64)
        near = near[np.argsort(distance[near], kind="stable")]
        return self.cells.iloc[near].assign(distance=distance[near].astype("float64"))

    def draw(self, cells: pd.DataFrame, path: str | Path, title: str) -> None:
        """Write the tiles of the rows of `cells` (column `cell_id`), in order, as a .png.

        Past 200 rows only the first are drawn. Raises `QueryError` where there is no row, no column
        `cell_id`, or `path` does not end in .png.
        """
        from vae_sci.report.sheet import MOST, draw_sheet
        from vae_sci.tiles.store import store_about

        path = Path(path)
        if path.suffix != ".png":
            raise QueryError(
                required="a picture that ends in .png", found=f"{path}", action="rename it"
            )
        if cells.empty:
            raise QueryError(
                required="at least one row to draw", found="none", action="ask for other cells"
            )
        tiles = self.tiles(cells.head(MOST))
        about = store_about(next((self.path / "tiles").glob("*.zarr")))
        draw_sheet(cells, tiles, self.channels, about.get("pixel_size_um"), path, title)

    @cached_property
    def _latent(self) -> tuple[pd.Index, np.ndarray]:
        """cell_ids, and normalised z (N, d) as float32."""
        import pandas as pd

        from vae_sci.phenotypes.profiles import latent_columns

        names = latent_columns(self.cells)
        return pd.Index(self.cells["cell_id"]), self.cells[names].to_numpy(dtype="float32")

    def tiles(self, cells: pd.DataFrame | Sequence[str]) -> np.ndarray:
        """Tiles of `cells`: (N, C, H, W), raw grey levels as stored, in the order asked.

        Parameters
        ----------
        cells : cell_ids, or a table with a column `cell_id`; repeats are allowed.

        Raises `QueryError` naming the first cell that is not there.
        """
        return self._arrays(cells, "tiles")

    def masks(self, cells: pd.DataFrame | Sequence[str]) -> np.ndarray:
        """Masks of `cells`: (N, H, W) uint8, 0 background, 1 this cell, 2 a neighbour.

        Arguments and errors as for `tiles`.
        """
        return self._arrays(cells, "masks")

    def _read(self, view: str) -> pd.DataFrame:
        import pandas as pd

        files = view_files(self.path, self.model, view)
        if not files:
            raise _missing(self.path / VIEWS[view].path.format(model=self.model, plate="*"))
        frames = [VIEWS[view].read(path) for path in files]
        filled = [frame for frame in frames if len(frame)]
        return pd.concat(filled, ignore_index=True) if filled else frames[0]

    def _arrays(self, cells: pd.DataFrame | Sequence[str], name: str) -> np.ndarray:
        """Rows of the stores' array `name`, in the order asked."""
        import numpy as np

        from vae_sci.tiles.store import read_rows, store_array

        asked = _cell_ids(cells)
        plates = np.array([cell_id.partition("/")[0] for cell_id in asked], dtype=object)
        if not asked:
            stores = sorted((self.path / "tiles").glob("*.zarr"))
            if not stores:
                raise _missing(self.path / "tiles/*.zarr")
            array = store_array(stores[0], name)
            return np.empty((0, *array.shape[1:]), array.dtype)
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for plate in dict.fromkeys(plates):
            places = np.flatnonzero(plates == plate)
            rows = self._rows(plate, [asked[place] for place in places])
            array = store_array(self.path / "tiles" / f"{plate}.zarr", name)
            parts.append((places, read_rows(array, rows)))
        shapes = {values.shape[1:] for _, values in parts}
        if len(shapes) > 1:
            raise ContractError(
                required=f"{name} of one shape in all plates",
                found=f"shapes {sorted(shapes)} in {self.path / 'tiles'}",
                action="ask for the cells of one plate at a time",
            )
        out = np.empty(
            (len(asked), *shapes.pop()), np.result_type(*(values.dtype for _, values in parts))
        )
        for places, values in parts:
            out[places] = values
        return out

    def _rows(self, plate: str, asked: list[str]) -> np.ndarray:
        """Rows of the cells in the plate's store (N,)."""
        import pandas as pd
        import pyarrow.parquet as pq

        path = self.path / TILES.path.format(plate=plate)
        if not path.is_file():
            raise _unknown(asked[0], path)
        table = pq.read_table(path, columns=["cell_id", "tile"]).to_pandas()
        found = pd.Index(table["cell_id"]).get_indexer(pd.Index(asked))
        if (found < 0).any():
            raise _unknown(asked[int((found < 0).argmax())], path)
        return table["tile"].to_numpy()[found].astype("int64")


def open_results(path: str | Path, model: str | None = None) -> Results:
    """Open the folder that a run wrote into.

    Parameters
    ----------
    path : the results folder.
    model : which model's phenotypes; may be left out where there is one.

    Raises `QueryError` where there are no results, or several models and none named.
    """
    return Results(Path(path), find_model(path, model))


def _cell_ids(cells: pd.DataFrame | Sequence[str]) -> list[str]:
    """The cell_ids of a table or a sequence."""
    import pandas as pd

    if isinstance(cells, str):
        cells = [cells]
    if isinstance(cells, pd.DataFrame):
        if "cell_id" not in cells:
            raise QueryError(
                required="a table with a column 'cell_id'",
                found=f"columns {', '.join(map(str, cells.columns))}",
                action="select cell_id as well",
            )
        cells = cells["cell_id"].tolist()
    return [str(cell_id) for cell_id in cells]


def _missing(path: Path) -> ContractError:
    return ContractError(
        required="the files of a finished run",
        found=f"no {path}",
        action="run the workflow to its end, or copy this folder as well",
    )


def _unknown(cell_id: str, path: Path) -> QueryError:
    return QueryError(
        required="cell_ids of these results (plate/well/site/label)",
        found=f"no cell '{cell_id}' in {path}",
        action="take cell_ids from the table `cells`",
    )
