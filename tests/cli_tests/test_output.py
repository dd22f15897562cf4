"""What is printed where standard output is not UTF-8, is read no more, cannot be written, or is closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tables_tests.golden_experiments import write_all

from harness.cli.output import LIKE, use_any_encoding

HARNESS = [sys.executable, "-m", "harness"]


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("47.5 ± 1.0ᵃ ↑", "ascii", "47.5 +- 1.0^a ^"),
        ("47.5 ± 1.0ᵃ ↑", "cp1252", "47.5 ± 1.0^a ^"),
        ("Δ − – λ …", "latin-1", "D - - lambda ..."),
        ("café Ελ", "ascii", r"cafe \u0395lambda"),
        ("│━", "latin-1", "|="),
        ("half \ud800", "utf-8", r"half \ud800"),
    ],
)
def test_what_an_encoding_lacks_is_shown_by_something_like_it(text: str, encoding: str, shown: str) -> None:
    use_any_encoding()
    assert text.encode(encoding, LIKE).decode(encoding) == shown


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_all(folder)
    return folder


def shell(command: str, folder: Path, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """Run a command line of the shell, in which `harness` is this package's; the exit code is that of `harness`."""
    script = f'set -o pipefail; harness() {{ {" ".join(HARNESS)} "$@"; }}; {command}'
    environment = {"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(["bash", "-c", script], capture_output=True, cwd=folder, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_a_table_is_printed_in_any_encoding(encoding: str, results: Path) -> None:
    for format in ("", "--format md", "--format html"):
        run = shell(f"harness table speech_ar --results {results} {format}", results, encoding)
        assert (run.returncode, run.stderr) == (0, b"")
        assert "simadapter" in run.stdout.decode(encoding)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("harness --help | exec 0<&-", 1, b""),
        ("harness table speech_ar | exec 0<&-", 1, b""),
        ("harness table speech_ar > /dev/full", 1, b"harness: file system: No space left on device\n"),
        ("harness table speech_ar >&-", 0, b""),
        ("harness table speech_ar >&- 2>&-", 0, b""),
        ("harness table none 2>/dev/full", 2, b""),
    ],
)
def test_output_that_goes_nowhere(command: str, code: int, error: bytes, results: Path) -> None:
    run = shell(command.replace("speech_ar", f"speech_ar --results {results}"), results)
    assert (run.returncode, run.stderr) == (code, error)
