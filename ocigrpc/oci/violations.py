"""What is wrong with a config, gathered so that one answer names every wrong field."""

from __future__ import annotations

from ocigrpc.errors import InvalidArgument, cut

PATH_LIMIT_BYTES = 4095
"""Longest path of the kernel, PATH_MAX without its NUL."""

TEXT_LIMIT_BYTES = 131071
"""Longest argument or variable of a program, MAX_ARG_STRLEN without its NUL; execve(2)."""

_DESCRIPTION_LIMIT_BYTES = 240


class Violations:
    """The wrong fields found so far.

    Checks add to it and go on; ``raise_any`` ends the work when there was one. Each
    check tells whether the value may be used.
    """

    def __init__(self) -> None:
        self._errors: list[InvalidArgument] = []

    def add(self, field: str, description: str, reason: str) -> None:
        """Note that ``field``, a path as in "config.mounts[2].host_path", is wrong."""
        self._errors.append(
            InvalidArgument(
                cut(field, _DESCRIPTION_LIMIT_BYTES),
                cut(description, _DESCRIPTION_LIMIT_BYTES),
                reason=reason,
            )
        )

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
        """Whether the kernel can take ``value``: no NUL, not too long."""
        return self.allow("\0" not in value, field, "holds a NUL", "NUL_BYTE") and self.allow(
            len(value.encode(errors="replace")) <= limit_bytes,
            field,
            f"is longer than {limit_bytes} bytes",
            "TOO_LONG",
        )

    def absolute_path(self, field: str, value: str) -> bool:
        """Whether ``value`` is a path that starts with "/"; an empty one is missing."""
        return (
            self.allow(bool(value), field, "is required", "REQUIRED")
            and self.text(field, value, PATH_LIMIT_BYTES)
            and self.allow(
                value.startswith("/"), field, f"{value!r} is not absolute", "PATH_NOT_ABSOLUTE"
            )
        )

    def in_range(self, field: str, value: int, low: int, high: int) -> bool:
        """Whether ``value`` lies between ``low`` and ``high``, both allowed."""
        return self.allow(
            low <= value <= high, field, f"{value} is not in {low} to {high}", "OUT_OF_RANGE"
        )
