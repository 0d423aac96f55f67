"""Extended attributes and times of files, as the headers of pax have them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping

# GNU tar, libarchive and podman have this form of names.
_PREFIX = "SCHILY.xattr."

_USERS = "user."
_CAPABILITIES = "security.capability"

# Most bytes of all headers of one file that any archive of ours has, or is read with: Linux allows
# 64 KiB for a value of an extended attribute, most file systems for all of a file's, and 4 KiB for
# names.
HEADERS_BYTES = 1 << 20
# Most of attributes, so that there is room for the names of the file and what it links to.
_ATTRIBUTES_BYTES = HEADERS_BYTES - (128 << 10)
# Of the header of an attribute beside its name and value.
_ATTRIBUTE_BYTES = 32

# What file systems answer that have none, or not of this kind.
_NONE = (errno.ENODATA, errno.ENOTSUP, errno.EPERM)

_TIME = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9})\d*)?", re.ASCII)
_SECOND_NS = 1_000_000_000
_LAST_S = 1 << 33


def time_header(time_ns: int) -> dict[str, str]:
    """The header of a time, which the archive's own fields have in seconds alone."""
    seconds, nanos = divmod(abs(time_ns), _SECOND_NS)
    sign = "-" if time_ns < 0 else ""
    return {"mtime": f"{sign}{seconds}.{nanos:09d}"}


def attribute_headers(path: str) -> dict[str, str]:
    """The headers of an open file's attributes, by its ``path`` in /proc. Raises ``OSError``.

    Those are left out whose names no header can have: they are no UTF-8, or have a "=". More than
    an archive has room for are an error (E2BIG).
    """
    headers: dict[str, str] = {}
    room_bytes = _ATTRIBUTES_BYTES
    for name in _listed(path):
        if (name.startswith(_USERS) and _fits_header(name)) or name == _CAPABILITIES:
            try:
                value = os.getxattr(path, name)
            except OSError as error:
                if error.errno not in _NONE:
                    raise
                continue
            room_bytes -= len(name.encode()) + len(value) + _ATTRIBUTE_BYTES
            if room_bytes < 0:
                raise OSError(errno.E2BIG, f"has more than {_ATTRIBUTES_BYTES} bytes of attributes")
            headers[_PREFIX + name] = value.decode("utf-8", "surrogateescape")
    return headers


def _fits_header(name: str) -> bool:
    try:
        return b"=" not in name.encode()
    except UnicodeEncodeError:
        return False


def _listed(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno not in _NONE:
            raise
        return []


def set_attributes(path: str, headers: Mapping[str, str], *, capabilities: bool) -> None:
    """Give an open file, by its ``path`` in /proc, the attributes in its headers.

    Those that its file system does not have are left out. Raises ``OSError``.
    """
    for key, value in headers.items():
        name = key.removeprefix(_PREFIX)
        if name == key or not (name.startswith(_USERS) or (capabilities and name == _CAPABILITIES)):
            continue
        try:
            os.setxattr(path, name, value.encode("utf-8", "surrogateescape"))
        except OSError as error:
            if error.errno not in _NONE:
                raise


def time_ns_of(text: str) -> int:
    """A time in seconds since 1970, as pax has it, in nanoseconds; ``ValueError`` if it is none."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        raise ValueError("no time")
    sign, seconds, nanos = parts.groups()
    if int(seconds) > _LAST_S:
        raise ValueError("a time too far away")
    time_ns = int(seconds) * _SECOND_NS + int((nanos or "").ljust(9, "0"))
    return -time_ns if sign else time_ns
