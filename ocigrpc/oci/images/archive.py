"""Archives of images: that of ``docker save``, and an OCI image layout; as plain tar.

What is in them is read from their own lists. Of tar(5) only that is understood which both need for
these: names, and sizes, also in the headers of pax for what is larger than 8 GiB.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import BinaryIO, NamedTuple

import msgspec
from msgspec import Struct

from ocigrpc.oci.decoding import decoded
from ocigrpc.oci.images.manifest import MANIFEST_LIMIT_BYTES
from ocigrpc.oci.images.reference import DEFAULT_REGISTRY, Reference

# The programs that unpack an archive from standard input, by what it begins with. The second word
# of the last keeps it from taking as much memory as the archive says that it needs.
UNPACKERS: Mapping[bytes, Sequence[str]] = {
    b"\x1f\x8b": ("gzip", "-dc"),
    b"BZh": ("bzip2", "-dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "-qdc"),
    b"\xfd7zXZ\0": ("xz", "--memlimit-decompress=256MiB", "-dc"),
}

# Most images of an archive, most names that they have together, and most files that are looked at
# for its list.
_IMAGES_LIMIT = 1000
_NAMES_LIMIT = 1000
_FILES_LIMIT = 1_000_000

_BLOCK_BYTES = 512
# Larger than any file, and more digits than that has.
_SIZE_LIMIT_BYTES = 1 << 60
_DIGITS_LIMIT = 20
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_MAGIC = slice(257, 263)
# Of the one form that may have the beginning of a name behind it.
_PREFIX_MAGIC = b"ustar\0"
_FILE_KINDS = (b"0", b"\0")
# Links, devices, directories and FIFOs, which have no content whatever their size.
_EMPTY_KINDS = (b"1", b"2", b"3", b"4", b"5", b"6")
# What is true of the next file; the limit is that of skopeo.
_PAX_KIND = b"x"
_PAX_LIMIT_BYTES = 1 << 20

_NO_TAR = "it is no tar archive, or it is damaged"

_DOCKER_LIST, _OCI_LIST = "manifest.json", "index.json"
# Annotations of an image in a layout: a whole name, as containerd and docker have it; and a tag,
# or what podman and skopeo have for a name.
_WHOLE_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"


class ArchiveForm(StrEnum):
    """The forms of an archive; the values are the words of skopeo."""

    DOCKER = "docker-archive"
    OCI = "oci-archive"


class ArchivedImage(NamedTuple):
    """An image of an archive: what skopeo calls it there, and the whole names that it has."""

    reference: str
    names: Sequence[str]


class _Saved(Struct, frozen=True):
    tags: list[str] | None = msgspec.field(name="RepoTags", default=None)


class _Entry(Struct, frozen=True):
    annotations: dict[str, str] | None = None


class _Index(Struct, frozen=True):
    manifests: list[_Entry] = []


# Made at import: msgspec crashes when two threads use a type for the first time.
_DOCKER = msgspec.json.Decoder(list[_Saved])
_OCI = msgspec.json.Decoder(_Index)


def archived_images(file: BinaryIO) -> tuple[ArchiveForm, Sequence[ArchivedImage]]:
    """The form of an archive and its images, in its order. Raises ``ValueError``, ``OSError``."""
    lists = _files(file, (_DOCKER_LIST, _OCI_LIST))
    # Newer versions of docker write both, for the same images.
    if _DOCKER_LIST in lists:
        form, images = ArchiveForm.DOCKER, _saved(lists[_DOCKER_LIST])
    elif _OCI_LIST in lists:
        form, images = ArchiveForm.OCI, _laid_out(lists[_OCI_LIST])
    else:
        raise ValueError(f"it has neither {_DOCKER_LIST} nor {_OCI_LIST}")
    if not images:
        raise ValueError("it has no image")
    if len(images) > _IMAGES_LIMIT:
        raise ValueError(f"it has more than {_IMAGES_LIMIT} images")
    if sum(len(each.names) for each in images) > _NAMES_LIMIT:
        raise ValueError(f"its images have more than {_NAMES_LIMIT} names")
    return form, images


def _saved(text: bytes) -> Sequence[ArchivedImage]:
    return [
        ArchivedImage(f"@{number}", [_whole_name(tag) for tag in each.tags or ()])
        for number, each in enumerate(decoded(_DOCKER, text))
    ]


def _laid_out(text: bytes) -> Sequence[ArchivedImage]:
    entries = [each.annotations or {} for each in decoded(_OCI, text).manifests]
    references = [each.get(_REF_NAME, "") for each in entries]
    if len(entries) > 1 and not (all(references) and len(set(references)) == len(references)):
        raise ValueError(f"it has several images, and they have no different {_REF_NAME}")
    return [
        ArchivedImage(reference if len(entries) > 1 else "", _names_of(annotations))
        for reference, annotations in zip(references, entries, strict=True)
    ]


def _names_of(annotations: Mapping[str, str]) -> Sequence[str]:
    """The name of an image of a layout; none if it has a tag alone."""
    name = annotations.get(_WHOLE_NAME, "")
    if not name and set("/:") & set(annotations.get(_REF_NAME, "")):
        name = annotations[_REF_NAME]
    return [_whole_name(name)] if name else []


def _whole_name(name: str) -> str:
    """A name as in an archive, whose writers leave out docker.io. Raises ``ValueError``."""
    reference = Reference.parse(name)
    if reference.is_short:
        reference = reference.at(DEFAULT_REGISTRY)
    return str(reference.tagged())


def _files(file: BinaryIO, wanted: Collection[str]) -> Mapping[str, bytes]:
    """The content of those files of an archive that are wanted and there."""
    found = dict[str, bytes]()
    pax: Mapping[str, str] = {}
    for _ in range(_FILES_LIMIT):
        header = file.read(_BLOCK_BYTES)
        if len(header) < _BLOCK_BYTES or not any(header):
            return found
        blanked = header[: _CHECKSUM.start] + b" " * 8 + header[_CHECKSUM.stop :]
        if sum(blanked) != _number(header[_CHECKSUM]):
            raise ValueError(_NO_TAR)
        kind, begin = header[156:157], file.tell()
        if kind == _PAX_KIND:
            size = _number(header[_SIZE])
            pax = _pax(_content(file, size, _PAX_LIMIT_BYTES, "header of a file"))
        else:
            name, size = _name_and_size(header, pax)
            pax = {}
            if name in wanted and kind in _FILE_KINDS:
                found[name] = _content(file, size, MANIFEST_LIMIT_BYTES, name)
        file.seek(begin + size + -size % _BLOCK_BYTES)
    raise ValueError(f"it has more than {_FILES_LIMIT} files")


def _name_and_size(header: bytes, pax: Mapping[str, str]) -> tuple[str, int]:
    """The name of a file, and how many bytes there are until the next header."""
    name = header[:100].rstrip(b"\0").decode(errors="replace")
    if header[_MAGIC] == _PREFIX_MAGIC and (prefix := header[345:500].rstrip(b"\0")):
        name = f"{prefix.decode(errors='replace')}/{name}"
    size = _checked_size(_decimal(pax["size"])) if "size" in pax else _number(header[_SIZE])
    is_empty = header[156:157] in _EMPTY_KINDS
    return pax.get("path", name).removeprefix("./"), 0 if is_empty else size


def _content(file: BinaryIO, size: int, limit_bytes: int, what: str) -> bytes:
    if size > limit_bytes:
        raise ValueError(f"its {what} is larger than {limit_bytes} bytes")
    return file.read(size)


def _pax(text: bytes) -> Mapping[str, str]:
    """The values of a header of pax, whose lines have their length before them."""
    found = dict[str, str]()
    begin = 0
    while begin < len(text):
        words = text.find(b" ", begin, begin + _DIGITS_LIMIT) + 1
        end = begin + _decimal(text[begin : max(words - 1, begin)].decode(errors="replace"))
        key, separator, value = text[words : end - 1].decode(errors="replace").partition("=")
        if not separator or end > len(text) or text[end - 1 : end] != b"\n":
            raise ValueError(_NO_TAR)
        found[key] = value
        begin = end
    return found


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < _DIGITS_LIMIT):
        raise ValueError("a header in it has a number that is none")
    return int(text)


def _number(field: bytes) -> int:
    """A number of a header, in octal digits or, if it is large, as its bytes."""
    if field[0] & 0x80:
        return _checked_size(int.from_bytes(field[1:], "big"))
    return _checked_size(int(field.strip(b" \0") or b"0", 8))


def _checked_size(number: int) -> int:
    if not 0 <= number < _SIZE_LIMIT_BYTES:
        raise ValueError("a file in it has a size that none has")
    return number
