"""Builds the package with D3 in it, as the package mpld3 ships it: who installs this one needs no mpld3.

Everything else is said in pyproject.toml. An editable installation reads D3 where mpld3 has it (``assets.py``).
"""

import shutil
from importlib.metadata import distribution
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithD3(build_py):
    """Copies the packages, and D3 beside the scripts of the pages."""

    def run(self) -> None:
        """Copy them; importing mpld3 would import Matplotlib, so only its file is looked for."""
        super().run()
        if not self.editable_mode:
            d3 = Path(str(distribution("mpld3").locate_file("mpld3/js/d3.v5.min.js")))
            shutil.copyfile(d3, Path(self.build_lib) / "service/api/dashboard/static/d3.js")


setup(cmdclass={"build_py": BuildWithD3})
