"""Files that are whole or not there, and logs that survive a cut."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from harness.disk import append_line, read_lines, read_mapping, write_atomically, write_json, write_together
from harness.errors import TrialError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_with_small_files(code: str, folder: Path, limit: int) -> list[str]:
    """Run code in a process whose files may grow to `limit` bytes, as on a full disk; the lines that it printed."""
    preamble = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    result = subprocess.run(
        [sys.executable, "-c", preamble + dedent(code)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["file.bin"]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    code = """
        from pathlib import Path
        from harness.errors import TrialError
        from harness.disk import write_atomically
        try:
            write_atomically(Path("file.bin"), b"x" * 100_000)
        except TrialError as error:
            print(error.reason)
            print(error)
    """
    lines = run_with_small_files(code, tmp_path, limit=4096)
    assert lines == ["disk", "file.bin: cannot be written: File too large"]
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_a_failing_rename_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def refuse(source: object, target: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(TrialError, match=r"file\.bin: cannot be written: Permission denied") as caught:
        write_atomically(path, b"new")
    assert caught.value.reason == "disk"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "file.bin").write_bytes(b"old")
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # nobody: root may write into a read-only folder
        with pytest.raises(TrialError, match="Permission denied"):
            write_atomically(folder / "file.bin", b"new")
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(stat.S_IRWXU)
    assert (folder / "file.bin").read_bytes() == b"old"
    assert names(folder) == ["file.bin"]


@pytest.mark.parametrize("write", [lambda path: write_atomically(path, b"x"), lambda path: append_line(path, {})])
def test_a_folder_that_is_a_file(tmp_path: Path, write: object) -> None:
    (tmp_path / "taken").write_bytes(b"old")
    assert callable(write)
    with pytest.raises(TrialError, match="cannot be written: ") as caught:
        write(tmp_path / "taken" / "file.bin")
    assert caught.value.reason == "disk"
    assert (tmp_path / "taken").read_bytes() == b"old"


def test_files_written_together_are_on_the_disk_before_one_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut leaves cannot be tried, but the order in which the system is asked can."""
    (tmp_path / "log").write_bytes(b"log")
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        done.append(("sync", name if name[0] != "." else name.split(".")[1] + ", not whole"))
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        done.append(("name", target.name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    first, last = tmp_path / "first", tmp_path / "last"
    write_together({first: b"1", last: b"2"}, sync=[first, last, tmp_path / "log"])
    assert sorted(done[:3]) == [("sync", name) for name in ("first, not whole", "last, not whole", "log")]
    assert done[3:] == [("name", "first"), ("name", "last")]
    assert names(tmp_path) == ["first", "last", "log"] and last.read_bytes() == b"2"


def test_a_file_that_cannot_be_synced_gives_none_of_them_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(TrialError, match="No space left on device") as caught:
        write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"}, sync=[tmp_path / "a", tmp_path / "b"])
    assert caught.value.reason == "disk" and names(tmp_path) == []


def test_json_keeps_the_order_of_its_keys_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    content = {"zebra": 1, "ant": {"é": [1.5, None]}}
    write_json(path, content)
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["zebra", "ant"]
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert "é" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == content


def test_lines_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    assert read_lines(path) == []
    entries = [{"epoch": 1, "text": "zwei\nZeilen"}, {"epoch": 2, "text": "é"}]
    for entry in entries:
        append_line(path, entry)
    assert read_lines(path) == entries
    assert len(path.read_bytes().splitlines()) == 2


def test_a_cut_last_line_is_left_out_and_written_over(tmp_path: Path) -> None:
    """Whatever byte a kill or a full disk cuts it at: in the middle of a character, or just before the line end."""
    path = tmp_path / "log.jsonl"
    line = json.dumps({"text": "éé", "n": 3}, ensure_ascii=False).encode()
    for size in range(1, len(line) + 1):
        path.write_bytes(b'{"n": 1}\n' + line[:size])
        assert read_lines(path) == [{"n": 1}], size
        append_line(path, {"n": 2})
        assert read_lines(path) == [{"n": 1}, {"n": 2}], size


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for broken in (b"{cut", b"\xff\xfe", b""):
        path.write_bytes(b'{"n": 1}\n' + broken + b'\n{"n": 2}\n')
        with pytest.raises(TrialError, match=r"log\.jsonl:2: not a JSON line"):
            read_lines(path)


def test_appending_on_a_full_disk_and_again_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = """
        from pathlib import Path
        from harness.errors import TrialError
        from harness.disk import append_line
        try:
            for number in range(100):
                append_line(Path("log.jsonl"), {"number": number, "text": "x" * 100})
        except TrialError as error:
            print(error.reason)
            print(error)
    """
    assert run_with_small_files(code, tmp_path, 1000) == ["disk", "log.jsonl: cannot be written: File too large"]
    assert path.stat().st_size == 1000  # it ends in the middle of a line
    append_line(path, {"number": "last"})
    assert [entry["number"] for entry in read_lines(path)] == [*range(7), "last"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        ("[1]", "no mapping"),
        ("{", "Expecting"),
        ("[" * 100_000, "recursion"),
        (b"\xff", "decode"),
    ],
)
def test_what_is_no_mapping_is_one_line(content: str | bytes | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=told) as caught:
        read_mapping(path)
    assert str(caught.value) and "\n" not in str(caught.value)
    path.write_text('{"a": [1]}', encoding="utf-8")
    assert read_mapping(path) == {"a": [1]}
