"""Names that come from elsewhere, as places below a folder: of a hub's files, archives' members."""

from __future__ import annotations

from pathlib import PurePosixPath

_LONGEST_PART = (
    200  # bytes; a file system takes 255, and a file that is not whole has a longer name
)
_LONGEST = 500
# What the project calls files of its own beside the one that is fetched.
_OURS = (".partial", ".edition", ".lock")


def place_of(name: str) -> PurePosixPath | None:
    """Returns the path below a folder that a name means; None where it would be no file there.

    Refused are names that lead elsewhere, that differ between systems, that cannot be shown in a
    line (control and other invisible characters, halves of surrogate pairs), that are too long,
    and those that unfinished files have here.
    """
    place = PurePosixPath(name)
    if not name.isprintable() or "\\" in name or ":" in name:
        return None
    if place.is_absolute() or ".." in place.parts or not place.parts:
        return None
    is_long = len(name.encode()) > _LONGEST
    if is_long or any(len(part.encode()) > _LONGEST_PART for part in place.parts):
        return None
    return None if place.name.endswith(_OURS) else place
