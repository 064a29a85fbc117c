"""`line-monitor bench`: measures this machine with the same code that a line runs."""
