"""The commands of `line-monitor`, one module each, with `add_arguments(parser)` and `run(options)`."""
