"""Clusters that want a token, as `ray start --head` makes them where it finds one, and clusters that want none."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_text import RunCli, TinyText

from harness.launch import ray_token
from harness.launch.ray_token import MODE, TOKEN, TOKEN_PATH, make_own_token, token_place

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

Head = Callable[[Path], str]


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have set for their clusters is none of a new user's environment."""
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start_head() -> Iterator[Head]:
    """A function that has a user, by his home folder, start a head with one processor; returns its address."""
    started: list[subprocess.Popen[bytes]] = []
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # a short path: sockets lie there

    def start(home: Path) -> str:
        with socket.socket() as bound:
            bound.bind(("", 0))
            port = bound.getsockname()[1]
        options = ("--num-cpus=1", "--object-store-memory=100000000", "--include-dashboard=false")
        place = (f"--port={port}", f"--temp-dir={folder}", "--disable-usage-stats", "--block")
        with open(folder / "log", "wb") as log:
            command = [ray_program(), "start", "--head", *place, *options]
            started.append(subprocess.Popen(command, env=user(home), stdout=log, stderr=log))
        deadline = time.monotonic() + 120
        while b"Ray runtime started" not in (said := (folder / "log").read_bytes()):
            assert started[-1].poll() is None and time.monotonic() < deadline, said.decode()
            time.sleep(0.2)
        return f"127.0.0.1:{port}"

    yield start
    for head in started:
        head.terminate()  # it ends what it has started
        head.wait(60)
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def ray_program() -> str:
    return str(Path(sys.executable).with_name("ray"))


def user(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home)}


def processes_of(folder: Path) -> list[int]:
    """The processes that name a folder in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if bytes(folder) in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def homes(tmp_path: Path) -> Mapping[str, Path]:
    """Two users' home folders: one has made a token as Ray's documentation says, one has none."""
    homes = {name: tmp_path / name for name in ("with", "without")}
    for home in homes.values():
        home.mkdir()
    subprocess.run([ray_program(), "get-auth-token", "--generate"], env=user(homes["with"]), check=True, timeout=60)
    return homes


def run_of_one(files: TinyText, folder: Path, *overrides: str) -> tuple[str | Path, ...]:
    """The command that trains one trial on Ray."""
    options = ("--launcher", "ray", "--arm", "frozen", "--seed", "0")
    return ("run", files.experiment, "--results", folder / "r", *options, *overrides)


def refusal(run_cli: RunCli, run: tuple[str | Path, ...], env: Mapping[str, str]) -> str:
    """The one line by which a command is refused."""
    refused = run_cli(*run, env=env)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    return refused.stderr


def test_a_cluster_that_wants_a_token_is_joined_with_it_and_not_without(
    start_head: Head, homes: Mapping[str, Path], run_cli: RunCli, tiny_text_files: TinyText, tmp_path: Path
) -> None:
    address = start_head(homes["with"])
    run = run_of_one(tiny_text_files, tmp_path, f"launcher.address={address}")
    env = {**tiny_text_files.env, "HOME": str(homes["without"])}
    refused = refusal(run_cli, run, env)
    assert f"{address}: the cluster wants a token, and there is none here; copy ~/.ray/auth_token" in refused

    (tmp_path / "token").write_text("0" * 32, encoding="utf-8")
    refused = refusal(run_cli, run, {**env, TOKEN_PATH: str(tmp_path / "token")})
    assert f"{address}: the cluster wants another token than that of {tmp_path / 'token'}; copy" in refused

    refused = refusal(run_cli, run, {**env, MODE: "disabled"})
    assert f"wants a token, but {MODE} is 'disabled' here; unset it, or set it to token" in refused

    joined = run_cli(*run, env={**env, "HOME": str(homes["with"])}, timeout_s=300)
    assert joined.returncode == 0 and "InvalidAuthToken" not in joined.stderr, joined.stderr
    assert "[1/1] frozen/seed0" in joined.stdout


def test_a_cluster_that_wants_no_token_is_joined_by_who_has_one(
    start_head: Head, homes: Mapping[str, Path], run_cli: RunCli, tiny_text_files: TinyText, tmp_path: Path
) -> None:
    """Ray's own mode for tokens would have its workers die."""
    address = start_head(homes["without"])
    run = run_of_one(tiny_text_files, tmp_path, f"launcher.address={address}")
    env = {**tiny_text_files.env, "HOME": str(homes["with"])}
    refused = refusal(run_cli, run, {**env, MODE: "token"})
    assert f"was started without tokens, but {MODE} is 'token' here; unset it, or set it to disabled" in refused
    joined = run_cli(*run, env=env, timeout_s=300)
    assert joined.returncode == 0, joined.stderr
    assert "[1/1] frozen/seed0" in joined.stdout


def test_a_cluster_of_ones_own_leaves_no_token_in_the_home_folder(
    homes: Mapping[str, Path], run_cli: RunCli, tiny_text_files: TinyText, tmp_path: Path
) -> None:
    run = run_of_one(tiny_text_files, tmp_path)
    env = {**tiny_text_files.env, "HOME": str(homes["without"])}
    done = run_cli(*run, env=env, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert not (homes["without"] / ".ray" / "auth_token").exists()


def test_a_token_of_ones_own_is_made_where_the_user_gives_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_token, "read_environment_again", lambda: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_place() is None
    monkeypatch.setenv(TOKEN_PATH, str(tmp_path / "mine"))
    make_own_token()
    assert TOKEN not in os.environ and token_place() is None
    (tmp_path / "mine").touch()
    assert token_place() == str(tmp_path / "mine")
    monkeypatch.delenv(TOKEN_PATH)
    monkeypatch.setenv(TOKEN, "")  # so that what is made goes again with this test
    monkeypatch.delenv(TOKEN)
    make_own_token()
    assert len(os.environ[TOKEN]) == 64 and token_place() == TOKEN
