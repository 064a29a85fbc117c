"""A recipe at work on this machine."""
