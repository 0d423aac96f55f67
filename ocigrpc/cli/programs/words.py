"""The words of podman's options, as the values of a config. Each function raises ``ValueError``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ocigrpc.cli.amounts import size

if TYPE_CHECKING:
    from ocigrpc.v1.config_pb2 import Device, Mount

_SECURITY_OPTIONS = ("seccomp", "no-new-privileges")


def variable(text: str) -> tuple[str, str | None]:
    """A variable and its value: of the caller if there is none; None if he has none either."""
    name, equals, value = text.partition("=")
    if not name:
        raise ValueError(f"{text!r} has no name of a variable")
    return name, value if equals else os.environ.get(name)


def variables(path: str) -> dict[str, str]:
    """The variables of a file: one a line, without empty lines and those that begin with #."""
    try:
        with open(path, encoding="utf-8") as lines:
            stripped = [line.lstrip().rstrip("\n") for line in lines]
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from error
    named = (variable(line) for line in stripped if line and not line.startswith("#"))
    return {name: value for name, value in named if value is not None}


def label(text: str) -> tuple[str, str]:
    """A label and its value, which may be empty."""
    key, _, value = text.partition("=")
    if not key:
        raise ValueError(f"{text!r} has no name of a label")
    return key, value


def entrypoint(text: str) -> list[str]:
    """A program, or a JSON list of it and its first arguments; none if it is empty."""
    import msgspec

    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError:
        # As with podman: it may be a program of that name, as [ is.
        return [text] if text else []


def capabilities(text: str) -> list[str]:
    """Names of capabilities, separated by commas."""
    return [name.strip().upper() for name in text.split(",")]


def volume(text: str) -> Mount:
    """A directory or file of the host, where it is mounted, and options: ``HOST:CONTAINER:ro``."""
    host, colon, rest = text.partition(":")
    container, _, options = rest.partition(":")
    if not (colon and container):
        raise ValueError(f"{text!r} is not HOST:CONTAINER or HOST:CONTAINER:OPTIONS")
    return bind(host, container, filter(None, options.split(",")))


def bind(host: str, container: str, options: Iterable[str]) -> Mount:
    """A directory or file of the host, mounted with these options."""
    from ocigrpc.v1 import config_pb2 as pb

    if "/" not in host and host not in (".", ".."):
        raise ValueError(f"{host!r} is not a path: there are no named volumes")
    mount = pb.Mount(host_path=os.path.abspath(host), container_path=container)
    propagations = {
        "private": pb.MOUNT_PROPAGATION_PRIVATE,
        "slave": pb.MOUNT_PROPAGATION_HOST_TO_CONTAINER,
        "shared": pb.MOUNT_PROPAGATION_BIDIRECTIONAL,
    }
    for option in options:
        if option in ("ro", "rw"):
            mount.readonly = option == "ro"
        elif option.removeprefix("r") in propagations:
            mount.propagation = propagations[option.removeprefix("r")]
        elif option in ("z", "Z", "U", "O"):
            raise ValueError(f"option {option!r} is not supported: nothing is relabelled")
        else:
            mount.options.append(option)
    return mount


def device(text: str) -> Device:
    """A device of the host: ``HOST``, ``HOST:CONTAINER``, and each with ``:rwm``."""
    from ocigrpc.v1.config_pb2 import Device

    host, *rest = text.split(":")
    permissions = rest.pop() if rest and re.fullmatch("[rwm]+", rest[-1]) else ""
    if not host.startswith("/") or len(rest) > 1:
        raise ValueError(f"{text!r} is not HOST, HOST:CONTAINER or HOST:CONTAINER:PERMISSIONS")
    return Device(host_path=host, container_path="".join(rest), permissions=permissions)


def security(text: str) -> tuple[str, str]:
    """A security option and its value."""
    found = re.fullmatch(r"([^:=]+)(?:[:=](.*))?", text)
    name, value = (found[1], found[2] or "") if found else ("", "")
    if name not in _SECURITY_OPTIONS:
        raise ValueError(f"{text!r} is not {' or '.join(_SECURITY_OPTIONS)}")
    if name == "seccomp" and not value:
        raise ValueError("seccomp wants the path of a profile, or unconfined")
    if name == "no-new-privileges" and value not in ("", "true", "false"):
        raise ValueError(f"{text!r} is not true or false")
    return name, value


def storage(text: str) -> int:
    """A storage option, of which there is one: the limit in bytes of what a container writes."""
    name, _, value = text.partition("=")
    if name != "size":
        raise ValueError(f"{text!r} is not size=SIZE")
    return max(size(value), 0)


def keys(text: str) -> bytes:
    """A sequence of keys, as in ``ctrl-p,ctrl-q``; none if it is empty."""
    return bytes(_keys(text))


def _keys(text: str) -> Iterator[int]:
    for key in text.split(",") if text else ():
        if re.fullmatch(r"ctrl-[a-zA-Z@^\[\\\]_]", key):
            yield ord(key[-1].upper()) & 0x1F
        elif len(key) == 1 and key.isascii():
            yield ord(key)
        else:
            raise ValueError(f"{key!r} is not a character, or ctrl- and one of a-z @ [ \\ ] ^ _")
