"""The token that a Ray cluster may want of who joins it, as Ray 2.60 does where it finds one.

Ray keeps a token in `~/.ray/auth_token`, or is given one by `$RAY_AUTH_TOKEN` or `$RAY_AUTH_TOKEN_PATH`. `ray start
--head` uses it where there is one, but who joins by HOST:PORT uses it only with `$RAY_AUTH_MODE` set to `token`. That
cannot be set for all clusters: in one without tokens, the workers of who has one die. So the head is asked first, by a
process of its own, since it is asked by a part of Ray that may print, hang, or end its process.
"""

from __future__ import annotations

import importlib
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from harness.errors import UserError
from harness.launch.ray_address import advice

ASK_S = 30.0  # how long the head has to answer, with what loading Ray takes
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
WELCOME, REFUSED = "welcome", "refused"

# Of a Ray without these names, which is older than tokens, everybody is welcome.
_ASK = f"""
import sys
try:
    from ray._raylet import GcsClient
    from ray.exceptions import AuthenticationError
except ImportError:
    print("{WELCOME}")
    sys.exit()
try:
    GcsClient(address=sys.argv[1])
except AuthenticationError:
    print("{REFUSED}")
else:
    print("{WELCOME}")
"""


def use_token(head: str, address: str) -> None:
    """Have this process show its token to a cluster that wants one, and to no other.

    Args:
        head: HOST:PORT; `address`: what the user calls it, for errors.

    Raises:
        UserError: no Ray answers there, there is no token here or a wrong one, or `$RAY_AUTH_MODE` does not fit.
    """
    wanted = "disabled" if _is_welcome(head, address, "disabled") else "token"
    given = os.environ.get(MODE)
    if given is not None and given.lower() != wanted:
        has = "wants a token" if wanted == "token" else "was started without tokens"
        raise UserError(
            f"launcher ray: {address}: the cluster {has}, but {MODE} is {given!r} here; unset it, or set it to {wanted}"
        )
    if wanted == "token":
        _check_token(head, address)
        os.environ[MODE] = "token"
        read_environment_again()


def make_own_token() -> None:
    """Give the cluster that this process is about to start a token of its own, unless the user has given one.

    Ray would make one in the home folder, which others make and use as well: where two are made at once, the workers
    of one cluster are refused. Without any, everybody who reaches this machine could run code in its workers.
    """
    if TOKEN not in os.environ and TOKEN_PATH not in os.environ:
        os.environ[TOKEN] = secrets.token_hex(32)
        read_environment_again()


def token_place() -> str | None:
    """Where Ray finds this user's token; None where there is none."""
    if os.environ.get(TOKEN):
        return TOKEN
    path = Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token")
    return str(path) if path.is_file() else None


def _check_token(head: str, address: str) -> None:
    place = token_place()
    copy = f"copy ~/.ray/auth_token of the head's machine to this one, or set {TOKEN_PATH} or {TOKEN}"
    if place is None:
        raise UserError(f"launcher ray: {address}: the cluster wants a token, and there is none here; {copy}")
    if not _is_welcome(head, address, "token"):
        raise UserError(f"launcher ray: {address}: the cluster wants another token than that of {place}; {copy}")


def _is_welcome(head: str, address: str, mode: Literal["disabled", "token"]) -> bool:
    """Whether a cluster lets in who comes with this user's token, or without one.

    Raises:
        UserError: no Ray answers there.
    """
    command = [sys.executable, "-c", _ASK, head]
    try:
        asked = subprocess.run(
            command, env={**os.environ, MODE: mode}, capture_output=True, text=True, timeout=ASK_S, check=False
        )
        answer = asked.stdout.strip()
    except subprocess.TimeoutExpired:
        answer = ""
    if answer not in (WELCOME, REFUSED):
        port = head.rpartition(":")[2]
        raise UserError(f"launcher ray: {address}: what listens there does not answer as Ray's head; {advice(port)}")
    return answer == WELCOME


def read_environment_again() -> None:
    """Have Ray read what was set above, if it has read its environment and a token before."""
    raylet: Any = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    if loader := getattr(raylet, "AuthenticationTokenLoader", None):  # from 2.52 on
        loader.instance().reset_cache()
