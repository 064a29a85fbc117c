"""Whom a file belongs to that a command has made, where root has run the command.

It knows nothing of what is in the file.
"""

from __future__ import annotations

import os
from pathlib import Path


def give_to_folders_owner(made: Path | int, folder: Path) -> None:
    """Gives the file, the folder or the open file to the owner of `folder`, where this process runs as root:
    the service's user could else not read or write it. Raises OSError."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)
