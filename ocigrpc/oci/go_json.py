"""JSON as Go's encoding/json decodes it into types, which is how runc reads a spec.

Field names match in any letter case, and the exact name has no precedence. Of duplicates the
last counts, except that objects are merged. null is like an absent field, a missing field is
zero, and anything after the value is ignored. The result is JSON that means the same to every
reader.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, NoReturn

import msgspec.inspect as inspect
from msgspec import Raw, Struct

_INTEGERS = range(-(1 << 63), 1 << 64)
_SPACE = " \t\n\r"
# Perhaps half a pair of surrogates.
_SURROGATE = re.compile(rb"\\u[dD]")

# Most levels of a value for which there is no type.
_DEPTH_LIMIT = 63


class _Members(list[tuple[str, object]]):
    """The members, in their order, of an object that has some twice; any other is a dict."""


_OBJECT = (dict, _Members)


def decode(text: bytes, kind: type[Struct]) -> object:
    """The value of a JSON text, as Go would decode it into a type.

    Fields get the names that ``kind`` has for them; unknown fields are kept. Numbers other
    than 64-bit integers become ``msgspec.Raw``, which is written again unchanged. Raises
    ``ValueError`` for malformed JSON and for unknown fields that are far too deep,
    ``RecursionError`` for very deep JSON.
    """
    value, _ = _decoder().raw_decode(text.decode(errors="replace").lstrip(_SPACE))
    if _SURROGATE.search(text):
        value = _without_surrogates(value)
    return _fitted(value, _Shape("struct", kind))


@functools.cache
def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object, parse_int=_integer, parse_float=_raw, parse_constant=_refuse
    )


def _object(members: list[tuple[str, object]]) -> dict[str, object] | _Members:
    value = dict(members)
    return value if len(value) == len(members) else _Members(members)


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

    form: Literal["struct", "map", "list", "scalar", "any"]
    struct: type[Struct] | None = None
    items: _Shape | None = None
    zero: Callable[[], object] | None = None


class _Field(NamedTuple):
    name: str
    shape: _Shape
    required: bool


class _Fields:
    """The fields of a struct: those with an inner shape, and what makes those that are missing."""

    def __init__(self, kind: type[Struct]) -> None:
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        fields = [
            _Field(each.encode_name, _shape(each.type), each.required) for each in info.fields
        ]
        self.by_name: Mapping[str, _Field] = {each.name: each for each in fields}
        self.by_folded: Mapping[str, _Field] = {_fold(each.name): each for each in fields}
        self.inner = [each for each in fields if each.shape.form != "scalar"]
        self.zeros = {
            each.name: each.shape.zero for each in fields if each.required and each.shape.zero
        }


_fields = functools.cache(_Fields)


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
            return _Shape("any")


def _fold(name: str) -> str:
    # Go also matches the long s with s, and the Kelvin sign with k, which lower() does.
    return name.lower().replace("\u017f", "s")


def _fitted(value: object, shape: _Shape) -> object:
    """``value`` in a shape; a value of the wrong type is left for the check of types."""
    if isinstance(value, _OBJECT):
        if shape.struct is not None:
            return _fitted_struct(value, _fields(shape.struct))
        if shape.form == "map" and shape.items is not None:
            items = shape.items
            return {name: _fitted_or_zero(each, items) for name, each in _members(value)}
    elif isinstance(value, list) and shape.form == "list" and shape.items is not None:
        items = shape.items
        if items.form == "scalar" and None not in value:
            return value
        return [_fitted_or_zero(each, items) for each in value]
    return value if shape.form == "scalar" else _plain(value)


def _fitted_or_zero(value: object, shape: _Shape) -> object:
    if value is not None:
        return _fitted(value, shape)
    if shape.struct is not None:
        return _fitted_struct({}, _fields(shape.struct))
    return shape.zero() if shape.zero else None


def _fitted_struct(members: dict[str, object] | _Members, fields: _Fields) -> dict[str, object]:
    if isinstance(members, dict) and members.keys() <= fields.by_name.keys():
        # As nearly all are, but for a null.
        known = members if None not in members.values() else _named(members, fields)
    else:
        known = _named(members, fields)
    for each in fields.inner:
        if each.name in known:
            known[each.name] = _fitted(known[each.name], each.shape)
    for name, zero in fields.zeros.items():
        if name not in known:
            known[name] = zero()
    return known


def _named(members: dict[str, object] | _Members, fields: _Fields) -> dict[str, object]:
    """The members by the names of their fields, each once, and no null."""
    unknown: dict[str, object] = {}
    found: dict[str, object] = {}
    for name, value in _members(members):
        field = fields.by_name.get(name) or fields.by_folded.get(_fold(name))
        if field is None:
            unknown[name] = _plain(value)
        elif value is not None:
            found[field.name] = _together(found.get(field.name), value)
        elif field.shape.form not in ("scalar", "any"):
            found.pop(field.name, None)
    return {**unknown, **found}


def _together(earlier: object, later: object) -> object:
    if isinstance(earlier, _OBJECT) and isinstance(later, _OBJECT):
        both = earlier if isinstance(earlier, _Members) else _Members(earlier.items())
        both.extend(_members(later))
        return both
    return later


def _members(value: dict[str, object] | _Members) -> Iterable[tuple[str, object]]:
    return value.items() if isinstance(value, dict) else value


def _plain(value: object, levels: int = _DEPTH_LIMIT) -> object:
    """A value for which there is no type."""
    if isinstance(value, dict | list) and not levels:
        raise ValueError(f"a field is deeper than {_DEPTH_LIMIT} levels")
    if isinstance(value, _OBJECT):
        return {name: _plain(each, levels - 1) for name, each in _members(value)}
    if isinstance(value, list):
        return [_plain(each, levels - 1) for each in value]
    return value


def _without_surrogates(value: object) -> object:
    """The value with lone surrogates replaced, as Go does."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, _OBJECT):
        changed = [(_text(name), _without_surrogates(each)) for name, each in _members(value)]
        return _object(changed)
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    return value


def _text(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
