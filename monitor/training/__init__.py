"""Good images to recipe."""
