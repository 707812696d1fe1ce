"""The variational autoencoder: encoder, decoder, objective, and how it is stored."""
