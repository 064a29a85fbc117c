"""Measures a recipe on labelled images."""
