"""What `storage:` may say, read in one place: a server's URL, a SQLite file, or a variable that holds one of the two.

A storage may hold a password, so no message shows a text that could not be read; what could be read is shown without
its password and its options.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import ArgumentError

from harness.errors import UserError, first_line

DRIVERS = {"postgresql": ("psycopg", "psycopg[binary]"), "mysql": ("pymysql", "pymysql")}  # SQLAlchemy's name, pip's
CHOICES = (
    "postgresql://USER:PASSWORD@HOST/DATABASE, mysql://USER:PASSWORD@HOST/DATABASE, a path that ends in .db, .sqlite "
    "or .sqlite3, sqlite:///PATH, or env:NAME for an environment variable that holds one of these"
)
_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def storage_url(given: str | Path) -> sqlalchemy.URL:
    """The URL that a storage stands for, with the driver that the harness installs where it names none.

    Args:
        given: what the sweep says; a Path is a SQLite file whatever its name.

    Raises:
        UserError: it is none of CHOICES, or the environment variable is not set.
    """
    if isinstance(given, Path):
        return sqlalchemy.URL.create("sqlite", database=os.fspath(given))
    where, text = "storage", given
    if text.startswith("env:"):
        named = _VARIABLE.fullmatch(text)
        if named is None:
            raise UserError("storage: after env: comes the name of an environment variable, as in env:HARNESS_STORAGE")
        where, text = f"storage {given}", os.environ.get(named[1], "")
        if not text:
            raise UserError(f"{where}: the environment variable {named[1]} is not set")
    return _with_driver(_parsed(text, where))


def _parsed(text: str, where: str) -> sqlalchemy.URL:
    unread = f"{where}: {{}} (it is not shown, as it may hold a password); give {CHOICES}"
    if not text.isprintable() or text != text.strip():
        raise UserError(unread.format("it begins or ends with a blank, or has a character that cannot be printed"))
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        if not text.endswith(_SQLITE_SUFFIXES) or "@" in text:
            raise UserError(unread.format("it is neither a URL nor the path of a SQLite file"))
        return sqlalchemy.URL.create("sqlite", database=text)
    if rest.count("@") > 1:
        raise UserError(unread.format("it has several @; write %40 for one in a user name or a password"))
    try:
        url = sqlalchemy.make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):  # no URL; or its port is no number
        raise UserError(unread.format("it is not a URL of the right form")) from None
    if url.port is not None and not 0 < url.port < 65536:
        raise UserError(unread.format("its port is not between 1 and 65535"))
    if backend not in (*DRIVERS, "sqlite"):
        raise UserError(f"{where}: unknown kind of storage {scheme!r}; give {CHOICES}")
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError(f"{where}: a search cannot be kept in memory; give {CHOICES}")
    return url


def _with_driver(url: sqlalchemy.URL) -> sqlalchemy.URL:
    backend = url.get_backend_name()
    if backend in DRIVERS and "+" not in url.drivername:
        return url.set(drivername=f"{backend}+{DRIVERS[backend][0]}")
    return url


def sqlite_path(url: sqlalchemy.URL) -> Path | None:
    """The file of a SQLite storage; None for a server."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def shown(url: sqlalchemy.URL) -> str:
    """A URL fit for eyes: without password and options, which may hold one; a SQLite file by its path."""
    path = sqlite_path(url)
    return str(path) if path is not None else url.set(query={}).render_as_string(hide_password=True)


def shown_storage(given: str | None) -> str | None:
    """What a record may keep of a sweep's storage: `env:NAME` as it is, all else without a password."""
    return given if given is None or given.startswith("env:") else shown(storage_url(given))


def optuna_url(url: sqlalchemy.URL) -> str:
    """A URL as text for Optuna, which calls `str.format` on it: a brace in a password has to be doubled."""
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")


def cause_of(error: BaseException) -> str:
    """The database's own words in one line, from under the layers that raised it again."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
    reason = getattr(cause, "orig", None) or cause
    return first_line(reason)
