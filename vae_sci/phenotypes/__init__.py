"""Embeddings → phenotypes: normalise z, find its clusters, draw its map, table the treatments."""
