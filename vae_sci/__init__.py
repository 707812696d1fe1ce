"""From plates of microscope images, without labels, to latent phenotypes."""

from vae_sci.results import open_results

__all__ = ["open_results"]
__version__ = "0.1.0"
