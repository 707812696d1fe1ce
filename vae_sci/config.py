"""Settings: one frozen model per room, parsed once at the door; inside, they are trusted."""

from __future__ import annotations

import difflib
import io
import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vae_sci.errors import SettingsError


class Room(BaseModel):
    """Base of every settings model: frozen, and a key that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Fraction = Annotated[float, Field(ge=0, le=1)]


class ImagesSettings(Room):
    """How raw images are read."""

    channels: dict[str, str] = Field(
        {},
        description="channel id in the file name (or position in the stack, from 1, or name in "
        "the image metadata) → its name; the order given is the order of channels in every tile; "
        "empty: those found, by the names in the metadata of stacks that have them, else by ids, "
        "sorted",
    )
    z: Literal["max", "mean"] | Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="depths of a field: max or mean (rounded) over them, or the number of one "
        "(as in the file names, else from 1); null: fields with several are refused. A projection "
        "has not the camera's noise",
    )
    time: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="time points of a field: the number of the one to take (as in the file names, "
        "else from 1); null: fields with several are refused",
    )
    pixel_size_um: float | None = Field(
        None, gt=0, description="µm per pixel; null: read from the image metadata"
    )
    broken_fields: Literal["error", "drop"] = Field(
        "error",
        description="a field with a file that cannot be read, channels of different size or a "
        "missing channel; error: the run stops and names it; drop: it is left out, and ledger and "
        "table of fields say so",
    )
    flat_field: Literal["off", "retrospective"] = Field(
        "off",
        description="uneven light; retrospective: told per plate and channel by its own images, "
        "at least 20 fields of one size, and where it is sure, intensity_ and spread_ of the table "
        "of tiles and what z is read from are those under even light, and the model predicts what "
        "is seen under the light there is. Tiles are raw counts in any case",
    )
    offset: float | None = Field(
        None,
        ge=0,
        description="grey level without light, as dark frames tell it (vae-sci calibrate), for the "
        "flat field, which is then sharper; null: estimated with it",
    )


class SegmentationSettings(Room):
    """How nuclei and cells are found in a field (scikit-image, classical)."""

    nucleus_channel: str | None = Field(
        None, description="name of the channel that shows nuclei; null: the first channel"
    )
    cell_channel: str | None = Field(
        None, description="name of the channel that fills the cell; null: the sum of all channels"
    )
    nuclei: str = Field(
        "classical",
        pattern=r"^(classical|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="what finds nuclei: classical, or module:function, your own or one that calls "
        "Cellpose or StarDist (docs/segmentation.md); imported only then",
    )
    nucleus_diameter_um: float | None = Field(
        None,
        gt=0,
        description="µm, typical diameter of a nucleus: sets smoothing and splitting; null: "
        "estimated from each field",
    )
    cell_diameter_um: float = Field(
        35.0,
        gt=0,
        description="µm, typical diameter of a cell: a cell ends half this far from its nucleus",
    )
    merge_gap_um: float = Field(
        1.5,
        ge=0,
        description="µm: nuclei of like size no farther apart than this share one cell; 0: never, "
        "for cells that grow in tight layers",
    )


class SplitSettings(Room):
    """Shares of wells for training, validation and test; a well is never in two parts."""

    train: Fraction = Field(0.8, description="share of wells the model learns from")
    validation: Fraction = Field(0.1, description="share of wells that watch the training")
    test: Fraction = Field(0.1, description="share of wells kept for comparisons")

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSettings:
        if abs(self.train + self.validation + self.test - 1) > 1e-6 or self.train == 0:
            raise ValueError("train, validation and test must sum to 1, and train be above 0")
        return self


class TilesSettings(Room):
    """How cells are cut out of fields into tiles."""

    size: float = Field(64, gt=0, description="edge of a tile, in `unit`")
    unit: Literal["pixel", "um"] = Field("pixel", description="unit of `size`: pixel or um")
    neighbours: Literal["keep", "mask"] = Field(
        "keep",
        description="keep: neighbouring cells in a tile are part of the image; mask: the model "
        "neither sees nor explains their pixels (the stored counts stay as they are)",
    )
    segmentation: SegmentationSettings = Field(
        SegmentationSettings(), description="how nuclei and cells are found"
    )
    split: SplitSettings = Field(SplitSettings(), description="shares of wells per part")


Limit = Annotated[float | None, Field(allow_inf_nan=False)]


class QualitySettings(Room):
    """Which fields and cells are dropped; null: a limit that is not asked for."""

    field_cells: Limit = Field(
        1, description="cells found in a field; fewer: the field is empty and dropped"
    )
    field_saturated: Limit = Field(
        0.01,
        description="share of a field's pixels at the camera's ceiling, in any channel; "
        "more: dropped",
    )
    field_focus: Limit = Field(
        0.3,
        description="sharpness of a field over the median of its plate and channel, in any "
        "channel; less: dropped",
    )
    field_background: Limit = Field(
        10.0,
        description="robust standard deviations of a field's background from the median of "
        "its plate and channel, in any channel; farther: dropped",
    )
    noise: Limit = Field(
        0.6,
        description="smallest autocorrelation over a tile's channels; less: noise alone, dropped",
    )
    saturated: Limit = Field(
        0.01, description="share of a tile's values at the camera's ceiling; more: dropped"
    )
    debris_alike: Limit = Field(
        0.1,
        description="1 − the smallest correlation between two channels over the cell, over the "
        "plate's median; less: debris that looks alike in every channel, dropped",
    )
    focus: Limit = Field(
        0.2, description="sharpness of a cell over the plate's median; less: dropped"
    )
    debris_size: Limit = Field(
        -4.0,
        description="robust standard deviations of log area from the plate's median; lower: "
        "debris, dropped",
    )
    debris_contrast: Limit = Field(
        -6.0,
        description="robust standard deviations of a tile's log contrast from the plate's "
        "median, in every channel; lower: debris, dropped",
    )
    size: Limit = Field(
        10.0,
        description="robust standard deviations of log area, of cell or nucleus, from the "
        "plate's median; farther: dropped",
    )
    intensity: Limit = Field(
        15.0,
        description="robust standard deviations of a tile's intensity from the plate's "
        "median, in any channel; farther: dropped",
    )


class DecoderSettings(Room):
    """How the latents reach the image."""

    skip: Literal["none", "latent", "ladder"] = Field(
        "ladder",
        description="none: z enters once, at the bottom; latent: z is fed again to every "
        "resolution of the decoder; ladder: moreover every resolution has small latent maps u of "
        "its own, which tell what z leaves open",
    )
    skip_channels: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (4, 4, 4, 4),
        description="maps of u at each resolution, coarse to fine (ladder only); 0, or an entry "
        "left out at the end: none there",
    )
    condition: tuple[Literal["plate"], ...] = Field(
        (),
        description="what the decoder is told, so that z need not: [plate]; a plate that training "
        "did not see is decoded as none",
    )


class LikelihoodSettings(Room):
    """The distribution of raw counts given the latent."""

    name: Literal[
        "gaussian_fixed",
        "gaussian",
        "laplace",
        "logistic_mixture",
        "poisson",
        "negative_binomial",
        "camera",
    ] = Field(
        "logistic_mixture",
        description="logistic_mixture: mixture of discretised logistics; gaussian, laplace: mean "
        "and spread predicted for every pixel; gaussian_fixed: one standard deviation for all "
        "pixels, the classic VAE, as a control; poisson, negative_binomial, camera: mean "
        "predicted, noise from the camera's calibration (negative_binomial: spread predicted)",
    )
    components: int = Field(
        3, ge=1, le=20, description="logistics per channel and pixel (logistic_mixture only)"
    )
    coupling: bool = Field(
        True,
        description="logistic_mixture only: the means of a channel shift with what was observed "
        "in the channels before it",
    )
    sigma: float = Field(
        0.3,
        gt=0,
        allow_inf_nan=False,
        description="gaussian_fixed only: standard deviation, in standard deviations of a channel",
    )
    calibration: str | None = Field(
        None,
        description="poisson, negative_binomial, camera: calibration.json of vae-sci calibrate, "
        "channels in the order of the tiles'; null: gain by photon transfer from the training "
        "tiles",
    )


class ModelSettings(Room):
    """The variational autoencoder."""

    name: str = Field("vae", pattern=r"^[A-Za-z0-9_-]+$", description="folder name of the model")
    latent_dim: int = Field(32, ge=1, description="numbers per cell in z")
    widths: tuple[int, ...] = Field(
        (32, 64, 96, 128),
        min_length=1,
        description="feature maps at each resolution, fine to coarse; each step halves the tile",
    )
    depth: int = Field(1, ge=1, description="residual blocks per resolution")
    decoder: DecoderSettings = Field(DecoderSettings(), description="the decoder")
    likelihood: LikelihoodSettings = Field(
        LikelihoodSettings(), description="the distribution of raw counts"
    )


class TrainingSettings(Room):
    """How the model is fitted."""

    epochs: int = Field(60, ge=1, description="passes over the training tiles")
    batch_size: int = Field(
        32,
        ge=1,
        description="tiles per step, over all devices together; few make more of a small screen, "
        "many pass faster over a large one on a GPU",
    )
    learning_rate: float = Field(3e-3, gt=0, description="peak step size of AdamW")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay")
    warmup: Fraction = Field(0.05, description="share of all steps over which the rate rises")
    beta: float = Field(1.0, ge=0, description="weight of the rate KL(q(z|x) || p(z)); 1: the ELBO")
    beta_skips: float = Field(
        1.0, ge=0, description="weight of the rates of the skip latents u (ladder); 1: the ELBO"
    )
    beta_warmup: Fraction = Field(
        0.5, description="share of all steps over which both rise linearly from 0"
    )
    free_bits: float = Field(
        0.0,
        ge=0,
        description="nats that each dimension of z may carry at no cost, on average over a batch",
    )
    capacity: float | None = Field(
        None,
        ge=0,
        description="nats that z is to carry: beta weighs the distance of the rate from them; "
        "null: no target",
    )
    skip_dropout: Fraction = Field(
        0.5,
        description="share of tiles whose u is drawn from its prior in a training step, so that z "
        "must carry what it can (ladder)",
    )
    view_weight: float = Field(
        10000.0,
        ge=0,
        description="nats per nat of the view loss, which asks that z tell a cell's mirrored, "
        "turned and shifted view from other cells; 0: the plain ELBO",
    )
    consistency: float = Field(
        0.0,
        ge=0,
        description="nats per unit of the squared distance between z of a cell's two views, over "
        "that between random cells; 0: not asked for",
    )
    any_angle: bool = Field(
        False,
        description="tiles whose skips are dropped are shown to the encoder on a central disc, "
        "their view turned by any angle; false: mirror, quarter turns and shifts alone",
    )
    ema: float = Field(
        0.995, ge=0, lt=1, description="decay per step of the averaged weights that are published"
    )
    gradient_clip: float = Field(200.0, gt=0, description="largest gradient norm, nats per value")
    shift: int = Field(
        3, ge=0, description="pixels, largest whole-pixel shift in augmentation (edges mirrored)"
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto",
        description="convolutions in float32 or bf16; auto: bf16 on a GPU that has it. "
        "Likelihoods are always float32",
    )


class EmbeddingSettings(Room):
    """How tiles are encoded."""

    batch_size: int = Field(256, ge=1, description="tiles per forward pass")


class PhenotypesSettings(Room):
    """How embeddings become phenotypes."""

    normalization: Literal["none", "standardize", "whiten"] = Field(
        "standardize",
        description="against control wells: none, standardize (each dimension to mean 0 and sd 1 "
        "of the controls) or whiten (their covariance to the identity)",
    )
    reference: str | None = Field(
        None,
        description="treatment that z is measured against; null: the wells marked as controls",
    )
    harmony: bool = Field(
        False,
        description="then move plates onto each other by Harmony, which may take treatment effects "
        "with it; needs `pip install vae_sci[harmony]`",
    )
    min_control_cells: int = Field(
        20, ge=2, description="fewer control cells than this on a plate: fall back to its batch"
    )
    min_control_wells: int = Field(
        2, ge=1, description="fewer control wells than this on a plate: fall back to its batch"
    )
    neighbours: int = Field(15, ge=2, description="nearest neighbours per cell in the graph")
    resolutions: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0),
        min_length=1,
        description="Leiden resolutions that are tried (higher, more clusters): taken is the "
        "finest at which at least 90 % of the cells lie in clusters that are found again in "
        "samples of the wells; one alone is taken as it is",
    )
    fitted_cells: int = Field(
        100_000,
        ge=100,
        description="cells that clusters and map are fitted to, at most, the same share of every "
        "well; the rest is placed by its nearest of these",
    )
    umap_min_dist: float = Field(0.3, ge=0, le=1, description="how tightly UMAP packs points")
    labels: tuple[str, ...] = Field(
        (),
        description="columns of the platemap with what is known of treatments, such as moa: "
        "scores.csv says how well z tells them, which the model never sees",
    )


class DiagnosticsSettings(Room):
    """How every model is measured on held-out cells, and what it must reach."""

    cells: int = Field(1000, ge=2, description="held-out cells that are looked at, at most")
    min_share: Fraction = Field(
        0.2,
        description="of what z and u know of a cell, the share that z must carry itself (S); less: "
        "the skips bypass z",
    )
    min_rate_z: float = Field(
        20.0, ge=0, description="nats that z must carry of a cell; less: posterior collapse"
    )
    on_failure: Literal["warn", "error"] = Field(
        "warn",
        description="a model that fails a threshold; warn: the table says so; error: the run stops",
    )


class ReportSettings(Room):
    """What the figures and the explorer show."""

    gallery_cells: int = Field(12, ge=1, description="tiles per cluster in the gallery")
    treatments: int = Field(
        20, ge=1, description="treatments coloured on the UMAP; the rest is drawn grey"
    )
    colour_by: tuple[str, ...] = Field(
        (), description="further columns of cells.parquet to colour a UMAP by, such as moa"
    )
    explorer_cells: int = Field(
        100_000,
        ge=1,
        le=300_000,  # 1.2 GB for each 100,000: what its rule asks for is enough
        description="cells in the explorer at most, drawn from every well",
    )


class VariantSettings(Room):
    """A further model, by the keys in which it differs from `model` and `training`."""

    model: dict[str, Any] = Field({}, description="keys of model that differ")
    training: dict[str, Any] = Field({}, description="keys of training that differ")


class Settings(Room):
    """All settings of a run."""

    plates: str = Field("config/plates.tsv", description="table of plates, one row each")
    results: str = Field("results", description="folder that a run writes into")
    seed: int = Field(0, ge=0, description="seed of every random choice")
    images: ImagesSettings = Field(ImagesSettings(), description="reading images")
    tiles: TilesSettings = Field(TilesSettings(), description="fields → tiles")
    quality: QualitySettings = Field(
        QualitySettings(),
        description="which fields and cells are dropped; `vae-sci quality RESULTS --set "
        "NAME=VALUE` tells what a limit would drop",
    )
    model: ModelSettings = Field(ModelSettings(), description="the autoencoder")
    training: TrainingSettings = Field(TrainingSettings(), description="fitting")
    models: dict[str, VariantSettings] = Field(
        {},
        description="further models, trained and compared with it: name → where it differs, such "
        "as plain: {model: {decoder: {skip: none}}, training: {view_weight: 0}}",
    )
    embedding: EmbeddingSettings = Field(EmbeddingSettings(), description="tiles → embeddings")
    phenotypes: PhenotypesSettings = Field(
        PhenotypesSettings(), description="embeddings → phenotypes"
    )
    diagnostics: DiagnosticsSettings = Field(DiagnosticsSettings(), description="measuring models")
    report: ReportSettings = Field(ReportSettings(), description="figures and explorer")

    def all_models(self) -> dict[str, tuple[ModelSettings, TrainingSettings]]:
        """Every model of the run, by name, `model` first.

        Raises `SettingsError` for a key that a variant does not know, or a name given twice.
        """
        found = {self.model.name: (self.model, self.training)}
        for name, variant in self.models.items():
            if name in found:
                raise SettingsError(
                    required="a name of its own for every model",
                    found=f"'{name}' under models, and model.name {self.model.name}",
                    action="give one of them another name",
                )
            differs = variant.model | {"name": name}
            found[name] = (
                parse(ModelSettings, _merged(self.model, differs), f"models.{name}.model"),
                parse(
                    TrainingSettings,
                    _merged(self.training, variant.training),
                    f"models.{name}.training",
                ),
            )
        return found


class PlateRow(Room):
    """One row of `plates.tsv`: where a plate's images or ready-made tiles are."""

    plate: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="name of the plate, unique")
    kind: Literal["images", "tiles"] = Field(
        "images", description="images: fields to segment; tiles: stacks of cells already cropped"
    )
    images: str | None = Field(
        None,
        description="folder, glob or URI (s3://…, https://…) of the plate's image files (TIFF, "
        "OME-TIFF, OME-Zarr), an OME-Zarr plate, or a CellProfiler LoadData table (.csv)",
    )
    layout: str = Field(
        "imagexpress",
        description="how file names tell well, site and channel: imagexpress, bbbc021, opera, "
        "operetta, cellvoyager, or a regular expression with named groups well (or row and col), "
        "site, channel (absent: channels in one file), z, time; searched in the path where it has "
        "a /; not used for plates of OME-Zarr and LoadData tables",
    )
    masks: str | None = Field(
        None,
        description="cells that you have outlined yourself, in place of segmentation: label images "
        "(a number per cell, 0 outside), given as images are, one per field; or labels/NAME, the "
        "labels of that name inside each OME-Zarr image",
    )
    masks_layout: str | None = Field(
        None, description="how names of masks tell well and site; absent: as those of images do"
    )
    platemap: str | None = Field(
        None,
        description="CSV or TSV with well, treatment, concentration, control (and plate, where "
        "one file serves several plates), and any more columns",
    )
    table: str | None = Field(
        None, description="kind tiles: CSV with one row per cell: stack, index, well, …"
    )
    columns: dict[str, str] = Field(
        {},
        description="renames columns of table and platemap: `old:new`, separated by commas",
    )
    batch: str = Field(
        "screen", description="plates imaged together; normalisation falls back to it"
    )
    recipe: str | None = Field(
        None, description="simulator recipe: the images are then made by the run itself"
    )

    @model_validator(mode="after")
    def _needs(self) -> PlateRow:
        if self.kind == "images" and not (self.images and self.platemap):
            raise ValueError("kind 'images' needs the columns images and platemap")
        if self.kind == "tiles" and not self.table:
            raise ValueError("kind 'tiles' needs the column table")
        if self.kind == "tiles" and self.masks:
            raise ValueError("kind 'tiles' has no fields that masks could outline")
        return self


M = TypeVar("M", bound=Room)


def parse(model: type[M], values: dict[str, Any], source: str) -> M:
    """Validate `values` into a frozen settings model.

    Raises `SettingsError` naming `source`, the key, what was found and, for an unknown key, the
    nearest known one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys_beside(model, first["loc"])
            near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
            raise SettingsError(
                required=f"a known key; here: {', '.join(known)}",
                found=f"unknown key '{key}' in {source}",
                action=f"did you mean '{near[0]}'?" if near else "remove it or correct its name",
            ) from None
        raise SettingsError(
            required=f"{key + ': ' if key else ''}{first['msg']}",
            found=f"{first['input']!r} in {source}",
            action=f"correct '{key}' (config/README.md describes every key)"
            if key
            else "correct it (config/README.md describes every key)",
        ) from None


def _merged(base: Room, differs: dict[str, Any]) -> dict[str, Any]:
    """The values of `base` with those of `differs` in their place, rooms within rooms too."""
    values = base.model_dump(mode="json")
    for key, value in differs.items():
        inner = getattr(base, key, None)
        if isinstance(inner, Room) and isinstance(value, dict):
            value = _merged(inner, value)
        values[key] = value
    return values


def _keys_beside(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that are allowed where `loc` ends."""
    for part in loc[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if get_origin(annotation) in (Union, types.UnionType):
            annotation = next(a for a in get_args(annotation) if a is not type(None))
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def read_settings(path: str | Path) -> Settings:
    """Settings of a whole run from a YAML file; keys left out take their default."""
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            required="a settings file", found=f"{path}: {error}", action="check the path"
        ) from None
    except yaml.YAMLError as error:
        raise SettingsError(
            required="a YAML file", found=f"{path}: {error}", action="correct the YAML"
        ) from None
    if not isinstance(values, dict):
        raise SettingsError(
            required="a YAML mapping of keys",
            found=f"{type(values).__name__} in {path}",
            action="start from config/config.yaml",
        )
    return parse(Settings, values, str(path))


def room_settings(text: str | None, room: str, model: type[M]) -> M:
    """Settings of one room, as a verb receives them.

    `text` is the path of a YAML file of the whole run (the room's part is taken), or JSON of the
    room's part alone (what the workflow passes, so that a rule depends on nothing else), or None
    for the defaults.
    """
    if text is None:
        return model()
    if text.lstrip().startswith("{"):
        try:
            return parse(model, json.loads(text), f"the settings of '{room}'")
        except json.JSONDecodeError as error:
            raise SettingsError(
                required="JSON or the path of a YAML file",
                found=f"{error} in --settings",
                action="correct the JSON",
            ) from None
    return getattr(read_settings(text), room)


def changed_settings(base: M, changes: list[str], source: str) -> M:
    """`base` with some keys changed, each given as `name=value`, the value in YAML.

    Raises `SettingsError` naming `source` for one that does not read so, and as `parse`.
    """
    values = base.model_dump(mode="json")
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise SettingsError(
                required=f"{source} name=value",
                found=f"'{change}'",
                action=f"write for example {next(iter(values))}={next(iter(values.values()))}",
            )
        values[name.strip()] = yaml.safe_load(value)
    return parse(type(base), values, source)


def read_plates(path: str | Path) -> list[PlateRow]:
    """All rows of `plates.tsv` (tab-separated; lines that start with # are comments).

    Raises `SettingsError` for a missing file, an unknown column, a bad value (with its line) or a
    plate named twice.
    """
    import pandas as pd

    try:
        lines = Path(path).read_text().splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith("#"))
        table = pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            required="a table of plates", found=f"{path}: {error}", action="check `plates:`"
        ) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise SettingsError(
            required="a tab-separated table of plates",
            found=f"{path}: {error}",
            action="write one row a plate, columns separated by tabs",
        ) from None
    rows = []
    for number, record in enumerate(table.to_dict("records"), start=1):
        values: dict[str, Any] = {
            str(k).strip(): v.strip() for k, v in record.items() if isinstance(v, str) and v.strip()
        }
        if "columns" in values:
            values["columns"] = _renames(values["columns"], f"{path}, row {number}")
        rows.append(parse(PlateRow, values, f"{path}, row {number}"))
    names = [row.plate for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not rows:
        raise SettingsError(
            required="at least one row, and one row a plate",
            found=f"plate '{twice[0]}' more than once in {path}" if twice else f"no row in {path}",
            action="give every plate its own row and name",
        )
    return rows


def _renames(text: str, source: str) -> dict[str, str]:
    pairs = [pair.split(":") for pair in text.split(",")]
    if any(len(pair) != 2 or not all(part.strip() for part in pair) for pair in pairs):
        raise SettingsError(
            required="columns as old:new, separated by commas",
            found=f"'{text}' in {source}",
            action="for example compound:treatment,tile_file:stack",
        )
    return {old.strip(): new.strip() for old, new in pairs}
