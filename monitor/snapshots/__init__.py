"""Verdict to picture, for the operator."""
