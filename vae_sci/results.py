"""The results of a run in Python: tables as pandas frames, tiles as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_sci.contracts import CELLS, FIELDS, TILES
from vae_sci.errors import ContractError, QueryError, VaeSciError
from vae_sci.query import VIEWS, find_model, run_query, view_files

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

NEAR = 8  # neighbours on the page of a cell
BLOCK = 8_192  # cells whose distances are computed at a time: they stay in the processor's cache


@dataclass(frozen=True)
class Results:
    """The results of one model. Make it with `open_results`.

    Each table is read on first use and kept. Its columns are those of `vae_sci.contracts`.
    """

    path: Path
    model: str

    @property
    def cells(self) -> pd.DataFrame:
        """One row per cell, sorted by `cell_id`: metadata, cluster, UMAP, normalised z."""
        return self.table("cells")

    @property
    def clusters(self) -> pd.DataFrame:
        """One row per latent phenotype."""
        return self.table("clusters")

    @property
    def treatments(self) -> pd.DataFrame:
        """One row per treatment and concentration."""
        return self.table("treatments")

    @property
    def profiles(self) -> pd.DataFrame:
        """One row per well: mean normalised z."""
        return self.table("profiles")

    @property
    def enrichment(self) -> pd.DataFrame:
        """One row per treatment, concentration and cluster."""
        return self.table("enrichment")

    @property
    def fields(self) -> pd.DataFrame:
        """One row per field and channel, all plates; no row where tiles came ready-made."""
        return self.table("fields")

    def table(self, view: str) -> pd.DataFrame:
        """One of the tables of a query (`vae_sci.query.VIEWS`), of all plates.

        Raises `QueryError` where there is no such table, `ContractError` where its file is missing.
        """
        if view not in VIEWS:
            raise QueryError(
                required=f"a table among {', '.join(VIEWS)}", found=view, action="choose one"
            )
        if view not in self._tables:
            import pandas as pd

            files = view_files(self.path, self.model, view)
            if not files:
                raise _missing(self.path / VIEWS[view].path.format(model=self.model, plate="*"))
            frames = [VIEWS[view].read(path) for path in files]
            filled = [frame for frame in frames if len(frame)]
            self._tables[view] = pd.concat(filled, ignore_index=True) if filled else frames[0]
        return self._tables[view]

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        """Those read so far."""
        return {}

    @property
    def channels(self) -> list[str]:
        """Names of the channels, in the order of a tile's first axis."""
        return list(self._about["channels"])

    def query(self, sql: str) -> pd.DataFrame:
        """The answer to one SELECT over the tables, as `vae_sci.query.run_query`.

        Raises `QueryError` where the statement is refused or fails.
        """
        return run_query(self.path, sql, self.model).to_pandas()

    def neighbors(self, cell_id: str, k: int = 20, itself: bool = False) -> pd.DataFrame:
        """The k cells nearest to one in normalised z, nearest first.

        Exact. Rows of `cells` with a column `distance` more: in sds of the controls, over all
        dimensions. The cell itself is left out, or with `itself` comes first, at distance 0.

        Raises `QueryError` where there is no such cell.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        ids, z = self._latent
        place = pc.index(ids, pa.scalar(cell_id, ids.type)).as_py()
        if place < 0:
            raise _unknown(cell_id, self.path / CELLS.path.format(model=self.model))
        found = self._nearest(z[:, place], k, without=place)
        return self._cells_at([place, *found[0]], [0.0, *found[1]])[0 if itself else 1 :]

    def neighbors_of_tile(
        self, tile: np.ndarray, plate: str | None = None, k: int = 20
    ) -> pd.DataFrame:
        """The k cells nearest to one that is not in the results, as `neighbors`.

        Parameters
        ----------
        tile : (C, H, W), raw grey levels, as the tiles of these results. No mask comes with it: a
            model that was trained with other cells masked should be given a tile of one cell. Its
            light is taken as even.
        plate : whose controls it is measured by, as the plate's own cells are: the plate that it
            was imaged on, or one stained and imaged with it. May be left out where there is one.

        Raises `InputError` where the tile is none that the model can read, `QueryError` where there
        is no such plate.
        """
        places, distances = self._nearest(self._encode(tile, plate), k)
        return self._cells_at(places, distances)

    def _encode(self, tile: np.ndarray, plate: str | None) -> np.ndarray:
        """Normalised z (d,) of a tile (C, H, W), by the same code as the cells of `plate`."""
        import pandas as pd

        from vae_sci.config import PhenotypesSettings, parse
        from vae_sci.embedding.encode import encode_tiles
        from vae_sci.phenotypes.h5ad import read_h5ad
        from vae_sci.phenotypes.normalize import normalize_new

        path = self.path / CELLS.path.format(model=self.model)
        columns = ["plate", "well", "batch", "treatment", "control"]
        cells = pd.read_parquet(path, columns=columns)
        plates = sorted(cells["plate"].unique())
        if plate not in plates and (plate is not None or len(plates) > 1):
            raise QueryError(
                required="the plate whose controls the tile is measured by",
                found=f"no plate '{plate}'" if plate else f"none named, and {len(plates)} plates",
                action=f"choose one of: {', '.join(plates)}",
            )
        new = encode_tiles(self.path / "models" / self.model, tile[None])
        raw, about = read_h5ad(path.with_suffix(".h5ad"))
        settings = parse(PhenotypesSettings, about["settings"], str(path.with_suffix(".h5ad")))
        return normalize_new(new, plate or plates[0], raw, cells, settings)[0]

    @cached_property
    def _latent(self) -> tuple[pa.ChunkedArray, np.ndarray]:
        """cell_ids (N,) and normalised z (d, N), float32: a dimension lies in one piece, as it is
        read. Nothing else of the table is read."""
        import numpy as np

        with self._opened() as file:
            names = [name for name in file.schema_arrow.names if name.startswith("z_")]
            z = np.empty((len(names), file.metadata.num_rows), dtype=np.float32)
            start = 0
            for group in range(file.num_row_groups):
                part = file.read_row_group(group, columns=names)
                for row, column in zip(z, part.columns, strict=True):
                    row[start : start + len(part)] = column
                start += len(part)
            return file.read(["cell_id"])["cell_id"], z

    def _nearest(
        self, point: np.ndarray, k: int, without: int | None = None
    ) -> tuple[list[int], list[float]]:
        """Rows of the k cells nearest to a point (d,) of normalised z, and their distances."""
        import numpy as np

        z = self._latent[1]
        point = point.astype(np.float32)[:, None]
        squared = np.empty(z.shape[1], dtype=np.float32)
        for start in range(0, len(squared), BLOCK):
            apart = z[:, start : start + BLOCK] - point
            np.einsum("dn,dn->n", apart, apart, out=squared[start : start + BLOCK])
        if without is not None:
            squared[without] = np.inf
        k = min(k, len(squared) - (without is not None))
        near = np.argpartition(squared, k - 1)[:k] if k else np.empty(0, dtype=np.int64)
        near = near[np.lexsort((near, squared[near]))]
        return near.tolist(), np.sqrt(squared[near]).tolist()

    def _cells_at(self, places: list[int], distances: list[float]) -> pd.DataFrame:
        """These rows of `cells`, in order, with their distance: only what holds them is read."""
        import numpy as np
        import pyarrow as pa

        ids, z = self._latent
        with self._opened() as file:
            schema = file.schema_arrow
        texts = [
            field.name
            for field in schema
            if pa.types.is_large_string(field.type) or pa.types.is_string(field.type)
        ]
        latent = [name for name in schema.names if name.startswith("z_")]
        plain = pa.schema([field for field in schema if field.name not in ("cell_id", *latent)])
        # Texts that are not decoded before the few rows are taken: most of the time otherwise.
        with self._opened(texts) as file:
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            first = np.cumsum([0, *groups])
            group = np.searchsorted(first, places, side="right") - 1
            parts, rows = [plain.empty_table()], np.zeros(len(places), dtype=np.int64)
            for number in np.unique(group):
                here = np.flatnonzero(group == number)
                rows[here] = sum(map(len, parts)) + np.arange(len(here))
                part = file.read_row_group(int(number), columns=plain.names)
                parts.append(part.take(np.array(places)[here] - first[number]).cast(plain))
        table = pa.concat_tables(parts).take(rows).to_pandas()
        table["cell_id"] = ids.take(places).to_pylist()
        for name, values in zip(latent, z[:, places], strict=True):
            table[name] = values.astype(np.float64)
        return CELLS.validate(table[schema.names], "the cells found").assign(distance=distances)

    @contextmanager
    def _opened(self, coded: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        """The file of `cells`, `coded` columns read as codes; `ContractError` where damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / CELLS.path.format(model=self.model)
        try:
            with pq.ParquetFile(path, read_dictionary=list(coded)) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise ContractError(
                required=CELLS.meaning,
                found=f"{path} cannot be read: {error}",
                action="delete it and run again: the workflow makes it anew",
            ) from None

    def draw(self, cells: pd.DataFrame, path: str | Path, title: str) -> None:
        """Write the tiles of the rows of `cells` (column `cell_id`), in order, as a .png.

        Past 200 rows only the first are drawn. Raises `QueryError` where there is no row, no column
        `cell_id`, or `path` does not end in .png.
        """
        from vae_sci.report.sheet import MOST, draw_sheet

        path = _picture(path)
        if cells.empty:
            raise QueryError(
                required="at least one row to draw", found="none", action="ask for other cells"
            )
        tiles = self.tiles(cells.head(MOST))
        draw_sheet(cells, tiles, self.channels, self._about["pixel_size_um"], path, title)

    def show(self, cell_id: str, path: str | Path) -> None:
        """Write a page on one cell as a .png: its tile channel by channel, what the model makes of
        it, its field with the tile boxed, its nearest cells, and its row of `cells`.

        Where model or images are no longer there, the page says so. Raises `QueryError` where there
        is no such cell, or `path` does not end in .png.
        """
        from vae_sci.report.cell import Cell, draw_cell

        path = _picture(path)
        found = self.neighbors(cell_id, NEAR, itself=True)
        tiles = self.tiles(found)
        plate = str(found["plate"].iloc[0])
        table = TILES.read(self.path / TILES.path.format(plate=plate))
        cell = table[table["cell_id"] == cell_id]
        field, corner = self._field(cell.iloc[0])
        draw_cell(
            Cell(
                row=found.drop(columns="distance").iloc[0],
                channels=self.channels,
                pixel_size_um=self._about["pixel_size_um"],
                tile=tiles[0],
                made=self._made(cell),
                field=field,
                corner=corner,
                near=found[1:],
                near_tiles=tiles[1:],
            ),
            path,
        )

    def _made(self, cell: pd.DataFrame) -> np.ndarray | str:
        """What the model makes of a cell (C, H, W), or why it cannot."""
        from vae_sci.embedding.generate import reconstruct

        try:
            return reconstruct(self.path, str(cell["plate"].iloc[0]), self.model, cell)[0]
        except VaeSciError as error:
            return f"No reconstruction: {error.found}."

    def _field(self, cell: pd.Series) -> tuple[np.ndarray | str, tuple[int, int]]:
        """The field (C, H, W) of a row of the tile table, or why it is not there, and the first row
        and column of the tile in it. Paths that were written relative to where the workflow ran
        are looked for from here, then from beside the results."""
        from vae_sci.images.read import read_field

        if cell[["y0", "x0"]].isna().any():
            return "No field: the cells came as tiles.", (0, 0)
        corner = int(cell["y0"]), int(cell["x0"])
        try:
            fields = FIELDS.read(self.path / FIELDS.path.format(plate=cell["plate"]))
            here = (fields["well"] == cell["well"]) & (fields["site"] == cell["site"])
            rows = fields[here]
            if rows.empty:
                return "No field: the table of fields does not name it.", corner
            rows = rows.assign(path=[self._from_here(paths) for paths in rows["path"]])
            return read_field(rows), corner
        except VaeSciError as error:
            return f"No field: {error.found}.", corner

    def _from_here(self, paths: str) -> str:
        """Paths of images, one a line, where they can be opened from here."""
        return "\n".join(
            str(beside)
            if not Path(path).exists() and (beside := self.path.resolve().parent / path).exists()
            else path
            for path in paths.splitlines()
        )

    @cached_property
    def _about(self) -> dict[str, Any]:
        """What the first plate's store says of its tiles: channels, size, pixel_size_um, …"""
        from vae_sci.tiles.store import store_about

        stores = sorted((self.path / "tiles").glob("*.zarr"))
        if not stores:
            raise _missing(self.path / TILES.path.format(plate="*").replace(".parquet", ".zarr"))
        return store_about(stores[0])

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


def _picture(path: str | Path) -> Path:
    """`path`; raises `QueryError` unless it ends in .png."""
    path = Path(path)
    if path.suffix != ".png":
        raise QueryError(
            required="a picture that ends in .png", found=f"{path}", action="rename it"
        )
    return path


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
