"""JSON as Go's encoding/json decodes it into types, which is how runc reads a spec.

Field names match in any letter case, and the exact name has no precedence. Of duplicates the
last counts, except that objects are merged. null is like an absent field, a missing field is
zero, and anything after the value is ignored. The result is JSON that means the same to every
reader.
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
    """The members of an object in their order, with duplicates."""


def decode(text: bytes, kind: type[Struct]) -> object:
    """The value of a JSON text, as Go would decode it into a type.

    Fields get the names that ``kind`` has for them; unknown fields are kept. Numbers other
    than 64-bit integers become ``msgspec.Raw``, which is written again unchanged. Raises
    ``ValueError`` for malformed JSON, ``RecursionError`` for very deep JSON.
    """
    value, _ = _decoder().raw_decode(text.decode(errors="replace").lstrip(_SPACE))
    return _fitted(value, _Shape("struct", kind))


@functools.cache
def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_Members, parse_int=_integer, parse_float=_raw, parse_constant=_refuse
    )


def _integer(digits: str) -> object:
    # int() refuses thousands of digits.
    value = int(digits) if len(digits) <= 20 else _INTEGERS.stop
    return value if value in _INTEGERS else _raw(digits)


def _raw(digits: str) -> Raw:
    return Raw(digits.encode())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class _Shape(NamedTuple):
    """The type that a value is decoded into; ``zero`` makes its zero value."""

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
    """The fields of a struct, by their names in JSON, both exact and in lower case."""
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
    # Go also matches the long s with s, and the Kelvin sign with k, which lower() does.
    return name.lower().replace("\u017f", "s")


def _fitted(value: object, shape: _Shape) -> object:
    """``value`` in a shape; a value of the wrong type is left for the check of types."""
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
    """The text with lone surrogates replaced, as Go does."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
