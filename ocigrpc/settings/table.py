"""All settings as one list, made of the fields of ``Settings`` and of its tables."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple, get_args, get_origin

from msgspec import Meta, Struct
from msgspec.structs import FieldInfo, fields

from ocigrpc.settings.access import FileMode
from ocigrpc.settings.values import Settings, encode_hook


class Setting(NamedTuple):
    """One setting: how it is named, decoded and explained."""

    key: str
    """Its name, after that of its table in the settings file and a dot, if it is in one."""
    variable: str
    flag: str
    description: str
    default: str
    type: object
    choices: tuple[str, ...]
    """The only values allowed; empty when there is no such list."""
    is_table: bool
    """Whether it has several values, which are written as JSON outside the file."""


def settings_table() -> list[Setting]:
    """All settings in their order, for decoding, help and documentation."""
    found = []
    for field in fields(Settings):
        default = getattr(Settings(), field.name)
        if isinstance(default, Struct):
            found += [_setting(f"{field.name}.", default, each) for each in fields(default)]
        else:
            found.append(_setting("", Settings(), field))
    return found


def _setting(table: str, defaults: Struct, field: FieldInfo) -> Setting:
    key, default = table + field.name, getattr(defaults, field.name)
    flat = key.replace(".", "_")
    return Setting(
        key=key,
        variable=f"OCIGRPC_{flat.upper()}",
        flag=f"--{flat.replace('_', '-')}",
        description=_description(field.type),
        default=_text(default),
        type=field.type,
        choices=_choices(field.type),
        is_table=isinstance(default, dict | tuple),
    )


def _description(annotated: object) -> str:
    metas = [each for each in get_args(annotated) if isinstance(each, Meta)]
    return " ".join(each.description for each in metas if each.description)


def _choices(annotated: object) -> tuple[str, ...]:
    bare = get_args(annotated)[0]
    if isinstance(bare, type) and issubclass(bare, StrEnum):
        return tuple(bare)
    return get_args(bare) if get_origin(bare) is Literal else ()


def _text(value: object) -> str:
    """A default, as it is shown."""
    if isinstance(value, FileMode):
        return encode_hook(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | tuple):
        return ", ".join(value) or "[]"
    return str(value) or '""'
