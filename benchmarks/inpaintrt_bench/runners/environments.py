"""Environments of runners whose libraries do not fit ours, made once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inpaintrt.store import cache_folder
from inpaintrt_bench.runners.errors import RunnerError

__all__ = ["Environment", "environments_folder", "make_environment"]

_DONE = "complete"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Packages for a runner.

    Attributes:
        name: Its name in the cache.
        requirements: What pip installs into it.
        on_top: Whether the packages of this process can be seen beneath.
    """

    name: str
    requirements: tuple[str, ...]
    on_top: bool = False

    @property
    def key(self) -> str:
        """Name and digest of what decides the content."""
        text = " ".join([sys.version, *self.requirements, sys.prefix if self.on_top else ""])
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def environments_folder() -> Path:
    """The folder of the user's cache that holds environments."""
    return cache_folder().parent / "benchmark-environments"


def make_environment(
    environment: Environment, folder: Path, progress: Callable[[str], None] = lambda _: None
) -> Path:
    """Make an environment, unless it is there.

    Args:
        environment: What is in it.
        folder: Where environments are kept.
        progress: Told that packages are being installed.

    Returns:
        Its interpreter.

    Raises:
        RunnerError: pip failed; nothing is left behind then.
    """
    home = folder / environment.key
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (home / _DONE).is_file():
        return python
    shutil.rmtree(home, ignore_errors=True)
    progress(f"{environment.name}: installing {' '.join(environment.requirements)}")
    venv.create(home, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *environment.requirements]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        shutil.rmtree(home, ignore_errors=True)
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise RunnerError(
            f"pip could not install {' '.join(environment.requirements)}",
            received=" ".join(errors) or result.stderr.strip(),
            hint="check the network and pip's settings",
        )
    if environment.on_top:
        _lay_on_top(python)
    (home / _DONE).touch()
    return python


def _lay_on_top(python: Path) -> None:
    """Let an environment see this one's packages after its own; `addsitedir` follows .pth files as well."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    beneath = sysconfig.get_path("purelib")
    line = f"import site; site.addsitedir({beneath!r})\n"
    (Path(result.stdout.strip()) / "beneath.pth").write_text(line)
