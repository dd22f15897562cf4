"""`harness run`."""
from pathlib import Path
from tiny_text import TinyText, RunCli
import time

def test_x(tiny_text_files: TinyText, run_cli: RunCli) -> None:
    r = run_cli("run", tiny_text_files.experiment)
    print(r)
    print(r.stdout)
    assert r.returncode == 0
