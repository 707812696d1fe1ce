"""The training loop, on Lightning Fabric: CPU, one GPU or several."""

from __future__ import annotations

import copy
import hashlib
import math
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import vae_sci
from vae_sci import algorithms
from vae_sci.config import ModelSettings, TrainingSettings
from vae_sci.contracts import HISTORY
from vae_sci.errors import ContractError, InputError, TrainingError
from vae_sci.files import exclusive
from vae_sci.likelihoods import Light, bits_per_pixel
from vae_sci.model.checkpoint import save_model
from vae_sci.model.device import count_devices, pick_device, tune_cpu
from vae_sci.model.objective import Terms, bound, consistency_loss, describe, score, view_loss
from vae_sci.model.vae import VAE
from vae_sci.tiles.light import light_digest
from vae_sci.tiles.store import store_about
from vae_sci.training import ema, schedule
from vae_sci.training.augment import augment, disc, draw_moves, turned_disc
from vae_sci.training.camera import camera_noise
from vae_sci.training.scaling import measure
from vae_sci.training.state import load_state, save_state, state_path
from vae_sci.training.stream import Batch, TileStream, open_stream, read_tables

if TYPE_CHECKING:
    from lightning.fabric import Fabric

FIRST_TILES = 512  # tiles that the encoder's head is standardised on
SKIPS_ALLOWED = 20  # steps in a row without a finite gradient before the run stops
ACTIVE = 0.01  # variance of a posterior mean over cells above which a unit is active (Burda 2016)

StepWatch = Callable[[int, int, dict[str, float]], None]
EpochWatch = Callable[[dict[str, float]], None]


def train(
    results: Path,
    plates: list[str],
    settings: ModelSettings,
    training: TrainingSettings,
    seed: int,
    device: str = "auto",
    devices: int | None = None,
    on_step: StepWatch | None = None,
    on_epoch: EpochWatch | None = None,
) -> None:
    """Fit a model to the training tiles of `plates` and publish it in `results/models/{name}`.

    A run that was cut off goes on after its last whole epoch, and on a CPU ends with the same
    weights as an unbroken one. `device` is auto, cpu or cuda; `devices` the number of cards (or,
    on the CPU, of processes), by default all cards.

    Raises
    ------
    InputError : no training tiles.
    ContractError : tiles of several plates do not fit together, or a file is damaged.
    TrainingError : gradients were not finite too many times in a row.
    StorageError : another process trains this model, or the disk is full.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments import LightningEnvironment

    tune_cpu()
    chosen = pick_device(device)
    n_devices = count_devices(device, devices, chosen)
    # On CPUs bf16 convolutions were slower than float32 (docs/decisions.md).
    auto = chosen == "cuda" and torch.cuda.is_bf16_supported()
    bf16 = training.precision == "bf16" or (training.precision == "auto" and auto)
    fabric = Fabric(
        accelerator=chosen,
        devices=n_devices,
        strategy="ddp" if n_devices > 1 else "auto",
        # Its own processes also in a SLURM job, which is one task: Fabric would take that one
        # for all there are, and leave the other cards idle.
        plugins=LightningEnvironment() if n_devices > 1 else None,
        precision="bf16-mixed" if bf16 else "32-true",
    )
    fabric.launch()
    folder = results / "models" / settings.name
    with exclusive(folder / ".lock", f"train {folder}") if fabric.is_global_zero else nullcontext():
        _fit(fabric, results, plates, settings, training, seed, on_step, on_epoch)


def _fit(
    fabric: Fabric,
    results: Path,
    plates: list[str],
    settings: ModelSettings,
    training: TrainingSettings,
    seed: int,
    on_step: StepWatch | None,
    on_epoch: EpochWatch | None,
) -> None:
    """`train`, on the devices of `fabric`."""
    folder = results / "models" / settings.name
    stream = open_stream(results, plates, "train")
    watched = open_stream(results, plates, "validation")
    if training.batch_size % fabric.world_size:
        raise InputError(
            required=f"a batch size divisible by the number of devices, {fabric.world_size}",
            found=f"training.batch_size {training.batch_size}",
            action="choose a multiple",
        )
    about = store_about(results / "tiles" / f"{plates[0]}.zarr")
    data = _digests(results, plates)
    grey_levels, scaling = measure(open_stream(results, plates), stream)

    torch.manual_seed(seed)
    names = tuple(source.plate for source in stream.sources)
    noise = camera_noise(settings.likelihood, grey_levels, stream, seed)
    model = VAE(settings, int(about["size"]), grey_levels, scaling, names, noise)
    first = next(stream.shuffled(FIRST_TILES, (seed,)))
    model.encoder.standardize(
        model.standardized(*_to_device(first, grey_levels, stream, torch.device("cpu")))
    )
    average = copy.deepcopy(model).requires_grad_(False).to(fabric.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    wrapped, optimizer = fabric.setup(model, optimizer)

    state = state_path(
        folder,
        {
            "algorithm": algorithms.TRAIN,
            "model": settings.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "seed": seed,
            "data": data,
            "noise": noise.to_dict() if noise else None,
            "tiles": {name: about[name] for name in ("channels", "size", "neighbours")},
        },
    )
    history: list[dict[str, float]] = []
    if state.exists():
        history = load_state(state, model, average, optimizer)  # type: ignore[arg-type]

    per_epoch = stream.steps(training.batch_size)
    total = per_epoch * training.epochs
    n_global = min(training.batch_size, stream.n_tiles)
    share = slice(fabric.global_rank, None, fabric.world_size)
    in_a_row = 0
    for epoch in range(len(history), training.epochs):
        # Seeded by epoch, so that a resumed run draws what an unbroken one would have drawn; and
        # drawn for the global batch, of which each process takes its share.
        random_noise = torch.Generator().manual_seed(_mix(seed, epoch, 0))
        random_moves = torch.Generator().manual_seed(_mix(seed, epoch, 1000))
        meter = _Meter()
        batches = stream.shuffled(
            training.batch_size, (seed, epoch), fabric.global_rank, fabric.world_size
        )
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            with meter.waiting():
                batch = next(batches)
            rate_now = schedule.learning_rate(step, total, training.learning_rate, training.warmup)
            beta, beta_skips = (
                schedule.beta(step, total, final, training.beta_warmup)
                for final in (training.beta, training.beta_skips)
            )
            for group in optimizer.param_groups:
                group["lr"] = rate_now
            tiles = _to_device(batch, grey_levels, stream, fabric.device)
            view_moves, moves = (
                draw_moves(n_global, training.shift, random_moves)[:, share] for _ in range(2)
            )
            view, (levels, visible, light) = (_augment(*tiles, m) for m in (view_moves, moves))
            draws = model.draw_noise(n_global, random_noise)
            # Tiles come in random order: the first are as good as any.
            kept = math.ceil((1 - training.skip_dropout) * len(levels))
            x, x_view = model.standardized(levels, visible, light), model.standardized(*view)
            if training.any_angle:
                # Where u is drawn from its prior, nothing but z is read off the tile:
                # it may be the disc alone, and its view turned by any angle.
                angle = 2 * math.pi * torch.rand(n_global, generator=random_moves)[share]
                turned = turned_disc(x_view[kept:], angle[kept:].to(fabric.device))
                x = torch.cat([x[:kept], disc(x[kept:])])
                x_view = torch.cat([x_view[:kept], turned])
            q, made, q_view = wrapped(
                x,
                x_view,
                draws.share(share, fabric.device),
                kept,
                plate_numbers(model, stream, batch),
                light,
            )
            terms = score(q, made, levels, visible)
            means = [_gathered(d.mean, fabric) for d in (q, q_view)]
            apart = view_loss(*means)
            elbo = terms.loss(beta, beta_skips, training.free_bits, training.capacity)
            nats = elbo + training.view_weight * apart
            if training.consistency:
                nats = nats + training.consistency * consistency_loss(*means)
            loss = nats / terms.values.mean()
            optimizer.zero_grad()
            fabric.backward(loss)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
            if _all_finite(fabric, loss, norm):
                in_a_row = 0
                optimizer.step()
                ema.update(average, model, training.ema, step)
                meter.add(terms, float(nats.detach()), float(apart.detach()))
            else:
                in_a_row += 1
                meter.skipped += 1
                if in_a_row > SKIPS_ALLOWED:
                    raise _not_finite(settings, made.p, levels, batch, stream, results, about)
            if on_step and fabric.is_global_zero:
                on_step(step + 1, total, meter.now() | {"epoch": epoch + 1})
        batches.close()  # type: ignore[attr-defined]
        meter.sum_over(fabric)
        row: dict[str, float] = {
            "epoch": epoch + 1,
            "step": (epoch + 1) * per_epoch,
            "beta": beta,
            "learning_rate": rate_now,
            **meter.epoch(),
            **validate(average, watched, training.batch_size),
        }
        history.append(row)
        if fabric.is_global_zero:
            save_state(state, model, average, optimizer, history)  # type: ignore[arg-type]
            if on_epoch:
                on_epoch(row)
        fabric.barrier()

    if fabric.is_global_zero:
        reference = watched if watched.n_tiles else stream
        HISTORY.write(pd.DataFrame(history), folder / "history.parquet")
        save_model(
            average,
            average.state_dict(),
            {
                "channels": about["channels"],
                "pixel_size_um": about.get("pixel_size_um"),
                "neighbours": about["neighbours"],
                "training": training.model_dump(mode="json"),
                "seed": seed,
                "data": data,
                "n_train": stream.n_tiles,
                "n_validation": watched.n_tiles,
                "novelty_reference": novelty_reference(average, reference),
                "versions": {
                    "vae_sci": vae_sci.__version__,
                    "torch": torch.__version__,
                    "python": platform.python_version(),
                },
                "device": str(fabric.device),
            },
            folder,
        )
        state.unlink()
    fabric.barrier()


def validate(model: VAE, stream: TileStream, batch_size: int) -> dict[str, float]:
    """Distortion, rates and bits on held-out tiles, z and u drawn with a fixed seed; NaN if none.

    No skip is dropped: the bits are a true bound on what the model needs for a tile.
    """
    names = ("distortion", "rate_z", "rate_u", "bits")
    if stream.n_tiles == 0:
        return {f"validation_{name}": math.nan for name in names} | {"active_units": 0}
    device = next(model.parameters()).device
    random_noise = torch.Generator().manual_seed(0)
    meter, means = _Meter(), []
    for batch in stream.in_order(batch_size):
        levels, visible, light = _to_device(batch, model.grey_levels, stream, device)
        noise = model.draw_noise(len(levels), random_noise).share(slice(None), device)
        plate = plate_numbers(model, stream, batch)
        seen, terms = bound(model, levels, visible, noise, plate, light)
        meter.add(terms)
        means.append(seen.z.mean.cpu())
    now = meter.now()
    return {f"validation_{name}": now[name] for name in names} | {
        "active_units": int((torch.cat(means).var(dim=0, unbiased=False) > ACTIVE).sum())
    }


def plate_numbers(model: VAE, stream: TileStream, batch: Batch) -> Tensor | None:
    """Index (N,) of each tile's plate among those that the decoder is told apart, −1: none."""
    if not model.plates:
        return None
    own = np.array([model.plate_number(source.plate) for source in stream.sources])
    return torch.from_numpy(own[batch.plate])


def novelty_reference(model: VAE, stream: TileStream) -> list[float]:
    """Percentiles 0, 1, …, 100 of distortion and rates over the tiles of `stream`, nats."""
    device = next(model.parameters()).device
    costs = []
    for batch in stream.in_order(256):
        levels, visible, light = _to_device(batch, model.grey_levels, stream, device)
        _, terms = describe(model, levels, visible, plate_numbers(model, stream, batch), light)
        costs.append(terms.bound.cpu().numpy())
    return np.percentile(np.concatenate(costs), np.arange(101)).tolist()


_MEANS = ("distortion", "rate_z", "rate_u", "loss", "view_loss")
_SUMMED = (*_MEANS, "values", "tiles")


class _Meter:
    """Sums over an epoch: terms, tiles, time, and time spent waiting for data."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.wait = self.skipped = 0.0
        self.sums = dict.fromkeys(_SUMMED, 0.0)

    def waiting(self) -> _Meter:
        return self

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.wait += time.perf_counter() - self.began

    def add(self, terms: Terms, loss: float = 0.0, view_loss: float = 0.0) -> None:
        """Count a batch; loss and view_loss are means over its tiles."""
        n = len(terms.distortion)
        nats = (terms.distortion, terms.rate_z, terms.rate_u)
        sums = [float(part.detach().sum()) for part in (*nats, terms.values)]
        numbers = (*sums[:3], loss * n, view_loss * n, sums[3], n)
        for name, number in zip(_SUMMED, numbers, strict=True):
            self.sums[name] += number

    def sum_over(self, fabric: Any) -> None:
        """Add up what all processes saw: each has its share of every batch."""
        own = torch.tensor(list(self.sums.values()), dtype=torch.float64)
        total = fabric.all_reduce(own, reduce_op="sum").tolist()
        self.sums = dict(zip(_SUMMED, total, strict=True))

    def now(self) -> dict[str, float]:
        """What a progress bar shows: means over the epoch so far."""
        n, seconds = max(1.0, self.sums["tiles"]), time.perf_counter() - self.start
        means = {name: self.sums[name] / n for name in _MEANS}
        nats = sum(self.sums[name] for name in ("distortion", "rate_z", "rate_u"))
        values = int(max(1.0, self.sums["values"]))
        return means | {
            "bits": bits_per_pixel(nats, values),
            "tiles_per_second": self.sums["tiles"] / seconds,
            "data_wait": self.wait / seconds,
        }

    def epoch(self) -> dict[str, float]:
        """The same under the names of the contract HISTORY."""
        now = self.now()
        own = ("tiles_per_second", "data_wait")
        measured = {f"train_{name}": value for name, value in now.items() if name not in own}
        return measured | {name: now[name] for name in own} | {"skipped_steps": self.skipped}


def _all_finite(fabric: Any, loss: Tensor, norm: Tensor) -> bool:
    """Whether loss and gradient norm are finite, on every process: all step, or none does.

    A loss may be NaN while its gradient is finite: where what is NaN depends on no weight.
    """
    wrong = (~torch.isfinite(torch.stack([loss.detach(), norm]))).sum().float()
    if fabric.world_size > 1:
        wrong = fabric.all_reduce(wrong, reduce_op="sum")
    return not wrong


def _gathered(means: Tensor, fabric: Any) -> Tensor:
    """Means of the global batch: the view loss tells a cell from those on other devices too."""
    if fabric.world_size == 1:
        return means
    return fabric.all_gather(means, sync_grads=True).flatten(0, 1)


def _mix(*numbers: int) -> int:
    """One seed from several numbers, without the collisions of a sum."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _digests(results: Path, plates: list[str]) -> dict[str, Any]:
    """What the data are: digests of the stores, which rows of them are kept, each well's part, and
    digests of the flat fields, if there are any."""
    table = read_tables(results, plates)
    stores = table.groupby("plate")["store_digest"].first()
    wells = table.drop_duplicates(["plate", "well"])
    digests = {plate: light_digest(results / "tiles" / f"{plate}.zarr") for plate in plates}
    flat = {plate: digest for plate, digest in digests.items() if digest is not None}
    return {
        "stores": {str(plate): str(digest) for plate, digest in stores.items()},
        "kept": {str(plate): _digest(rows) for plate, rows in table.groupby("plate")["tile"]},
        "splits": dict(zip(wells["plate"] + "/" + wells["well"], wells["split"], strict=True)),
        **({"flat_fields": flat} if flat else {}),
    }


def _digest(rows: pd.Series) -> str:
    """Digest of a set of row numbers, whatever their order."""
    numbers = np.sort(rows.to_numpy(dtype="<i8"))
    return hashlib.blake2b(numbers.tobytes(), digest_size=8).hexdigest()


def _to_device(
    batch: Batch, grey_levels: Any, stream: TileStream, device: torch.device
) -> tuple[Tensor, Tensor | None, Light | None]:
    try:
        levels = grey_levels.to_steps(batch.counts)
    except InputError as error:
        source = stream.sources[int(batch.plate[0])]
        raise ContractError(
            required=error.required,
            found=f"{error.found} (of a batch that starts at tile {int(batch.tile[0])} of "
            f"{source.store})",
            action=error.action,
        ) from None
    visible = None if batch.visible is None else torch.from_numpy(batch.visible).to(device)
    known = stream.light(batch)
    light = None if known is None else Light.on(grey_levels, *known).to(device)
    return levels.to(device), visible, light


def _augment(
    levels: Tensor, visible: Tensor | None, light: Light | None, moves: Tensor
) -> tuple[Tensor, Tensor | None, Light | None]:
    """Move tiles, what is visible of them, and the light on them alike."""
    if light is not None:
        light = Light(augment(light.gain, moves), light.dark)
    if visible is None:
        return augment(levels, moves), None, light
    both = augment(torch.cat([levels, visible.to(levels.dtype)], dim=1), moves)
    return both[:, :-1].contiguous(), both[:, -1:].bool(), light


def _not_finite(
    settings: ModelSettings,
    p: Any,
    levels: Tensor,
    batch: Batch,
    stream: TileStream,
    results: Path,
    about: dict[str, Any],
) -> TrainingError:
    """Name the likelihood, the channels and the cells of a batch whose gradient is not finite."""
    with torch.no_grad():
        bad = ~torch.isfinite(p.log_prob(levels))
    channels = [name for name, b in zip(about["channels"], bad.any(dim=3).any(dim=2).any(dim=0),
                                        strict=True) if b]  # fmt: skip
    cells = []
    for index in torch.nonzero(bad.flatten(1).any(dim=1)).flatten().tolist()[:5]:
        plate = stream.sources[int(batch.plate[index])].plate
        table = read_tables(results, [plate]).set_index("tile")
        cells.append(str(table.loc[int(batch.tile[index]), "cell_id"]))
    return TrainingError(
        required="finite gradients",
        found=f"{SKIPS_ALLOWED + 1} steps in a row without; likelihood {settings.likelihood.name}, "
        f"channels {', '.join(channels) or 'all finite'}, cells {', '.join(cells) or 'all finite'}",
        action="lower training.learning_rate, or look at the cells named; training resumes from "
        "its last whole epoch",
    )
