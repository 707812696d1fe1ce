"""From tiles and a trained model to tables of embeddings and generated images."""
