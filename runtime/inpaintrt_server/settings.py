"""Every option of the server: a flag of `inpaintrt serve`, or an environment variable."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from inpaintrt.backends import DEFAULT_BACKEND
from inpaintrt.declaration import current_names
from inpaintrt.errors import ParameterError
from inpaintrt.lora import parse_lora
from inpaintrt_server.batching.scheduler import Mode
from inpaintrt_server.batching.service import BatchingSettings

__all__ = [
    "ENVIRONMENT_PREFIX",
    "RENAMED",
    "REPEATABLE",
    "ServerSettings",
    "current_settings",
    "read_settings",
]

ENVIRONMENT_PREFIX = "INPAINTRT_"

RENAMED: Mapping[str, str] = MappingProxyType({"picture_cache": "image_cache"})
"""Former names of settings that still work in this version, and the names of today."""

REPEATABLE = ("lora",)
"""Settings whose flags may be given more than once."""

_MEBIBYTE = 1024 * 1024
_LORA_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _pairs(value: object) -> object:
    """`threads=2,low_vram=true` as a mapping."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not sign for _, sign, _ in pairs):
        raise ValueError("options look like this: threads=2,low_vram=true")
    return {name.strip(): _scalar(text.strip()) for name, _, text in pairs}


def _scalar(text: str) -> bool | int | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if text.lstrip("-").isdecimal() else text


def _loras(value: object) -> object:
    """`style=a.safetensors:0.8,style=b.safetensors`, or a list of such entries, as files by name."""
    if isinstance(value, Mapping):
        return value
    entries = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    named: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
    for entry in entries if isinstance(entries, list | tuple) else [entries]:
        name, sign, file = str(entry).strip().partition("=")
        path, scale = parse_lora(file)
        if not (sign and path and math.isfinite(scale) and _LORA_NAME.fullmatch(name)):
            raise ValueError(
                "LoRAs look like this: style=style.safetensors:0.8, where the name has letters, digits, "
                "dots, dashes and underscores, at most 64"
            )
        named[name].append((path, scale))
    return {name: tuple(files) for name, files in named.items()}


def _numbers(value: object) -> object:
    """`1,2,4` as a tuple."""
    return tuple(value.split(",")) if isinstance(value, str) else value


def _networks(value: object) -> object:
    """`10.0.0.0/8,::1` as a tuple; `*` stands alone."""
    names = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or names == ["*"]:
        return names
    for name in names:
        ipaddress.ip_network(name)
    return tuple(names)


class ServerSettings(BaseSettings):
    """Every option of the server.

    The environment variable of a field is its name in capitals after `INPAINTRT_`; its flag is its name with
    dashes. Values that are passed in go before the environment.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen at.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen at; 0 takes a free one.")
    backend: str = Field(default=DEFAULT_BACKEND, description="What runs the engines.")
    backend_options: Annotated[dict[str, bool | int | str], NoDecode, BeforeValidator(_pairs)] = Field(
        default={}, description="What the backend lets its users set, such as threads=2."
    )
    verify: bool = Field(default=True, description="Compare the bundle's files with their hashes.")
    ui: bool = Field(default=True, description="Serve the page at /ui, which / leads to.")
    edits_without_mask: bool = Field(
        default=False,
        description="Let /v1/images/edits change the whole image where there is no mask (image-to-image).",
    )
    slots: int = Field(default=4, ge=1, description="Results that are denoised at the same time.")
    queue: int = Field(default=64, ge=0, description="Requests that may wait beside them; more get 429.")
    row_buckets: Annotated[tuple[int, ...] | None, NoDecode, BeforeValidator(_numbers)] = Field(
        default=None,
        description="Numbers of UNet rows that a step is padded to, such as 1,2,4,8; default: no padding.",
    )
    lora: Annotated[dict[str, tuple[tuple[str, float], ...]], NoDecode, BeforeValidator(_loras)] = Field(
        default={},
        description="A LoRA file that requests may choose by name, as NAME=FILE:SCALE; may be given more "
        "than once. Files of one name are applied together. In the variable, commas separate the files.",
    )
    lora_memory: int | None = Field(
        default=None,
        ge=1,
        description="Bytes that networks with LoRAs may take in memory; default: what the largest LoRA "
        "needs, and on a CPU at least a quarter of the memory that is available at the start.",
    )
    mode: Mode = Field(
        default="continuous", description="How requests are batched; the others are for comparison."
    )
    workers: int = Field(default=2, ge=1, description="Threads that read images and put results into them.")
    prompt_cache: int = Field(default=256, ge=0, description="Windows of prompts whose embeddings are kept.")
    image_cache: int = Field(
        default=64 * _MEBIBYTE, ge=0, description="Bytes of encoded images that are kept."
    )
    memory_budget: int | None = Field(
        default=None,
        ge=1,
        description="Bytes that runs of the engines may take beside their weights, of all slots together; "
        "default: half of the memory that is available at the start.",
    )
    api_key_file: Path | None = Field(
        default=None,
        description="File with one API key a line; read again on SIGHUP. Without it there are no keys.",
    )
    insecure: bool = Field(
        default=False, description="Serve without keys to others than this machine, and to every web page."
    )
    request_timeout: float = Field(
        default=300.0,
        gt=0,
        description="Seconds a request may take, its upload included; X-Request-Timeout lowers it.",
    )
    header_timeout: float = Field(
        default=10.0, gt=0, description="Seconds a client has for a request's headers."
    )
    keep_alive: int = Field(
        default=75,
        ge=1,
        description="Seconds an idle connection is kept for a next request; more than proxies keep theirs.",
    )
    forwarded_allow_ips: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = Field(
        default=(),
        description="Addresses of proxies, such as 10.0.0.0/8,::1, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed; * believes everybody. Default: nobody.",
    )
    body_timeout: float = Field(default=60.0, gt=0, description="Seconds a client has for a request's body.")
    min_rate: float = Field(
        default=1024.0,
        gt=0,
        description="Bytes a second at which a client must send a body and take an answer.",
    )
    send_timeout: float = Field(
        default=60.0, gt=0, description="Seconds between looks at how fast a client takes its answer."
    )
    drain_timeout: float = Field(
        default=60.0, ge=0, description="Seconds that running requests have to finish after SIGTERM."
    )
    max_connections: int = Field(
        default=512, ge=1, description="Connections at a time; more get 503, unless they ask for the health."
    )
    max_body: int = Field(default=20 * _MEBIBYTE, ge=1024, description="Bytes of a request's body.")
    max_pixels: int = Field(
        default=32_000_000, ge=64, description="Pixels of an image, a mask and a result, each."
    )
    max_run_pixels: int = Field(
        default=1024 * 1024, ge=64, description="Pixels of the size to run at, where a request names it."
    )
    max_prompt: int = Field(default=10_000, ge=1, description="Characters of a prompt.")
    max_steps: int = Field(default=200, ge=1, description="Steps of a request.")
    max_results: int = Field(default=8, ge=1, description="Results of a request.")

    @property
    def batching(self) -> BatchingSettings:
        """What concerns batching."""
        names = (
            *("slots", "queue", "row_buckets", "mode", "workers"),
            *("prompt_cache", "image_cache", "memory_budget", "lora_memory"),
        )
        return BatchingSettings(**{name: getattr(self, name) for name in names})


def current_settings(given: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Replace former names of settings, in what is given and in the environment.

    Returns:
        The settings under their names of today, and a note for each that came under a former name.

    Raises:
        ParameterError: A setting comes under both of its names.
    """
    named, notes = current_names(given, RENAMED)
    variables = {_variable(old): _variable(new) for old, new in RENAMED.items()}
    known = {*variables, *variables.values()}
    found: dict[str, object] = {
        name.upper(): value for name, value in os.environ.items() if name.upper() in known
    }
    found, more_notes = current_names(found, variables)
    environment = {name: found[_variable(name)] for name in RENAMED.values() if _variable(name) in found}
    return {**environment, **named}, notes + more_notes


def _variable(name: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"


def read_settings(given: Mapping[str, object] | None = None) -> ServerSettings:
    """The settings: what was given, then the environment, then defaults.

    Raises:
        ParameterError: A value is not valid; the message names its flag and its variable.
    """
    try:
        return ServerSettings.model_validate(dict(given or {}))
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        name = str(details["loc"][0])
        raise ParameterError(
            f"the setting {name!r} is not valid",
            received=repr(details["input"]),
            expected=details["msg"],
            hint=f"give --{name.replace('_', '-')}, or {_variable(name)}",
        ) from None
