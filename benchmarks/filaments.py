"""Do filaments survive in a reconstruction, and at what rate? Real noisy and clean images.

    python benchmarks/filaments.py --data DIR --json FILE [--minutes M] [--figure FILE.png]
        [--work DIR] [--seed N]

DIR holds `fields.csv` (fov, noisy_file, clean_file) and the images it names, (C, Y, X) each: the
same fields, noisy and clean (W2S: widefield images of mitochondria, microtubules and actin, one
exposure and the mean of 400).

Fields in order of their number are split: every fourth is for testing, every twelfth, from the
first on, for validation, the others for training. Models are trained on noisy tiles of 64 × 64
pixels alone (half overlapping in training, side by side otherwise), M minutes each, plain ELBO
(no view loss), and reconstruct noisy test tiles at the posterior mean. These are compared with the
clean tiles by Fourier ring correlation (Hann window, all test tiles, mean over structures), and by
power, for which the clean images of each field and structure are brought to the scale of the noisy
ones by a line. Bits and rates are of the bound at draws from the posterior: all rates counted.

Three tables: every model with its own rate; the ladder at the rate of the classic VAE, its
beta_skips sought for that; and z alone, with the skips' latents drawn from their prior. Models
that were trained are kept in the work folder (beside FILE) and not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
import torch
from budget import train_for
from numpy.typing import NDArray

from vae_sci.config import ImagesSettings, ModelSettings, PlateRow, TilesSettings, TrainingSettings
from vae_sci.contracts import MEASURED_CELLS, TILES
from vae_sci.diagnostics.sharpness import (
    BAND,
    CLEAN,
    band_mean,
    checkerboard,
    fourier_rings,
    resolution,
)
from vae_sci.errors import InputError, VaeSciError
from vae_sci.files import publish, write_json
from vae_sci.model.checkpoint import load_model
from vae_sci.model.objective import Terms, bound, score
from vae_sci.model.vae import VAE
from vae_sci.phenotypes.make import versions
from vae_sci.tiles.make import make_tiles
from vae_sci.tiles.store import read_rows, store_array

Array = NDArray[Any]

PLATE = "filaments"
SIZE = 64
STRIDES = {"train": SIZE // 2, "validation": SIZE, "test": SIZE}
BATCH = 64
MATCH = 0.1  # relative difference of rates that counts as equal
ATTEMPTS = 3  # trainings in search of it


@dataclass(frozen=True)
class Row:
    """One model of the comparison."""

    likelihood: str
    skip: str
    beta_skips: float = 1.0

    @property
    def name(self) -> str:
        changed = f", beta_skips {self.beta_skips:g}" if self.beta_skips != 1 else ""
        return f"{self.likelihood} + {self.skip}{changed}"

    @property
    def folder(self) -> str:
        return re.sub(r"\W+", "-", self.name)


CLASSIC = Row("gaussian_fixed", "none")
LADDER = Row("logistic_mixture", "ladder")
ROWS = (
    CLASSIC,
    Row("gaussian", "none"),
    Row("logistic_mixture", "none"),
    Row("logistic_mixture", "latent"),
    LADDER,
)
NOISY = "noisy input"


# --- the data ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tiles:
    """All tiles of all fields, in the order of `table` (contract TILES).

    Parameters
    ----------
    noisy : (N, C, 64, 64), grey levels.
    clean : (N, C, 64, 64), on the scale of the noisy ones.
    """

    table: pd.DataFrame
    noisy: Array
    clean: Array

    def part(self, split: str) -> NDArray[np.bool_]:
        return (self.table["split"] == split).to_numpy()


def part_of(rank: int) -> str:
    """Train, validation or test, for the field of this rank by number, from 0."""
    if rank % 4 == 3:
        return "test"
    return "validation" if rank % 12 == 0 else "train"


def cut(field: Array, stride: int) -> tuple[Array, Array]:
    """Tiles (n, C, 64, 64) of a field (C, H, W) and their first row and column (n, 2)."""
    windows = np.lib.stride_tricks.sliding_window_view(field, (SIZE, SIZE), axis=(1, 2))
    chosen = windows[:, ::stride, ::stride]
    corners = np.indices(chosen.shape[1:3]).reshape(2, -1).T * stride
    return chosen.transpose(1, 2, 0, 3, 4).reshape(-1, len(field), SIZE, SIZE), corners


def on_scale_of(noisy: Array, clean: Array) -> Array:
    """Clean field (C, H, W) → a·clean + b, the line by which it best predicts the noisy one.

    The two were converted to 8 bits apart. The line is the channel's own.
    """
    x, y = (image.reshape(len(image), -1).astype(np.float64) for image in (clean, noisy))
    dx, dy = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
    slope = (dx * dy).sum(axis=1) / (dx**2).sum(axis=1)
    level = y.mean(axis=1) - slope * x.mean(axis=1)
    return slope[:, None, None] * clean + level[:, None, None]


def read_fields(data: Path) -> pd.DataFrame:
    """The fields by number, from 0 in `rank`, with their part."""
    path = data / "fields.csv"
    try:
        fields = pd.read_csv(path)[["fov", "noisy_file", "clean_file"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            required="a folder with fields.csv: fov, noisy_file, clean_file",
            found=f"{path}: {error}",
            action="give the folder of the paired fields with --data",
        ) from None
    if len(fields) < 4:
        raise InputError(
            required="at least 4 fields, so that each part has one",
            found=f"{len(fields)} in {path}",
            action="give more fields",
        )
    fields = fields.sort_values("fov", ignore_index=True).reset_index(names="rank")
    return fields.assign(part=fields["rank"].map(part_of))


def prepare(data: Path, results: Path) -> Tiles:
    """Cut the fields into tiles, and make of the noisy ones a plate below `results`."""
    stacks = results / "stacks"
    stacks.mkdir(parents=True, exist_ok=True)
    rows, clean = [], []
    for field in read_fields(data).itertuples():
        images = [tifffile.imread(data / name) for name in (field.noisy_file, field.clean_file)]
        noisy, corners = cut(images[0], STRIDES[field.part])
        clean.append(cut(on_scale_of(*images), STRIDES[field.part])[0].astype(np.float32))
        name = f"{field.rank:03d}.tif"
        tifffile.imwrite(stacks / name, noisy, ome=True, metadata={"axes": "TCYX"})
        rows.append(
            pd.DataFrame(
                {
                    "stack": name,
                    "index": np.arange(len(noisy)),
                    "well": f"{chr(ord('A') + field.rank // 24)}{field.rank % 24 + 1:02d}",
                    "site": field.fov,
                    "y0": corners[:, 0],
                    "x0": corners[:, 1],
                    "part": field.part,
                }
            )
        )
    pd.concat(rows).to_csv(stacks / "tiles.csv", index=False)
    plate = PlateRow(plate=PLATE, kind="tiles", table=str(stacks / "tiles.csv"))
    settings = TilesSettings(size=SIZE)
    make_tiles(plate, results / "fields", settings, ImagesSettings(), 0, results)
    # Every tile counts, whatever its quality: noise is what is asked about. And wells are split by
    # chance; here the number of the field decides.
    table = MEASURED_CELLS.read(results / MEASURED_CELLS.path.format(plate=PLATE))
    table["split"] = table["part"]
    TILES.write(table, results / TILES.path.format(plate=PLATE))
    store = store_array(results / "tiles" / f"{PLATE}.zarr")
    return Tiles(table, read_rows(store, np.arange(len(table))), np.concatenate(clean))


# --- the figures ------------------------------------------------------------------------------


def sharpness(images: Array, clean: Array) -> dict[str, Any]:
    """What Fourier rings say of images (N, C, H, W) beside the clean ones."""
    rings = fourier_rings(images, clean)
    curve = rings.correlation.mean(axis=0)
    period = resolution(curve, rings.frequency, CLEAN)
    frc = band_mean(rings.correlation, rings.frequency)
    power = band_mean(rings.power_ratio, rings.frequency)
    return {
        "band_frc": float(frc.mean()),
        "band_frc_per_structure": frc.tolist(),
        "band_power_ratio": float(power.mean()),
        "band_power_ratio_per_structure": power.tolist(),
        "resolution_pixels": period if math.isfinite(period) else None,
        "checkerboard_ratio": float(checkerboard(images).max()),
        "frc_per_ring": curve.tolist(),
    }


@torch.no_grad()
def reconstruct(model: VAE, counts: Array, seed: int) -> tuple[Array, Array, dict[str, Any]]:
    """Reconstructions of tiles (N, C, H, W), and the bound at draws from the posterior.

    The first are at the posterior means, the second at the mean of z with the skips' latents drawn
    from their prior.
    """
    device = next(model.parameters()).device
    draws = torch.Generator().manual_seed(seed)
    whole, z_only, terms, z_terms = [], [], [], []
    for start in range(0, len(counts), BATCH):
        levels = model.grey_levels.to_steps(counts[start : start + BATCH]).to(device)
        noise = model.draw_noise(len(levels), draws).share(slice(None), device)
        seen, found = bound(model, levels, None, noise)
        terms.append(found)
        z = seen.z.mean + seen.z.stddev * noise.z
        z_terms.append(score(seen.z, model.generative(z, noise=noise.u), levels))
        for kept, made in (
            (whole, model.generative(seen.z.mean, seen.skips, temperature=0.0)),
            (z_only, model.generative(seen.z.mean, noise=noise.u)),
        ):
            kept.append(model.grey_levels.to_counts(made.p.mean.double().cpu()).numpy())

    def mean(parts: list[Terms], name: str) -> float:
        return float(torch.cat([getattr(part, name) for part in parts]).double().mean())

    about = {
        "bits_per_pixel_and_channel": mean(terms, "bits"),
        "distortion_nats_per_tile": mean(terms, "distortion"),
        "rate_nats_per_tile": mean(terms, "rate_z") + mean(terms, "rate_u"),
        "rate_z_nats_per_tile": mean(terms, "rate_z"),
        "rate_skips_nats_per_tile": torch.cat([t.levels for t in terms]).mean(dim=0).tolist(),
        "z_only_bits_per_pixel_and_channel": mean(z_terms, "bits"),
    }
    return np.concatenate(whole), np.concatenate(z_only), about


def principal_components(train: Array, tiles: Array, d: int, seed: int) -> Array:
    """Tiles (N, C, H, W) as `d` components of `train` give them; channels weigh alike."""
    from sklearn.decomposition import PCA

    spread = train.std(axis=(0, 2, 3), keepdims=True)
    pca = PCA(d, svd_solver="randomized", random_state=seed)
    pca.fit((train / spread).astype(np.float32).reshape(len(train), -1))
    flat = (tiles / spread).astype(np.float32).reshape(len(tiles), -1)
    return pca.inverse_transform(pca.transform(flat)).reshape(tiles.shape) * spread


def next_beta(tried: Sequence[tuple[float, float]], target: float) -> float:
    """The beta_skips to try next, two digits, from (beta, rate) pairs: a line in logarithms.

    With one pair, or pairs in which rate does not fall with beta, rate is taken as 1 / beta. Never
    more than a factor of 10 from the nearest.
    """
    near = sorted(tried, key=lambda pair: abs(math.log(pair[1] / target)))[:2]
    (beta, rate) = near[0]
    slope = -1.0
    if len(near) == 2:
        slope = math.log(near[1][1] / rate) / math.log(near[1][0] / beta)
    step = math.log(target / rate) / (slope if slope < -0.05 else -1.0)
    return float(f"{beta * math.exp(min(max(step, -math.log(10)), math.log(10))):.2g}")


# --- the comparison ---------------------------------------------------------------------------


@dataclass
class Comparison:
    """Trains rows and scores them, and keeps what was found: figures and test tiles."""

    tiles: Tiles
    results: Path
    minutes: float
    seed: int
    settings: ModelSettings
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        test = self.tiles.part("test")
        self.noisy, self.clean = self.tiles.noisy[test], self.tiles.clean[test]
        self.images: dict[str, Array] = {NOISY: self.noisy.astype(np.float64)}
        self.z_images: dict[str, Array] = {}

    def baselines(self) -> list[dict[str, Any]]:
        """The noisy input itself, and PCA."""
        d = self.settings.latent_dim
        train = self.tiles.noisy[self.tiles.part("train")]
        pca = f"PCA-{d}"
        self.images[pca] = principal_components(train, self.noisy, d, self.seed)
        return [{"model": m} | sharpness(self.images[m], self.clean) for m in (NOISY, pca)]

    def model(self, row: Row) -> dict[str, Any]:
        """The figures of one row; trains it unless it was trained before."""
        self.say(f"{row.name}: {self.minutes:g} minutes, unless it is there")
        changes = {
            "name": row.folder,
            "likelihood": self.settings.likelihood.model_copy(update={"name": row.likelihood}),
            "decoder": self.settings.decoder.model_copy(update={"skip": row.skip}),
        }
        settings = ModelSettings.model_validate(
            self.settings.model_copy(update=changes).model_dump()
        )
        training = TrainingSettings(view_weight=0, beta_skips=row.beta_skips)
        history = train_for(self.minutes, self.results, [PLATE], settings, training, self.seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, _ = load_model(self.results / "models" / row.folder, device)
        whole, z_only, about = reconstruct(model, self.noisy, self.seed)
        self.images[row.name], self.z_images[row.name] = whole, z_only
        tiles = int(history["step"].iloc[-1]) * training.batch_size
        seconds = (tiles / len(history) / history["tiles_per_second"]).sum()
        found = {
            "model": row.name,
            **asdict(row),
            **sharpness(whole, self.clean),
            **about,
            "parameters": sum(p.numel() for p in model.parameters()),
            "epochs": len(history),
            "tiles_seen": tiles,
            "training_minutes": seconds / 60,
        }
        self.say(
            f"{row.name}: band FRC {found['band_frc']:.3f}, "
            f"{found['rate_nats_per_tile']:.0f} nats, {len(history)} epochs"
        )
        return found

    def z_only(self, row: dict[str, Any]) -> dict[str, Any]:
        """The figures of a scored row with the skips' latents drawn from their prior."""
        name = "z_only_bits_per_pixel_and_channel"
        return {
            "model": row["model"],
            **sharpness(self.z_images[row["model"]], self.clean),
            "bits_per_pixel_and_channel": row[name],
            "rate_nats_per_tile": row["rate_z_nats_per_tile"],
        }

    def at_rate(self, ladder: dict[str, Any], target: float) -> list[dict[str, Any]]:
        """Ladders with other weights of the skips' rates, the last one nearest to `target` nats."""
        tried = [ladder]
        while len(tried) <= ATTEMPTS and _apart(tried, target) > MATCH:
            pairs = [(t["beta_skips"], t["rate_nats_per_tile"]) for t in tried]
            beta = next_beta(pairs, target)
            if beta in [b for b, _ in pairs]:
                break
            tried.append(self.model(replace(LADDER, beta_skips=beta)))
        nearest = min(tried, key=lambda t: _apart([t], target))
        return [t for t in tried if t is not nearest] + [nearest]


def _apart(rows: list[dict[str, Any]], target: float) -> float:
    """Relative difference of the nearest rate to `target`."""
    return min(abs(row["rate_nats_per_tile"] / target - 1) for row in rows)


def compare(
    data: Path,
    work: Path,
    minutes: float,
    seed: int,
    rows: Sequence[Row] = ROWS,
    settings: ModelSettings | None = None,
    keep: Callable[[dict[str, Any]], None] = lambda report: None,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], Comparison]:
    """The report, and the comparison with its images. `keep` gets the report after each model."""
    tiles = prepare(data, work)
    comparison = Comparison(tiles, work, minutes, seed, settings or ModelSettings(), say)
    fields = tiles.table.groupby("split")["site"].unique()
    report: dict[str, Any] = {
        "protocol": " ".join(" ".join(str(__doc__).split("\n\n")[3:5]).split()),
        "fields": {part: sorted(map(int, fields[part])) for part in STRIDES},
        "tiles": {part: int(tiles.part(part).sum()) for part in STRIDES},
        "minutes_per_model": minutes,
        "latent_dim": comparison.settings.latent_dim,
        "band_cycles_per_pixel": list(BAND),
        "frequency_cycles_per_pixel": [(r + 1) / SIZE for r in range(SIZE // 2)],
        "models": comparison.baselines(),
        "matched_rate": [],
        "z_only": [],
        "seed": seed,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": versions() | {"torch": torch.__version__},
    }
    by_row: dict[Row, dict[str, Any]] = {}
    for row in rows:
        by_row[row] = comparison.model(row)
        report["models"].append(by_row[row])
        report["z_only"].append(comparison.z_only(by_row[row]))
        keep(report)
    if CLASSIC in by_row and LADDER in by_row:
        target = by_row[CLASSIC]["rate_nats_per_tile"]
        plain = [found for row, found in by_row.items() if row.skip == "none"]
        report["matched_rate"] = [*plain, *comparison.at_rate(by_row[LADDER], target)]
        keep(report)
    return report, comparison


# --- what people look at ----------------------------------------------------------------------


def markdown(report: dict[str, Any]) -> str:
    """The three tables."""
    low, high = report["band_cycles_per_pixel"]
    head = [
        f"| model | FRC {low:g}–{high:g} | power ratio | resolution, pixels | checkerboard "
        "| bits/pixel | rate, nats | of it z |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def line(row: dict[str, Any]) -> str:
        figures = [
            ("band_frc", ".3f"),
            ("band_power_ratio", ".2f"),
            ("resolution_pixels", ".1f"),
            ("checkerboard_ratio", ".1f"),
            ("bits_per_pixel_and_channel", ".3f"),
            ("rate_nats_per_tile", ".0f"),
            ("rate_z_nats_per_tile", ".0f"),
        ]
        cells = [format(row[k], f) if row.get(k) is not None else "–" for k, f in figures]
        return f"| {' | '.join([row['model'], *cells])} |"

    titles = {
        "models": "Posterior mean against the clean image",
        "matched_rate": "The ladder at the rate of the classic VAE",
        "z_only": "z alone: latents of the skips drawn from their prior",
    }
    parts = [[title, "", *head, *map(line, report[key]), ""] for key, title in titles.items()]
    tiles, fields = report["tiles"], report["fields"]
    note = (
        f"{tiles['test']} test tiles of {len(fields['test'])} fields, {tiles['train']} training "
        f"tiles of {len(fields['train'])}; {report['minutes_per_model']:g} minutes a model, "
        f"{report['device']}. Correlation with the clean image, mean over structures; power "
        "relative to it; resolution where the correlation falls to 0.5."
    )
    return "\n".join([*(text for part in parts for text in part), note])


def crops(tiles: Tiles) -> list[tuple[NDArray[np.int64], int]]:
    """Per structure a square of 2 × 2 test tiles, (2, 2) places among them, and one to enlarge.

    Of all squares, ranked by the fine detail of the clean image (differences of neighbouring
    pixels), the one a tenth down the list; of its four tiles, the most detailed.
    """
    test = tiles.part("test")
    detail = np.square(np.diff(tiles.clean[test], axis=3)).mean(axis=(2, 3))
    table = tiles.table[test].reset_index(drop=True)
    places = {key: n for n, key in enumerate(zip(table.site, table.y0, table.x0, strict=True))}
    squares = []
    for (site, y, x), _ in places.items():
        corners = [[(site, y + dy, x + dx) for dx in (0, SIZE)] for dy in (0, SIZE)]
        if all(key in places for keys in corners for key in keys):
            squares.append([[places[key] for key in keys] for keys in corners])
    every = np.array(squares)
    chosen = []
    for channel in range(detail.shape[1]):
        amount = detail[every, channel]
        order = np.argsort(-amount.sum(axis=(1, 2)), kind="stable")
        square = every[order[len(order) // 10]]
        chosen.append((square, int(square.flat[detail[square, channel].argmax()])))
    return chosen


def stitched(images: Array, square: NDArray[np.int64]) -> Array:
    """The (2, 2) tiles `square` of images (N, H, W) as one image (2 H, 2 W)."""
    return np.block([[images[place] for place in places] for places in square])


def draw(report: dict[str, Any], comparison: Comparison, path: Path) -> None:
    """Zooms, one row a model, and below them the correlation by frequency."""
    from matplotlib.patches import Rectangle

    from vae_sci.report.images import mosaic, show
    from vae_sci.report.style import CATEGORIES, DPI, FAINT, VERMILLION, canvas, drawing, finish

    clean = "clean reference"
    names = [row["model"] for row in report["models"]]
    if report["matched_rate"]:
        names.append(report["matched_rate"][-1]["model"])  # the one nearest to the rate sought
    rows = {clean: comparison.clean} | {name: comparison.images[name] for name in names}
    if LADDER.name in comparison.z_images:
        rows[f"{LADDER.name}, z alone"] = comparison.z_images[LADDER.name]
    chosen = crops(comparison.tiles)
    pictures: list[list[Array]] = [[] for _ in rows]
    for channel, (square, zoom) in enumerate(chosen):
        low, high = np.percentile(stitched(comparison.clean[:, channel], square), (1, 99.8))
        for line, images in zip(pictures, rows.values(), strict=True):
            plane = np.clip((images[:, channel] - low) / (high - low), 0, 1)
            enlarged = np.kron(plane[zoom], np.ones((2, 2)))
            line += [np.dstack([i] * 3) for i in (stitched(plane, square), enlarged)]
    with drawing():
        picture = mosaic(pictures, column_breaks=(2, 4))
        # What the names leave of 7.2 inches is the pictures' width.
        tall = 6.15 * picture.image.shape[0] / picture.image.shape[1]
        figure = canvas(7.2, tall + 2.7)
        grid, curves = figure.subplots(2, 1, height_ratios=[tall, 2.2])
        show(grid, picture)
        lines = [name.replace(" + ", "\n+ ").replace(", ", ",\n") for name in rows]
        grid.set_yticks(picture.centres[1], lines)
        titles = [f"structure {n // 2}" if n % 2 == 0 else "one tile, ×2" for n in range(6)]
        grid.set_xticks(picture.centres[0], titles[: len(picture.x)])
        for channel, (square, zoom) in enumerate(chosen):
            down, right = np.argwhere(square == zoom)[0] * SIZE
            place = (picture.x[2 * channel] + right - 0.5, picture.y[0] + down - 0.5)
            grid.add_patch(
                Rectangle(place, SIZE, SIZE, fill=False, edgecolor=VERMILLION, linewidth=0.8)
            )
        frequency = report["frequency_cycles_per_pixel"]
        for number, row in enumerate(report["models"]):
            colour = FAINT if number == 0 else CATEGORIES[(number - 1) % len(CATEGORIES)]
            curves.plot(frequency, row["frc_per_ring"], color=colour, lw=1.2, label=row["model"])
        curves.axhline(CLEAN, color=FAINT, linewidth=0.5, linestyle=":")
        curves.axvspan(*BAND, color=FAINT, alpha=0.12, linewidth=0)
        curves.set(xlim=(0, 0.35), ylim=(-0.05, 1), xlabel="cycles per pixel",
                   ylabel="correlation with clean")  # fmt: skip
        curves.legend(loc="upper right")
        title = "Filaments in reconstructions of noisy test tiles"
        note = (
            "Fields never trained on. Four tiles side by side, each reconstructed by itself at the "
            "posterior mean, and the framed one enlarged. One contrast per structure (percentiles "
            "1 and 99.8 of the clean crop, which is brought to the scale of the noisy image). All "
            "rows but the first two are synthetic: generated by a model. Below: Fourier ring "
            "correlation with the clean image, mean over structures; shaded: the band of the table."
        )
        whole = finish(figure, title, note, synthetic=True).figure
        with publish(path) as temporary:
            whole.savefig(
                temporary, format="png", dpi=DPI * 2 // 3, bbox_inches="tight", pad_inches=0.08
            )


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with fields.csv")
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--minutes", type=float, default=6.0, help="training per model")
    parser.add_argument("--figure", type=Path, help="PNG to draw the reconstructions into")
    parser.add_argument("--work", type=Path, help="folder of tiles and models; beside the JSON")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    work = given.work or given.json.with_suffix("")
    try:
        report, comparison = compare(
            given.data,
            work,
            given.minutes,
            given.seed,
            keep=lambda so_far: write_json(so_far, given.json),
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
        if given.figure:
            draw(report, comparison, given.figure)
    except VaeSciError as error:
        print(error, file=sys.stderr)
        return 1
    print(markdown(json.loads(given.json.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
