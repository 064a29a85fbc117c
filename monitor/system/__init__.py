"""The machine below: files, clocks, logs, memory, systemd."""
