"""p(x | z) as probability mass over grey levels: one family per file, one unit for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vae_sci.errors import SettingsError
from vae_sci.likelihoods.base import LevelDistribution, Likelihood, bits_per_pixel
from vae_sci.likelihoods.gaussian_fixed import GaussianFixed
from vae_sci.likelihoods.grey_levels import GreyLevels, detect_grey_levels
from vae_sci.likelihoods.logistic_mixture import LogisticMixtureLikelihood

__all__ = [
    "LIKELIHOODS",
    "GreyLevels",
    "LevelDistribution",
    "Likelihood",
    "bits_per_pixel",
    "detect_grey_levels",
    "make_likelihood",
]

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian_fixed": GaussianFixed,
    "logistic_mixture": LogisticMixtureLikelihood,
}


def make_likelihood(
    name: str,
    grey_levels: GreyLevels,
    centre: Sequence[float],
    scale: Sequence[float],
    **options: Any,
) -> Likelihood:
    """The likelihood called `name` in the settings; see `Likelihood` for the other arguments.

    Options: ``sigma`` for gaussian_fixed, ``components`` for logistic_mixture.

    Raises
    ------
    SettingsError : there is no such likelihood, or an option is out of range.
    """
    if name not in LIKELIHOODS:
        raise SettingsError(
            required=f"a likelihood, one of {', '.join(LIKELIHOODS)}",
            found=repr(name),
            action="correct the likelihood in the model's settings",
        )
    return LIKELIHOODS[name](grey_levels, centre, scale, **options)
