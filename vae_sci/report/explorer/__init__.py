"""The explorer: a folder with a page that shows the map of cells, opened from disk or a server."""
