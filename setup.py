"""The build: a wheel gets copies of the files that lie at the top level of the repository, in harness/shipped."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("experiments", "sweeps", "tables", "schemas")


class BuildWithShippedFiles(build_py):
    """An editable install needs no copies: harness/config/shipped.py finds the files where they lie."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        package = Path(self.build_lib) / "harness"
        shutil.rmtree(package, ignore_errors=True)  # an earlier build may have left modules that are gone by now
        super().run()
        for folder in SHIPPED:
            shutil.copytree(folder, package / "shipped" / folder)
        shutil.copy("constraints.txt", package / "shipped")  # `harness doctor` tells where versions differ


setup(cmdclass={"build_py": BuildWithShippedFiles})
