"""The networks that teach."""
