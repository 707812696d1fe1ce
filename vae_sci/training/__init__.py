"""From stores of tiles to a trained model."""
