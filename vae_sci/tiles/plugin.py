"""A function of the user's own that finds nuclei, such as one that calls Cellpose or StarDist."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import relabel_sequential

from vae_sci.errors import InputError, SettingsError

Find = Callable[[NDArray[Any], float | None], NDArray[np.int32]]


def load(name: str) -> Find:
    """The function that `module:function` names; what it returns is checked at every call.

    It is called with the nucleus channel (H, W), raw grey levels, and the diameter in pixels or
    None, and returns labels (H, W): whole numbers, 0 outside. They are numbered anew from 1 and
    otherwise left as they are. One thread at a time calls it, since few models are made for more.
    Raises `SettingsError` where module or function is missing.
    """
    module, _, function = name.partition(":")
    try:
        find = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            required="as tiles: segmentation: nuclei, classical or a module:function to import",
            found=f"'{name}': {error}",
            action="install the package that is missing, or put the module's folder on PYTHONPATH",
        ) from error

    alone = threading.Lock()

    def checked(image: NDArray[Any], diameter: float | None) -> NDArray[np.int32]:
        with alone:
            labels = np.asarray(find(image, diameter))
        whole = np.issubdtype(labels.dtype, np.integer)
        if labels.shape != image.shape or not whole or labels.min(initial=0) < 0:
            raise InputError(
                required=f"labels of shape {image.shape}, whole numbers from 0, from {name}",
                found=f"{labels.dtype} of shape {labels.shape}, lowest {labels.min(initial=0)}",
                action=f"correct {name}: docs/segmentation.md",
            )
        return relabel_sequential(labels)[0].astype(np.int32)

    return checked
