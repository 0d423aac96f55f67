"""Which images may be used; containers-policy.json(5)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ocigrpc.oci.decoding import decoded

# What asks for no signature.
_UNSIGNED = frozenset(("insecureAcceptAnything", "reject"))


class _Requirement(Struct):
    type: str


class _Policy(Struct):
    default: list[_Requirement]
    transports: dict[str, dict[str, list[_Requirement]]] = {}


# Made at import: msgspec crashes when two threads use a type for the first time.
_DECODER = msgspec.json.Decoder(_Policy)


def wants_signatures(text: bytes) -> bool:
    """Whether a policy has any requirement that a signature fulfils; true if it can't be parsed."""
    try:
        policy = decoded(_DECODER, text)
    except ValueError:
        return True
    scopes = [each for scopes in policy.transports.values() for each in scopes.values()]
    return any(each.type not in _UNSIGNED for scope in (policy.default, *scopes) for each in scope)
