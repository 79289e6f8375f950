"""The bundles that tests share are made once, however many processes want them at the same time."""

import subprocess
import sys
from pathlib import Path

import pytest

from bundles import made_once

MAKER = """
import sys, time
from pathlib import Path
from bundles import made_once
with made_once(Path(sys.argv[1])) as new:
    if new is not None:
        time.sleep(0.2)
        (new / "content").write_text(sys.argv[2])
        print("made")
"""


def test_processes_at_the_same_time_make_one(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKER, tmp_path / "shared", name],
            cwd=tests,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("first", "second", "third")
    ]
    printed = [maker.communicate()[0] for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0, 0]
    assert sorted(printed) == ["", "", "made\n"]
    assert (tmp_path / "shared" / "content").read_text() in ("first", "second", "third")


def test_what_failed_is_made_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    with pytest.raises(RuntimeError), made_once(folder):
        raise RuntimeError
    assert not folder.exists()
    with made_once(folder) as new:
        assert new is not None
    with made_once(folder) as new:
        assert new is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shared", "shared.lock"]
