"""The address of a Ray cluster: which forms it has, and whether somebody answers there.

Both are asked before Ray is: it tries a wrong address for minutes, and says nothing or lines of its own meanwhile.
"""

from __future__ import annotations

import importlib
import os
import socket
from typing import Any

from harness.errors import UserError, first_line

ANSWER_S = 10.0  # how long the head's machine has to answer
FORMS = "auto, or HOST:PORT of its head, as head:6379"


def checked_address(text: str | None) -> str | None:
    """The address in a file or an override; None for `local`, which is Ray's word for a cluster of one's own.

    Raises:
        ValueError: it has another form.
    """
    if text in (None, "auto"):
        return text
    if text == "local":
        return None
    if "://" in text:  # Ray's client has no part in the cluster: what workers are sent would go through a proxy
        raise ValueError(f"{text!r} is an address of Ray's client, which cannot run a launch; give {FORMS}")
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare and bare == host):
        raise ValueError(f"{text!r} is no address of a Ray cluster; give {FORMS}")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ValueError(f"{text!r} has no port from 1 to 65535; give {FORMS}")
    return text


def found_head(address: str) -> str:
    """HOST:PORT of the head that an address means, as Ray connects to it; a process there has answered.

    Raises:
        UserError: no cluster is known here, the host's name is not known, or nobody answers.
    """
    services: Any = importlib.import_module("ray._private.services")
    try:
        given = (os.environ.get("RAY_ADDRESS") or "auto") if address == "auto" else address
        if checked_address(given) is None:
            raise ValueError(f"{given!r} is no cluster to join; give {FORMS}")
        head = str(services.canonicalize_bootstrap_address(given))  # localhost is this machine's address, for Ray
    except ConnectionError as error:
        start = "start one here (ray start --head), or name its head (HOST:PORT)"
        raise UserError(f"launcher ray: {address}: no Ray cluster runs on this machine; {start}") from error
    except ValueError as error:
        raise UserError(f"launcher ray: RAY_ADDRESS: {error}") from error
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        name = address if address == given else f"{address} ({given})"
        raise UserError(f"launcher ray: {name}: {_cause(error, host)}; {advice(port)}") from error
    return head


def advice(port: str) -> str:
    """What to do where no head is found."""
    return f"does Ray run there (ray start --head --port={port}), and does a firewall let this machine through?"


def _cause(error: OSError, host: str) -> str:
    """What is wrong, in words."""
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known here ({error.strerror})"
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_S:g} seconds"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    return error.strerror or first_line(error)
