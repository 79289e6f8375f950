"""Options of the subcommands that put a server under load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inpaintrt_bench.serve.tasks import Task

__all__ = ["Load", "load_options"]

_SAMPLERS = ("ddim", "euler", "dpmpp_2m", "unipc")


@dataclass(frozen=True)
class Load:
    """What the server is asked for.

    Attributes:
        apis: Interfaces to ask.
        sizes: Of pictures, such as "128x96".
        fewest_steps: Of the sampler.
        most_steps: Of the sampler.
        count: How many different requests there are.
        seed: Of arrivals and requests.
        server_options: Words for the server's command line.
    """

    apis: tuple[str, ...]
    sizes: tuple[str, ...]
    fewest_steps: int
    most_steps: int
    count: int
    seed: int
    server_options: tuple[str, ...]

    def tasks(self) -> tuple[Task, ...]:
        """The requests.

        Raises:
            BadParameter: A size looks different.
        """
        from inpaintrt_bench.serve.tasks import make_mixture

        return make_mixture(
            self.count,
            steps=(self.fewest_steps, self.most_steps),
            sizes=[_parse_size(size) for size in self.sizes],
            samplers=_SAMPLERS,
            seed=self.seed,
        )


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{text!r} is not a size such as 128x96", param_hint="--size")
    return int(width), int(height)


_OPTIONS = (
    click.option(
        "--api",
        "apis",
        type=click.Choice(["inpaint", "openai", "webui"]),
        multiple=True,
        default=("inpaint",),
        show_default=True,
        help="Interface to ask; may be repeated.",
    ),
    click.option(
        "--size",
        "sizes",
        multiple=True,
        default=("128x128", "128x128", "128x128", "96x128"),
        show_default=True,
        help="Of a picture; may be repeated, and one that is named twice is twice as likely.",
    ),
    click.option("--fewest-steps", type=click.IntRange(1), default=10, show_default=True),
    click.option("--most-steps", type=click.IntRange(1), default=50, show_default=True),
    click.option(
        "--tasks", "count", type=click.IntRange(1), default=32, show_default=True, help="Different requests."
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of arrivals and requests."),
    click.option(
        "--server-option",
        "server_options",
        multiple=True,
        metavar="WORD",
        help="A word for the server's command line, such as --server-option=--slots=4; may be repeated.",
    ),
)


def load_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, whose function gets them as one argument, `load`."""

    @wraps(function)
    def with_load(**options: Any) -> None:  # noqa: ANN401  what click hands over
        load = Load(**{name: options.pop(name) for name in Load.__dataclass_fields__})
        function(load=load, **options)

    command: Callable[..., None] = with_load
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
