"""The memory of good features: how far each place of an image is from everything that good images showed."""
