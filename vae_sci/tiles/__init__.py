"""Fields → tiles: segment, crop, store, ledger, split; or stacks of cells already cropped."""
