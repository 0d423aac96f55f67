"""Values that are hostile where they stand: by the name of a field, or by its type."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.bed.faults.hostile_places import Places

Values: TypeAlias = SearchStrategy[object]

# Containers that are there: one whose program runs, and one whose program has ended.
LIVING, ENDED = "living", "ended"

_STRANGE_TEXTS = (
    "",
    "\0",
    "a\0b",
    "\n",
    "a\nb",
    "\r\x1b[2J",
    "..",
    "../../etc/passwd",
    "/",
    "-",
    "--help",
    "a=b",
    "a:b",
    '"\\',
    "%s%n",
    "\u202e\ufffd\U0010ffff",
    "x" * 4096,
    "ä" * 40_000,
    "/x" * 100_000,
)
_STRANGE_PATHS = (
    "relative/path",
    "/no/such/directory/file",
    "/proc/self/environ",
    "/proc/self/fd/0",
    "/proc/self/root",
    "/proc/self/cwd/../x",
    "/proc/sysrq-trigger",
    "/proc/kmsg",
    "/sys/kernel/notes",
    "/sys/fs/cgroup",
    "/dev/null",
    "/dev/full",
    "/dev/tty",
    "/dev/stdin",
    "//",
    "/.",
    "/etc/../../..",
    "/" + "y" * 300,
    "/z" * 2047,
)
TEXTS: Values = st.one_of(st.sampled_from(_STRANGE_TEXTS), st.text(max_size=12))

# Ids that no container has.
IDS: Values = st.one_of(
    st.sampled_from(["nobody", "Nobody", "a/b", ".hidden", "y" * 64, "y" * 65, "é"]), TEXTS
)

_NUMBERS = (0, 1, -1, 2, 1000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1)


def _integers(low: int, high: int) -> Values:
    edges = [number for number in (*_NUMBERS, low, high) if low <= number <= high]
    return st.one_of(st.sampled_from(edges), st.integers(low, high))


# Values by the type of a field.
BY_TYPE: Mapping[int, Values] = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_BYTES: st.one_of(
        st.binary(max_size=20), st.sampled_from([b"\xff" * 4096, b"\0" * 100_000])
    ),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: _integers(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: _integers(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: _integers(0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: _integers(0, (1 << 64) - 1),
}


# Values that no request with a field of this name may be granted with.
NEVER_RIGHT: Mapping[str, tuple[str, ...]] = {
    "container_id": ("a/b", ".hidden", "y" * 256, "é"),
    # Also because a cgroup that is made elsewhere would be missed.
    "cgroup_parent": ("..", "/..", "/../x", "machine.slice", "relative", "/a//b"),
    "runtime_handler": ("kata", "runc ", "RUNC", "../runc", "crun;"),
    "signal": ("SIG", "SIGNOPE", "0", "65", "-9", "9999", "KILL ", "RTMIN+99"),
    "user": (
        ":nobody",
        "root:x:",
        "::",
        "1:2:3",
        "-1",
        "4294967295",
        "9" * 5000,
        "\u0661",
        "root:x",
    ),
    "hostname": ("-", ".", "a b", "x" * 65, "a..b", "host\n"),
    "cpuset_cpus": ("-1", "0-", "2-1", "0,,1", "a"),
    "cpuset_mems": ("-1", "1,", " 0"),
    "permissions": ("x", "rwmr", "RW", "rr"),
    "add_capabilities": ("CAP_", "FLY"),
    "add_ambient_capabilities": ("CAP_", "FLY"),
}

# Those that the host and the rest of the request decide about.
_PERHAPS_RIGHT: Mapping[str, tuple[str, ...]] = {
    "user": ("nobody",),
    "cpuset_cpus": ("999999", "0-999999"),
    "cpuset_mems": ("999999",),
    "add_capabilities": ("all", "CAP_ALL", "SYS_ADMIN"),
    "add_ambient_capabilities": ("all", "SYS_ADMIN"),
    "options": ("bind", "remount", "size=1k", "a,b", "shared", "idmap", ""),
}


def values_by_name(places: Places, cgroup_parent: str) -> Mapping[str, Values]:
    """Values of text fields by their names, which show what they mean."""
    paths = st.sampled_from([*_STRANGE_PATHS, *places.strange])
    path_fields = (
        "bundle_path rootfs_path container_path host_path working_dir localhost_ref path paths"
        " log_path"
    )
    words = {
        name: st.sampled_from([*NEVER_RIGHT.get(name, ()), *_PERHAPS_RIGHT.get(name, ())])
        for name in (*NEVER_RIGHT, *_PERHAPS_RIGHT)
    }
    return {
        **dict.fromkeys(path_fields.split(), paths),
        **words,
        "container_id": st.one_of(st.sampled_from([LIVING, ENDED]), IDS),
        "id_prefix": IDS,
        "name": IDS,
        "spec_json": st.one_of(st.sampled_from(places.texts), bent_specs(places.spec)),
        "cgroup_parent": st.one_of(words["cgroup_parent"], st.just(f"{cgroup_parent}/../..")),
    }


_JSON: Values = st.sampled_from(
    [
        None,
        True,
        -1,
        1 << 70,
        -(1 << 63),
        1.5,
        "",
        "a\0b",
        "\n",
        "../..",
        "/proc/self/root",
        "/dev/null",
        "x" * 4096,
        "y" * 200_000,
        [],
        {},
        [[]],
        [None],
        [""],
        ["\0"],
        {"": ""},
        {"type": "none"},
        {"\0": {}},
        ["x"] * 5000,
    ]
)


@st.composite
def bent_specs(draw: DrawFn, sound: str) -> str:
    """A sound OCI runtime spec in which one value, somewhere, is another."""
    spec = json.loads(sound)
    node = spec
    while True:
        keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        inner = node[key]
        if not (isinstance(inner, dict | list) and inner) or draw(st.integers(0, 3)) == 0:
            break
        node = inner
    node[key] = copy.deepcopy(draw(_JSON))
    return json.dumps(spec)
