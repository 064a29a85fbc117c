"""What the program needs from the machine: files, clocks, logs, memory, systemd."""
