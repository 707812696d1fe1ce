"""What figures are drawn from, beside the tables: the model's card and stacks of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vae_sci.errors import ContractError


def read_stack(path: Path, channels: int) -> np.ndarray:
    """An image stack (N, C, H, W); TIFF readers drop axes of length one, so C is given."""
    import tifffile

    try:
        pixels = tifffile.imread(path)
        return pixels.reshape(-1, channels, *pixels.shape[-2:])
    except (OSError, ValueError) as error:
        raise ContractError(
            required=f"a stack of tiles with {channels} channels",
            found=f"{path} cannot be read as such: {error}",
            action="delete it and run again: the workflow makes it anew",
        ) from None


def read_card(results: Path, model: str) -> dict[str, Any]:
    """The description of a trained model."""
    path = results / "models" / model / "model.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ContractError(
            required="the description of the trained model",
            found=f"{path} cannot be read: {error}",
            action="train the model again",
        ) from None
