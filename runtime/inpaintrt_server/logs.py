"""Logs as JSON lines: the access log on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["JsonFormatter", "set_up_logging"]


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, and the `fields` given with `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if (request_id := getattr(record, "request_id", None)) is not None:
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging() -> None:
    """Send every logger's records out as JSON lines."""
    others = logging.StreamHandler(sys.stderr)
    others.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[others], force=True)
    access = logging.StreamHandler(sys.stdout)
    access.setFormatter(JsonFormatter())
    logger = logging.getLogger("inpaintrt.access")
    logger.handlers = [access]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
