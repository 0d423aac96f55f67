"""The page of the API, in Markdown, from the comments of the protos.

``scripts/protos`` hands it protoc's description of the files, a ``FileDescriptorSet`` with source
information, and takes the page from standard output.
"""

from __future__ import annotations

import itertools
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

_HEAD = """\
# The API

Made by `scripts/protos` from the comments in `protos/ocigrpc/v1`; change those. See
[README.md](README.md) for a tour.
"""

# Where something is in its file: field numbers and indexes, as protoc counts them.
_Path: TypeAlias = tuple[int, ...]

_SYNTAX: _Path = (12,)
_PACKAGE = ".ocigrpc.v1."


def page(files: Sequence[FileDescriptorProto]) -> str:
    parts = [_Part(each) for each in sorted(files, key=lambda file: file.name)]
    messages = {name: message for part in parts for name, message in part.messages()}
    blocks = [_HEAD]
    for part in parts:
        for number, service in enumerate(part.file.service):
            path = (6, number)
            comments = [part.comment((*path, 2, index)) for index in range(len(service.method))]
            rows = [
                (f"[{method.name}](#rpc-{method.name.lower()})", _first_sentence(comment))
                for method, comment in zip(service.method, comments, strict=True)
            ]
            blocks += [f"## {service.name}", _text(part.comment(path))]
            blocks += [_table(("call", "what it does"), rows), _text(part.comment(_SYNTAX))]
            for method, comment in zip(service.method, comments, strict=True):
                blocks += _method(method, comment, messages)
    used = _of_one_method(files)
    for part in parts:
        blocks.append(f"## {Path(part.file.name).name}")
        if not part.file.service:
            blocks.append(_text(part.comment(_SYNTAX)))
        for name, message in part.messages():
            if name not in used:
                blocks += [f"### {name}", *message]
        for name, enum in part.enums():
            blocks += [f"### {name}", *enum]
    return "\n\n".join(block.rstrip() for block in _without_bare_headings(blocks)) + "\n"


class _Part:
    """One file, with the comments of what is in it."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self.file = file
        self._comments = {
            tuple(each.path): each.leading_comments
            for each in file.source_code_info.location
            if each.leading_comments
        }

    def comment(self, path: _Path) -> str:
        return self._comments.get(path, "")

    def messages(self) -> Iterator[tuple[str, list[str]]]:
        """Name and description of each message, nested ones behind those that they are in."""
        for index, message in enumerate(self.file.message_type):
            yield from self._message(message, (4, index), "")

    def enums(self) -> Iterator[tuple[str, list[str]]]:
        """Name and description of each enum that is not nested."""
        for index, enum in enumerate(self.file.enum_type):
            yield enum.name, self._enum(enum, (5, index))

    def _message(
        self, message: DescriptorProto, path: _Path, outer: str
    ) -> Iterator[tuple[str, list[str]]]:
        name = f"{outer}{message.name}"
        maps = {each.name: each.field for each in message.nested_type if each.options.map_entry}
        rows = [
            (f"`{field.name}`", _type(field, maps), self.comment((*path, 2, index)))
            for index, field in enumerate(message.field)
        ]
        choices = [
            f"One of `{each.name}`: {_text(text)}"
            for index, each in enumerate(message.oneof_decl)
            if (text := self.comment((*path, 8, index)))
        ]
        table = _table(("field", "type", "meaning"), rows) if rows else "No fields."
        yield name, [_text(self.comment(path)), *choices, table]
        for index, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                yield from self._message(nested, (*path, 3, index), f"{name}.")
        for index, enum in enumerate(message.enum_type):
            yield f"{name}.{enum.name}", self._enum(enum, (*path, 4, index))

    def _enum(self, enum: EnumDescriptorProto, path: _Path) -> list[str]:
        rows = [
            (f"`{value.name}`", str(value.number), self.comment((*path, 2, index)))
            for index, value in enumerate(enum.value)
        ]
        return [_text(self.comment(path)), _table(("value", "number", "meaning"), rows)]


def _method(
    method: MethodDescriptorProto, comment: str, messages: dict[str, list[str]]
) -> Iterator[str]:
    # A message may have the name of a method.
    yield f"### rpc {method.name}"
    yield _text(comment)
    for name, type_name, streams in (
        ("Request", method.input_type, method.client_streaming),
        ("Response", method.output_type, method.server_streaming),
    ):
        message = type_name.removeprefix(_PACKAGE)
        how = "a stream of " if streams else ""
        if message == f"{method.name}{name}":
            described = [each for each in messages[message] if each]
            yield f"{name}: {how}`{message}`"
            yield from described
        else:
            yield f"{name}: {how}{_link(message)}"


def _of_one_method(files: Sequence[FileDescriptorProto]) -> set[str]:
    """The messages that are described with their methods."""
    names = {method.name for file in files for each in file.service for method in each.method}
    return {f"{name}{end}" for name in names for end in ("Request", "Response")}


def _without_bare_headings(blocks: Sequence[str]) -> Iterator[str]:
    """All but empty blocks, and the headings of files with nothing below them."""
    found = [block for block in blocks if block]
    for block, behind in itertools.zip_longest(found, found[1:], fillvalue="## "):
        if not (block.startswith("## ") and behind.startswith("## ")):
            yield block


def _type(field: FieldDescriptorProto, maps: Mapping[str, Sequence[FieldDescriptorProto]]) -> str:
    if entry := maps.get(field.type_name.rpartition(".")[2]):
        key, value = (_plain_type(each) for each in entry)
        return f"map from {key} to {value}"
    plain = _plain_type(field)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {plain}"
    return f"optional {plain}" if field.proto3_optional else plain


def _plain_type(field: FieldDescriptorProto) -> str:
    if not field.type_name:
        return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return _link(field.type_name.removeprefix(_PACKAGE))


def _link(name: str) -> str:
    if name.startswith("."):
        return f"`{name[1:]}`"
    return f"[{name}](#{name.lower().replace('.', '')})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([*row[:-1], _cell(row[-1])] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(comment: str) -> str:
    """A comment in one line."""
    paragraphs = re.split(r"\n\s*\n", comment.strip())
    return "<br>".join(" ".join(each.split()) for each in paragraphs).replace("|", "\\|")


def _first_sentence(comment: str) -> str:
    return comment.strip().split("\n\n")[0].partition(". ")[0].removesuffix(".") + "."


def _text(comment: str) -> str:
    """A comment in paragraphs; what is indented, as lists of errors are, keeps its form."""
    blocks = []
    for indented, lines in itertools.groupby(
        comment.splitlines(), key=lambda line: line.startswith("  ")
    ):
        text = textwrap.dedent("\n".join(lines)).strip("\n")
        if text:
            blocks.append(f"```text\n{text}\n```" if indented else text)
    return "\n\n".join(blocks)


def main() -> None:
    """Print the page of what is on standard input."""
    print(page(FileDescriptorSet.FromString(sys.stdin.buffer.read()).file), end="")


if __name__ == "__main__":
    main()
