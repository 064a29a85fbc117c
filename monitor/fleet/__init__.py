"""Many lines and many recipes: training and rescoring on a Ray cluster, comparison, and the state of all
lines.

It knows nothing of frames on a line: no worker of a line imports this room. Ray, pyarrow, DuckDB and rich
belong to the extra `fleet` and are imported only where they are used.
"""
