"""Scoring images with a recipe on this machine's CPU or GPU."""
