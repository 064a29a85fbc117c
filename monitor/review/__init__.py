"""The operators' page: rejected parts and their labels, the line's state, and a new threshold after overkill.

It knows nothing of how frames are judged: it reads the snapshot folder, the rings and the board, in a process
of its own. The process must never write into a ring or into another worker's record, or hold a ring's slot.
Nothing on a frame's way may wait for it: the line runs the same whether this process is idle, overloaded or
dead. It writes only labels, beside their snapshots, and recipes that a person has accepted.
"""
