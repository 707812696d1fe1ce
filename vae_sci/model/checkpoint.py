"""A model on disk: safetensors for the weights, JSON for everything else, never pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vae_sci.config import ModelSettings, parse
from vae_sci.errors import ContractError, VaeSciError
from vae_sci.files import publish, write_json
from vae_sci.likelihoods import CameraNoise, GreyLevels
from vae_sci.model.vae import VAE, Scaling

FORMAT = 6


def save_model(model: VAE, weights: dict[str, Any], card: dict[str, Any], folder: Path) -> None:
    """Write `model.safetensors` and, last, `model.json` into `folder`.

    `weights` is the state to publish (the averaged one); `card` adds what training knows
    (channels, data digest, versions, novelty reference).
    """
    from safetensors.torch import save_file

    with publish(folder / "model.safetensors") as temporary:
        save_file({name: w.detach().cpu().contiguous() for name, w in weights.items()}, temporary)
    record = {
        "format": FORMAT,
        "model": model.settings.model_dump(mode="json"),
        "latent_dim": model.settings.latent_dim,
        "size": model.size,
        "grey_levels": model.grey_levels.to_dict(),
        "scaling": model.scaling.to_dict(),
        "plates": list(model.plates),
        "noise": model.noise.to_dict() if model.noise else None,
    }
    write_json(record | card, folder / "model.json")


def load_model(folder: Path, device: str = "cpu") -> tuple[VAE, dict[str, Any]]:
    """The model in `folder`, in evaluation mode on `device`, and its card.

    Raises `ContractError` when a file is missing, damaged or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        card = json.loads((folder / "model.json").read_text())
        if card["format"] != FORMAT:
            raise ValueError(f"format {card['format']}, this version reads {FORMAT}")
        model = VAE(
            parse(ModelSettings, card["model"], str(folder / "model.json")),
            card["size"],
            GreyLevels.from_dict(card["grey_levels"]),
            Scaling.from_dict(card["scaling"]),
            tuple(card["plates"]),
            CameraNoise.from_dict(card["noise"]) if card["noise"] else None,
        )
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        SafetensorError,
        VaeSciError,
    ) as e:
        raise ContractError(
            required="a trained model (model.json and model.safetensors)",
            found=f"{folder}: {type(e).__name__}: {e}",
            action="delete the folder and run again: the model is trained anew",
        ) from None
    return model.eval().to(device), card
