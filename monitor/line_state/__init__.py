"""The shared memory of a running line: rings, board and latch, and the rules over them."""
