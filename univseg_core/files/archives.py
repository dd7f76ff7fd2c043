"""Which files are archives, that somebody has to unpack."""

from pathlib import Path
import zipfile

ENDINGS = ('.7z', '.bz2', '.gz', '.rar', '.tar', '.tgz', '.xz', '.zip', '.zst')


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive, by its ending or as a zip by its content."""
    return path.is_file() and (path.suffix.lower() in ENDINGS or zipfile.is_zipfile(path))
