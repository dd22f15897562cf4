"""What records and their readers do to files, on a real NFS (tests/nfs.py): names, replaced and removed files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from nfs import MOUNTS, Guest
from tiny_text import TinyText

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
EVERYWHERE = pytest.mark.parametrize("mount", MOUNTS, ids=["4.2", "3"])

NAMES = """
import os, sys
from pathlib import Path
from harness.disk import name_new, sync_files, write_json, write_together
from harness.disk.temporary import drop_left_over, temporary_beside

folder = Path(sys.argv[1])
for name in ("é" * 100 + "ü.json", "x" * 250 + ".json", "two words, a comma.json"):
    write_json(folder / name, {"name": name})
    write_json(folder / name, {"name": name, "again": True})
    write_together({folder / "other": b"1", folder / name: b'{"again": 2}'}, sync=[folder / "other", folder / name])
new = temporary_beside(folder / "claimed")
new.write_text("mine")
try:
    name_new(new, folder / "claimed")
    print("claimed")
except FileExistsError:
    print("taken")
new.unlink()
drop_left_over(folder)
print(sorted(os.listdir(folder)))
"""


@pytest.mark.chaos
@EVERYWHERE
def test_names_long_and_accented_and_links(mount: str, nfs: Guest) -> None:
    told = [nfs.python(machine, NAMES, f"{mount}/names{mount[-1]}").finish() for machine in ("a", "b")]
    assert [done.stderr for done in told] == ["", ""]
    (first, one), (second, other) = (done.stdout.splitlines() for done in told)
    assert (first, second) == ("claimed", "taken") and one == other and one.count("json") == 3


REPLACED = """
import os, sys, time
from pathlib import Path
from harness.disk.network import read_whole
from harness.records.files import FolderFiles

folder = Path(sys.argv[1])
contents, deadline = set(), time.monotonic() + 4
while time.monotonic() < deadline:
    content = FolderFiles(str(folder)).read("changing") if len(sys.argv) == 2 else read_whole(folder / "changing")
    contents.add((len(content), len(set(content))))
print(contents <= {(200_000, 1), (300_000, 1)} and len(contents))
"""
REPLACING = """
import sys, time
from pathlib import Path
from harness.disk import write_atomically

path = Path(sys.argv[1]) / "changing"
deadline = time.monotonic() + float(sys.argv[2])
number = 0
while time.monotonic() < deadline:
    write_atomically(path, b"ab"[number % 2 : number % 2 + 1] * (200_000 + 100_000 * (number % 2)))
    number += 1
print(number)
"""


@pytest.mark.chaos
@EVERYWHERE
def test_a_file_that_is_replaced_while_another_machine_reads_it(mount: str, nfs: Guest) -> None:
    """Each reading gives the one content or the other, whole, and none ends with "stale file handle".

    By NFS 4.2 a reader that opens the file again and again may keep to the old content for seconds.
    """
    folder = f"{mount}/replaced{mount[-1]}"
    assert nfs.python("a", REPLACING, folder, "0.1").finish().returncode == 0
    readers = [nfs.python("b", REPLACED, folder), nfs.python("b", REPLACED, folder, "whole")]
    assert int(nfs.python("a", REPLACING, folder, "5").finish().stdout) > 10
    for reader in readers:
        done = reader.finish()
        assert done.stdout.strip() in (("2",) if mount == "/nfs3" else ("1", "2")) and done.stderr == ""


OPENED = """
import os, sys
from pathlib import Path
from harness.disk.temporary import drop_left_over
from harness.records.leases import holder, lease_files, take
from harness.records.left_over import drop_all_left_over
from harness.records.store import RecordStore

results = Path(sys.argv[1])
folder = results / "records" / "t"
lease = take(folder)
with open(folder / "summary.json", "w+") as file:
    (folder / "summary.json").unlink()  # the client keeps it, as .nfs and a number, until it is closed
    with open(lease.path) as opened:
        lease.release()
        hidden = [name for name in os.listdir(folder) if name.startswith(".nfs")]
        drop_left_over(folder)
        drop_all_left_over(results)
        store = RecordStore(results.parent, results.name)
        again = take(folder)
        print(len(hidden), holder(folder).pid == os.getpid(), len(lease_files(folder)), store.finished(), again.deaths)
        again.release()
print(os.listdir(folder))
"""


@EVERYWHERE
def test_files_that_are_taken_away_while_they_are_open(mount: str, nfs: Guest) -> None:
    done = nfs.python("a", OPENED, f"{mount}/opened{mount[-1]}").finish()
    assert (done.stdout.splitlines(), done.stderr) == (["2 True 1 [] 0", "[]"], "")


@pytest.mark.parametrize("export", ["readonly", "squashed"])
def test_an_export_that_may_not_be_written_to_is_one_line(
    export: str, nfs: Guest, tiny_text_files: TinyText, tmp_path: Path
) -> None:
    """Read-only, and one whose server takes the rights of the machine's root away."""
    path = tiny_text_files.write_experiment(tmp_path / "tiny.yaml")
    command = [sys.executable, "-m", "harness", "run", str(path), "--results", f"/nfs/{export}/r"]
    done = nfs.begin("a", *command, cwd=str(tmp_path), **tiny_text_files.env).finish()
    assert done.returncode == 2, done
    assert done.stderr == f"harness: /nfs/{export}: may not be written, so give another folder with --results\n"
    assert nfs.run("", "ls", "-A", f"/export/{export}") == ""
