"""The entries of a directory on the disk, which a sync of the files in it leaves out."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """What was made or renamed in a directory stays so when the power goes."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
