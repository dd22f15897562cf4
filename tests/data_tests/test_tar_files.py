"""Unpacking, with Python's own filter and without it (Python before 3.11.4)."""

import io
import tarfile
from pathlib import Path

import pytest

from harness.data.fetch.tar_files import extract_all


def archive(*members: tuple[str, bytes, str]) -> tarfile.TarFile:
    """A tar file of (name, type, link name)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o4755
            content = b"hello" if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return tarfile.open(fileobj=buffer)


@pytest.fixture(params=["own", "without"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With Python's filter, and as if this Python had none."""
    if request.param == "without":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        monkeypatch.setattr(
            tarfile.TarFile, "extraction_filter", staticmethod(lambda member, path: member), raising=False
        )
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no tarfile.data_filter")
    return str(request.param)


def test_files_folders_and_inner_links_are_unpacked(python: str, tmp_path: Path) -> None:
    tar = archive(("a/b", tarfile.DIRTYPE, ""), ("a/b/c.txt", tarfile.REGTYPE, ""), ("a/d", tarfile.SYMTYPE, "b/c.txt"))
    extract_all(tar, tmp_path / "out")
    assert (tmp_path / "out/a/b/c.txt").read_bytes() == b"hello"
    assert (tmp_path / "out/a/d").read_bytes() == b"hello"
    assert (tmp_path / "out/a/b/c.txt").stat().st_mode & 0o7000 == 0  # no set-user-id bit


@pytest.mark.parametrize(
    "name, kind, link",
    [
        ("../out.txt", tarfile.REGTYPE, ""),
        ("a/../../out.txt", tarfile.REGTYPE, ""),
        ("a/link", tarfile.SYMTYPE, "../../out.txt"),
        ("a/link", tarfile.SYMTYPE, "/etc/passwd"),
        ("link", tarfile.LNKTYPE, "../out.txt"),
        ("pipe", tarfile.FIFOTYPE, ""),
    ],
)
def test_what_reaches_outside_is_refused(name: str, kind: bytes, link: str, python: str, tmp_path: Path) -> None:
    with pytest.raises(tarfile.TarError):
        extract_all(archive(("ok.txt", tarfile.REGTYPE, ""), (name, kind, link)), tmp_path / "out")
    assert not (tmp_path / "out.txt").exists()
