"""Two machines share a folder over a real NFS (tests/nfs.py): its clients believe what they saw for up to a minute."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from nfs import MACHINES, MOUNTS, Command, Guest
from tiny_text import TinyText

from .conftest import TALLY, Victim, odd_lines, trials_of

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
EVERYWHERE = pytest.mark.parametrize("mount", MOUNTS, ids=["4.2", "3"])

# Claims trials as workers do, and leaves a file in each that it "finished"; what it does is printed as JSON lines.
CLAIM = """
import json, os, random, sys, tempfile, time
from pathlib import Path
from harness.records.trial_folder import TrialFolder

records, number, dies_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng, left, done = random.Random(os.getpid()), set(range(number)), 0
ready = Path(tempfile.gettempdir(), sys.argv[5])
ready.mkdir(exist_ok=True)
(ready / sys.argv[4]).touch()
while len(os.listdir(ready)) < 6:
    time.sleep(0.01)
while left:
    for trial in rng.sample(sorted(left), len(left)):
        folder = TrialFolder(records / f"t{trial}")
        if folder.is_finished():
            left.discard(trial)
            continue
        with folder.lock(wait=False) as held:
            if not held or folder.is_finished():
                continue
            if done == dies_at:
                os.kill(os.getpid(), 9)
            time.sleep(0.05)
            mine = os.open(folder.path / "mine", os.O_CREAT | os.O_EXCL)  # who finds it there holds it with another
            os.close(mine)
            folder.append_log({"epoch": 0})
            (folder.path / "new").write_text("{}")
            os.replace(folder.path / "new", folder.path / "summary.json")
            done += 1
            print(json.dumps([trial, folder.num_deaths]), flush=True)
"""
RIVAL = """
import os, sys, time
from pathlib import Path
from harness.records.leases import take

folder, won = Path(sys.argv[1]), 0
while won < 50:
    lease = take(folder)
    if lease is None:
        time.sleep(0.002)
        continue
    mine = os.open(folder / "mine", os.O_CREAT | os.O_EXCL)  # who finds it there holds the lease with another
    os.close(mine)
    os.unlink(folder / "mine")
    won += 1
    lease.release()
"""
HOLD = """
import sys, time
from pathlib import Path
from harness.records.leases import LeaseLost, take

lease = take(Path(sys.argv[1]))
print(lease is not None, flush=True)
open(sys.argv[2], "w").close()
deadline = time.monotonic() + float(sys.argv[3])
while time.monotonic() < deadline:
    time.sleep(0.2)
    try:
        lease.renew() if len(sys.argv) > 4 else None
    except LeaseLost:
        print("lost", flush=True)
        sys.exit()
"""
TRY = """
import sys, time
from pathlib import Path
from harness.records.leases import take

deadline = time.monotonic() + float(sys.argv[2])
began, num_tries = time.monotonic(), 0
while (lease := take(Path(sys.argv[1]))) is None and time.monotonic() < deadline:
    time.sleep(0.2)
    num_tries += 1
print("" if lease is None else f"{time.monotonic() - began:.1f} {lease.deaths}", num_tries)
"""


def here(path: str) -> str:
    """Where a path of a machine lies on the server's disk."""
    return path.replace("/nfs3", "/export").replace("/nfs", "/export")


def wait_for(guest: Guest, path: str) -> None:
    """Until a file is there."""
    guest.run("", "timeout", "30", "sh", "-c", f"until [ -e {here(path)} ]; do sleep 0.1; done")


@EVERYWHERE
def test_each_trial_is_claimed_by_one(mount: str, nfs: Guest) -> None:
    """Six processes, two of which die with a lease in hand: every trial is finished once."""
    records, number = f"{mount}/claims{mount[-1]}/records", 60
    deaths = {0: 1, 3: 2}
    commands = [
        nfs.python(
            *(MACHINES[n % 2], CLAIM, records, str(number), str(deaths.get(n, -1)), str(n), f"ready{mount[-1]}"),
            HARNESS_LEASE_S="6",
        )
        for n in range(6)
    ]
    won: list[int] = []
    for place, command in enumerate(commands):
        done = command.finish(120)
        assert done.returncode == (-signal.SIGKILL if place in deaths else 0), done.stderr
        won += [json.loads(line)[0] for line in done.stdout.splitlines()]
    assert sorted(won) == list(range(number))
    left = nfs.run("", "sh", "-c", f"cd {here(records)} && find . -name '.*' -type f").split()
    assert left == []


@EVERYWHERE
def test_rivals_for_one_lease(mount: str, nfs: Guest) -> None:
    """Four processes take one lease 50 times each: never two of them at once."""
    folder = f"{mount}/rivals{mount[-1]}"
    for command in [nfs.python(machine, RIVAL, folder) for machine in MACHINES * 2]:
        done = command.finish(120)
        assert (done.returncode, done.stderr) == (0, "")
    assert nfs.run("", "ls", "-A", here(folder)) == ""


@pytest.mark.chaos
@EVERYWHERE
def test_a_lease_of_another_machine_lasts_as_long_as_it_is_renewed(mount: str, nfs: Guest) -> None:
    """Attributes are believed for up to a minute, a lease lasts for 4 seconds: its renewals are seen all the same."""
    folder = f"{mount}/renewed{mount[-1]}"
    holder = nfs.python("a", HOLD, folder, f"{folder}_held", "1000", HARNESS_LEASE_S="4")
    wait_for(nfs, f"{folder}_held")
    others = [nfs.python("b", TRY, folder, "35", HARNESS_LEASE_S="4") for _ in range(2)]
    for other in others:
        done = other.finish()
        first, _, tries = done.stdout.rpartition(" ")
        assert (done.returncode, first) == (0, "") and int(tries) > 50, done
    late = nfs.python("b", TRY, folder, "30", HARNESS_LEASE_S="4")
    holder.kill()
    waited_s, deaths, _ = late.finish().stdout.split()
    assert float(waited_s) < 15 and int(deaths) == 1


@EVERYWHERE
def test_who_stood_still_learns_that_its_lease_is_lost(mount: str, nfs: Guest) -> None:
    folder = f"{mount}/lost{mount[-1]}"
    still = nfs.python("a", HOLD, folder, f"{folder}_held", "60", "renew", HARNESS_LEASE_S="4")
    wait_for(nfs, f"{folder}_held")
    still.kill(signal.SIGSTOP)
    other = nfs.python("b", TRY, folder, "30", HARNESS_LEASE_S="4").finish()
    assert other.stdout.split()[1] == "1", other
    still.kill(signal.SIGCONT)
    began = time.monotonic()
    assert still.finish().stdout.split() == ["True", "lost"] and time.monotonic() - began < 5


SEES = """
import os, sys, time
from pathlib import Path
from harness.records.trial_folder import TrialFolder

folder = TrialFolder(Path(sys.argv[1]) / "records" / "t")
assert not folder.is_finished() and folder.summary() is None
open(sys.argv[1] + "_looked", "w").close()
began = time.monotonic()
while not folder.is_finished():
    time.sleep(0.1)
print(time.time())
"""
FINISHES = """
import os, sys, time
from pathlib import Path

folder = Path(sys.argv[1]) / "records" / "t"
folder.mkdir(parents=True)
time.sleep(2)
(folder / "new").write_text("{}")
os.replace(folder / "new", folder / "summary.json")
print(time.time())
"""


@EVERYWHERE
def test_a_record_that_was_missing_is_seen_when_it_is_there(mount: str, nfs: Guest) -> None:
    """Clients believe for half a minute that a file is missing which they asked for before it was made."""
    folder = f"{mount}/seen{mount[-1]}"
    sees = nfs.python("b", SEES, folder)
    wait_for(nfs, f"{folder}_looked")
    written = float(nfs.python("a", FINISHES, folder).finish().stdout)
    assert float(sees.finish().stdout) - written < 3


APPEND = """
import sys
from pathlib import Path
from harness.disk import append_line

for number in range(100):
    append_line(Path(sys.argv[1]), {"who": sys.argv[2], "number": number, "and": "x" * (number % 50)})
"""


@EVERYWHERE
def test_lines_of_two_machines_in_one_file(mount: str, nfs: Guest) -> None:
    path = f"{mount}/lines{mount[-1]}.jsonl"
    for command in [nfs.python(machine, APPEND, path, f"{machine}{n}") for machine in MACHINES for n in range(2)]:
        assert command.finish().returncode == 0
    found = [json.loads(line) for line in nfs.run("", "cat", here(path)).splitlines()]
    assert Counter(line["who"] for line in found) == {"a0": 100, "a1": 100, "b0": 100, "b1": 100}


def sweeps(guest: Guest, victim: Victim, folder: str, **env: str) -> list[Command]:
    """Start the victim's command on both machines."""
    command = [sys.executable, "-m", "harness", *map(str, victim.command[:-1]), folder]
    return [guest.begin(name, *command, cwd=str(victim.path.parent), **env) for name in MACHINES]


def bring_home(guest: Guest, victim: Victim, folder: str) -> None:
    """Copy the results from the server's disk to where the victim's are looked for."""
    guest.run("", "cp", "-a", here(folder), "/exchange/results")
    guest.run("", "sync")
    victim.results.parent.mkdir()
    shutil.copytree(guest.exchange / "results" / victim.results.name, victim.results)
    shutil.rmtree(guest.exchange / "results")


@pytest.mark.chaos
@EVERYWHERE
def test_a_sweep_on_two_machines_whose_server_goes_away(
    mount: str, nfs: Guest, victim: Callable[..., Victim], tiny_text_files: TinyText
) -> None:
    """For ten seconds, while trials are trained; the cache of mapped rows is there, too. It ends as on a local disk."""
    sweep, folder, cache = victim("cut"), f"{mount}/sweep{mount[-1]}", f"{mount}/cache{mount[-1]}"
    nfs.run("", "cp", "-a", tiny_text_files.env["HARNESS_CACHE"], here(cache))
    env = {**tiny_text_files.env, "HARNESS_CACHE": cache, "WANDB_MODE": "disabled"}
    commands = sweeps(nfs, sweep, folder, **env)
    finished = f"{here(folder)}/chaos/search/*/summary.json"
    nfs.run(
        "", "timeout", "120", "sh", "-c", f"until [ $(ls {finished} 2>/dev/null | wc -l) -ge 2 ]; do sleep 0.2; done"
    )
    nfs.stop_server()
    time.sleep(10)
    assert not any(command.is_over() for command in commands)
    nfs.start_server()
    TALLY["NFS server stopped"] += 1
    for command in commands:
        done = command.finish(300)
        assert done.returncode == 0 and not odd_lines(done.stderr), done.stderr
    bring_home(nfs, sweep, folder)
    sweep.check()
    lines = (sweep.results / "starts.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted({json.loads(line)["record"] for line in lines}) == trials_of(sweep.results)
    rows = nfs.run("", "sh", "-c", f"ls {here(cache)}/prefix | grep -c rows").split()
    assert int(rows[0]) >= 2  # of each machine its own
