"""Fetching without a network: what is asked of pip and apt, what happens when they fail, and unpacking."""

import io
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.data import DataError
from harness.data.cache import has_record, read_record
from harness.data.fetch import asterisk as asterisk_fetch
from harness.data.fetch.apt import download_package, unpack_deb_in_python
from harness.data.fetch.asterisk import fetch_asterisk
from harness.data.fetch.pip import PipArchive, download_archive, unpack

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ARCHIVE = PipArchive(package="thing", version="1.0", sha256=SHA256_OF_ABC, source=True)


def fake_pip(monkeypatch: pytest.MonkeyPatch, content: bytes | None, stderr: str = "") -> list[list[str]]:
    """Let pip "download" `content` (nothing when None), and return the list that its command lines end up in."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        calls.append(command)
        if content is not None:
            (Path(command[command.index("--dest") + 1]) / "thing-1.0.tar.gz").write_bytes(content)
        return SimpleNamespace(returncode=int(content is None), stderr=stderr, stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_pip_downloads_one_pinned_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, b"abc")
    path, digest = download_archive(ARCHIVE, tmp_path)
    assert path == tmp_path / "thing-1.0.tar.gz"
    assert path.read_bytes() == b"abc"
    assert digest == SHA256_OF_ABC
    assert calls[0][-1] == "thing==1.0"
    assert "--no-deps" in calls[0]
    assert calls[0][calls[0].index("--no-binary") + 1] == "thing"


def test_a_wheel_of_other_machines_can_be_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, b"abc")
    download_archive(PipArchive("thing", "1.0", SHA256_OF_ABC, platform="manylinux2014_x86_64"), tmp_path)
    options = calls[0][calls[0].index("--only-binary") :]
    assert options == ["--only-binary", ":all:", "--platform", "manylinux2014_x86_64", "thing==1.0"]


def test_other_contents_are_refused_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, b"abd")
    with pytest.raises(DataError, match=rf"thing-1\.0\.tar\.gz: sha256 expected {SHA256_OF_ABC}, got "):
        download_archive(ARCHIVE, tmp_path)
    assert list(tmp_path.iterdir()) == []
    path, _ = download_archive(ARCHIVE, tmp_path, allow_other_version=True)
    assert path.is_file()


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("WARNING: old\nERROR: No matching distribution\n", "failed: ERROR: No matching distribution"),
        ("/usr/bin/python: No module named pip\n", "this Python has no pip; run: .* -m ensurepip"),
        ("", "failed: exit code 1, 0 files"),
    ],
)
def test_pip_failures_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, message: str) -> None:
    fake_pip(monkeypatch, None, stderr)
    with pytest.raises(DataError, match=message) as caught:
        download_archive(ARCHIVE, tmp_path)
    assert "\n" not in str(caught.value)


def test_unpacking_refuses_paths_outside(tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar"
    with tarfile.open(bad, "w") as tar:
        member = tarfile.TarInfo("../outside.txt")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(DataError, match=r"bad\.tar: cannot be unpacked"):
        unpack(bad, tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()


def test_unpacking_damaged_archives(tmp_path: Path) -> None:
    for name in ("bad.tar.gz", "bad.whl"):
        (tmp_path / name).write_bytes(b"not an archive")
        with pytest.raises(DataError, match=f"{name}: cannot be unpacked"):
            unpack(tmp_path / name, tmp_path / "in")


def test_unpacking_a_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("a/data.csv", "x,y\n")
    unpack(tmp_path / "a.whl", tmp_path / "in")
    assert (tmp_path / "in/a/data.csv").read_text() == "x,y\n"


def make_deb(path: Path, files: dict[str, bytes], compression: str = "xz") -> Path:
    """Write a Debian package (an ar archive) that holds `files`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        f"data.tar.{compression}": buffer.getvalue(),
    }
    archive = b"!<arch>\n"
    for name, body in members.items():
        archive += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
        )
    path.write_bytes(archive)
    return path


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_debs_are_unpacked_without_dpkg(tmp_path: Path, compression: str) -> None:
    deb = make_deb(tmp_path / "a.deb", {"usr/share/x.txt": b"hello"}, compression)
    unpack_deb_in_python(deb, tmp_path / "in")
    assert (tmp_path / "in/usr/share/x.txt").read_bytes() == b"hello"


def test_damaged_debs(tmp_path: Path) -> None:
    bad = tmp_path / "bad.deb"
    bad.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad\.deb: not a Debian package"):
        unpack_deb_in_python(bad, tmp_path / "in")
    bad.write_bytes(b"!<arch>\n")
    with pytest.raises(DataError, match=r"bad\.deb: holds no data\.tar"):
        unpack_deb_in_python(bad, tmp_path / "in")


def test_without_apt_the_alternative_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DataError, match=r"needs apt-get .*synthetic corpus nanotts, or point HARNESS_ASTERISK_ROOT"):
        fetch_asterisk(tmp_path / "asterisk", languages=("it",))


def fake_apt(monkeypatch: pytest.MonkeyPatch, *, lists: bool, known: bool = True) -> list[list[str]]:
    """Let apt-get "download" a package; without `lists` only after an update. Returns its command lines."""
    calls: list[list[str]] = []

    def run(command: list[str], cwd: Path | None = None, **_: Any) -> SimpleNamespace:
        calls.append(command)
        if command[0] != "apt-get":
            return SimpleNamespace(returncode=0, stderr="")
        updated = any("update" in call for call in calls)
        if "download" in command and known and (lists or updated):
            assert cwd is not None
            make_deb(cwd / f"{command[-1]}_1.0_all.deb", {"x": command[-1].encode()})
            return SimpleNamespace(returncode=0, stderr="")
        return SimpleNamespace(returncode=100, stderr=f"E: Unable to locate package {command[-1]}\n")

    monkeypatch.setattr(shutil, "which", lambda name: name if name == "apt-get" else None)
    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_private_lists_are_fetched_only_where_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for lists, expected in ((True, ["download"]), (False, ["download", "update", "download"])):
        calls = fake_apt(monkeypatch, lists=lists)
        folder = tmp_path / str(lists)
        folder.mkdir()
        path, _ = download_package("thing", "", folder, hint="x", allow_other_version=True)
        assert path.name == "thing_1.0_all.deb"
        assert [next(word for word in call if word in ("download", "update")) for call in calls] == expected
    assert any(f"Dir::State={folder / 'apt-state'}" in word for word in calls[-1])


def test_unknown_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(monkeypatch, lists=True, known=False)
    with pytest.raises(DataError, match="apt-get download thing failed: E: Unable to locate package thing; use the"):
        download_package("thing", "", tmp_path, hint="x", allow_other_version=False)


def test_another_release_needs_consent_and_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(monkeypatch, lists=True)
    folder = tmp_path / "asterisk"
    with pytest.raises(
        DataError, match=r"asterisk-core-sounds-it_1\.0_all\.deb: sha256 expected .*--allow-other-version"
    ):
        fetch_asterisk(folder, languages=("it",))
    assert list(folder.iterdir()) == []
    fetch_asterisk(folder, languages=("it",), allow_other_version=True)
    record = read_record(folder / "it")
    assert record is not None
    assert record["other_version"] is True
    assert set(record["archives"]) == {"asterisk-core-sounds-it", "asterisk-core-sounds-it-wav"}


def test_fetch_goes_on_with_the_missing_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_apt(monkeypatch, lists=True)
    folder = tmp_path / "asterisk"
    fetch_asterisk(folder, languages=("it",), allow_other_version=True)
    calls.clear()
    fetch_asterisk(folder, languages=("it", "ru"), allow_other_version=True)
    assert {call[-1] for call in calls} == {"asterisk-core-sounds-ru", "asterisk-core-sounds-ru-wav"}
    assert has_record(folder / "ru")


def test_unknown_language(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="asterisk has no language 'xx'; choices: en, es, fr, it, ru"):
        fetch_asterisk(tmp_path, languages=("xx",))


def test_every_package_has_a_hash() -> None:
    for language in asterisk_fetch.LANGUAGES:
        for suffix in ("", "-wav"):
            assert len(asterisk_fetch.SHA256[f"asterisk-core-sounds-{language}{suffix}"]) == 64
