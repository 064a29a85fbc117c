"""The operators' page: what was rejected, was it right, how is the line, and what to do about overkill.

Server-rendered, in a process of its own that reads the snapshot folder, the rings and the board. It must
never write into a ring or onto another's record, hold a slot's lease, or be waited for by anything on the way
of a frame: the line runs the same whether this process is idle, overrun or dead. What it writes is labels,
beside their snapshots, and recipes that a person has accepted.
"""
