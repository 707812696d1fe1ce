"""Where training stands: one file, named by what it belongs to, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vae_sci.errors import ContractError
from vae_sci.files import publish


def state_path(folder: Path, belongs_to: dict[str, Any]) -> Path:
    """State file for a run with these settings and data; any change of them gives another file."""
    key = hashlib.blake2b(json.dumps(belongs_to, sort_keys=True).encode(), digest_size=8)
    return folder / f".training-{key.hexdigest()}.safetensors"


def save_state(
    path: Path,
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    """Write weights, averaged weights, optimiser state and history, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
    with publish(path) as temporary:
        save_file(
            {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
            temporary,
            metadata={"history": json.dumps(history)},
        )


def load_state(
    path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Put a saved state in place; the history tells how far it had come.

    Raises `ContractError` when the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            history = json.loads(file.metadata()["history"])
        for prefix, module in (("model.", model), ("average.", average)):
            module.load_state_dict(
                {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            )
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".", 2)
                slots.setdefault(int(index), {})[slot] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise ContractError(
            required="the state of an interrupted training",
            found=f"{path}: {type(error).__name__}: {error}",
            action="delete this file: training then starts anew",
        ) from None
    return history
