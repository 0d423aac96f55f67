"""The service's log: events with fields, one line each, on standard error.

``get_logger().info("container.started", pid=pid)`` has the name of an event and its variables,
never a sentence. Every line has what :func:`bind_log` has added in the same context, such as the
request id. A log that can't be written never makes the logged work fail.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import BinaryIO, Literal

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["auto", "console", "json"]


def get_logger() -> FilteringBoundLogger:
    """A logger that obeys :func:`configure_logging`, also when made before it is called."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


# One variable for all fields: of structlog's, one for each, a line needs a third of its time.
_bound: ContextVar[Mapping[str, object]] = ContextVar("bound_fields")


def bind_log(**fields: object) -> None:
    """Add fields to every further line of the request that this thread handles."""
    _bound.set({**_bound.get({}), **fields})


def add_bound(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor that adds the fields of :func:`bind_log`; those of the event itself stay."""
    for key, value in _bound.get({}).items():
        event.setdefault(key, value)
    return event


def configure_logging(level: LogLevel = "info", log_format: LogFormat = "auto") -> None:
    """Send every event of at least ``level`` to standard error, once for the process.

    ``auto`` is the console form on a terminal and JSON otherwise. Events of libraries that
    use the standard library's ``logging``, and exceptions that end a thread, come out in
    the same form, as ``library.message`` and ``thread.died``.
    """
    lines = _Lines(sys.stderr.buffer)
    terminal = sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            add_bound,
            structlog.processors.add_log_level,
            *(_console(terminal) if console else _JSON),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    logging.root.handlers = [_Forward()]
    logging.root.setLevel(threshold)
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


def _console(colors: bool) -> list[Processor]:
    # Plain tracebacks: the rich ones print local variables, which may be secrets.
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
        _encoded,
    ]


def _encoded(_: WrappedLogger, __: str, text: EventDict | str) -> bytes:
    return str(text).encode(errors="backslashreplace")


_ENCODER = msgspec.json.Encoder(enc_hook=repr)


def _json_line(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    # The encoder writes it as structlog's TimeStamper would, in a third of the time.
    stamp = {"timestamp": datetime.now(UTC)}
    try:
        return _ENCODER.encode({**event, **stamp})
    except Exception:
        # A value that JSON can't hold, such as half a surrogate pair from a file name.
        plain = {_plain(key): _plain(value) for key, value in event.items()}
        return _ENCODER.encode({**plain, **stamp})


_JSON = (structlog.processors.format_exc_info, _json_line)


def _plain(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()


class _Lines:
    """Writes whole lines, whichever thread they come from."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: bytes) -> None:
        # The disk may be full, or the reader gone: there is no other place for it.
        with self._lock, suppress(OSError, ValueError):
            self._stream.write(line + b"\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


class _Forward(logging.Handler):
    """Hands the standard library's records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        # Levels between the known ones count as the one below.
        level = max(logging.DEBUG, min(record.levelno // 10 * 10, logging.CRITICAL))
        try:
            get_logger().log(
                level,
                "library.message",
                logger=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info or None,
            )
        except Exception:
            self.handleError(record)


def _thread_died(died: threading.ExceptHookArgs) -> None:
    thread = died.thread.name if died.thread else ""
    get_logger().critical("thread.died", thread=thread, exc_info=died.exc_value)
