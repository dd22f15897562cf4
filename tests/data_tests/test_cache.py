"""Files appear whole or not at all; hashes that differ are refused unless that is asked for."""

import os
from pathlib import Path

import pytest

from harness.data import cache
from harness.data.cache import (
    data_cache,
    has_record,
    read_record,
    remove_abandoned,
    sha256_file,
    staging_file,
    staging_folder,
    verify_sha256,
    write_record,
)
from harness.data.errors import DataError

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", "/somewhere")
    assert data_cache() == Path("/somewhere")
    monkeypatch.delenv("HARNESS_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert data_cache() == Path("/xdg/harness/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_cache() == Path.home() / ".cache/harness/data"


def test_hash_mismatch_names_file_and_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "thing.deb"
    path.write_bytes(b"abc")
    assert sha256_file(path) == SHA256_OF_ABC
    assert verify_sha256(path, SHA256_OF_ABC, allow_other_version=False) == SHA256_OF_ABC
    expected = "0" * 64
    with pytest.raises(DataError, match=rf"thing\.deb: sha256 expected {expected}, got {SHA256_OF_ABC}.*--allow-other"):
        verify_sha256(path, expected, allow_other_version=False)
    assert verify_sha256(path, expected, allow_other_version=True) == SHA256_OF_ABC


def test_staged_folder_appears_only_when_complete(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    with pytest.raises(RuntimeError, match="killed"), staging_folder(final) as staging:
        (staging / "half").write_text("x")
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []
    with staging_folder(final) as staging:
        (staging / "whole").write_text("x")
        assert not final.exists()
        write_record(staging, {"archives": {}})
    assert has_record(final)
    assert sorted(p.name for p in final.iterdir()) == ["fetched.json", "whole"]


def test_second_fetch_keeps_the_first(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    for name in ("first", "second"):
        with staging_folder(final) as staging:
            write_record(staging, {"name": name})
    assert read_record(final) == {"name": "first"}
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]


def test_folder_without_a_record_is_replaced(tmp_path: Path) -> None:
    final = tmp_path / "corpus"
    final.mkdir()
    (final / "left over").write_text("x")
    assert read_record(final) is None
    with staging_folder(final) as staging:
        write_record(staging, {"name": "new"})
    assert [p.name for p in final.iterdir()] == ["fetched.json"]


def test_abandoned_staging_is_removed_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / ".corpus-left"
    left.mkdir()
    os.utime(left, (0, 0))  # as unpacking a package does: the folder of a running fetch may look decades old
    with staging_folder(tmp_path / "corpus") as staging:
        write_record(staging, {})
    assert left.exists()
    monkeypatch.setattr(cache, "ABANDONED_AFTER_S", -1.0)
    remove_abandoned(tmp_path, ".corpus-")
    assert not left.exists()
    assert (tmp_path / "corpus").exists()


def test_staged_file_appears_only_when_complete(tmp_path: Path) -> None:
    final = tmp_path / "folder" / "features.safetensors"
    with pytest.raises(RuntimeError), staging_file(final) as path:
        path.write_text("half")
        raise RuntimeError("killed")
    assert list(final.parent.iterdir()) == []
    with staging_file(final) as path:
        assert path.suffix == ".safetensors"
        path.write_text("whole")
    assert [p.name for p in final.parent.iterdir()] == ["features.safetensors"]
