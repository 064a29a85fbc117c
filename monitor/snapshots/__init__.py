"""Snapshots: from a verdict to the pictures that operators review."""
