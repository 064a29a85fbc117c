"""Score to verdict to gateway."""
