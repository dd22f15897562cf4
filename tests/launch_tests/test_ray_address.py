"""The addresses of Ray clusters: their forms, and what is told where nobody answers, without waiting for Ray."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from tiny_text import RunCli

from harness.errors import UserError
from harness.launch import ray_token
from harness.launch.launchers import choose_launcher
from harness.launch.ray_address import checked_address, found_head
from harness.launch.ray_cluster import RayOptions
from harness.launch.ray_token import use_token

pytestmark = pytest.mark.ray


@pytest.fixture
def silent() -> Iterator[str]:
    """Where something listens that is no Ray."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed() -> Iterator[str]:
    """Where nobody listens."""
    with socket.socket() as bound:  # so that nobody else takes the port
        bound.bind(("0.0.0.0", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("address", ["head:6379", "10.0.0.1:6379", "[::1]:6379", "auto", None])
def test_addresses_that_ray_knows_are_kept(address: str | None) -> None:
    assert checked_address(address) == address


def test_local_is_a_cluster_of_ones_own() -> None:
    assert choose_launcher("ray", 1, {"address": "local"}).options == RayOptions()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://head:10001", "'ray://head:10001' is an address of Ray's client, .*; give auto, or HOST:PORT"),
        ("head", "'head' is no address of a Ray cluster; give auto, or HOST:PORT"),
        ("::1:6379", "'::1:6379' is no address of a Ray cluster; give"),
        (":6379", "':6379' is no address of a Ray cluster; give"),
        ("", "'' is no address of a Ray cluster; give"),
        ("head:", "'head:' has no port from 1 to 65535; give"),
        ("head:ray", "'head:ray' has no port from 1 to 65535; give"),
        ("[::1]:70000", r"'\[::1\]:70000' has no port from 1 to 65535; give"),
    ],
)
def test_another_form_is_refused_where_it_is_given(address: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^f.yaml: launcher: address: {message}"):
        choose_launcher(None, 1, {"name": "ray", "address": address}, "f.yaml: launcher")


def test_what_is_wrong_with_a_head_is_told(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=f"^launcher ray: {closed}: nobody listens there; .*--port={closed[10:]}"):
        found_head(closed)
    with pytest.raises(UserError, match=r"^launcher ray: nohost\.invalid:6379: the name nohost\.invalid is not known"):
        found_head("nohost.invalid:6379")

    def never(*where: object, timeout: float) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr("socket.create_connection", never)
    with pytest.raises(UserError, match=r"^launcher ray: head:6379: no answer within 10 seconds; does Ray run there\b"):
        found_head("head:6379")


def test_a_cluster_found_by_itself_is_named(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", closed)
    with pytest.raises(UserError, match=rf"^launcher ray: auto \({closed}\): nobody listens there"):
        found_head("auto")
    for wrong in ("ray://head:10001", "local"):
        monkeypatch.setenv("RAY_ADDRESS", wrong)
        with pytest.raises(UserError, match=f"^launcher ray: RAY_ADDRESS: '{wrong}' is .*; give auto, or HOST:PORT"):
            found_head("auto")


@pytest.mark.slow
def test_what_listens_and_is_no_ray_is_told(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_token, "ASK_S", 3.0)
    with pytest.raises(UserError, match=f"^launcher ray: {silent}: what listens there does not answer as Ray's head"):
        use_token(found_head(silent), silent)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "plan"])
def test_nothing_is_planned_for_a_cluster_that_is_not_there(command: str, closed: str, run_cli: RunCli) -> None:
    start = time.monotonic()
    done = run_cli(command, "text_strategies", "--launcher", "ray", f"launcher.address={closed}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"launcher ray: {closed}: nobody listens there" in done.stderr
    assert time.monotonic() - start < 60  # on a busy machine; Ray itself tries for minutes
