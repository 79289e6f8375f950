"""How much room an installation takes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

__all__ = ["installed_size", "package_sizes"]

_NOT_OURS = ("pip", "setuptools")
_MEGABYTE = 1e6


def installed_size() -> dict[str, float]:
    """Megabytes of each package that `pip install inpaintrt[cpu]` brings into an empty environment.

    The project is installed from its source folder.
    """
    source = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")
        subprocess.run([programs / "pip", "install", "--quiet", f"{source}[cpu]"], check=True)
        (packages,) = Path(folder).glob("[Ll]ib*/**/site-packages")
        return package_sizes(packages)


def package_sizes(packages: Path) -> dict[str, float]:
    """Megabytes of each entry of a `site-packages` folder, the largest first, with their sum as `total`."""
    sizes = {
        entry.name: sum(path.stat().st_size for path in [entry, *entry.rglob("*")] if path.is_file())
        / _MEGABYTE
        for entry in packages.iterdir()
        if not entry.name.startswith(_NOT_OURS)
    }
    ordered = dict(sorted(sizes.items(), key=lambda item: -item[1]))
    return {"total": sum(sizes.values()), **ordered}
