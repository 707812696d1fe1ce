"""Does the stream keep up? Tiles per second, memory, and training beside tiles in memory.

    python benchmarks/stream.py --json FILE [--work DIR] [--tiles N] [--rounds N]

The store is written unless it is there: cells of the simulated demo screen, its camera's noise
included, each tile cut around another cell or a little beside it. The stream alone runs in a
process of its own, on two cores: one epoch after the files were dropped from the page cache, then
epochs with them in it. Training takes the same steps from the stream and from one tensor in
memory, in rounds that alternate. Runs on Linux.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vae_sci.files import write_json
from vae_sci.tiles.store import SHARD, store_about, write_store
from vae_sci.training.stream import Source, TileStream

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "resources" / "simulate" / "screen.yaml"
SIZE = 64
CORES = 2
BATCH = 64
WARM_EPOCHS = 3
IN_MEMORY = 4096  # tiles of the tensor that the stream is compared with
STEPS = 8  # of a round: as many tiles as are decoded at once
WARM_UP = 8  # steps before the first round


def simulated_tiles(seed: int) -> Iterator[np.ndarray]:
    """Shards of tiles (SHARD, 3, SIZE, SIZE), raw counts, without end; memory holds one plate."""
    from vae_sci.simulate.camera import expose
    from vae_sci.simulate.optics import blur
    from vae_sci.simulate.recipe import read_recipe
    from vae_sci.simulate.screen import draw_field, generator, plan

    recipe = read_recipe(RECIPE)
    plate = recipe.plates[0].name
    pixel, border = recipe.fields.pixel_size, SIZE // 2 + 8
    images, cells = [], []
    for row in plan(recipe, plate).itertuples():
        random = generator(recipe, plate, row.well, 1)
        field = draw_field(random, recipe, row.treatment, row.concentration)
        seen = [blur(p, recipe.optics, c, pixel, field.in_focus) for c, p in enumerate(field.light)]
        light = np.stack(seen) + recipe.brightness.background
        images.append(expose(random, light, recipe.camera))
        where = field.table[["y", "x"]].to_numpy().round().astype(int)
        inside = ((where >= border) & (where <= recipe.fields.size - border)).all(axis=1)
        cells += [(len(images) - 1, y, x) for y, x in where[inside]]
    random = np.random.default_rng(seed)
    while True:
        chosen = np.array(cells)[random.integers(len(cells), size=SHARD)]
        chosen[:, 1:] += random.integers(-8, 9, (SHARD, 2))
        yield np.stack(
            [
                images[image][:, y - SIZE // 2 : y + SIZE // 2, x - SIZE // 2 : x + SIZE // 2]
                for image, y, x in chosen
            ]
        )


def write_tiles(store: Path, n_tiles: int, seed: int) -> None:
    """A store of at least `n_tiles` tiles, in whole shards."""
    with write_store(
        store,
        channels=["nucleus", "mitochondria", "fibres"],
        size=SIZE,
        dtype="uint16",
        masks=False,
        pixel_size_um=0.5,
        about={"plate": store.stem, "neighbours": "keep"},
    ) as writer:
        for tiles in simulated_tiles(seed):
            writer.append(tiles)
            if writer.n_tiles >= n_tiles:
                return


def stream_of(store: Path, n_tiles: int) -> TileStream:
    return TileStream([Source(store.stem, store, np.arange(n_tiles))])


def forget(store: Path) -> None:
    """Drop the files from the page cache, so that the next read comes from the disk."""
    os.sync()
    for path in store.rglob("c/**/*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def deliver(store: Path, n_tiles: int, seed: int) -> dict[str, Any]:
    """Whole epochs of the stream alone; to be called in a fresh process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    stream = stream_of(store, n_tiles)
    forget(store)
    epochs = []
    for epoch in range(1 + WARM_EPOCHS):
        delivered = n_bytes = 0
        start, cpu = time.perf_counter(), time.process_time()
        for batch in stream.shuffled(BATCH, (seed, epoch)):
            delivered += len(batch.tile)
            n_bytes += batch.counts.nbytes
        seconds = time.perf_counter() - start
        epochs.append(
            {
                "page_cache": "cold" if epoch == 0 else "warm",
                "tiles": delivered,
                "tiles_per_second": delivered / seconds,
                "mb_per_second": n_bytes / seconds / 1e6,
                "cpu_seconds_per_second": (time.process_time() - cpu) / seconds,
            }
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "epochs": epochs,
        "tiles_per_second": float(np.median([e["tiles_per_second"] for e in epochs[1:]])),
        "peak_bytes": peak,
        "torch_imported": "torch" in sys.modules,
    }


def compare(store: Path, n_tiles: int, rounds: int, seed: int) -> dict[str, Any]:
    """Steps per second of the default model, fed by the stream and by one tensor in memory."""
    import torch
    from steps import training_step

    from vae_sci.config import ModelSettings, TrainingSettings
    from vae_sci.model.device import pick_device, tune_cpu
    from vae_sci.model.vae import VAE
    from vae_sci.training import ema
    from vae_sci.training.augment import augment, draw_moves
    from vae_sci.training.scaling import measure

    tune_cpu()
    torch.manual_seed(seed)
    device = pick_device("auto")
    settings = TrainingSettings()
    few = stream_of(store, IN_MEMORY)
    grey_levels, scaling = measure(few, few)
    model = VAE(ModelSettings(), SIZE, grey_levels, scaling).to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    random = torch.Generator().manual_seed(seed)
    wait, losses = 0.0, []

    def streamed() -> Iterator[torch.Tensor]:
        nonlocal wait
        for epoch in itertools.count():
            batches = stream_of(store, n_tiles).shuffled(BATCH, (seed, epoch))
            while True:
                start = time.perf_counter()
                batch = next(batches, None)
                wait += time.perf_counter() - start
                if batch is None:
                    break
                yield grey_levels.to_steps(batch.counts).to(device)

    def in_memory() -> Iterator[torch.Tensor]:
        everything = torch.cat([grey_levels.to_steps(b.counts) for b in few.in_order(SHARD)])
        everything = everything.to(device)
        while True:
            yield everything[torch.randint(len(everything), (BATCH,))]

    def run(feed: Iterator[torch.Tensor], steps: int) -> float:
        """Seconds for some steps, each as in `vae_sci.training.loop`."""
        start = time.perf_counter()
        for _ in range(steps):
            levels = next(feed)
            view, levels = (
                augment(levels, draw_moves(len(levels), settings.shift, random)) for _ in range(2)
            )
            loss = training_step(model, optimizer, levels, view, random)
            ema.update(average, model, settings.ema, step=STEPS)
            losses.append(loss.item())
        return time.perf_counter() - start

    feeds = {"stream": streamed(), "memory": in_memory()}
    for feed in feeds.values():
        run(feed, WARM_UP)
    wait = 0.0
    seconds: dict[str, list[float]] = {name: [] for name in feeds}
    for number in range(rounds):
        for name in list(feeds)[:: 1 if number % 2 == 0 else -1]:
            seconds[name].append(run(feeds[name], STEPS))
    totals = {name: sum(values) for name, values in seconds.items()}
    ratios = [m / s for s, m in zip(seconds["stream"], seconds["memory"], strict=True)]
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "batch_size": BATCH,
        "rounds": rounds,
        "steps_per_round": STEPS,
        "seconds": seconds,
        "steps_per_second": {name: rounds * STEPS / total for name, total in totals.items()},
        "ratio": totals["memory"] / totals["stream"],
        "median_round_ratio": float(np.median(ratios)),
        "round_ratios": ratios,
        "data_wait": wait / totals["stream"],
        "loss": {"first": losses[0], "last": losses[-1]},
    }


def machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("vae_sci", "torch", "numpy", "zarr", "numcodecs")},
    }


def markdown(report: dict[str, Any]) -> str:
    """What was measured, beside what was asked for."""
    store, alone, training = report["store"], report["alone"], report["training"]
    rates = ", ".join(
        f"{e['tiles_per_second']:,.0f} ({e['cpu_seconds_per_second']:.2f})" for e in alone["epochs"]
    )
    steps = training["steps_per_second"]
    low, middle, high = np.percentile(training["round_ratios"], (25, 50, 75))
    return "\n".join(
        [
            "| | measured | target |",
            "|---|---|---|",
            f"| store | {store['raw_bytes'] / 2**30:.2f} GiB of counts, "
            f"{store['disk_bytes'] / 2**30:.2f} GiB on disk | > 4 GiB |",
            f"| stream alone, warm epochs, median | {alone['tiles_per_second']:,.0f} tiles/s "
            "| ≥ 20,000 |",
            f"| peak memory of its process | {alone['peak_bytes'] / 2**30:.2f} GiB | < 1 |",
            f"| training, stream / memory | {steps['stream']:.3f} / {steps['memory']:.3f} steps/s "
            f"= {training['ratio']:.3f} | ≥ 0.95 |",
            f"| data wait | {training['data_wait']:.2%} | |",
            "",
            f"Tiles/s by epoch (cores that it got), the first from the disk: {rates}. "
            f"Ratio by round, quartiles: {low:.3f}, {middle:.3f}, {high:.3f}.",
        ]
    )


def main() -> int:
    """Measure everything; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write the figures into")
    parser.add_argument("--work", type=Path, default=ROOT / "results" / "stream")
    parser.add_argument("--tiles", type=int, default=88 * SHARD, help="of the store, 4.1 GiB")
    parser.add_argument("--rounds", type=int, default=16, help=f"of {STEPS} training steps each")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    store = given.work.resolve() / f"tiles{given.tiles}_seed{given.seed}.zarr"
    # In processes of their own: the stream's peak memory is not to hold anything else.
    spawn = multiprocessing.get_context("spawn")
    if not store.exists():
        with ProcessPoolExecutor(1, spawn) as process:
            process.submit(write_tiles, store, given.tiles, given.seed).result()
    about = store_about(store)
    n_tiles = about["n_tiles"]
    started = machine()
    with ProcessPoolExecutor(1, spawn) as process:
        alone = process.submit(deliver, store, n_tiles, given.seed).result()
    report = {
        "seed": given.seed,
        "machine": started,
        "store": {
            "path": str(store),
            "n_tiles": n_tiles,
            "raw_bytes": n_tiles * len(about["channels"]) * SIZE * SIZE * 2,
            "disk_bytes": sum(p.stat().st_size for p in store.rglob("*") if p.is_file()),
        },
        "alone": alone,
        "training": compare(store, n_tiles, given.rounds, given.seed),
        "load_average_at_end": os.getloadavg(),
    }
    write_json(report, given.json)
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
