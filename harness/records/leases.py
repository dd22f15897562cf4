"""Leases: who trains what, said by a file beside the record; they hold on one machine and on any shared folder.

A lease is the file `.lease.N` with the highest N in a folder. It is linked to its name, so one process gets it, on a
network file system too. It names its holder, and its time of change says when the holder last renewed it:

    .lease.1  its holder dies, renewals stop  -->  .lease.2 is made by one of those who want it, and .lease.1 goes

A holder on this machine is gone when its process is (pid and start time: a recycled pid is another process). Any other
is gone when it has missed three renewals, told by the folder's own clock: the time of change of a file just written
there. A thread renews what its process holds, so a lease says that a process lives, however long an epoch takes (the
log says how far it is); each write to a record renews its lease, too, or finds it lost.

Losing one harms nothing: two workers on one trial compute the same bytes, and who finds its file gone, or a higher one,
writes no more. N - 1 holders died before the present one.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.disk import name_new
from harness.disk.network import STALE, exists_now
from harness.disk.process_identity import start_of, this_process
from harness.disk.temporary import temporary_beside
from harness.errors import Passing, TrialError, UserError

NAME = "lease"
RENEWALS = 3  # so many may be missed
LEASE_S = 120.0  # how long a lease lasts without a renewal; $HARNESS_LEASE_S says otherwise


MAX_REFUSED = 20
NEW = ".new"  # the end of the name of a lease that is being made
RETRY_S = 0.1  # how often one that is waited for is tried


class LeaseLost(Passing):
    """Another process has taken the lease over, since this one was silent for too long: it must write no more."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file tells.

    Attributes:
        host, pid: of the process; "" and 0 while the file is just being written.
        alive: whether the process runs; None where it cannot be seen (another machine's, another container's).
        renewed: the last renewal, in seconds since the epoch, by the folder's clock.
        lease_s: how long it lasts without a renewal.
        deaths: how many holders before this one died.
        token: another one for each time that a lease is taken.
    """

    host: str
    pid: int
    alive: bool | None
    renewed: float
    lease_s: float
    deaths: int
    token: str = ""

    def is_same(self, other: Holder | None) -> bool:
        """Whether this is still the one that was read before."""
        return other is not None and other.token == self.token and bool(self.token or other.renewed == self.renewed)

    def is_gone(self, now: float) -> bool:
        """Whether it no longer holds the lease; `now` is a time by the folder's clock.

        A renewal far ahead is no sign of life: the clock was put back after the holder's death.
        """
        return abs(now - self.renewed) > self.lease_s if self.alive is None else not self.alive


class Lease:
    """A lease that this process holds, from `take` to `release`."""

    def __init__(self, folder: Path, name: str, generation: int) -> None:
        self.folder, self.name, self.generation = folder, name, generation
        self.path = folder / f".{name}.{generation}"
        self.token, self.lease_s = uuid.uuid4().hex, lease_seconds()

    @property
    def deaths(self) -> int:
        """How many holders before this one died."""
        return self.generation - 1

    def renew(self) -> None:
        """Say that this process is still at it.

        Raises:
            LeaseLost: another process has taken it over.
        """
        try:
            os.utime(self.path)  # unlike a rename, it never brings back what another process has taken away
            lost = exists_now(self.folder / f".{self.name}.{self.generation + 1}")
        except FileNotFoundError:
            lost = True
        except OSError:
            return  # the disk is away, say; what is written next tells
        if lost:
            raise LeaseLost(f"{self.path}: another process has taken it over")

    def release(self) -> None:
        """Let others have it. Of one that is lost, nothing is left to release."""
        _HELD.remove(self)
        with suppress(OSError):
            self.path.unlink()

    def make(self) -> None:
        """Make its file.

        Raises:
            FileExistsError: another process was faster.
        """
        content = json.dumps({**this_process(), "token": self.token, "lease_s": self.lease_s}).encode()
        _HELD.add(self)
        try:
            self._make(content)
        except BaseException:  # Ctrl-C, too: what nobody here knows of is not held
            _HELD.remove(self)
            raise

    def _make(self, content: bytes) -> None:
        new = self.folder / f".{self.name}.{self.token}{NEW}"
        try:
            new.write_bytes(content)
            name_new(new, self.path)  # with its content: of who is killed here, no file is left that does not say whose
        except OSError as error:
            if error.errno == STALE:  # over NFS: another machine has taken the new file away (`_drop_new`)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(new)) from error
            raise
        finally:
            with suppress(OSError):
                new.unlink()


def lease_seconds() -> float:
    """How long a lease that is taken now lasts without a renewal.

    Raises:
        UserError: $HARNESS_LEASE_S is no number of seconds.
    """
    given = os.environ.get("HARNESS_LEASE_S") or str(LEASE_S)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 1e6:
        raise UserError(f"HARNESS_LEASE_S: {given!r} is no number of seconds from 1 to 1000000")
    return seconds


def take(folder: Path, name: str = NAME) -> Lease | None:
    """Take the lease of a folder, which is made where it is missing; None while another holds it.

    Raises:
        TrialError: the folder cannot be written to (reason `disk`).
    """
    num_refused = 0
    try:
        while True:
            newest = _newest(folder, name)
            held = _read(folder, name, newest) if newest else None
            if held and not _is_gone(held, folder, name):
                return None
            lease = Lease(folder, name, newest + 1 if held else 1)
            try:
                lease.make()
            except FileExistsError:
                time.sleep(0.001)
                continue
            except PermissionError:  # over sshfs it may only mean that the file exists
                num_refused += 1
                if num_refused > MAX_REFUSED:
                    raise
                time.sleep(0.01)
                continue
            except FileNotFoundError:  # also where publishing has just taken the folder away
                folder.mkdir(parents=True, exist_ok=True)
                continue
            if _holds(lease, held):
                return lease
    except OSError as error:
        raise TrialError("disk", f"{folder}: cannot be written: {error.strerror}") from error


def _holds(lease: Lease, held: Holder | None) -> bool:
    """Whether a lease that was just made counts; then what others have left goes, and else the lease.

    Others may have taken it and let it go again since `held` was seen: only what still holds now counts.
    """
    folder, name = lease.folder, lease.name
    counts = False
    try:
        is_newest = _newest(folder, name) == lease.generation
        if is_newest and (held is None or held.is_same(_read(folder, name, held.deaths + 1))):
            for path in lease_files(folder, name) if held else ():
                if path != lease.path:
                    path.unlink(missing_ok=True)
            _drop_new(folder, name)
            counts = True
    finally:
        if not counts:
            lease.release()
    return counts


@contextmanager
def locked(folder: Path, name: str) -> Iterator[Lease]:
    """Hold the lease of a folder for a block of code, as soon as whoever has it lets it go.

    Raises:
        TrialError: the folder cannot be written to (reason `disk`).
    """
    while (lease := take(folder, name)) is None:
        time.sleep(RETRY_S)
    try:
        yield lease
    finally:
        lease.release()


def holder(folder: Path, name: str = NAME) -> Holder | None:
    """Who holds the lease of a folder, dead or alive; None when nobody does. Nothing is written."""
    newest = _newest(folder, name)
    return _read(folder, name, newest) if newest else None


def drop_dead_in(folder: Path, name: str = NAME, *, is_done: bool = False) -> None:
    """Take away what a dead holder left in a folder.

    Args:
        is_done: nobody will want this lease again; then one that is damaged, and does not tell whose it is, goes too.
    """
    with suppress(OSError):  # a folder that may not be written to keeps it, and it harms nobody
        _drop_new(folder, name)
        held = holder(folder, name)
        if held is not None and (_is_gone(held, folder, name) or (is_done and not held.token)):
            for generation in range(1, held.deaths + 2):  # not one that somebody has just made
                (folder / f".{name}.{generation}").unlink(missing_ok=True)


def _drop_new(folder: Path, name: str) -> None:
    """Take away what those have left who were killed while they made a lease; who is just making one makes it again."""
    for path in folder.glob(f".{name}.*{NEW}"):
        path.unlink(missing_ok=True)


def lease_files(folder: Path, name: str = NAME) -> list[Path]:
    """The files of a folder's lease."""
    return [path for path in folder.glob(f".{name}.*") if path.suffix[1:].isdecimal()]


def _newest(folder: Path, name: str) -> int:
    """The highest generation of a lease; 0 where there is none."""
    start = f".{name}."
    try:
        ends = [each.removeprefix(start) for each in os.listdir(folder) if each.startswith(start)]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return max((int(end) for end in ends if end.isascii() and end.isdigit()), default=0)


def _read(folder: Path, name: str, generation: int) -> Holder | None:
    """What a lease's file tells; None when it is gone. To open it makes a network file system ask its server anew."""
    try:
        with open(folder / f".{name}.{generation}", "rb", opener=_open_no_link) as file:
            renewed, text = os.fstat(file.fileno()).st_mtime, file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, STALE):  # the last: over NFS, another machine took it away just now
            return None
        raise
    try:
        told = json.loads(text)
        lease_s, pid, host, token = float(told["lease_s"]), int(told["pid"]), str(told["host"]), str(told["token"])
    except (ValueError, KeyError, TypeError):  # it is just being written, or was cut short: its time tells
        return Holder("", 0, None, renewed, LEASE_S, generation - 1)
    return Holder(host, pid, _is_alive(told), renewed, lease_s, generation - 1, token)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _is_alive(told: Mapping[str, Any]) -> bool | None:
    here = this_process()
    if any(told.get(key) != here[key] for key in ("host", "boot")):
        return None
    if (told["pid"], told.get("started")) == (here["pid"], here["started"]):
        return told.get("token") in _HELD
    return start_of(int(told["pid"])) == told.get("started")


def _is_gone(held: Holder, folder: Path, name: str) -> bool:
    """As `Holder.is_gone`, by the clock of the folder, in which a file is written where nothing else tells."""
    if held.alive is not None:
        return held.is_gone(held.renewed)
    path = temporary_beside(folder / name)
    try:
        path.write_bytes(b".")
        return held.is_gone(path.stat().st_mtime)
    except OSError as error:
        if error.errno in (errno.ENOENT, STALE):
            return False  # whoever took the file away (`TrialFolder.clear`) holds the lease
        raise
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


class _Held:
    """The leases of this process, and the thread that renews them."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __contains__(self, token: object) -> bool:
        return token in self._leases

    def add(self, lease: Lease) -> None:
        with self._lock:
            self._leases[lease.token] = lease
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._thread.start()

    def remove(self, lease: Lease) -> None:
        with self._lock:
            self._leases.pop(lease.token, None)

    def _renew(self) -> None:
        while True:
            time.sleep(lease_seconds() / RENEWALS)
            with self._lock:
                leases = [*self._leases.values()]
            for lease in leases:
                with suppress(LeaseLost):  # told to whoever writes to the record next
                    lease.renew()


_HELD = _Held()


def _forget() -> None:
    """A forked child holds nothing of what its parent holds."""
    global _HELD
    _HELD = _Held()


os.register_at_fork(after_in_child=_forget)
