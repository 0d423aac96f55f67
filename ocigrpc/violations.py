"""What is wrong with a config, gathered so that one answer names every wrong field."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ocigrpc.errors import VIOLATIONS_LIMIT, InvalidArgument, cut

# Longest path of the kernel, PATH_MAX without its NUL.
PATH_LIMIT_BYTES = 4095

# Longest argument or variable of a program, MAX_ARG_STRLEN without its NUL; execve(2).
TEXT_LIMIT_BYTES = 131071

# Most that arguments and environment take together; execve(2) has its limit above this.
ARGUMENTS_LIMIT_BYTES = 1 << 20

_WORD_BYTES = 9  # What each word takes besides its text: a pointer, and a NUL.

# Most arguments and variables, be they all empty.
WORDS_LIMIT = ARGUMENTS_LIMIT_BYTES // _WORD_BYTES

_DESCRIPTION_LIMIT_BYTES = 240
_KEY_LIMIT = 64


def entry_field(field: str, key: str) -> str:
    """The path of a map's entry, as in ``config.env["PATH"]``; of a long key, its beginning."""
    return f"{field}[{json.dumps(key[:_KEY_LIMIT], ensure_ascii=False)}]"


def arguments_fit(words: Iterable[str]) -> bool:
    """Whether a program can be given ``words``, none of them too long, all together."""
    size_bytes = sum(len(word.encode(errors="replace")) + _WORD_BYTES for word in words)
    return size_bytes <= ARGUMENTS_LIMIT_BYTES


class Violations:
    """The wrong fields found so far, as many as one error names.

    Checks add to it and go on; ``raise_any`` ends the work when there was one. Each
    check tells whether the value may be used.
    """

    def __init__(self) -> None:
        self._errors: list[InvalidArgument] = []

    def add(self, field: str, description: str, reason: str) -> None:
        """Note that ``field``, a path as in "config.mounts[2].host_path", is wrong."""
        if len(self._errors) == VIOLATIONS_LIMIT:
            return
        self._errors.append(
            InvalidArgument.of(
                field,
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
