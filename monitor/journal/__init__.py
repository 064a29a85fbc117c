"""What became of each verdict, and every change of a setting, on disk."""
