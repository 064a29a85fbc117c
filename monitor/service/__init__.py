"""Starts, restarts and measures the worker processes."""
