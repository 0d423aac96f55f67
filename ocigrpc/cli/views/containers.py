"""What is shown of a container: the fields of ``ps`` and ``inspect``, with their titles."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ocigrpc.cli.container_names import SHORT_ID
from ocigrpc.cli.views.words import ago, cut, span

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from ocigrpc.v1.container_pb2 import ContainerStatus, ContainerSummary, ExitStatus

TITLES: Mapping[str, str] = {
    "ID": "CONTAINER ID",
    "Command": "COMMAND",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "ExitCode": "EXIT CODE",
    "ExitedAt": "EXITED AT",
    "Image": "IMAGE",
    "ImageID": "IMAGE ID",
    "Labels": "LABELS",
    "Name": "NAME",
    "Names": "NAMES",
    "Pid": "PID",
    "RunningFor": "CREATED",
    "Runtime": "RUNTIME",
    "StartedAt": "STARTED AT",
    "State": "STATE",
    "Status": "STATUS",
}
"""The fields, by the names that podman and docker have for them."""

_COMMAND_COLUMNS = 30


def fields(
    container: ContainerSummary | ContainerStatus, command: str, now_s: float, *, whole: bool
) -> Mapping[str, object]:
    """The fields of a container; ``whole`` leaves long ids and commands as they are."""
    ended = container.exit_status if container.HasField("exit_status") else None
    created = ago(now_s - seconds(container.created_at))
    image_id = container.image_id if whole else container.image_id[:SHORT_ID]
    return {
        "ID": container.container_id if whole else container.container_id[:SHORT_ID],
        "Command": command if whole else cut(command, _COMMAND_COLUMNS),
        "Created": created,
        "CreatedAt": moment(container.created_at),
        "ExitCode": ended.exit_code if ended and ended.HasField("exit_code") else None,
        "ExitedAt": moment(ended.finished_at) if ended else None,
        # As with podman, those without an image have neither.
        "Image": container.image_name or image_id,
        "ImageID": image_id,
        "Labels": dict(container.labels),
        "Name": container.name,
        "Names": container.name,
        "Pid": container.pid,
        "RunningFor": created,
        "Runtime": container.runtime_handler,
        "StartedAt": moment(container.started_at) if container.HasField("started_at") else None,
        "State": state_word(container),
        "Status": status_words(container, now_s),
    }


def state_word(container: ContainerSummary | ContainerStatus) -> str:
    """The state in a word, as in "running"."""
    from ocigrpc.v1.container_pb2 import ContainerState

    return ContainerState.Name(container.state).removeprefix("CONTAINER_STATE_").lower()


def status_words(container: ContainerSummary | ContainerStatus, now_s: float) -> str:
    """The state with its times, as in "Up 3 minutes (Paused)" or "Exited (137) 1 hour ago, OOM"."""
    state = state_word(container)
    if state == "stopped":
        return _exited(container.exit_status, now_s)
    if state not in ("running", "paused"):
        return state.capitalize()
    words = "Up"
    if container.HasField("started_at"):
        words += f" {span(now_s - seconds(container.started_at))}"
    if state == "paused":
        words += " (Paused)"
    return f"{words} (Monitor lost)" if container.monitor_lost else words


def color(container: ContainerSummary | ContainerStatus) -> str | None:
    """The colour of its line: dim after a good end, red after another, yellow if it is stuck."""
    state = state_word(container)
    if state == "stopped":
        ended = container.exit_status
        good = ended.HasField("exit_code") and ended.exit_code == 0
        return "bright_black" if good else "red"
    if state == "unknown" or container.monitor_lost:
        return "red"
    return "yellow" if state == "paused" else None


def moment(timestamp: Timestamp) -> str:
    """A time on the clock of this place, or in UTC where that is in no year from 1 to 9999."""
    shown = datetime.fromtimestamp(timestamp.seconds, UTC)
    with suppress(ValueError, OverflowError):
        shown = shown.astimezone()
    return shown.isoformat(" ", "seconds")


def exit_words(ended: ExitStatus) -> str:
    """The exit code, or why it is unknown."""
    from ocigrpc.v1.container_pb2 import ExitProvenance

    if ended.HasField("exit_code"):
        return str(ended.exit_code)
    why = ExitProvenance.Name(ended.provenance).removeprefix("EXIT_PROVENANCE_")
    return f"unknown: {why.lower().replace('_', ' ')}"


def _exited(ended: ExitStatus, now_s: float) -> str:
    words = f"Exited ({exit_words(ended)})"
    if ended.HasField("finished_at"):
        words += f" {ago(now_s - seconds(ended.finished_at))}"
    return f"{words}, OOM" if ended.oom_killed else words


def seconds(timestamp: Timestamp) -> float:
    """Seconds since 1970."""
    return timestamp.seconds + timestamp.nanos / 1e9
