"""The wrong fields of a request, collected so that one answer names all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ocigrpc.errors import VIOLATIONS_LIMIT, InvalidArgument, cut

# Longest path in the kernel, PATH_MAX without its NUL.
PATH_LIMIT_BYTES = 4095

# Longest name in a path, NAME_MAX of all file systems of a container.
NAME_LIMIT_BYTES = 255

# Longest argument or variable of a program, MAX_ARG_STRLEN without its NUL; execve(2).
TEXT_LIMIT_BYTES = 131071

# Most bytes of arguments and environment together; the limit of execve(2) is above this.
ARGUMENTS_LIMIT_BYTES = 1 << 20

# Bytes of an argument or variable besides its text: a pointer, and a NUL.
_ARGUMENT_BYTES = 9

# Most arguments and variables, even if all are empty.
ARGUMENTS_LIMIT = ARGUMENTS_LIMIT_BYTES // _ARGUMENT_BYTES

_DESCRIPTION_LIMIT_BYTES = 240
_KEY_LIMIT = 64


def entry_field(field: str, key: str) -> str:
    """The path of a map's entry, as in ``config.env["PATH"]``; a long key is cut."""
    return f"{field}[{json.dumps(key[:_KEY_LIMIT], ensure_ascii=False)}]"


def name_fits(name: str) -> bool:
    """Whether a file can have this name, as far as its length."""
    return len(name.encode(errors="replace")) <= NAME_LIMIT_BYTES


def arguments_fit(texts: Iterable[str]) -> bool:
    """Whether a program can get these arguments and variables, as far as their total size."""
    size_bytes = sum(len(text.encode(errors="replace")) + _ARGUMENT_BYTES for text in texts)
    return size_bytes <= ARGUMENTS_LIMIT_BYTES


class Violations:
    """The wrong fields found so far, at most as many as one error names.

    Checks add a violation and continue; ``raise_any`` raises them all in the end. Each check
    returns whether the value may be used.
    """

    def __init__(self) -> None:
        self._errors: list[InvalidArgument] = []

    def add(self, field: str, description: str, reason: str, **metadata: object) -> None:
        """Add a violation for ``field``, a path as in "config.mounts[2].host_path".

        The first one's ``metadata`` is that of the error.
        """
        if len(self._errors) < VIOLATIONS_LIMIT:
            shortened = cut(description, _DESCRIPTION_LIMIT_BYTES)
            self._errors.append(InvalidArgument.of(field, shortened, reason=reason, **metadata))

    def raise_any(self) -> None:
        """Raise ``InvalidArgument`` with all violations, if there are any."""
        if self._errors:
            raise InvalidArgument.joined(self._errors)

    def allow(self, ok: bool, field: str, description: str, reason: str) -> bool:
        """``ok``; when it is false, the violation is added."""
        if not ok:
            self.add(field, description, reason)
        return ok

    def text(self, field: str, value: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> bool:
        """Whether the kernel accepts ``value``: without NUL, and not too long."""
        return self.allow("\0" not in value, field, "contains a NUL", "NUL_BYTE") and self.allow(
            len(value.encode(errors="replace")) <= limit_bytes,
            field,
            f"is longer than {limit_bytes} bytes",
            "TOO_LONG",
        )

    def absolute_path(self, field: str, value: str) -> bool:
        """Whether ``value`` is an absolute path; an empty one is REQUIRED."""
        return (
            self.allow(bool(value), field, "is required", "REQUIRED")
            and self.text(field, value, PATH_LIMIT_BYTES)
            and self.allow(
                value.startswith("/"), field, f"{value!r} is not absolute", "PATH_NOT_ABSOLUTE"
            )
            and self.allow(
                all(map(name_fits, value.split("/"))),
                field,
                f"has a name longer than {NAME_LIMIT_BYTES} bytes",
                "TOO_LONG",
            )
        )

    def in_range(self, field: str, value: int, low: int, high: int) -> bool:
        """Whether ``value`` is at least ``low`` and at most ``high``."""
        return self.allow(
            low <= value <= high, field, f"{value} is not in {low} to {high}", "OUT_OF_RANGE"
        )
