"""`python -m vae_sci` is `vae-sci`."""

from vae_sci.cli import main

main()
