"""What the command line knows of each setting, from its field of ``Settings``."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta

from ocigrpc.settings.values import FileMode, Settings, encode_hook


class Setting(NamedTuple):
    """What there is to know about one setting, to give it, to decode it or to explain it."""

    key: str
    variable: str
    flag: str
    description: str
    default: str
    type: object
    choices: tuple[str, ...]
    """The only values allowed; empty when there is no such list."""
    is_table: bool
    """Whether it has keys of its own, which are written as JSON outside the file."""


def settings_table() -> list[Setting]:
    """All settings in their order, for decoding, help and documentation."""
    defaults = Settings()
    return [
        Setting(
            key=each.name,
            variable="OCIGRPC_" + each.name.upper(),
            flag="--" + each.name.replace("_", "-"),
            description=_description(each.type),
            default=_text(getattr(defaults, each.name)),
            type=each.type,
            choices=_choices(each.type),
            is_table=isinstance(getattr(defaults, each.name), dict),
        )
        for each in msgspec.structs.fields(Settings)
    ]


def _description(annotated: object) -> str:
    metas = [each for each in get_args(annotated) if isinstance(each, Meta)]
    return " ".join(each.description for each in metas if each.description)


def _choices(annotated: object) -> tuple[str, ...]:
    bare = get_args(annotated)[0]
    if isinstance(bare, type) and issubclass(bare, StrEnum):
        return tuple(bare)
    return get_args(bare) if get_origin(bare) is Literal else ()


def _text(value: object) -> str:
    """A default, for people."""
    if isinstance(value, FileMode):
        return encode_hook(value)
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, dict) else str(value) or '""'
