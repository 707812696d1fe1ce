"""The recipe of a simulated screen: read once, checked once, then frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vae_sci.errors import InputError

CONTROL = "DMSO"
CHANNELS = ("nucleus", "mitochondria", "fibres")

FactorName = Literal[
    "fragmentation", "fibre_alignment", "nuclear_area", "multinucleation", "mito_intensity"
]
FRACTIONS = ("fragmentation", "fibre_alignment", "multinucleation")
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PerChannel = tuple[Positive, Positive, Positive]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Plate(_Part):
    """One plate and the ways in which it differs from the others."""

    name: str = Field(pattern=r"^[A-Za-z0-9-]+$", description="plate name, part of file names")
    gain: Positive = Field(description="factor on the camera's gain, dimensionless")
    staining: PerChannel = Field(
        description="factor on fluorescence (nucleus, mitochondria, fibres), dimensionless"
    )


class Treatment(_Part):
    """One compound, the one factor it moves, and how far at which dose (Hill equation)."""

    name: str = Field(min_length=1, description="compound name")
    factor: FactorName | None = Field(description="the factor it moves; null for an inert compound")
    doses: tuple[Positive, ...] = Field(min_length=1, description="concentrations, µM")
    saturated: float = Field(default=0.0, ge=0, description="factor's mean at infinite dose")
    half_dose: Positive = Field(default=1.0, description="dose of half the effect, µM")
    hill: Positive = Field(default=1.0, description="Hill exponent, dimensionless")

    @model_validator(mode="after")
    def _complete(self) -> Treatment:
        missing = {"saturated", "half_dose"} - self.model_fields_set
        if self.factor is not None and missing:
            raise ValueError(f"{self.name} moves {self.factor}, so it needs {sorted(missing)}")
        if self.factor in FRACTIONS and self.saturated > 1:
            raise ValueError(f"{self.factor} goes from 0 to 1, so saturated cannot exceed 1")
        return self

    def response(self, dose: float) -> float:
        """Fraction of the full effect at `dose` (µM): Hill (1910), d^h / (K^h + d^h)."""
        return float(dose**self.hill / (self.half_dose**self.hill + dose**self.hill))


class Factor(_Part):
    """A property of cells: its mean in untreated cells and its spread between cells."""

    mean: float = Field(ge=0, description="mean in control cells, in the factor's unit")
    spread: float = Field(
        ge=0, description="standard deviation between cells; relative to the mean where so said"
    )


class Factors(_Part):
    """The five factors that treatments can move."""

    fragmentation: Factor = Field(description="mitochondria: 0 networks to 1 dots")
    fibre_alignment: Factor = Field(description="fibres: 0 a radial net to 1 all parallel")
    nuclear_area: Factor = Field(description="area of a single nucleus, µm²; spread relative")
    multinucleation: Fraction = Field(description="fraction of cells with 2 or more nuclei")
    mito_intensity: Factor = Field(
        description="mitochondrial stain, 1 in controls; spread relative"
    )


class Layout(_Part):
    """Which wells are used, and how many of each kind."""

    rows: str = Field(pattern=r"^[A-P]+$", description="row letters that may be used")
    first_column: int = Field(ge=1, le=24, description="first column that may be used")
    last_column: int = Field(ge=1, le=24, description="last column that may be used")
    control_wells: int = Field(ge=1, description="control wells a plate")
    wells_per_dose: int = Field(ge=1, description="wells a plate for each treatment and dose")


class Fields(_Part):
    """The fields of view and what lies in them."""

    per_well: int = Field(ge=1, description="fields imaged in each well")
    size: int = Field(ge=64, description="height and width of a field, pixels")
    pixel_size: Positive = Field(description="pixel size in the sample, µm")
    cells: int = Field(ge=1, description="cells a field, mean")
    cell_diameter: Positive = Field(description="diameter of a cell, µm")
    out_of_focus: Fraction = Field(description="fraction of fields out of focus")
    debris: float = Field(ge=0, description="pieces of debris a field, mean")
    well_variation: float = Field(
        ge=0, le=0.5, description="spread of staining between wells, relative standard deviation"
    )


class Brightness(_Part):
    """Mean signal at a pixel of the structure, electrons."""

    nucleus: Positive = Field(description="DNA stain within a nucleus, electrons per pixel")
    mitochondria: Positive = Field(description="tubules, mean over the cell, electrons per pixel")
    fibres: Positive = Field(description="fibres, mean over the cell, electrons per pixel")
    haze: tuple[float, float, float] = Field(
        description="diffuse signal of the cytoplasm in each channel, electrons per pixel"
    )
    background: float = Field(ge=0, description="signal outside cells, electrons per pixel")


class Optics(_Part):
    """The microscope."""

    numerical_aperture: Positive = Field(description="of the objective, dimensionless")
    wavelengths: PerChannel = Field(description="emission in each channel, nm")
    scatter: Fraction = Field(description="fraction of light in the wide tail of the PSF")
    scatter_sigma: Positive = Field(description="standard deviation of that tail, µm")
    defocus_sigma: Positive = Field(description="extra blur of fields out of focus, µm")
    vignetting: tuple[Fraction, Fraction, Fraction] = Field(
        description="light lost in the corners in each channel, fraction"
    )


class Camera(_Part):
    """The camera, before each plate's factor on its gain."""

    gain: Positive = Field(description="grey levels per electron")
    offset: float = Field(ge=0, description="grey level without light")
    read_noise: float = Field(ge=0, description="standard deviation, electrons")
    bits: int = Field(ge=8, le=16, description="bits a pixel; saturates at 2**bits - 1")
    dark_frames: int = Field(ge=0, description="frames taken without light, a plate")


class Recipe(_Part):
    """Everything that decides a simulated screen; the same recipe gives the same bytes."""

    seed: int = Field(ge=0, description="decides every random choice")
    plates: tuple[Plate, ...] = Field(min_length=1)
    layout: Layout
    fields: Fields
    factors: Factors
    treatments: tuple[Treatment, ...]
    brightness: Brightness
    optics: Optics
    camera: Camera

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        for kind, names in (
            ("plate", [p.name for p in self.plates]),
            ("treatment", [CONTROL, *(t.name for t in self.treatments)]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{kind} named more than once: {', '.join(twice)}")
        wells = len(self.wells)
        needed = self.layout.control_wells + self.layout.wells_per_dose * sum(
            len(t.doses) for t in self.treatments
        )
        if needed > wells:
            raise ValueError(f"{needed} wells are needed, the layout has {wells}")
        return self

    @property
    def wells(self) -> list[str]:
        """Names of the wells that may be used, such as B02."""
        columns = range(self.layout.first_column, self.layout.last_column + 1)
        return [f"{row}{column:02d}" for row in self.layout.rows for column in columns]

    def plate(self, name: str) -> Plate:
        """The plate called `name`; InputError if the recipe has none."""
        for plate in self.plates:
            if plate.name == name:
                return plate
        raise InputError(
            required=f"one of the recipe's plates: {', '.join(p.name for p in self.plates)}",
            found=f"plate {name!r}",
            action="name one of these plates, or add it to `plates` in the recipe",
        )


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe (YAML). InputError names every key that is unknown, missing or wrong."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        return Recipe.model_validate(yaml.safe_load(text))
    except OSError as error:
        found, action = f"{path}: {error.strerror}", "give the path of a recipe"
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found, action = f"{path}: not YAML: {error}", "correct the file's syntax"
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors()]
        found = f"{path}: " + "; ".join(wrong)
        action = "correct these keys; resources/simulate/screen.yaml shows every key"
    raise InputError(required="a recipe of a simulated screen", found=found, action=action)
