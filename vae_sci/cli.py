"""One verb per room: read settings, call one function, show progress. No logic here.

Rooms are imported inside the verbs, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from vae_sci.errors import InputError, VaeSciError

if TYPE_CHECKING:
    from vae_sci.config import PlateRow

app = typer.Typer(
    name="vae-sci",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From plates of microscope images, without labels, to latent phenotypes.\n\n"
    "The whole pipeline is `snakemake --cores all`; each verb below is one of its steps, in the "
    "order in which data passes, and can be run alone.",
)

Plates = Annotated[
    Path, typer.Option(help="Table of plates, one row each (config/README.md).", show_default=True)
]
Plate = Annotated[str, typer.Option(help="Name of the plate: its row in the table of plates.")]
Results = Annotated[Path, typer.Option(help="Folder that results are written into.")]
Room = Annotated[
    str | None,
    typer.Option(
        help="Settings: a config file such as config/config.yaml, or this step's part of it as "
        "JSON. Left out: defaults.",
    ),
]
ImagesRoom = Annotated[
    str | None, typer.Option("--images", help="Settings of the images, as for --settings.")
]
Model = Annotated[str, typer.Option(help="Name of the model: its folder under results/models.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]
Device = Annotated[
    str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.", metavar="auto|cpu|cuda")
]
AnyModel = Annotated[
    str | None, typer.Option("--model", help="Model, where the results hold several.")
]
Sheet = Annotated[
    Path | None,
    typer.Option("--tiles", help="Draw the tiles of these cells into this .png as well."),
]

DEFAULT_PLATES = Path("config/plates.tsv")
DEFAULT_RESULTS = Path("results")


def _rows(path: Path) -> list[PlateRow]:
    from vae_sci.config import read_plates

    return read_plates(path)


def _row(path: Path, plate: str) -> PlateRow:
    rows = {row.plate: row for row in _rows(path)}
    if plate not in rows:
        raise InputError(
            required=f"a plate of {path}: {', '.join(rows)}",
            found=f"--plate {plate}",
            action="check the name, or add a row",
        )
    return rows[plate]


@app.command()
def simulate(
    recipe: Annotated[Path, typer.Option(help="Recipe of the screen, YAML.")],
    plate: Annotated[str, typer.Option(help="Plate of the recipe to image.")],
    out: Annotated[Path, typer.Option(help="Folder for images, platemap, dark frames, truth.")],
) -> None:
    """Image a plate of virtual cells under virtual treatments, with known truth.

    Example: `vae-sci simulate --recipe resources/simulate/screen.yaml --plate plate1 --out sim/A`
    """
    from vae_sci.progress import bar
    from vae_sci.simulate.recipe import read_recipe
    from vae_sci.simulate.screen import simulate_plate

    with bar(f"simulate {plate}", "fields") as progress:
        simulate_plate(read_recipe(recipe), plate, out, progress=progress)


class _ManyDark(TyperCommand):
    """Lets `--dark` take every path up to the next option, as the shell expands `dark/*.tif`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        dark = False
        for argument in args:
            if argument.startswith("-"):
                dark = argument == "--dark"
            elif dark and spread[-1] != "--dark":
                spread.append("--dark")
            spread.append(argument)
        return super().parse_args(ctx, spread)


@app.command(cls=_ManyDark)
def calibrate(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help="Images of any scene, as the camera wrote them. Channels of a file are calibrated "
            "one by one; files of one channel each are taken as one camera.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for calibration.json and the plot.")],
    dark: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DARK...",
            help="Frames without light, at the same settings; two or more are better than one. "
            "All paths up to the next option: name the images first.",
        ),
    ] = None,
    repeated: Annotated[
        bool,
        typer.Option(
            "--repeated",
            help="The images are frames of one scene that does not move: the frames of each stack "
            "(its first axis), or files of one frame each.",
        ),
    ] = False,
    seed: Seed = 0,
) -> None:
    """Measure a camera's gain, and with dark frames its offset and read noise, from its images.

    Noise tells the gain: the variance of a pixel's noise rises with its mean in a line, whose
    slope is the gain in grey levels per electron (photon transfer). From single images the noise
    is what differences of neighbouring pixels leave; texture as fine as that counts as noise, so
    that frames of a still scene (`--repeated`) are much better. Without dark frames, offset and
    read noise stay unknown: only one combination of them shows.

    Example: `vae-sci calibrate sim/A/images/*_w1.tif --dark sim/A/dark/*.tif --out camera` writes
    `camera/calibration.json`, `.png` and `.svg`.
    """
    from vae_sci.images.calibrate import calibrate as measure
    from vae_sci.progress import bar
    from vae_sci.report.calibration import report

    with bar("calibrate", "files") as progress:
        found = measure(images, dark or [], repeated, seed, progress=progress)
    found.write(out)
    report(found, out)


@app.command()
def index(
    plate: Annotated[
        str | None, typer.Option(help="Name of the plate: its row in the table of plates.")
    ] = None,
    plates: Plates = DEFAULT_PLATES,
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Show how this file's name is read, by the plate's layout or by all named ones, "
            "and what its metadata tell; nothing is written.",
        ),
    ] = None,
) -> None:
    """List a plate's images: which file shows which well, site and channel, and how well.

    Example: `vae-sci index --plate P1` writes `results/images/P1.parquet`.
    `vae-sci index --explain P1_B02_s1_w2.tif` shows how that name is read.
    """
    from vae_sci.config import ImagesSettings, room_settings
    from vae_sci.images.index import index_plate
    from vae_sci.progress import bar

    if explain is not None:
        from vae_sci.images.explain import explain as lines

        for line in lines(explain, _row(plates, plate).layout if plate else None):
            typer.echo(line)
        return
    if plate is None:
        raise InputError(
            required="--plate, or --explain with a file",
            found="neither",
            action="name the plate as in the table of plates",
        )
    row, images = _row(plates, plate), room_settings(settings, "images", ImagesSettings)
    with bar(f"index {plate}", "fields") as progress:
        index_plate(row, images, results / "images" / f"{plate}.parquet", progress=progress)


@app.command()
def flat_field(plate: Plate, results: Results = DEFAULT_RESULTS, settings: Room = None) -> None:
    """Tell from a plate's images how much of the light reaches each pixel, and draw it.

    Background tells the shape, the light of cells how strong it is. Where that is not sure, the
    channel counts as even.
    Example: `vae-sci flat-field --plate P1` writes `results/flat_field/P1.npz`, `.png`, `.svg`.
    """
    from vae_sci.config import ImagesSettings, room_settings
    from vae_sci.images.flat_field import plate_flat_field
    from vae_sci.progress import bar
    from vae_sci.report.flat_field import report

    with bar(f"flat field {plate}", "fields") as progress:
        fields = results / "images" / f"{plate}.parquet"
        images = room_settings(settings, "images", ImagesSettings)
        found, channels = plate_flat_field(plate, fields, images, progress=progress)
    stem = results / "flat_field" / plate
    report(plate, found, channels, stem)
    found.write(stem.with_name(f"{plate}.npz"))


@app.command()
def tiles(
    plate: Plate,
    plates: Plates = DEFAULT_PLATES,
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    images: ImagesRoom = None,
    seed: Seed = 0,
    threads: Annotated[int, typer.Option(help="Fields that are cut side by side.", min=1)] = 1,
) -> None:
    """Cut a plate's cells into tiles of raw counts, and measure the quality of fields and cells.

    Example: `vae-sci tiles --plate P1` writes `results/tiles/P1.zarr` and `results/measured/`;
    `vae-sci select` follows.
    """
    from vae_sci.config import ImagesSettings, TilesSettings, room_settings
    from vae_sci.progress import bar
    from vae_sci.tiles.make import make_tiles

    with bar(f"tiles {plate}", "fields") as progress:
        make_tiles(
            _row(plates, plate),
            results / "images" / f"{plate}.parquet",
            room_settings(settings, "tiles", TilesSettings),
            room_settings(images, "images", ImagesSettings),
            seed,
            results,
            threads=threads,
            progress=progress,
        )


@app.command()
def select(plate: Plate, results: Results = DEFAULT_RESULTS, settings: Room = None) -> None:
    """Keep or drop a plate's fields and cells by their quality; every reason is in the ledger.

    Example: `vae-sci select --plate P1` writes `results/tiles/P1.parquet`, the cells that are
    kept, `results/dropped/P1.csv` and `results/ledger/P1.json`.
    """
    from vae_sci.config import QualitySettings, room_settings
    from vae_sci.tiles.quality import select_cells

    select_cells(results, plate, room_settings(settings, "quality", QualitySettings))


@app.command()
def quality(
    results: Annotated[Path, typer.Argument(help="Folder of results in which plates are tiled.")],
    changed: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A limit of `quality:` to try, such as focus=0.3; null: without it. Repeatable.",
        ),
    ] = None,
    settings: Room = None,
) -> None:
    """Tell how many fields and cells each limit would drop on each plate; changes nothing.

    Example: `vae-sci quality results --set focus=0.3 --set size=null`
    """
    from vae_sci.config import QualitySettings, changed_settings, room_settings
    from vae_sci.tiles.quality import explore

    chosen = room_settings(settings, "quality", QualitySettings)
    table = explore(results, changed_settings(chosen, changed or [], "--set"))
    print(table.to_string(index=False, na_rep=""))


@app.command()
def draw_quality(plate: Plate, results: Results = DEFAULT_RESULTS) -> None:
    """Draw where on a plate quality is poor, and examples of what was dropped, with the reason.

    Example: `vae-sci draw-quality --plate P1` writes `results/figures/quality/P1.png` and
    `results/figures/dropped/P1.png`.
    """
    from vae_sci.report.quality import draw_quality as draw

    draw(results, plate)


@app.command()
def overlay(
    plate: Plate,
    plates: Plates = DEFAULT_PLATES,
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    images: ImagesRoom = None,
) -> None:
    """Draw what was taken for nuclei and cells: outlines on a few fields of a plate.

    Example: `vae-sci overlay --plate P1` writes `results/ledger/P1_segmentation.png`.
    """
    from vae_sci.config import ImagesSettings, TilesSettings, room_settings
    from vae_sci.report.overlay import draw_overlay

    draw_overlay(
        _row(plates, plate),
        results,
        room_settings(settings, "tiles", TilesSettings).segmentation,
        room_settings(images, "images", ImagesSettings),
    )


@app.command()
def train(
    plates: Plates = DEFAULT_PLATES,
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    training: Annotated[
        str | None, typer.Option(help="Settings of the training, as for --settings.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    devices: Annotated[
        int | None,
        typer.Option(help="GPUs to use; all by default. With --device cpu: processes.", min=1),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="File that one line per epoch is added to.")
    ] = None,
) -> None:
    """Fit the model to the training wells of all plates; goes on where a killed run stopped.

    Loss, distortion and rate are nats per tile; bits are per pixel and channel.
    Example: `vae-sci train --settings config/config.yaml --training config/config.yaml`
    """
    from vae_sci.config import ModelSettings, TrainingSettings, room_settings
    from vae_sci.progress import bar, say
    from vae_sci.training.loop import train as fit

    model = room_settings(settings, "model", ModelSettings)

    def keep(line: str) -> None:
        if log:
            # A log that cannot be written hides no error and ends no training.
            with contextlib.suppress(OSError):
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a") as file:
                    file.write(line + "\n")

    def on_epoch(row: dict[str, float]) -> None:
        line = (
            f"epoch {row['epoch']:.0f}: loss {row['train_loss']:.0f}, distortion "
            f"{row['train_distortion']:.0f}, rate {row['train_rate_z']:.1f} (z) + "
            f"{row['train_rate_u']:.0f} (u) nats/tile; "
            f"{row['train_bits']:.3f} bits/pixel, held out {row['validation_bits']:.3f}; "
            f"{row['active_units']:.0f} active units; {row['tiles_per_second']:.0f} tiles/s, "
            f"{row['data_wait']:.0%} of the time waiting for data"
        )
        keep(line)
        if not sys.stderr.isatty():
            say(line)

    with bar(f"train {model.name}", "steps") as progress:

        def on_step(done: int, total: int, now: dict[str, float]) -> None:
            progress(
                done,
                total,
                f"epoch {now['epoch']:.0f}  loss {now['loss']:.0f}  distortion "
                f"{now['distortion']:.0f}  rate {now['rate']:.1f}  {now['bits']:.3f} bits/px  "
                f"{now['tiles_per_second']:.0f} tiles/s  data wait {now['data_wait']:.0%}",
            )

        try:
            fit(
                results,
                [row.plate for row in _rows(plates)],
                model,
                room_settings(training, "training", TrainingSettings),
                seed,
                device=device,
                devices=devices,
                on_step=on_step if sys.stderr.isatty() else None,
                on_epoch=on_epoch,
            )
        except Exception as error:
            # The bar has the terminal; the log keeps why a run ended.
            keep(f"{type(error).__name__}: {error}")
            raise


@app.command()
def embed(
    plate: Plate,
    model: Model = "vae",
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    device: Device = "auto",
) -> None:
    """Encode a plate's tiles: posterior mean and sd, rate, distortion and novelty per cell.

    Example: `vae-sci embed --plate P1` writes `results/embeddings/vae/P1.parquet`.
    """
    from vae_sci.config import EmbeddingSettings, room_settings
    from vae_sci.embedding.encode import embed_plate
    from vae_sci.progress import bar

    batch = room_settings(settings, "embedding", EmbeddingSettings)
    with bar(f"embed {plate}", "cells") as progress:
        embed_plate(results, plate, model, batch, device=device, progress=progress)


@app.command()
def generate(
    plates: Plates = DEFAULT_PLATES,
    model: Model = "vae",
    results: Results = DEFAULT_RESULTS,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Reconstruct held-out cells, resample what z leaves open, make cells up: image stacks.

    Example: `vae-sci generate` writes OME-TIFFs into `results/generated/vae/`; what the model
    made is marked as synthetic.
    """
    from vae_sci.embedding.generate import generate as make

    make(results, [row.plate for row in _rows(plates)], model, seed, device=device)


@app.command()
def phenotypes(
    plates: Plates = DEFAULT_PLATES,
    model: Model = "vae",
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    seed: Seed = 0,
) -> None:
    """Normalise embeddings against controls, cluster them, draw the UMAP, write the tables.

    Example: `vae-sci phenotypes` writes `results/phenotypes/vae/cells.parquet` and its company.
    """
    from vae_sci.config import PhenotypesSettings, room_settings
    from vae_sci.phenotypes.make import make_phenotypes
    from vae_sci.progress import bar

    chosen = room_settings(settings, "phenotypes", PhenotypesSettings)
    with bar("phenotypes", "steps") as progress:
        make_phenotypes(_rows(plates), results, model, chosen, seed, progress=progress)


@app.command()
def assign(
    plate: Plate,
    plates: Plates = DEFAULT_PLATES,
    model: Model = "vae",
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Place a new plate's cells among the clusters and on the UMAP of a run; nothing is refitted.

    The plate is indexed, tiled, selected and embedded by these verbs first, with the run's model
    and settings, and is normalised as the run was: against its own control wells.
    Example: `vae-sci assign --plate P9 --plates new.tsv` writes
    `results/phenotypes/vae/assigned/P9.parquet`.
    """
    from vae_sci.phenotypes.assign import assign_plate

    assign_plate(_row(plates, plate), results, model)


@app.command()
def score(
    model: Model = "vae",
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    seed: Seed = 0,
) -> None:
    """Score z beside cell count, intensity statistics and PCA: replicates, and labels if any.

    Labels are columns of the platemaps that the settings name (`phenotypes: labels: [moa]`).
    Example: `vae-sci score` writes `results/phenotypes/vae/scores.csv` and `replicates.csv`.
    """
    from vae_sci.config import PhenotypesSettings, room_settings
    from vae_sci.phenotypes.score_tables import make_scores
    from vae_sci.progress import bar

    chosen = room_settings(settings, "phenotypes", PhenotypesSettings)
    with bar("score", "tiles") as progress:
        make_scores(results, model, chosen, seed, progress)


@app.command()
def morph(
    model: Model = "vae", results: Results = DEFAULT_RESULTS, device: Device = "auto"
) -> None:
    """Walk in z from the controls to the strongest treatment, and between two typical cells.

    Example: `vae-sci morph` writes `results/generated/vae/morphs.ome.tif`, marked as synthetic.
    """
    from vae_sci.embedding.morphs import morph as make

    make(results, model, device=device)


@app.command()
def diagnose(
    plates: Plates = DEFAULT_PLATES,
    model: Model = "vae",
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure a model on held-out cells: bits, rates, whether z is bypassed, sharpness, nuisance.

    Example: `vae-sci diagnose` writes `results/diagnostics/vae/diagnostics.csv`, a verdict and,
    where it failed, a remedy beside each figure.
    """
    from vae_sci.config import DiagnosticsSettings, room_settings
    from vae_sci.diagnostics.make import diagnose as measure
    from vae_sci.progress import bar, say

    chosen = room_settings(settings, "diagnostics", DiagnosticsSettings)
    names = [row.plate for row in _rows(plates)]
    with bar(f"diagnose {model}", "steps") as progress:
        table = measure(results, names, model, chosen, seed, device, progress)
    for row in table[table["verdict"] == "failed"].itertuples():
        say(
            f"failed: {row.diagnostic} {row.value:.3g}, at least {row.at_least:g} is asked for "
            f"({row.meaning}); to do: {row.remedy}"
        )


@app.command()
def compare(
    models: Annotated[
        list[str], typer.Argument(help="Models that were trained on the same tiles.")
    ],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Put several models side by side: bits, rates, sharpness, label recovery, samples.

    Each must have been measured (`vae-sci diagnose --model NAME`) on the same held-out cells.
    Example: `vae-sci compare vae plain` writes `results/comparison/models.csv` and
    `results/figures/comparison.png`.
    """
    from vae_sci.diagnostics.compare import compare as side_by_side
    from vae_sci.progress import say
    from vae_sci.report.comparison import draw_comparison

    table = side_by_side(results, models)
    draw_comparison(results)
    say(table.to_string(index=False, float_format="{:.3g}".format))


@app.command()
def figures(
    model: Model = "vae",
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    seed: Seed = 0,
) -> None:
    """Draw training curves, generated images, UMAPs, gallery and heat map as PNG and SVG.

    Example: `vae-sci figures` writes into `results/figures/vae/`.
    """
    from vae_sci.config import ReportSettings, room_settings
    from vae_sci.progress import bar
    from vae_sci.report.figures import draw_all

    chosen = room_settings(settings, "report", ReportSettings)
    with bar("figures", "figures") as progress:
        draw_all(results, model, chosen, seed, progress)


@app.command()
def explorer(
    model: Model = "vae",
    results: Results = DEFAULT_RESULTS,
    settings: Room = None,
    seed: Seed = 0,
) -> None:
    """Write a page that shows the map of cells with their tiles; it opens without network.

    Example: `vae-sci explorer` writes `results/explorer/vae/index.html`: open it in a browser.
    """
    from vae_sci.config import ReportSettings, room_settings
    from vae_sci.progress import bar
    from vae_sci.report.explorer.make import make_explorer

    chosen = room_settings(settings, "report", ReportSettings)
    with bar("explorer", "tiles") as progress:
        made = make_explorer(results, model, chosen, seed, progress)
    print(f"→ {made.page}: {made.shown:,} of {made.total:,} cells, {made.bytes / 1e6:.1f} MB")


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT statement (DuckDB's SQL).")],
    results: Results = DEFAULT_RESULTS,
    model: AnyModel = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write all rows to this .csv, .parquet or, where they are cells, .h5ad file "
            "instead."
        ),
    ] = None,
    tiles: Sheet = None,
) -> None:
    """Ask the result tables in SQL: views `cells`, `clusters`, `treatments`, `fields` and more.

    Read only. `SHOW TABLES` lists the views, `DESCRIBE cells` the columns.
    Example: `vae-sci query "SELECT treatment, count(*) AS n FROM cells GROUP BY treatment"`
    Example: `vae-sci query "SELECT * FROM cells ORDER BY novelty DESC LIMIT 40" --tiles odd.png`
    Example: `vae-sci query "SELECT * FROM cells WHERE cluster = '3'" --output three.h5ad`
    More: docs/queries.md
    """
    from vae_sci.query import answer, run_query
    from vae_sci.results import open_results

    answer(results, sql, model, output)
    if tiles is not None:
        open_results(results, model).draw(run_query(results, sql, model).to_pandas(), tiles, sql)


@app.command()
def neighbors(
    cell_id: Annotated[
        str | None, typer.Argument(help="A cell: plate/well/site/label; or name an --image.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many cells.")] = 20,
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="TIFF",
            help="One tile that is not in the results: its channels and size as theirs, raw grey "
            "levels, the cell in the middle. The model encodes it.",
        ),
    ] = None,
    plate: Annotated[
        str | None,
        typer.Option(
            help="With --image: the plate whose controls it is measured by, the one that it was "
            "imaged on. May be left out where the results hold one."
        ),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    model: AnyModel = None,
    tiles: Sheet = None,
) -> None:
    """The cells nearest in latent space to one of the results or to an image, nearest first.

    Example: `vae-sci neighbors plate1/C05/1/11 -k 20 --tiles near.png`
    Example: `vae-sci neighbors --image tile.tif --plate plate1`
    """
    from vae_sci.results import open_results

    if (cell_id is None) == (image is None):
        raise InputError(
            required="one cell: the cell_id of one, or --image with its tile",
            found="neither" if image is None else "both",
            action="name the one whose neighbours you look for",
        )
    run = open_results(results, model)
    if image is not None:
        from vae_sci.images.read import read_planes

        found = run.neighbors_of_tile(read_planes(image).counts, plate, k)
        title = f"The cells nearest to {image.name} in z"
    else:
        found = run.neighbors(str(cell_id), k, itself=True)
        title = f"{cell_id}, the first, and the cells nearest to it in z"
    shown = ["cell_id", "distance", "treatment", "concentration", "cluster"]
    others = found if image is not None else found[1:]
    typer.echo(others[shown].to_string(index=False, float_format="{:.3g}".format))
    if tiles is not None:
        run.draw(found, tiles, title)


@app.command()
def show(
    cell_id: Annotated[str, typer.Argument(help="A cell: plate/well/site/label.")],
    results: Results = DEFAULT_RESULTS,
    model: AnyModel = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Picture to write, .png. Left out: named by the cell, here."),
    ] = None,
) -> None:
    """Draw one cell: its tile, the model's reconstruction, its field, its neighbours, its row.

    Example: `vae-sci show plate1/C05/1/11` writes `plate1_C05_1_11.png`.
    """
    from vae_sci.results import open_results

    path = output or Path(cell_id.replace("/", "_") + ".png")
    open_results(results, model).show(cell_id, path)
    typer.echo(path)


def main() -> None:
    """Entry point: the user's own mistakes end in three lines, not in a traceback."""
    try:
        app()
    except VaeSciError as error:
        print(f"error\n{error}", file=sys.stderr)
        sys.exit(1)
