"""How much room an installation takes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

__all__ = ["installed_size", "package_sizes"]

_NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
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
        return package_sizes(_packages_of(programs / "python"))


def _packages_of(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    result = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return Path(result.stdout.strip())


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
