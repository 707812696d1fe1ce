"""p(x | z) as probability mass over grey levels: one family per file, one unit for all."""

from __future__ import annotations

from collections.abc import Sequence

from vae_sci.config import LikelihoodSettings
from vae_sci.errors import SettingsError
from vae_sci.likelihoods.base import LevelDistribution, Likelihood, bits_per_pixel
from vae_sci.likelihoods.camera import Camera
from vae_sci.likelihoods.gaussian import Gaussian
from vae_sci.likelihoods.gaussian_fixed import GaussianFixed
from vae_sci.likelihoods.grey_levels import GreyLevels, detect_grey_levels
from vae_sci.likelihoods.laplace import Laplace
from vae_sci.likelihoods.light import Light
from vae_sci.likelihoods.logistic_mixture import LogisticMixtureLikelihood
from vae_sci.likelihoods.negative_binomial import NegativeBinomialLikelihood
from vae_sci.likelihoods.noise import CameraNoise
from vae_sci.likelihoods.poisson import Poisson

# Those that know the camera: they need its noise.
CAMERA_FAMILIES = ("poisson", "negative_binomial", "camera")

__all__ = [
    "CAMERA_FAMILIES",
    "CameraNoise",
    "GreyLevels",
    "LevelDistribution",
    "Light",
    "Likelihood",
    "bits_per_pixel",
    "detect_grey_levels",
    "make_likelihood",
]


def make_likelihood(
    settings: LikelihoodSettings,
    grey_levels: GreyLevels,
    centre: Sequence[float],
    scale: Sequence[float],
    noise: CameraNoise | None = None,
) -> Likelihood:
    """The likelihood that the settings name; see `Likelihood` for centre and scale.

    Raises
    ------
    SettingsError : the family needs the camera's noise, and `noise` is None.
    """
    channels = (grey_levels, centre, scale)
    match settings.name:
        case "gaussian_fixed":
            return GaussianFixed(*channels, sigma=settings.sigma)
        case "gaussian":
            return Gaussian(*channels)
        case "laplace":
            return Laplace(*channels)
        case "logistic_mixture":
            return LogisticMixtureLikelihood(*channels, settings.components, settings.coupling)
    if noise is None:
        raise SettingsError(
            required=f"the camera's noise for likelihood {settings.name}: gain, offset and read "
            "variance of every channel",
            found="no calibration",
            action="calibrate the camera, or choose a likelihood that needs none, such as "
            "logistic_mixture",
        )
    match settings.name:
        case "poisson":
            return Poisson(*channels, noise)
        case "negative_binomial":
            return NegativeBinomialLikelihood(*channels, noise)
        case "camera":
            return Camera(*channels, noise)
