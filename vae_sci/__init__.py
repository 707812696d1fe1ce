"""From plates of microscope images, without labels, to latent phenotypes."""

__version__ = "0.1.0"
