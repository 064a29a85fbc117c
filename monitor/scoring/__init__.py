"""Scoring: from the frames in the rings to their scores."""
