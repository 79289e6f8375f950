"""Reports are written while a measurement runs, and name the command that made them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inpaintrt_bench.measurements.soak import soak_table
from inpaintrt_bench.report.files import command_words, load_report, record
from inpaintrt_bench.report.schema import Row


def test_a_measurement_that_is_cut_short_leaves_what_it_had(tmp_path: Path) -> None:
    output = tmp_path / "report.json"

    def measure() -> Iterator[tuple[Row, ...]]:
        yield (Row(name="first"),)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record("soak", measure(), {}, soak_table, output)
    report = load_report(output)
    assert [row.name for row in report.rows] == ["first"]
    assert not report.complete
    record("soak", [(Row(name="first"),)], {}, soak_table, output)
    assert load_report(output).complete


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "mask", "-o", "file.json", "--steps", "2"),
        ("bench", "mask", "--steps", "2", "--output", "file.json"),
        ("bench", "mask", "--output=file.json", "--steps", "2"),
    ],
)
def test_the_output_file_is_no_part_of_the_recorded_command(arguments: tuple[str, ...]) -> None:
    assert command_words(arguments) == ("bench", "mask", "--steps", "2")


def test_folders_of_servers_are_nobody_s_business() -> None:
    words = [
        "bench",
        "memory",
        "--server",
        "0.2.0=/home/me/bin/python",
        "--server=new=/opt/x/python3",
        "-o",
        "f",
    ]
    assert command_words(words) == ("bench", "memory", "--server", "0.2.0=python", "--server=new=python3")
    assert command_words(["--server-option=--queue=16", "/a/b"]) == ("--server-option=--queue=16", "/a/b")
