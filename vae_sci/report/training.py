"""How the training went: one panel per quantity of the history."""

from __future__ import annotations

import pandas as pd
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from vae_sci.report.style import BLUE, FAINT, VERMILLION, Picture, canvas, finish, number

# title, axis label, training column, validation column, logarithmic
_PANELS = (
    ("Bound", "bits per pixel and channel", "train_bits", "validation_bits", False),
    ("Rate of z", "nats per tile", "train_rate_z", "validation_rate_z", False),
    ("Rate of the skips, u", "nats per tile", "train_rate_u", "validation_rate_u", False),
    ("View loss", "nats", "train_view_loss", None, False),
    ("Active units of z", "dimensions", "active_units", None, False),
    ("Weight of the rate, β", "no unit", "beta", None, False),
    ("Speed", "tiles per second", "tiles_per_second", None, False),
    ("Waiting for data", "share of the time", "data_wait", None, False),
    ("Skipped steps", "optimiser steps", "skipped_steps", None, False),
)


def training(history: pd.DataFrame, latent_dim: int) -> Picture:
    """The bound, its rates, active units and the course of the schedule over the epochs."""
    figure = canvas(8.0, 5.4)
    epochs = history["epoch"].to_numpy(dtype=float)
    marker = "o" if len(epochs) < 30 else ""
    style = {"marker": marker, "markersize": 2.5, "linewidth": 1.2}
    axes = figure.subplots(3, 3, sharex=True).ravel()
    for axis, (title, label, train, validation, logarithmic) in zip(axes, _PANELS, strict=True):
        values = history[train].to_numpy(dtype=float)
        axis.plot(epochs, values, color=BLUE, label="training tiles", **style)
        if validation is not None:
            held_out = history[["epoch", validation]].dropna().astype(float)
            axis.plot(
                held_out["epoch"],
                held_out[validation],
                color=VERMILLION,
                linestyle="--",
                label="validation tiles, averaged weights",
                **style,
            )
        axis.set_title(title)
        axis.set_ylabel(label)
        if logarithmic and (values > 0).all() and values.max() > 10 * values.min():
            axis.set_yscale("log")
            axis.set_ylabel(f"{label}, log scale")
            axis.yaxis.set_minor_formatter(NullFormatter())
        elif min(values.min(), 0) == 0 and validation is None:
            axis.set_ylim(0, max(values.max(), 1e-12) * 1.12)
        axis.yaxis.set_major_formatter(FuncFormatter(number))
    units, waiting, skipped = axes[4], axes[7], axes[8]
    units.axhline(latent_dim, color=FAINT, linestyle=":", linewidth=1)
    units.set_ylim(0, latent_dim * 1.18)
    units.text(epochs[0], latent_dim * 1.03, f"all {latent_dim}", color=FAINT, fontsize=6.5)
    skipped.set_ylim(0, max(1.0, float(history["skipped_steps"].max()) * 1.12))
    waiting.set_ylim(0, 1)
    axes[0].set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    for axis in axes[6:]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    return finish(
        figure,
        "The model's fit while it was trained",
        f"Epochs: {len(history)}. The bound is distortion, −log p(x|z, u) on raw grey "
        "levels, and both rates; in training, skips of some tiles are dropped, of validation tiles "
        "none. The rate of z is KL(q(z|x) ‖ p(z)); β weighs it in the loss. View loss: how badly "
        "two mirrored, turned, shifted views of a cell find each other by z among the batch's "
        "cells.",
        legend=axes[0].get_lines(),
        table=history,
    )
