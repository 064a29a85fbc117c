"""The commands of `line-monitor`: each module has `add_arguments(parser)` and `run(options)`.

The modules import OpenCV, torch, the MQTT client and the like in functions, so that `--help` does not wait.
"""
