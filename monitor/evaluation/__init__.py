"""Labelled images to figures."""
