"""Capture: from a camera to the frames in its ring."""
