"""Settings files that come with the program; in a wheel this folder is `monitor.config`."""
