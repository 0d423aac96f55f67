"""Specs as Go's decoder reads them: made into what means the same to every reader."""

from __future__ import annotations

import json

import msgspec
import pytest

from ocigrpc.oci.go_json import decode
from ocigrpc.oci.spec.types import RuntimeSpec

PLAIN: dict[str, object] = {
    "ociVersion": "1.0.2",
    "process": {"args": ["sh"], "cwd": "/"},
    "root": {"path": "rootfs"},
}


def spec(**fields: object) -> dict[str, object]:
    return {**PLAIN, **fields}


def decoded(text: str | bytes) -> dict[str, object]:
    return msgspec.convert(
        decode(text.encode() if isinstance(text, str) else text, RuntimeSpec), dict[str, object]
    )


def written_again(text: str) -> str:
    return msgspec.json.encode(decoded(text)).decode()


def object_of(*members: tuple[str, object]) -> str:
    """An object as text, with members that may come twice."""
    return f"{{{', '.join(f'{json.dumps(name)}: {json.dumps(each)}' for name, each in members)}}}"


def test_what_is_as_it_should_be_stays_so() -> None:
    known = spec(linux={"sysctl": {"Net.X": "1"}, "resources": {"unified": {"A.b": "c"}}})
    assert decoded(json.dumps(known)) == known


def test_fields_are_found_in_any_case_but_keys_of_maps_are_not_changed() -> None:
    text = json.dumps(
        {
            "OCIVERSION": "1.0.2",
            "Process": {"ARGS": ["sh"], "cwd": "/", "OomScoreAdj": 5},
            "root": {"Path": "rootfs"},
            "linu\u0078": {
                "CgroupsPATH": "/x",
                "sysctl": {"Net": "1"},
                "IntelRDT": {"closid": "a"},
            },
            "Annotations": {"A": "1", "a": "2"},
            "hoo\u212as": {"PreStart": [{"PATH": "/x"}], "createruntime": []},
            "mount\u017f": [{"Destination": "/a"}],
            "Future": {"Kept": 1},
        }
    )
    assert decoded(text) == {
        "ociVersion": "1.0.2",
        "process": {"args": ["sh"], "cwd": "/", "oomScoreAdj": 5},
        "root": {"path": "rootfs"},
        "linux": {"cgroupsPath": "/x", "sysctl": {"Net": "1"}, "intelRdt": {"closID": "a"}},
        "annotations": {"A": "1", "a": "2"},
        "hooks": {"prestart": [{"path": "/x"}], "createRuntime": []},
        "mounts": [{"destination": "/a"}],
        "Future": {"Kept": 1},
    }


def test_of_what_comes_twice_the_later_counts_and_objects_are_put_together() -> None:
    text = object_of(
        *PLAIN.items(),
        ("process", {"args": ["true"], "user": {"uid": 5}}),
        ("PROCESS", {"user": {"gid": 6}}),
        ("annotations", {"a": "1", "b": "1"}),
        ("annotations", {"b": "2"}),
        ("hostname", "a"),
        ("Hostname", "b"),
    )
    found = decoded(text)
    user = {"uid": 5, "gid": 6}
    assert found["process"] == {"args": ["true"], "cwd": "/", "user": user}
    assert found["annotations"] == {"a": "1", "b": "2"}
    assert found["hostname"] == "b"


def test_in_what_is_unknown_the_later_counts() -> None:
    text = json.dumps(PLAIN)[:-1] + ', "future": {"a": [1], "a": {"b": 1}, "A": null}}'
    assert decoded(text) == spec(future={"a": {"b": 1}, "A": None})


def test_null_is_as_if_a_field_were_not_there() -> None:
    nothing = dict.fromkeys(("hostname", "mounts", "hooks", "annotations", "linux", "windows"))
    assert decoded(json.dumps(spec(**nothing))) == PLAIN
    text = object_of(*PLAIN.items(), ("hostname", "a"), ("mounts", [{"destination": "/a"}]))
    twice = text[:-1] + ', "hostname": null, "mounts": null}'
    # A text stays what it was, a list is none any more.
    assert decoded(twice) == spec(hostname="a")


def test_null_in_lists_and_maps_is_zero() -> None:
    text = json.dumps(
        spec(process={"args": ["sh", None], "cwd": "/"}, annotations={"a": None}, mounts=[None])
    )
    found = decoded(text)
    assert found["process"] == {"args": ["sh", ""], "cwd": "/"}
    assert found["annotations"] == {"a": ""}
    assert found["mounts"] == [{"destination": ""}]


def test_what_some_runtimes_require_is_zero_when_it_is_missing() -> None:
    found = decoded(
        json.dumps(
            {
                "process": {"args": ["sh"], "cwd": "/", "rlimits": [{"type": "RLIMIT_CORE"}]},
                "root": {"path": "/x"},
                "linux": {"resources": {"devices": [{"access": "r"}]}},
            }
        )
    )
    assert found["ociVersion"] == ""
    process = msgspec.convert(found["process"], dict[str, object])
    assert process["rlimits"] == [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]
    assert found["linux"] == {"resources": {"devices": [{"allow": False, "access": "r"}]}}


def test_what_follows_the_value_is_not_read() -> None:
    assert decoded(" \n" + json.dumps(PLAIN) + "\n}} and more") == PLAIN


@pytest.mark.parametrize("number", ["1e400", "100.0", "-1E-5", "1" * 5000, "18446744073709551616"])
def test_a_number_that_python_can_not_represent_is_written_unchanged(number: str) -> None:
    assert f'"future":{number}' in written_again(json.dumps(PLAIN)[:-1] + f', "future": {number}}}')


def test_half_a_pair_of_surrogates_and_bytes_that_are_no_text_are_replaced() -> None:
    text = json.dumps(spec(hostname="X")).replace('"X"', '"a\\ud800b\\ud83d\\ude00"')
    assert decoded(text)["hostname"] == "a\ufffdb\U0001f600"
    assert decoded(text.encode().replace(b"a\\ud800", b"\xff"))["hostname"] == "\ufffdb\U0001f600"


@pytest.mark.parametrize(
    "text", ["", "\ufeff{}", "{", '{"a": NaN}', '{"a": -Infinity}', "[1", "'a'", '{"a": "\n"}']
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text.encode(), RuntimeSpec)
