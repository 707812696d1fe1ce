"""What the theory says of such a model, measured on every one: a figure, never an impression."""
