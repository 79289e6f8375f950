"""The settings as options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from inpaintrt_server.settings import RENAMED, REPEATABLE, ServerSettings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["setting_options"]


def setting_options() -> list[click.Option]:
    """An option for each setting, and hidden ones for former names.

    What is not given stays None, so that the environment counts.
    """
    fields = ServerSettings.model_fields
    former = [_option(old, fields[new], hidden=True) for old, new in RENAMED.items()]
    return [*(_option(name, field) for name, field in fields.items()), *former]


def _option(name: str, field: FieldInfo, *, hidden: bool = False) -> click.Option:
    flag = f"--{name.replace('_', '-')}"
    if field.annotation is bool:
        given = flag if field.default else f"--no-{flag[2:]}"
        about = f"{field.description}  [{given}]"
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=None, help=about, hidden=hidden)
    about = f"{field.description}{_default(field.default)}"
    # Texts, whatever the type: the settings check flags and the environment in the same way.
    multiple = name in REPEATABLE
    return click.Option(
        [flag], metavar=_metavar(field), multiple=multiple, default=None, help=about, hidden=hidden
    )


def _default(value: object) -> str:
    return "" if value in (None, {}, ()) else f"  [{value}]"


def _metavar(field: FieldInfo) -> str:
    kinds = {int: "NUMBER", float: "SECONDS" if "Seconds" in (field.description or "") else "NUMBER"}
    return kinds.get(field.annotation, "TEXT") if isinstance(field.annotation, type) else "TEXT"
