"""From protobuf messages to the engine's values; malformed messages are refused.

Checks of what only the engine can know, such as whether a path exists, are the engine's, and
those of a config's content are in ``ocigrpc.oci.spec.build``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration

from ocigrpc.conmon.log_line import Stream
from ocigrpc.engine.logs.reader import LogQuery
from ocigrpc.engine.model.events import EventFilter, EventKind, marks_of
from ocigrpc.engine.model.record import ContainerFilter
from ocigrpc.engine.model.signals import parse_signal
from ocigrpc.engine.model.values import (
    BundleSource,
    ConfigSource,
    CreateRequest,
    ObjectKind,
    SpecSource,
    State,
)
from ocigrpc.errors import InvalidArgument
from ocigrpc.service.config_from_proto import container_config
from ocigrpc.service.times import seconds_of, time_ns_of
from ocigrpc.settings.values import MonitorLostPolicy
from ocigrpc.v1 import container_pb2, event_pb2, log_pb2, runtime_pb2
from ocigrpc.violations import Violations, entry_field

# Longest timeout of a request.
TIMEOUT_LIMIT_S = 24 * 3600

# Longest id or name in a filter, longer than any container's.
WANTED_LIMIT_BYTES = 256

_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
_ID_FORM = "must be 1 to 64 of a-z A-Z 0-9 _ . - with a letter or digit first"
# Names in Kubernetes have up to 253 characters.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_NAME_FORM = "must be 1 to 255 of a-z A-Z 0-9 _ . - with a letter or digit first"
# Longest name of a runtime handler.
_HANDLER_LIMIT_BYTES = 256

# Most labels of a container.
LABELS_LIMIT = 256

# Most annotations of a container.
ANNOTATIONS_LIMIT = 1024

# Most bytes of the keys and values of all labels, and of all annotations: the limit that
# Kubernetes has for annotations. One value may use all of it.
LABELS_LIMIT_BYTES = 256 << 10

# Keys of Kubernetes have 253 characters, a slash and 63 more.
_LABEL_KEY_LIMIT_BYTES = 512

# Seconds between two messages of WatchStats, unless the client asks for others.
INTERVAL_DEFAULT_S = 1.0

# Shortest and longest interval that a client may ask for.
INTERVAL_MIN_S, INTERVAL_MAX_S = 0.1, 3600.0

_POLICIES: dict[int, MonitorLostPolicy | None] = {
    container_pb2.MONITOR_LOST_POLICY_UNSPECIFIED: None,
    **{
        container_pb2.MonitorLostPolicy.Value(f"MONITOR_LOST_POLICY_{e.name}"): e
        for e in MonitorLostPolicy
    },
}
_STATES = {container_pb2.ContainerState.Value(f"CONTAINER_STATE_{e.name}"): e for e in State}
_EVENT_KINDS = {event_pb2.EventKind.Value(f"EVENT_KIND_{e.name}"): e for e in EventKind}
_OBJECTS: Mapping[int, ObjectKind] = {
    event_pb2.OBJECT_KIND_CONTAINER: ObjectKind.CONTAINER,
    event_pb2.OBJECT_KIND_IMAGE: ObjectKind.IMAGE,
}
_LOG_STREAMS = {log_pb2.LogStream.Value(f"LOG_STREAM_{e.name}"): e for e in Stream}


_T = TypeVar("_T")


class _NamesContainer(Protocol):
    @property
    def container_id(self) -> str: ...


def container_id(request: _NamesContainer) -> str:
    """The id or the name in a request. Raises ``InvalidArgument``."""
    # Every id could be a name as well.
    if not _NAME.fullmatch(request.container_id):
        raise InvalidArgument.of("container_id", _NAME_FORM, reason="INVALID_CONTAINER_ID")
    return request.container_id


def stop_request(request: runtime_pb2.StopContainerRequest) -> tuple[str, float | None]:
    """Container id, and timeout in seconds; None if the settings decide."""
    if not request.HasField("timeout"):
        return container_id(request), None
    return container_id(request), seconds(request.timeout)


def limit_s(timeout: Duration) -> float:
    """The timeout in seconds; infinite if there is none."""
    return seconds(timeout) or math.inf


def seconds(timeout: Duration, field: str = "timeout") -> float:
    """The timeout in seconds; 0 if there is none. Raises ``InvalidArgument``."""
    timeout_s = seconds_of(timeout)
    if timeout_s is None or timeout_s > TIMEOUT_LIMIT_S:
        problem = "must be a duration that is not negative, of 24 hours at most"
        raise InvalidArgument.of(field, problem, reason="INVALID_TIMEOUT")
    return timeout_s


def kill_request(request: runtime_pb2.KillContainerRequest) -> tuple[str, int]:
    """Container id, and number of the signal."""
    return container_id(request), parse_signal(request.signal or "SIGKILL", "signal")


class _Filters(Protocol):
    @property
    def filter(self) -> runtime_pb2.ContainerFilter: ...


def container_filter(request: _Filters) -> ContainerFilter:
    """The filter in a request. Raises ``InvalidArgument``."""
    asked = request.filter
    violations = Violations()
    states = _known(violations, "filter.states", asked.states, _STATES, reason="INVALID_STATE")
    check_labels(violations, "filter.label_selector", asked.label_selector)
    violations.text("filter.id_prefix", asked.id_prefix, WANTED_LIMIT_BYTES)
    violations.text("filter.name", asked.name, WANTED_LIMIT_BYTES)
    violations.raise_any()
    return ContainerFilter(
        id_prefix=asked.id_prefix,
        name=asked.name,
        states=states,
        label_selector=dict(asked.label_selector),
    )


def _known(
    violations: Violations, field: str, numbers: Iterable[int], names: Mapping[int, _T], reason: str
) -> frozenset[_T]:
    """The values of the numbers of an enum; each number that has none is a violation."""
    for index, number in enumerate(numbers):
        problem = f"{number} has no meaning here"
        violations.allow(number in names, f"{field}[{index}]", problem, reason)
    return frozenset(names[number] for number in numbers if number in names)


def create_request(request: runtime_pb2.CreateContainerRequest) -> CreateRequest:
    """The container to create; the signal is a number, so that its spelling does not matter."""
    violations = Violations()
    valid = not request.container_id or _ID.fullmatch(request.container_id) is not None
    violations.allow(valid, "container_id", _ID_FORM, "INVALID_CONTAINER_ID")
    valid = not request.name or _NAME.fullmatch(request.name) is not None
    violations.allow(valid, "name", _NAME_FORM, "INVALID_NAME")
    violations.text("runtime_handler", request.runtime_handler, _HANDLER_LIMIT_BYTES)
    source = _source(violations, request)
    _check_log(violations, request)
    check_labels(violations, "labels", request.labels)
    check_labels(violations, "annotations", request.annotations, ANNOTATIONS_LIMIT)
    stop_signal = _stop_signal(violations, request.stop_signal)
    policy = request.monitor_lost_policy
    violations.allow(
        policy in _POLICIES, "monitor_lost_policy", f"{policy} is no policy", "INVALID_POLICY"
    )
    violations.raise_any()
    # A missing source is a violation, so there is one here.
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
        log_size_max_bytes=request.log_size_max_bytes,
        stop_signal=stop_signal,
        labels=dict(request.labels),
        annotations=dict(request.annotations),
        cgroup_parent=request.cgroup_parent,
        no_pivot=request.no_pivot,
        monitor_lost_policy=_POLICIES[policy],
        auto_remove=request.auto_remove,
    )


def _check_log(violations: Violations, request: runtime_pb2.CreateContainerRequest) -> None:
    if request.log_path and violations.absolute_path("log_path", request.log_path):
        problem = "has a colon, where conmon would cut the path"
        violations.allow(":" not in request.log_path, "log_path", problem, "INVALID_LOG_PATH")
    size = request.log_size_max_bytes
    violations.allow(size >= 0, "log_size_max_bytes", "is negative", "OUT_OF_RANGE")


def _source(
    violations: Violations, request: runtime_pb2.CreateContainerRequest
) -> BundleSource | SpecSource | ConfigSource | None:
    match request.WhichOneof("source"):
        case "bundle_path":
            violations.absolute_path("bundle_path", request.bundle_path)
            return BundleSource(request.bundle_path)
        case "spec_json":
            return SpecSource(request.spec_json)
        case "config":
            return ConfigSource(container_config(violations, request.config))
    violations.add("source", "one of bundle_path, spec_json and config is required", "REQUIRED")
    return None


def _stop_signal(violations: Violations, text: str) -> str:
    if not text:
        return ""
    try:
        return str(parse_signal(text, "stop_signal"))
    except InvalidArgument as error:
        violations.add("stop_signal", error.violations[0].description, error.reason)
        return ""


def check_labels(
    violations: Violations, field: str, labels: Mapping[str, str], limit: int = LABELS_LIMIT
) -> None:
    """Add violations for malformed labels."""
    if not violations.allow(len(labels) <= limit, field, f"has more than {limit}", "TOO_MANY"):
        return
    total_bytes = 0
    for key, value in labels.items():
        violations.allow(key != "", field, "has an empty key", "EMPTY_KEY")
        entry = entry_field(field, key)
        violations.text(entry, key, _LABEL_KEY_LIMIT_BYTES)
        violations.text(entry, value, LABELS_LIMIT_BYTES)
        total_bytes += len(key.encode()) + len(value.encode())
    problem = f"is longer than {LABELS_LIMIT_BYTES} bytes in all"
    violations.allow(total_bytes <= LABELS_LIMIT_BYTES, field, problem, "TOO_LONG")


def interval_s(request: runtime_pb2.WatchStatsRequest) -> float:
    """Seconds between two messages of WatchStats. Raises ``InvalidArgument``."""
    if not request.HasField("interval"):
        return INTERVAL_DEFAULT_S
    seconds = seconds_of(request.interval)
    if seconds is None or not INTERVAL_MIN_S <= seconds <= INTERVAL_MAX_S:
        raise InvalidArgument.of(
            "interval", "must be 100 milliseconds to 1 hour", reason="INVALID_INTERVAL"
        )
    return seconds


def watch_events_request(
    request: event_pb2.WatchEventsRequest,
) -> tuple[int | None, EventFilter]:
    """The sequence number to begin after, None for now, and the filter of events."""
    asked = request.filter
    violations = Violations()
    kinds = _known(violations, "filter.kinds", asked.kinds, _EVENT_KINDS, reason="INVALID_KIND")
    check_labels(violations, "filter.label_selector", asked.label_selector)
    objects = _known(violations, "filter.objects", asked.objects, _OBJECTS, reason="INVALID_KIND")
    for field, wanted_id in (("container_id", asked.container_id), ("image_id", asked.image_id)):
        violations.text(f"filter.{field}", wanted_id, WANTED_LIMIT_BYTES)
    default = event_pb2.OBJECT_KIND_IMAGE if asked.image_id else event_pb2.OBJECT_KIND_CONTAINER
    both = bool(asked.container_id and asked.image_id)
    violations.allow(not both, "filter.image_id", "can't be with container_id", "CONFLICT")
    violations.allow(request.after >= 0, "after", "is negative", "OUT_OF_RANGE")
    violations.raise_any()
    event_filter = EventFilter(
        object_id=asked.container_id or asked.image_id,
        marks=frozenset(marks_of(asked.label_selector)),
        kinds=kinds,
        object_kinds=objects or frozenset({_OBJECTS[default]}),
    )
    return request.after if request.HasField("after") else None, event_filter


def log_query(request: log_pb2.ContainerLogsRequest) -> LogQuery:
    """The wanted lines. Raises ``InvalidArgument``."""
    violations = Violations()
    violations.allow(request.tail_lines >= 0, "tail_lines", "is negative", "OUT_OF_RANGE")
    since_ns = time_ns_of(violations, "since", request.since)
    until_ns = time_ns_of(violations, "until", request.until)
    allowed = until_ns > 0 or not request.HasField("until")
    violations.allow(allowed, "until", "must be a time after 1970", "OUT_OF_RANGE")
    streams = _known(violations, "streams", request.streams, _LOG_STREAMS, reason="INVALID_STREAM")
    wanted_id = container_id(request)
    violations.raise_any()
    return LogQuery(
        container_id=wanted_id,
        follow=request.follow,
        tail_lines=request.tail_lines if request.HasField("tail_lines") else None,
        since_ns=since_ns,
        until_ns=until_ns,
        streams=streams,
    )
