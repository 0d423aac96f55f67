r"""The Go templates of ``--format``: text with fields, as in ``{{.ID}}\t{{json .Labels}}``.

That is all of the language that podman's and docker's users need here; what else stands in braces
is refused. Fields of fields are reached by dots, as in ``{{.status.pid}}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import click

from ocigrpc.cli.views.output import is_message, plain, write_lines
from ocigrpc.cli.views.table import Row, Table

_Command = TypeVar("_Command", bound=Callable[..., object])
_PLACEHOLDER = re.compile(r"\{\{\s*(json\s+)?(\.|(?:\.\w+)+)\s*\}\}")
_TABLE = "table "


class Template(NamedTuple):
    """Text, with a field between each two pieces of it."""

    texts: Sequence[str]
    fields: Sequence[Field]

    @classmethod
    def of(cls, text: str, names: Iterable[str]) -> Template:
        """The template of a text, whose fields may have these names. Raises a usage error."""
        # Shells pass both characters of what would be a tab or a new line to Go.
        text = text.replace("\\t", "\t").replace("\\n", "\n")
        texts = _PLACEHOLDER.split(text)
        fields = [
            Field(tuple(filter(None, path.split("."))), bool(as_json))
            for as_json, path in zip(texts[1::3], texts[2::3], strict=True)
        ]
        template = cls(texts[::3], fields)
        if any("{{" in each or "}}" in each for each in template.texts):
            raise click.UsageError(
                f"--format: {text!r} has more than fields, as in {{{{.ID}}}} or {{{{json .ID}}}}."
            )
        known = list(names)
        for field in fields:
            if field.path and field.path[0] not in known:
                raise click.UsageError(
                    f"--format: there is no field {field.path[0]}. Fields: {', '.join(known)}."
                )
        return template

    def filled(self, values: Mapping[str, object]) -> str:
        """The text with values. Raises a usage error for a field that a value does not have."""
        found = [each.text(values) for each in self.fields]
        return "".join(text + value for text, value in zip(self.texts, [*found, ""], strict=True))

    def title(self, titles: Mapping[str, str]) -> str:
        """The text with the titles of its fields."""
        found = [titles.get(".".join(each.path[:1]), "") for each in self.fields]
        return "".join(text + title for text, title in zip(self.texts, [*found, ""], strict=True))


class Field(NamedTuple):
    """One placeholder: the names that lead to a value, and whether it is printed as JSON."""

    path: Sequence[str]
    as_json: bool

    def text(self, values: Mapping[str, object]) -> str:
        """The value as Go prints it, but lists and objects as JSON, and what is absent as ""."""
        value: object = values
        for name in self.path:
            value = _below(value, name)
        if isinstance(value, str) and not self.as_json:
            return value
        if value is None and not self.as_json:
            return ""
        return json.dumps(plain(value), ensure_ascii=False)


def format_option(names: Iterable[str], *more: str) -> Callable[[_Command], _Command]:
    """The option ``--format``, or ``more`` besides, whose help lists the fields."""
    return click.option(
        "--format",
        *more,
        "template",
        metavar="TEMPLATE",
        help="Print these fields, as in '{{.ID}} {{.State}}' or 'table {{.ID}}\\t{{json .Labels}}';"
        f" json is --output json. Fields: {', '.join(names)}.",
    )


def write_formatted(
    text: str, titles: Mapping[str, str], values: Iterable[Mapping[str, object]]
) -> None:
    """Print each set of values in a template; after ``table`` as a table with titles."""
    if not text.startswith(_TABLE):
        template = Template.of(text, titles)
        write_lines(template.filled(each) for each in values)
        return
    columns = [
        Template.of(column, titles)
        for column in text.removeprefix(_TABLE).strip().replace("\\t", "\t").split("\t")
    ]
    Table(
        [column.title(titles) for column in columns],
        [Row([column.filled(each) for column in columns]) for each in values],
    ).write()


def _below(value: object, name: str) -> object:
    """What a name leads to: a field of a message, or the value of a key; None if it is absent."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return value.get(name)
    known = value.DESCRIPTOR.fields_by_name if is_message(value) else {}
    if not is_message(value) or name not in known:
        fields = f" Fields: {', '.join(known)}." if known else ""
        raise click.UsageError(f"--format: there is no field {name}.{fields}")
    field = known[name]
    if field.has_presence and not value.HasField(name):
        return None
    if field.enum_type:
        return field.enum_type.values_by_number[getattr(value, name)].name
    below: object = getattr(value, name)
    return below
