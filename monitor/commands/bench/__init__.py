"""The `bench` command: what this machine can do, measured by the very code that a line runs."""
