"""What commands print for programs: messages as JSON and YAML, by the names of the contract."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import click

if TYPE_CHECKING:
    from google.protobuf.message import Message

_Command = TypeVar("_Command", bound=Callable[..., object])


def output_option(*kinds: str) -> Callable[[_Command], _Command]:
    """The option ``--output`` with these kinds, the first of which is the default."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice(kinds),
        default=kinds[0],
        show_default=True,
        help="What to print.",
    )


def is_message(value: object) -> TypeGuard[Message]:
    """Whether a value is a message of the contract."""
    # Imported here, since it loads protobuf.
    from google.protobuf.message import Message

    return isinstance(value, Message)


def as_object(message: Message) -> dict[str, object]:
    """A message as JSON has it, with every field that can't be absent."""
    # Imported here, since it loads protobuf.
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def plain(value: object) -> object:
    """A value as JSON has it, whatever it is."""
    if is_message(value):
        return as_object(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value


def write(kind: str, value: object) -> None:
    """Print a value as "json" or "yaml"."""
    if kind == "json":
        click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))
        return
    # Imported here, since nothing else needs it.
    import yaml

    text = yaml.dump(plain(value), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    click.echo(text, nl=False)


def write_lines(lines: Iterable[str]) -> None:
    """Print lines, and nothing for none."""
    click.echo("".join(f"{line}\n" for line in lines), nl=False)


def json_line(value: object) -> str:
    """A value as JSON in one line, as streams have it."""
    return json.dumps(plain(value), ensure_ascii=False)
