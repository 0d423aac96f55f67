"""JSON as Go's encoding/json reads it into types, which is how runc reads a spec.

Names of fields match in any case, and the exact one is no better than a later other one; of
what comes twice the later counts, and objects are put together; null is as if the field were
not there; a field that is missing is zero; what follows the value is not read. Here all of
that becomes JSON that means the same to every reader.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, NoReturn

import msgspec.inspect as inspect
from msgspec import Raw, Struct

_INTEGERS = range(-(1 << 63), 1 << 64)
_SPACE = " \t\n\r"


class _Members(list[tuple[str, object]]):
    """An object as it is written, with what comes twice."""


def decode(text: bytes, kind: type[Struct]) -> object:
    """The value of a JSON text, as Go would have it in a type.

    Fields have the names of ``kind``, and what it does not know is kept. Numbers that are
    no integers of 64 bits are ``msgspec.Raw``, to be written again as they are. Raises
    ``ValueError`` for what is no JSON, ``RecursionError`` for what is very deep.
    """
    value, _ = _decoder().raw_decode(text.decode(errors="replace").lstrip(_SPACE))
    return _fitted(value, _Shape("struct", kind))


@functools.cache
def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_Members, parse_int=_integer, parse_float=_raw, parse_constant=_refuse
    )


def _integer(digits: str) -> object:
    # Python refuses to read thousands of digits.
    value = int(digits) if len(digits) <= 20 else _INTEGERS.stop
    return value if value in _INTEGERS else _raw(digits)


def _raw(digits: str) -> Raw:
    return Raw(digits.encode())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


class _Shape(NamedTuple):
    """What a value is to be: ``of`` a type of struct, or of items; ``zero`` makes none of it."""

    form: Literal["struct", "map", "list", "scalar"]
    struct: type[Struct] | None = None
    items: _Shape | None = None
    zero: Callable[[], object] | None = None


class _Field(NamedTuple):
    name: str
    shape: _Shape
    required: bool


@functools.cache
def _fields(kind: type[Struct]) -> Mapping[str, _Field]:
    """The fields of a struct, by their names in JSON, and by those names in small letters."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    fields = [_Field(each.encode_name, _shape(each.type), each.required) for each in info.fields]
    return {_fold(each.name): each for each in fields} | {each.name: each for each in fields}


def _shape(kind: inspect.Type) -> _Shape:
    match kind:
        case inspect.UnionType(types):
            return next(_shape(each) for each in types if not isinstance(each, inspect.NoneType))
        case inspect.StructType(cls):
            return _Shape("struct", cls)
        case inspect.DictType(value_type=inner):
            return _Shape("map", items=_shape(inner), zero=dict)
        case inspect.ListType(item_type=inner):
            return _Shape("list", items=_shape(inner), zero=list)
        case inspect.StrType() | inspect.LiteralType():
            return _Shape("scalar", zero=str)
        case inspect.IntType():
            return _Shape("scalar", zero=int)
        case inspect.BoolType():
            return _Shape("scalar", zero=bool)
        case _:
            return _Shape("scalar")


def _fold(name: str) -> str:
    # Go takes the long s for an s; lower() makes a k of the Kelvin sign itself.
    return name.lower().replace("\u017f", "s")


def _fitted(value: object, shape: _Shape) -> object:
    """``value`` in a shape; what does not fit is left for who checks types."""
    if isinstance(value, _Members):
        if shape.struct is not None:
            return _fitted_struct(value, shape.struct)
        if shape.form == "map" and shape.items is not None:
            items = shape.items
            return {_text(name): _fitted_or_zero(each, items) for name, each in value}
    elif isinstance(value, list) and shape.form == "list" and shape.items is not None:
        items = shape.items
        return [_fitted_or_zero(each, items) for each in value]
    return _plain(value)


def _fitted_or_zero(value: object, shape: _Shape) -> object:
    if value is not None:
        return _fitted(value, shape)
    if shape.struct is not None:
        return _fitted_struct(_Members(), shape.struct)
    return shape.zero() if shape.zero else None


def _fitted_struct(members: _Members, kind: type[Struct]) -> dict[str, object]:
    fields = _fields(kind)
    unknown: dict[str, object] = {}
    found: dict[_Field, object] = {}
    for name, value in members:
        field = fields.get(name) or fields.get(_fold(name))
        if field is None:
            unknown[_text(name)] = _plain(value)
        elif value is not None:
            found[field] = _together(found.get(field), value)
        elif field.shape.form != "scalar":
            found.pop(field, None)
    zeros = {
        each.name: each.shape.zero()
        for each in fields.values()
        if each.required and each.shape.zero
    }
    known = {field.name: _fitted(value, field.shape) for field, value in found.items()}
    return {**unknown, **zeros, **known}


def _together(earlier: object, later: object) -> object:
    if isinstance(earlier, _Members) and isinstance(later, _Members):
        return _Members([*earlier, *later])
    return later


def _plain(value: object) -> object:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, _Members):
        return {_text(name): _plain(each) for name, each in value}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _text(text: str) -> str:
    """A text in which half a pair of surrogates is what Go makes of it."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
