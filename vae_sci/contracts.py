"""What passes between the rooms: the columns, types and units of every table.

`results/README.md` is written from these contracts (`python docs/generate.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vae_sci.errors import ContractError
from vae_sci.files import publish

if TYPE_CHECKING:
    import pandas as pd

Type = Literal["string", "Int64", "float64", "bool"]

ROW_GROUP = 65_536
"""Rows that a Parquet file keeps together: a lookup in a sorted table reads one such group."""


@dataclass(frozen=True)
class Column:
    """One column: its pandas type and what it means, with its unit.

    `family` columns stand for a numbered or named series, such as `z_000, z_001, …`: `name` is
    then the common prefix.
    """

    name: str
    type: Type
    meaning: str
    nullable: bool = False
    family: bool = False


@dataclass(frozen=True)
class Contract:
    """A table that one room writes and others read.

    `key` names the columns that are unique per row. Columns beyond the contract are carried
    through unless `closed`.
    """

    path: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    closed: bool = False

    def validate(self, table: pd.DataFrame, source: str) -> pd.DataFrame:
        """The table with the contract's types, its columns first and in order.

        Raises `ContractError` naming `source`, the column and the row.
        """
        import pandas as pd

        typed: dict[str, pd.Series] = {}
        for column in self.columns:
            names = (
                sorted(str(name) for name in table.columns if str(name).startswith(column.name))
                if column.family
                else [column.name]
            )
            for name in names:
                if name not in table.columns:
                    raise ContractError(
                        required=f"column '{name}' ({column.meaning})",
                        found=f"columns {', '.join(map(str, table.columns))} in {source}",
                        action="make the table again with this version of vae_sci",
                    )
                if table[name].isna().any() and not column.nullable:
                    raise ContractError(
                        required=f"a value in every row of column '{name}'",
                        found=f"no value in row {int(table[name].isna().argmax())} of {source}",
                        action="find out where the value was lost; the row is named above",
                    )
            try:
                # Column by column: to change one of them in a table copies all others.
                typed |= {name: table[name].astype(column.type) for name in names}
            except (TypeError, ValueError) as error:
                raise ContractError(
                    required=f"column '{names[0]}' of type {column.type}",
                    found=f"{error} in {source}",
                    action="make the table again with this version of vae_sci",
                ) from None
        extra = [name for name in table.columns if name not in typed]
        if self.closed and extra:
            raise ContractError(
                required=f"only the columns {', '.join(typed)}",
                found=f"also {', '.join(extra)} in {source}",
                action="make the table again with this version of vae_sci",
            )
        table = pd.DataFrame(typed | {name: table[name] for name in extra})
        if self.key and table.duplicated(list(self.key)).any():
            row = table[table.duplicated(list(self.key))].iloc[0]
            raise ContractError(
                required=f"one row per {', '.join(self.key)}",
                found=f"{', '.join(str(row[k]) for k in self.key)} more than once in {source}",
                action="give every row its own key",
            )
        return table.reset_index(drop=True)

    def read(self, path: str | Path) -> pd.DataFrame:
        """Read and validate; raises `ContractError` also for a file that is missing or damaged."""
        import pandas as pd

        path = Path(path)
        try:
            table = (
                pd.read_parquet(path)
                if path.suffix == ".parquet"
                # Only an empty cell is missing: a treatment may be called "None" or "NA".
                else pd.read_csv(
                    path,
                    dtype={c.name: "string" for c in self.columns if c.type == "string"},
                    keep_default_na=False,
                    na_values=[""],
                )
            )
        except (OSError, ValueError) as error:
            raise ContractError(
                required=self.meaning,
                found=f"{path} cannot be read: {error}",
                action="delete it and run again: the workflow makes it anew",
            ) from None
        return self.validate(table, str(path))

    def write(self, table: pd.DataFrame, path: str | Path) -> None:
        """Validate, then write as Parquet or CSV (by suffix), whole or not at all."""
        path = Path(path)
        table = self.validate(table, str(path))
        with publish(path) as temporary:
            if path.suffix == ".parquet":
                # Real numbers hardly repeat: a dictionary of them is larger, and slower to read.
                repeated = [name for name, kind in table.dtypes.items() if kind != "float64"]
                table.to_parquet(
                    temporary, index=False, row_group_size=ROW_GROUP, use_dictionary=repeated
                )
            else:
                table.to_csv(temporary, index=False)


_WHERE = (
    Column("plate", "string", "name of the plate, as in plates.tsv"),
    Column("well", "string", "well, as row letter and two-digit column: B02"),
    Column("site", "string", "field of view within the well", nullable=True),
)

_TREATED = (
    Column("treatment", "string", "name of the treatment, from the platemap", nullable=True),
    Column("concentration", "float64", "its concentration, in the platemap's unit", nullable=True),
    Column("control", "bool", "true where the well is an untreated control"),
)

FIELDS = Contract(
    "images/{plate}.parquet",
    "the plate's fields, one row per field and channel (no row where tiles came ready-made)",
    (
        *_WHERE,
        Column("channel", "string", "name of the channel"),
        Column("channel_index", "Int64", "its position in a tile, from 0"),
        Column("path", "string", "image file; where depths have files of their own, one a line"),
        Column("page", "Int64", "position of the channel within the file, from 0"),
        Column(
            "own",
            "bool",
            "only the file's own planes are read, though its metadata tell of more files",
        ),
        Column(
            "z",
            "string",
            "max, mean or number of the depth taken, from 1; empty: there is one",
            nullable=True,
        ),
        Column("time", "Int64", "time point taken, from 1; empty: there is one", nullable=True),
        Column(
            "bytes", "Int64", "size of the files, bytes; empty: not a local file", nullable=True
        ),
        Column("mtime", "float64", "time of the last change, s since 1970", nullable=True),
        Column("height", "Int64", "pixels"),
        Column("width", "Int64", "pixels"),
        Column("dtype", "string", "type of the stored grey levels", nullable=True),
        Column("pixel_size_um", "float64", "µm per pixel; empty: not known", nullable=True),
        Column("median", "float64", "median grey level", nullable=True),
        Column("p99", "float64", "99th percentile of grey levels", nullable=True),
        Column(
            "saturated",
            "float64",
            "share of pixels at the highest value seen, if it is 2ⁿ−1",
            nullable=True,
        ),
        Column(
            "focus",
            "float64",
            "sharpness: variance of the Laplacian over variance of the image, of the field "
            "smoothed by 1 pixel; compare within a channel",
            nullable=True,
        ),
        Column("verdict", "string", "ok, or why the field was dropped: empty, broken"),
        Column(
            "reason",
            "string",
            "what was found in a broken field, whose figures are missing",
            nullable=True,
        ),
    ),
    key=("well", "site", "channel"),
)

MEASURED_FIELDS = Contract(
    "measured/fields/{plate}.parquet",
    "quality of the fields that could be read, one row per field and channel, raw grey levels",
    (
        *_WHERE,
        Column("channel", "string", "name of the channel"),
        Column("cells", "Int64", "cells found in the field, before any was dropped"),
        Column("background", "float64", "10th percentile of grey levels"),
        Column("saturated", "float64", "share of pixels at the camera's ceiling"),
        Column(
            "focus",
            "float64",
            "sharpness of the square root of what rises above background, smoothed by 2 pixels",
        ),
        Column(
            "relative_focus",
            "float64",
            "focus over the median of the plate and channel; empty: too few fields",
            nullable=True,
        ),
        Column(
            "outlier_background",
            "float64",
            "background's distance from the median of the plate and channel, robust standard "
            "deviations; empty: too few fields",
            nullable=True,
        ),
    ),
    key=("well", "site", "channel"),
)

TILES = Contract(
    "tiles/{plate}.parquet",
    "the plate's cells that were kept, one row per tile, in the order of tiles/{plate}.zarr",
    (
        Column("cell_id", "string", "plate/well/site/label: unique over the whole screen"),
        *_WHERE,
        Column("batch", "string", "plates imaged together, from plates.tsv"),
        Column("tile", "Int64", "row of the tile in the store, from 0"),
        Column("split", "string", "train, validation or test; all cells of a well share it"),
        Column("y", "float64", "centre of the nucleus in its field, pixels down", nullable=True),
        Column("x", "float64", "centre of the nucleus in its field, pixels right", nullable=True),
        Column("y0", "Int64", "first row of the tile in its field, pixels", nullable=True),
        Column("x0", "Int64", "first column of the tile in its field, pixels", nullable=True),
        Column("area", "float64", "area of the cell, square pixels", nullable=True),
        Column("nucleus_area", "float64", "area of the nucleus, square pixels", nullable=True),
        Column("saturated", "float64", "share of the tile's values at the camera's ceiling"),
        Column(
            "autocorrelation",
            "float64",
            "smallest horizontal lag-1 autocorrelation over channels; below about 0.7: noise",
        ),
        Column(
            "focus",
            "float64",
            "sharpness of the cell's own pixels (of the tile, without masks), first channel: "
            "variance of the Laplacian over variance, smoothed by 1 pixel",
        ),
        Column(
            "difference",
            "float64",
            "1 − the smallest correlation between two channels over the same pixels; 0: every "
            "channel shows the same; empty: one channel",
            nullable=True,
        ),
        Column(
            "intensity_",
            "float64",
            "mean grey level of a channel in the tile; under even light with images: flat_field",
            family=True,
        ),
        Column("spread_", "float64", "standard deviation of grey levels in the tile", family=True),
        Column(
            "relative_",
            "float64",
            "focus and difference over the plate's median; empty: not known, or too few cells "
            "on the plate",
            nullable=True,
            family=True,
        ),
        Column(
            "outlier_",
            "float64",
            "distance from the plate's median, robust standard deviations: of log area and "
            "nucleus_area, of each channel's intensity and of its log contrast (spread); empty: "
            "not known, or too few cells on the plate",
            nullable=True,
            family=True,
        ),
        Column("store_digest", "string", "digest of the store's contents"),
    ),
    key=("cell_id",),
)

MEASURED_CELLS = replace(
    TILES,
    path="measured/cells/{plate}.parquet",
    meaning="all cells of the plate that were cut out, one row per tile of tiles/{plate}.zarr",
)

DROPPED = Contract(
    "dropped/{plate}.csv",
    "fields and cells that were dropped by the limits of `quality`, and why",
    (
        *_WHERE,
        Column("unit", "string", "field or cell"),
        Column("cell_id", "string", "as in measured/cells; empty: a field", nullable=True),
        Column("reason", "string", "why, in words; the first limit that was passed"),
        Column("limit", "string", "name of the limit in `quality`"),
        Column("at", "float64", "the limit"),
        Column("found", "float64", "what was measured"),
    ),
    key=("unit", "well", "site", "cell_id"),
)

HISTORY = Contract(
    "models/{model}/history.parquet",
    "training, one row per epoch",
    (
        Column("epoch", "Int64", "passes over the training tiles done"),
        Column("step", "Int64", "optimiser steps done"),
        Column("beta", "float64", "weight of the rate of z at the end of the epoch"),
        Column("learning_rate", "float64", "step size at the end of the epoch"),
        Column("train_loss", "float64", "what was minimised, nats per tile"),
        Column("train_distortion", "float64", "−log p(x|z, u), nats per tile"),
        Column("train_rate_z", "float64", "KL(q(z|x) ‖ p(z)), nats per tile"),
        Column("train_rate_u", "float64", "KL of the skip latents, nats per tile"),
        Column("train_bits", "float64", "distortion and rates, bits per pixel and channel"),
        Column("train_view_loss", "float64", "how badly two views of a cell find each other, nats"),
        Column("validation_distortion", "float64", "same, averaged weights", nullable=True),
        Column("validation_rate_z", "float64", "same, averaged weights", nullable=True),
        Column("validation_rate_u", "float64", "same, averaged weights", nullable=True),
        Column(
            "validation_bits", "float64", "same, averaged weights, no skip dropped", nullable=True
        ),
        Column("active_units", "Int64", "dimensions of z whose mean varies by more than 0.01"),
        Column("skipped_steps", "Int64", "steps skipped because a gradient was not finite"),
        Column("tiles_per_second", "float64", "training speed"),
        Column("data_wait", "float64", "share of the time spent waiting for data"),
    ),
    key=("epoch",),
)

EMBEDDINGS = Contract(
    "embeddings/{model}/{plate}.parquet",
    "the plate's cells in latent space, one row per tile",
    (
        Column("cell_id", "string", "as in the tile table"),
        Column("z_", "float64", "posterior mean of a latent dimension", family=True),
        Column("sd_", "float64", "posterior standard deviation of it", family=True),
        Column("rate_z", "float64", "KL(q(z|x) ‖ p(z)), nats: how unusual its z is to the prior"),
        Column("rate_u", "float64", "KL of the skip latents, nats: what z leaves open"),
        Column("distortion", "float64", "−log p(x|z, u) at the posterior means, nats per tile"),
        Column(
            "novelty",
            "float64",
            "percentile of distortion + rates among validation cells, 0–100; high: the model "
            "describes this cell badly",
        ),
    ),
    key=("cell_id",),
    closed=True,
)

CELLS = Contract(
    "phenotypes/{model}/cells.parquet",
    "one row per cell of the screen, sorted by cell_id: metadata, quality, phenotype",
    (
        Column("cell_id", "string", "plate/well/site/label"),
        *_WHERE,
        Column("batch", "string", "plates imaged together, from plates.tsv"),
        Column("y", "float64", "centre of the nucleus in its field, pixels down", nullable=True),
        Column("x", "float64", "centre of the nucleus in its field, pixels right", nullable=True),
        *_TREATED,
        Column("split", "string", "train, validation or test"),
        Column("cluster", "string", "latent phenotype: Leiden cluster of z, 0 the largest"),
        Column(
            "confidence",
            "float64",
            "share of its nearest cells that lie in its cluster; low: between clusters",
        ),
        Column(
            "fitted",
            "bool",
            "clusters and map were fitted to it; false: its nearest fitted cells placed it",
        ),
        Column("umap_1", "float64", "picture coordinate, no unit; never measure on it"),
        Column("umap_2", "float64", "picture coordinate, no unit; never measure on it"),
        Column("rate_z", "float64", "KL(q(z|x) ‖ p(z)), nats"),
        Column("rate_u", "float64", "KL of the skip latents, nats"),
        Column("distortion", "float64", "−log p(x|z) at the posterior mean, nats per tile"),
        Column("novelty", "float64", "percentile of rate + distortion among validation cells"),
        Column("normalized_by", "string", "controls used for z: plate, batch, screen, all or none"),
        Column("z_", "float64", "normalised posterior mean of a latent dimension", family=True),
    ),
    key=("cell_id",),
)

ASSIGNED = Contract(
    "phenotypes/{model}/assigned/{plate}.parquet",
    "cells of a plate that was not in the run, placed beside its cells by `vae-sci assign`",
    (
        *(column for column in CELLS.columns if column.name != "fitted"),
        Column(
            "distance_percentile",
            "float64",
            "percentile, among the run's fitted cells, of its mean distance to its nearest fitted "
            "cells, 0–100; high: the run has no cells like it",
        ),
    ),
    key=("cell_id",),
)

CLUSTERS = Contract(
    "phenotypes/{model}/clusters.csv",
    "latent phenotypes, one row per cluster",
    (
        Column("cluster", "string", "number of the cluster, 0 the largest"),
        Column("n_cells", "Int64", "cells in it"),
        Column("share", "float64", "share of all cells"),
        Column(
            "stability",
            "float64",
            "mean, over samples of the wells clustered anew, of the largest Jaccard index with a "
            "cluster of theirs (Hennig 2007); empty: in no sample",
            nullable=True,
        ),
        Column("stable", "bool", "stability of at least 0.75; false: believe it last"),
        Column(
            "share_control",
            "float64",
            "share of the control cells that lie in it; empty: no controls",
            nullable=True,
        ),
        Column("n_plates", "Int64", "plates that contribute cells"),
        Column("top_plate_share", "float64", "share of its cells from its commonest plate"),
        Column(
            "top_treatment",
            "string",
            "treatment most enriched in it, with a q_value of at most 0.05; empty: none",
            nullable=True,
        ),
        Column(
            "top_log2_enrichment",
            "float64",
            "log2 of that treatment's share over that of controls",
            nullable=True,
        ),
        Column("exemplar", "string", "cell_id of the cell nearest the cluster's mean"),
    ),
    key=("cluster",),
)

RESOLUTIONS = Contract(
    "phenotypes/{model}/resolutions.csv",
    "resolutions of Leiden that were tried, from coarse to fine; taken is the finest at which at "
    "least 90 % of the cells lie in stable clusters, else that with the most such cells",
    (
        Column("resolution", "float64", "higher, more clusters"),
        Column("n_clusters", "Int64", "clusters found"),
        Column(
            "seed_agreement",
            "float64",
            "adjusted Rand index with the clusters of another seed: 1 the same, 0 chance",
        ),
        Column("stability", "float64", "mean over cells of the stability of their cluster"),
        Column("stable_share", "float64", "share of the cells in clusters of at least 0.75"),
        Column("chosen", "bool", "true for the one that was taken"),
    ),
    key=("resolution",),
)

TREATMENTS = Contract(
    "phenotypes/{model}/treatments.csv",
    "treatments, one row per treatment and concentration",
    (
        *_TREATED,
        Column("n_cells", "Int64", "cells"),
        Column("n_wells", "Int64", "wells"),
        Column("n_plates", "Int64", "plates"),
        Column(
            "distance",
            "float64",
            "length of the mean over its wells of z minus its plate's controls: control sd units",
        ),
        Column(
            "p_value",
            "float64",
            "how often wells exchanged with controls of their plates lie as far from these, in "
            "Mahalanobis distance between wells",
            nullable=True,
        ),
        Column(
            "q_value",
            "float64",
            "false discovery rate among all treatments tested, if this and all with a smaller one "
            "are taken for active; a dose counts with the largest p_value of itself and all higher "
            "doses",
            nullable=True,
        ),
        Column("untested", "string", "why there is no p_value; empty: there is", nullable=True),
        Column(
            "auroc",
            "float64",
            "linear probe against controls on held-out wells; 0.5: no difference seen; empty: "
            "fewer than two wells",
            nullable=True,
        ),
        Column(
            "auroc_intensity",
            "float64",
            "the same probe on mean and contrast of the channels alone, for comparison",
            nullable=True,
        ),
        Column(
            "cell_count",
            "float64",
            "cells per well over the median of its plate's controls, median over wells, those "
            "without a cell included; empty: no controls there",
            nullable=True,
        ),
        Column("n_empty_wells", "Int64", "wells of it that were imaged and have no cell"),
        Column(
            "heterogeneity",
            "float64",
            "rms distance of cells from the mean of their well over that of controls, median over "
            "wells; above 1: its cells differ more from one another",
            nullable=True,
        ),
        Column("edge_share", "float64", "share of its wells on the border of the plate"),
        Column(
            "edge_share_control",
            "float64",
            "the same of the controls on its plates; empty: none",
            nullable=True,
        ),
        Column(
            "agreement",
            "float64",
            "mean cosine between what it did on its plates, two at a time; empty: one plate, or a "
            "control",
            nullable=True,
        ),
        Column(
            "suspicion",
            "string",
            "what else may have moved the cells: few cells, wells without any, edge wells, plates "
            "that do not agree, one well or plate; or, of a dose that would be active by itself, "
            "that a higher one is not; empty: nothing was seen",
            nullable=True,
        ),
        Column(
            "top_cluster",
            "string",
            "cluster enriched against controls with the smallest p_value; none such: its commonest",
        ),
    ),
    key=("treatment", "concentration"),
)

WELLS = Contract(
    "phenotypes/{model}/wells.csv",
    "wells, one row each: cells, and how far they lie from the controls of their plate",
    (
        Column("plate", "string", "name of the plate"),
        Column("well", "string", "well"),
        *_TREATED,
        Column("n_cells", "Int64", "cells in the well"),
        Column("edge", "bool", "on the border of the plate"),
        Column(
            "distance",
            "float64",
            "length of mean z minus that of the control wells of its plate (of the other ones for "
            "a control): control sd units; empty: there is no other control",
            nullable=True,
        ),
        Column(
            "spread",
            "float64",
            "rms distance of its cells from their mean: control sd units; empty: one cell",
            nullable=True,
        ),
    ),
    key=("plate", "well"),
)

DOSES = Contract(
    "phenotypes/{model}/doses.csv",
    "treatments with a concentration, one row each: does the effect rise with the dose?",
    (
        Column("treatment", "string", "name of the treatment, from the platemap"),
        Column("n_doses", "Int64", "concentrations"),
        Column("n_wells", "Int64", "wells"),
        Column(
            "trend",
            "float64",
            "Spearman correlation of dose and effect over wells; the effect is measured along the "
            "mean effect of all its wells; empty: one concentration",
            nullable=True,
        ),
        Column(
            "p_value",
            "float64",
            "how often doses exchanged between wells of a plate rise as steeply",
            nullable=True,
        ),
        Column(
            "q_value", "float64", "false discovery rate among all treatments tested", nullable=True
        ),
        Column("untested", "string", "why there is no p_value; empty: there is", nullable=True),
        Column(
            "lowest_active",
            "float64",
            "lowest concentration with a q_value of at most 0.05 in treatments.csv; empty: none",
            nullable=True,
        ),
    ),
    key=("treatment",),
)

SIMILARITY = Contract(
    "phenotypes/{model}/similarity.csv",
    "per treatment and concentration the five others that moved z in the most similar direction",
    (
        *_TREATED[:2],
        Column("rank", "Int64", "1: the most similar"),
        Column("other_treatment", "string", "the other, which may be another dose", nullable=True),
        Column("other_concentration", "float64", "its concentration", nullable=True),
        Column("cosine", "float64", "of the angle between the two effects: 1 the same direction"),
        Column("distance", "float64", "between the two effects: control sd units"),
    ),
    key=("treatment", "concentration", "rank"),
)

NORMALIZATION = Contract(
    "phenotypes/{model}/normalization.csv",
    "what each step of normalisation did: can plates, and can treatments, still be told from z?",
    (
        Column("step", "string", "raw; none, standardize or whiten; harmony: z after this step"),
        Column(
            "target",
            "string",
            "what is predicted: plate of controls (a batch effect), plate of all cells, treatment "
            "(what should stay)",
        ),
        Column(
            "accuracy",
            "float64",
            "balanced accuracy of the 10 nearest cells (cosine) of other wells, for treatments on "
            "several plates of other plates; empty: fewer than two labels to tell so",
            nullable=True,
        ),
        Column("chance", "float64", "accuracy of guessing", nullable=True),
        Column("n_cells", "Int64", "cells, a random choice of at most 5,000"),
        Column("n_labels", "Int64", "plates or treatments among them"),
    ),
    key=("step", "target"),
)

PROFILES = Contract(
    "phenotypes/{model}/profiles.parquet",
    "mean normalised z per well",
    (
        Column("plate", "string", "name of the plate"),
        Column("well", "string", "well"),
        Column("batch", "string", "plates imaged together, from plates.tsv"),
        *_TREATED,
        Column("n_cells", "Int64", "cells in the well"),
        Column("z_", "float64", "mean over cells of a normalised dimension", family=True),
    ),
    key=("plate", "well"),
)

PYCYTOMINER_WELLS = Contract(
    "phenotypes/{model}/pycytominer/wells.parquet",
    "profiles.parquet with the names that pycytominer and copairs expect: Metadata_ before all but "
    "the features, the platemap's further columns too",
    (
        Column("Metadata_Plate", "string", "name of the plate"),
        Column("Metadata_Well", "string", "well"),
        Column("Metadata_batch", "string", "plates imaged together, from plates.tsv"),
        Column("Metadata_treatment", "string", "name of the treatment", nullable=True),
        Column("Metadata_concentration", "float64", "its concentration", nullable=True),
        Column("Metadata_control", "bool", "true where the well is an untreated control"),
        Column("Metadata_n_cells", "Int64", "cells in the well"),
        Column("z_", "float64", "mean over cells of a normalised dimension", family=True),
    ),
    key=("Metadata_Plate", "Metadata_Well"),
)

PYCYTOMINER_TREATMENTS = Contract(
    "phenotypes/{model}/pycytominer/treatments.parquet",
    "the mean of its wells, one row per treatment and concentration",
    (
        Column("Metadata_treatment", "string", "name of the treatment", nullable=True),
        Column("Metadata_concentration", "float64", "its concentration", nullable=True),
        Column("Metadata_control", "bool", "true where its wells are untreated controls"),
        Column("Metadata_n_cells", "Int64", "cells"),
        Column("Metadata_n_wells", "Int64", "wells"),
        Column("Metadata_n_plates", "Int64", "plates"),
        Column(
            "z_",
            "float64",
            "mean over wells, those of fewer than 20 cells counting less",
            family=True,
        ),
    ),
    key=("Metadata_treatment", "Metadata_concentration"),
)

ENRICHMENT = Contract(
    "phenotypes/{model}/enrichment.csv",
    "treatments against clusters, one row per treatment, concentration and cluster; controls have "
    "no rows",
    (
        *_TREATED,
        Column("cluster", "string", "latent phenotype"),
        Column("n_cells", "Int64", "cells of the treatment in the cluster"),
        Column("share", "float64", "share of the treatment's cells that lie in the cluster"),
        Column(
            "share_control",
            "float64",
            "share of the control cells of its plates (none there: of all) that lie in it; empty: "
            "no controls",
            nullable=True,
        ),
        Column(
            "odds_ratio",
            "float64",
            "odds of lying in the cluster over those of the controls, half a cell added to each "
            "count",
            nullable=True,
        ),
        Column(
            "log2_enrichment",
            "float64",
            "log2 ratio of the shares, half a cell of the smaller group added to each",
            nullable=True,
        ),
        Column(
            "p_value",
            "float64",
            "how often wells exchanged with controls of their plates differ as much in their "
            "share; empty: too few wells, see `untested` in treatments.csv",
            nullable=True,
        ),
        Column(
            "q_value",
            "float64",
            "false discovery rate among all rows tested",
            nullable=True,
        ),
    ),
    key=("treatment", "concentration", "cluster"),
)

SCORES = Contract(
    "phenotypes/{model}/scores.csv",
    "what can be told from z and from baselines of the same cells, under one normalisation; one "
    "row per label, score and kind of features",
    (
        Column(
            "label",
            "string",
            "column that is told (phenotypes: labels); empty: replicates, which need no label",
            nullable=True,
        ),
        Column(
            "score",
            "string",
            "knn, linear: balanced accuracy on single cells; nsc, nscb: share of treatments whose "
            "nearest of another compound (and batch) has their label; map: mean average precision "
            "of their label among other compounds; replicate_correlation: "
            "mean over treatments of the median correlation of their wells; replicating_share: "
            "treatments whose wells agree more than 95 % of unrelated ones; replicate_map: mean "
            "average precision of their wells among controls; active_share: those of them at a "
            "q_value of at most 0.05",
        ),
        Column("features", "string", "z, cell count, intensity statistics or PCA"),
        Column("value", "float64", "the score; empty: see remark", nullable=True),
        Column("low", "float64", "lower end of the 95 % interval (bootstrap)", nullable=True),
        Column(
            "high", "float64", "upper end; empty: fewer than 5 groups to resample", nullable=True
        ),
        Column(
            "chance",
            "float64",
            "the score without information: 1 over the labels, or its mean under exchanges",
            nullable=True,
        ),
        Column(
            "p_value",
            "float64",
            "how often labels dealt out anew to compounds score as high; empty: not for this score",
            nullable=True,
        ),
        Column("n", "Int64", "cells or treatments (compound and concentration) scored"),
        Column("unit", "string", "cells or treatments", nullable=True),
        Column("n_groups", "Int64", "groups among them"),
        Column(
            "groups",
            "string",
            "what is held out or left out as a whole, and resampled: plates, wells or compounds "
            "(treatments at any concentration)",
            nullable=True,
        ),
        Column("remark", "string", "why there is no value", nullable=True),
    ),
    key=("label", "score", "features"),
)

REPLICATES = Contract(
    "phenotypes/{model}/replicates.csv",
    "do the wells of a treatment agree, and stand apart from the controls; one row per kind of "
    "features, treatment and concentration",
    (
        Column("features", "string", "z, cell count, intensity statistics or PCA"),
        *_TREATED[:2],
        Column("n_wells", "Int64", "wells of the treatment"),
        Column(
            "correlation",
            "float64",
            "median correlation of pairs of its wells; empty: one well, or single numbers",
            nullable=True,
        ),
        Column(
            "unrelated",
            "float64",
            "the same of as many wells of different treatments, each of the plate of one of its "
            "own, median over draws",
            nullable=True,
        ),
        Column("unrelated_95", "float64", "95th percentile over these draws", nullable=True),
        Column("n_controls", "Int64", "control wells on its plates", nullable=True),
        Column(
            "map",
            "float64",
            "mean average precision of its wells among these controls: 1, they come first",
            nullable=True,
        ),
        Column(
            "chance",
            "float64",
            "mean of map when its wells are exchanged with controls of their plates",
            nullable=True,
        ),
        Column("p_value", "float64", "how often map is then as high", nullable=True),
        Column(
            "q_value", "float64", "p-value adjusted after Benjamini and Hochberg", nullable=True
        ),
        Column("untested", "string", "why there is no p_value; empty: there is", nullable=True),
    ),
    key=("features", "treatment", "concentration"),
)

GENERATED = Contract(
    "generated/{model}/cells.csv",
    "held-out cells shown beside what the model makes of them, in the order of the image stacks",
    (
        Column(
            "row",
            "Int64",
            "position in originals, reconstructions and predictive.ome.tif, from 0",
        ),
        Column("cell_id", "string", "as in the tile table"),
        Column("split", "string", "train, validation or test"),
        Column("rate_z", "float64", "KL(q(z|x) ‖ p(z)), nats"),
        Column("rate_u", "float64", "KL of the skip latents, nats"),
        Column("bits", "float64", "distortion and rates, bits per pixel and channel"),
    ),
    key=("row",),
)

SAMPLES = Contract(
    "generated/{model}/samples.csv",
    "cells that the model makes up, z and u from the prior, in the order of samples.ome.tif",
    (
        Column("row", "Int64", "position in samples.ome.tif, from 0"),
        Column("temperature", "float64", "factor on the draws of z and u; 1: the prior itself"),
        Column("draw", "Int64", "which draw, from 0: the same numbers at every temperature"),
    ),
    key=("temperature", "draw"),
)

RESAMPLED = Contract(
    "generated/{model}/resampled.csv",
    "what z leaves open: some of the cells in cells.csv with z at its posterior mean and u from "
    "its prior, in the order of resampled.ome.tif",
    (
        Column("row", "Int64", "position in resampled.ome.tif, from 0"),
        Column("cell_id", "string", "as in the tile table"),
        Column(
            "draw", "Int64", "0: u at its prior's mean; from 1: draws, none where there is no u"
        ),
        Column("temperature", "float64", "factor on the draw of u: 0 its prior's mean, 1 a draw"),
    ),
    key=("cell_id", "draw"),
)

MORPHS = Contract(
    "generated/{model}/morphs.csv",
    "straight lines in z, in the order of morphs.ome.tif",
    (
        Column("row", "Int64", "position in morphs.ome.tif, from 0"),
        Column("line", "string", "treatments: between the means of two groups; cells: two cells"),
        Column("position", "float64", "on the line: 0 its start, 1 its end"),
        Column("start", "string", "the group (treatments) or cell_id (cells) at its start"),
        Column("end", "string", "the group or cell_id at its end"),
        Column(
            "distance",
            "float64",
            "from the image before: root mean square over pixels and channels, in standard "
            "deviations of each channel over the training tiles; empty at the start",
            nullable=True,
        ),
    ),
    key=("line", "position"),
)

DIAGNOSTICS = Contract(
    "diagnostics/{model}/diagnostics.csv",
    "the model measured on held-out cells, one row per figure",
    (
        Column("diagnostic", "string", "what was measured"),
        Column("value", "float64", "the figure"),
        Column("unit", "string", "its unit"),
        Column("at_least", "float64", "threshold from the settings; empty: none", nullable=True),
        Column("verdict", "string", "passed or failed; measured: there is no threshold"),
        Column("meaning", "string", "what it is, in a sentence"),
        Column("remedy", "string", "what to do where it failed", nullable=True),
    ),
    key=("diagnostic",),
)

RINGS = Contract(
    "diagnostics/{model}/rings.csv",
    "reconstructions of held-out cells against their tiles, by spatial frequency",
    (
        Column("channel", "string", "name of the channel"),
        Column("frequency", "float64", "cycles per pixel"),
        Column(
            "correlation",
            "float64",
            "Fourier ring correlation of the posterior mean with the tile, which carries camera "
            "noise: noise lowers it",
        ),
        Column("power_ratio", "float64", "power over that of the tile", nullable=True),
    ),
    key=("channel", "frequency"),
)

COMPARISON = Contract(
    "comparison/models.csv",
    "the models of a run on the same held-out cells, the fewest bits first",
    (
        Column("model", "string", "name of the model"),
        Column("skip", "string", "kind of decoder"),
        Column("likelihood", "string", "distribution of counts"),
        Column("latent_dim", "Int64", "numbers in z"),
        Column("parameters", "Int64", "weights"),
        Column("bits", "float64", "the bound, all rates counted, bits per pixel and channel"),
        Column("distortion", "float64", "nats per tile"),
        Column("rate_z", "float64", "nats per tile"),
        Column("rate_u", "float64", "nats per tile"),
        Column("z_share", "float64", "of what z and u know, what z carries"),
        Column("frc", "float64", "Fourier ring correlation, 0.1 to 0.2 cycles per pixel"),
        Column("power", "float64", "power over that of the tiles, the same band"),
        Column("checkerboard", "float64", "power of patterns of period 2 over their neighbours'"),
        Column(
            "quarter_turns", "float64", "how far z moves, over how far another cell lies (z in sds)"
        ),
        Column("angles", "float64", "the same, other angles on a central disc"),
        Column("shifts", "float64", "the same, shifts of 2 pixels"),
        Column(
            "auroc",
            "float64",
            "treatments told from controls by z, mean over their highest concentrations",
            nullable=True,
        ),
    ),
    key=("model",),
)

CONTRACTS = (
    FIELDS,
    MEASURED_FIELDS,
    MEASURED_CELLS,
    DROPPED,
    TILES,
    HISTORY,
    EMBEDDINGS,
    CELLS,
    ASSIGNED,
    CLUSTERS,
    RESOLUTIONS,
    TREATMENTS,
    WELLS,
    DOSES,
    SIMILARITY,
    NORMALIZATION,
    PROFILES,
    PYCYTOMINER_WELLS,
    PYCYTOMINER_TREATMENTS,
    ENRICHMENT,
    SCORES,
    REPLICATES,
    GENERATED,
    SAMPLES,
    RESAMPLED,
    MORPHS,
    DIAGNOSTICS,
    RINGS,
    COMPARISON,
)
