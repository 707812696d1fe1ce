"""Raw images: file names, platemaps, TIFF readers, image quality, the index of a plate."""
