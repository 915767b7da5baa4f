"""Files that commands write."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from assay.cli.session import Session
from assay.files import replace_file
from assay.rendering.text import size


def save_download(session: Session, path: Path, write: Callable[[BinaryIO], None]) -> int:
    """Write a file, in place of an older one, say so, and return its size in bytes.

    Raises RequestRefused where it cannot be written, and what ``write`` raises.
    """
    written = replace_file(path, write)
    session.say(f"{path}: {size(written)}")
    return written
