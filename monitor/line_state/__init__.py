"""The shared memory of a running line and the rules over it."""
