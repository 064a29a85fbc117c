"""The record on disk of every verdict's outcome and of every change of a setting."""
