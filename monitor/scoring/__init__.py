"""Ring to score."""
