"""Two runtime specs compared, by paths, without what means the same."""

from __future__ import annotations

import json
from typing import Any

Differences = dict[str, tuple[Any, Any]]


def flat(spec: Any) -> dict[str, Any]:
    """The values of a spec by their paths, in a form that is the same for what means the same."""
    found: dict[str, Any] = {}

    def note(path: str, value: Any) -> None:
        match path, value:
            case "mounts" | "linux.devices" | "linux.namespaces" | "process.rlimits", list():
                for each in value:
                    key = each.get("destination") or each.get("path") or each["type"]
                    found[f"{path}.{key}"] = form(each)
            case "linux.resources.devices", list():
                found[path] = [{k: v for k, v in each.items() if v} for each in value]
            case "linux.seccomp.syscalls", list():
                found[path] = sorted(json.dumps(rule(each), sort_keys=True) for each in value)
            case "process.env", list():
                found.update((f"{path}.{each.split('=')[0]}", each) for each in value)
            case "linux.maskedPaths" | "linux.readonlyPaths", list():
                found.update((f"{path}.{each}", True) for each in value)
            case _, dict():
                for key, inner in value.items():
                    note(f"{path}.{key}" if path else key, inner)
            case _, list():
                found[path] = sorted(value, key=str) if path != "process.args" else value
            case _:
                found[path] = value

    note("", spec)
    # What is empty or 0 means the same as what is not there.
    return {path: value for path, value in found.items() if value not in ([], False, "", None, 0)}


def form(part: dict[str, Any]) -> dict[str, Any]:
    """A mount, device, namespace or limit, without what is usual."""
    part = dict(part)
    if "options" in part:
        # Private is what the root makes all mounts, and "rw" what is not "ro".
        usual = {"rprivate", "private", "rw", "bind"}
        part["options"] = sorted({*part["options"]} - usual)
    if "fileMode" in part:
        # podman's has the bits of the file's type as well.
        part["fileMode"] &= 0o7777
    return part


def rule(spec: dict[str, Any]) -> dict[str, Any]:
    """A rule of seccomp, without what is 0."""
    spec = {**spec, "names": sorted(spec["names"])}
    if "args" in spec:
        spec["args"] = [{k: v for k, v in each.items() if v} for each in spec["args"]]
    return spec


def differences(theirs: Any, ours: Any) -> dict[str, tuple[Any, Any]]:
    one, other = flat(theirs), flat(ours)
    return {
        path: (one.get(path), other.get(path))
        for path in one.keys() | other.keys()
        if one.get(path) != other.get(path)
    }
