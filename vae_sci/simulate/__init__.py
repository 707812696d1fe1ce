"""A virtual screen with known truth: cells, organelles, optics, camera, plate effects, doses."""
