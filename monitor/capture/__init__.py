"""Camera to ring."""
