"""A real PostgreSQL for tests: a private server in a temporary folder, with a password, gone when the tests end."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_S = 60


def find_programs() -> Path | None:
    """The folder of `initdb` and `postgres`: Debian's newest version, or what is on PATH."""
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def server_user() -> dict[str, Any]:
    """Options of `subprocess` that run a program as somebody whom PostgreSQL serves: it refuses root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL (`postgresql+psycopg://...`) of a server of this session's own; without one the test is skipped."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (on Debian: apt-get install postgresql)")
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'psycopg[binary]')")
    # Not pytest's own folder: the server's user could not enter it, and a socket's path must be short.
    root = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
    user = server_user()
    password, port = secrets.token_hex(8), free_port()
    (root / "password").write_text(password, encoding="utf-8")
    if user:
        for path in (root, root / "password"):
            os.chown(path, user["user"], user["group"])
    initdb = [f"{programs}/initdb", "-D", f"{root}/data", "-U", "harness", "--pwfile", f"{root}/password", "--no-sync"]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    made = subprocess.run(initdb, cwd=root, capture_output=True, text=True, timeout=120, **user)
    assert made.returncode == 0, made.stderr
    options = ["-k", str(root), "-h", "127.0.0.1", "-p", str(port), "-c", "fsync=off"]
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(
            [f"{programs}/postgres", "-D", f"{root}/data", *options], cwd=root, stdout=log, stderr=log, **user
        )
        try:
            wait_for(psycopg, server, f"host=127.0.0.1 port={port} user=harness password={password} dbname=postgres")
            yield f"postgresql+psycopg://harness:{password}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            shutil.rmtree(root)


def wait_for(psycopg: Any, server: subprocess.Popen[Any], conninfo: str) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(conninfo).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.05)


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """The URL of a new, empty database on that server."""
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    base, _, _ = postgres_url.rpartition("/")
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{base}/{name}"
