"""Where a model runs: the wish of the user, checked against the machine."""

from __future__ import annotations

import torch

from vae_sci.errors import InputError
from vae_sci.memory import keep_freed


def pick_device(device: str) -> str:
    """cuda or cpu for the wish auto, cuda or cpu; auto is cuda where there is a card.

    Raises `InputError` for any other wish, and for cuda without a card.
    """
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not cards):
        raise InputError(
            required="a device: auto, cpu or cuda (with a CUDA card and driver)",
            found=f"--device {device}; torch {torch.__version__} sees {cards} CUDA cards",
            action="use --device auto, or install a CUDA build of torch",
        )
    return "cuda" if cards and device != "cpu" else "cpu"


def count_devices(device: str, wanted: int | None, chosen: str) -> int:
    """How many cards (on the CPU: processes) to use: `wanted`, else all cards, or one process.

    Raises `InputError` for more cards than there are.
    """
    if chosen == "cpu":
        # Cards that were asked for and are not there do not become processes.
        return wanted if wanted and device == "cpu" else 1
    cards = torch.cuda.device_count()
    if wanted and wanted > cards:
        raise InputError(
            required=f"at most {cards} devices, the CUDA cards that torch sees",
            found=f"--devices {wanted}",
            action="ask for fewer, or leave --devices out to use all",
        )
    return wanted or cards


def tune_cpu() -> None:
    """Set this process up for tensors on a CPU; nothing but the time changes."""
    # A mixture's far components leave gradients below 1e-38, which halve the speed; as zeros they
    # cost nothing (docs/decisions.md).
    torch.set_flush_denormal(True)
    keep_freed()
