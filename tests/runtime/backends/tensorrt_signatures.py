"""What a TensorRT module's classes offer, read from the signatures that pybind11 puts into docstrings."""

import inspect
import re
from typing import Any

__all__ = ["Signatures", "read_signatures"]

# Class, then member: "property", or for each overload its parameters, those with a default ending in "=".
Signatures = dict[str, dict[str, Any]]


def read_signatures(module: Any, classes: dict[str, list[str]]) -> Signatures:
    """The signatures of some members; what the module does not have is left out."""
    found: Signatures = {}
    for name, members in classes.items():
        owner = getattr(module, name, None)
        present = [member for member in members if hasattr(owner, member)]
        found[name] = {member: _member(owner, member) for member in present}
    return found


def _member(owner: Any, name: str) -> Any:
    member = inspect.getattr_static(owner, name)
    if isinstance(member, property) or not callable(getattr(owner, name)):
        return "property"
    documentation = getattr(owner, name).__doc__ or ""
    matches = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) -> ", documentation, re.MULTILINE)
    return [_parameters(text) for text in matches if not text.startswith("*args")]


def _parameters(text: str) -> list[str]:
    parts = [part.strip() for part in re.split(r",\s*(?![^\[<(]*[\]>)])", text)]
    return [part.partition(":")[0] + ("=" if " = " in part else "") for part in parts if part][1:]
