"""Environments of their own for peers whose pins clash with ours: made once under the user's cache folder.

`peers/NAME.txt` pins what is installed. torch is pinned to the version in use here, so that nothing else is fetched in
its place. `ray` sees the packages of the running environment (it trains our own trials); the others see none of them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from harness.data.cache import data_cache

REQUIREMENTS = Path(__file__).parent / "peers"
SEES_OURS = ("ray",)


def environment(name: str) -> Path:
    """The Python of an environment; makes it if it is not there (minutes).

    Args:
        name: "own" for the running one, else the name of a requirements file.
    """
    if name == "own":
        return Path(sys.executable)
    requirements = REQUIREMENTS / f"{name}.txt"
    own = sys.executable if name in SEES_OURS else ""
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode() + own.encode()).hexdigest()[:12]
    folder = data_cache() / "benchmarks" / f"{name}-{key}"
    python, complete = folder / "bin" / "python", folder / ".complete"
    if not complete.exists():
        print(f"making an environment for {name}: {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        if name in SEES_OURS:
            ours = sysconfig.get_paths()["purelib"]
            place = subprocess.check_output(
                [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True
            )
            (Path(place.strip()) / "zz-parent.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], check=True
        )
        complete.touch()
    return python
