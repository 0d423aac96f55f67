"""From protobuf messages to the engine's values, refusing what is malformed.

What only the engine can know, such as whether a path is there, is checked there, and what
a config may say by ``ocigrpc.oci.spec.build``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol

from google.protobuf.duration_pb2 import Duration

from ocigrpc.engine.model.signals import parse_signal
from ocigrpc.engine.model.values import (
    BundleSource,
    ConfigSource,
    ContainerFilter,
    CreateRequest,
    MonitorLostPolicy,
    SpecSource,
)
from ocigrpc.errors import InvalidArgument
from ocigrpc.service.config_from_proto import container_config
from ocigrpc.service.to_proto import POLICIES, STATES
from ocigrpc.v1 import container_pb2, runtime_pb2
from ocigrpc.violations import Violations, entry_field

# Longest timeout of a request.
TIMEOUT_LIMIT_S = 24 * 3600

# Longest id or name that a filter may look for, above those that there can be.
WANTED_LIMIT_BYTES = 256

_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
_ID_FORM = "must be 1 to 64 of a-z A-Z 0-9 _ . - with a letter or digit first"
# Kubernetes has names of 253.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_NAME_FORM = "must be 1 to 255 of a-z A-Z 0-9 _ . - with a letter or digit first"
_HANDLER_LIMIT_BYTES = 256

# Most labels of a container.
LABELS_LIMIT = 256

# Most annotations of a container.
ANNOTATIONS_LIMIT = 1024

# Most that the keys and values of all labels take together, and those of all annotations: what
# Kubernetes lets annotations take. One value may take all.
LABELS_LIMIT_BYTES = 256 << 10

_LABEL_KEY_LIMIT_BYTES = 512  # Kubernetes has keys of 253, a slash and 63.

_POLICIES: dict[int, MonitorLostPolicy | None] = {
    container_pb2.MONITOR_LOST_POLICY_UNSPECIFIED: None,
    **{number: policy for policy, number in POLICIES.items()},
}
_STATES = {number: state for state, number in STATES.items()}


class _NamesContainer(Protocol):
    @property
    def container_id(self) -> str: ...


class _HasTimeout(Protocol):
    @property
    def timeout(self) -> Duration: ...


def container_id(request: _NamesContainer) -> str:
    """The container that a request is about. Raises ``InvalidArgument``."""
    if not _ID.fullmatch(request.container_id):
        raise InvalidArgument.of("container_id", _ID_FORM, reason="INVALID_CONTAINER_ID")
    return request.container_id


def stop_request(request: runtime_pb2.StopContainerRequest) -> tuple[str, float | None]:
    """Container and timeout in seconds, None when the settings decide."""
    if not request.HasField("timeout"):
        return container_id(request), None
    return container_id(request), _seconds(request.timeout)


def limit_s(request: _HasTimeout) -> float:
    """A timeout in seconds, infinite when there is none."""
    return _seconds(request.timeout) or math.inf


def _seconds(timeout: Duration) -> float:
    timeout_s = seconds_of(timeout)
    if timeout_s is None or timeout_s > TIMEOUT_LIMIT_S:
        problem = "must be a duration that is not negative, of 24 hours at most"
        raise InvalidArgument.of("timeout", problem, reason="INVALID_TIMEOUT")
    return timeout_s


def seconds_of(duration: Duration) -> float | None:
    """A duration that is not negative, in seconds; None for any other, and for none at all."""
    # See google/protobuf/duration.proto: both have the same sign.
    if duration.seconds < 0 or not 0 <= duration.nanos < 1_000_000_000:
        return None
    return duration.seconds + duration.nanos / 1e9


def kill_request(request: runtime_pb2.KillContainerRequest) -> tuple[str, int]:
    """Container and number of the signal."""
    return container_id(request), parse_signal(request.signal or "SIGKILL", "signal")


class _Filters(Protocol):
    @property
    def filter(self) -> runtime_pb2.ContainerFilter: ...


def container_filter(request: _Filters) -> ContainerFilter:
    """Which containers a request is about."""
    asked = request.filter
    found = Violations()
    for index, number in enumerate(asked.states):
        found.allow(
            number in _STATES, f"filter.states[{index}]", f"{number} is no state", "INVALID_STATE"
        )
    check_labels(found, "filter.label_selector", asked.label_selector)
    found.text("filter.id_prefix", asked.id_prefix, WANTED_LIMIT_BYTES)
    found.text("filter.name", asked.name, WANTED_LIMIT_BYTES)
    found.raise_any()
    return ContainerFilter(
        id_prefix=asked.id_prefix,
        name=asked.name,
        states=frozenset(_STATES[number] for number in asked.states),
        label_selector=dict(asked.label_selector),
    )


def create_request(request: runtime_pb2.CreateContainerRequest) -> CreateRequest:
    """What to create. The signal is given by its number, so that one signal is one request."""
    found = Violations()
    _check_names(found, request)
    source = _source(found, request)
    if request.log_path and found.absolute_path("log_path", request.log_path):
        problem = "has a colon, where conmon would cut the path"
        found.allow(":" not in request.log_path, "log_path", problem, "INVALID_LOG_PATH")
    size = request.log_size_max_bytes
    found.allow(size >= 0, "log_size_max_bytes", "is negative", "OUT_OF_RANGE")
    check_labels(found, "labels", request.labels)
    check_labels(found, "annotations", request.annotations, ANNOTATIONS_LIMIT)
    stop_signal = _stop_signal(found, request.stop_signal)
    policy = request.monitor_lost_policy
    found.allow(
        policy in _POLICIES, "monitor_lost_policy", f"{policy} is no policy", "INVALID_POLICY"
    )
    found.raise_any()
    # No source is a violation, so there is one.
    assert source is not None
    return CreateRequest(
        source=source,
        container_id=request.container_id,
        name=request.name,
        runtime_handler=request.runtime_handler,
        stdin=request.stdin,
        stdin_once=request.stdin_once,
        terminal=request.terminal,
        log_path=request.log_path,
        log_size_max_bytes=size,
        stop_signal=stop_signal,
        labels=dict(request.labels),
        annotations=dict(request.annotations),
        cgroup_parent=request.cgroup_parent,
        no_pivot=request.no_pivot,
        monitor_lost_policy=_POLICIES[policy],
    )


def _check_names(found: Violations, request: runtime_pb2.CreateContainerRequest) -> None:
    for field, text, form, words, reason in (
        ("container_id", request.container_id, _ID, _ID_FORM, "INVALID_CONTAINER_ID"),
        ("name", request.name, _NAME, _NAME_FORM, "INVALID_NAME"),
    ):
        found.allow(not text or bool(form.fullmatch(text)), field, words, reason)
    found.text("runtime_handler", request.runtime_handler, _HANDLER_LIMIT_BYTES)


def _source(
    found: Violations, request: runtime_pb2.CreateContainerRequest
) -> BundleSource | SpecSource | ConfigSource | None:
    match request.WhichOneof("source"):
        case "bundle_path":
            found.absolute_path("bundle_path", request.bundle_path)
            return BundleSource(request.bundle_path)
        case "spec_json":
            return SpecSource(request.spec_json)
        case "config":
            return ConfigSource(container_config(found, request.config))
    found.add("source", "one of bundle_path, spec_json and config is required", "REQUIRED")
    return None


def _stop_signal(found: Violations, text: str) -> str:
    if not text:
        return ""
    try:
        return str(parse_signal(text, "stop_signal"))
    except InvalidArgument as error:
        found.add("stop_signal", error.violations[0].description, error.reason)
        return ""


def check_labels(
    found: Violations, field: str, labels: Mapping[str, str], limit: int = LABELS_LIMIT
) -> None:
    """Add what is wrong with labels to ``found``."""
    if not found.allow(len(labels) <= limit, field, f"has more than {limit}", "TOO_MANY"):
        return
    total_bytes = 0
    for key, value in labels.items():
        found.allow(key != "", field, "has an empty key", "EMPTY_KEY")
        entry = entry_field(field, key)
        found.text(entry, key, _LABEL_KEY_LIMIT_BYTES)
        found.text(entry, value, LABELS_LIMIT_BYTES)
        total_bytes += len(key.encode()) + len(value.encode())
    problem = f"is longer than {LABELS_LIMIT_BYTES} bytes in all"
    found.allow(total_bytes <= LABELS_LIMIT_BYTES, field, problem, "TOO_LONG")
