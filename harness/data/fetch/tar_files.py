"""Unpacking tar files that come from elsewhere: nothing lands outside the folder, on any Python 3.11 or newer.

Python's own `filter="data"` came with 3.11.4; Debian 12 ships 3.11.2, where the same refusals are made here.
"""

import tarfile
from pathlib import Path, PurePosixPath


def extract_all(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpack `tar` into `folder`.

    Raises tarfile.TarError for a member that reaches outside, or is neither a file, a folder nor a link.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    for member in tar.getmembers():
        check_member(member)
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    tar.extractall(folder)


def check_member(member: tarfile.TarInfo) -> None:
    """Refuse a member that could land, or point, outside the folder; raises tarfile.TarError."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise tarfile.TarError(f"{member.name!r} is neither a file, a folder nor a link")
    names = [PurePosixPath(member.name)]
    if member.issym():
        names.append(PurePosixPath(member.name).parent / member.linkname)
    elif member.islnk():
        names.append(PurePosixPath(member.linkname))
    for name in names:
        depth = 0
        for part in name.parts:
            depth += -1 if part == ".." else 0 if part in (".", "") else 1
            if depth < 0 or part == "/":
                raise tarfile.TarError(f"{member.name!r} reaches outside the folder")
