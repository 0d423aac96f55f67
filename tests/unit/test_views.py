"""How the command says things: times, amounts, states, templates, what is missing of a log."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from ocigrpc.cli.images.entries import Entry
from ocigrpc.cli.images.prune import request_with
from ocigrpc.cli.views.containers import TITLES, color, fields, moment, status_words
from ocigrpc.cli.views.filters import Filters
from ocigrpc.cli.views.logs import Printer
from ocigrpc.cli.views.moments import moment_of
from ocigrpc.cli.views.table import Row, Table
from ocigrpc.cli.views.template import Template
from ocigrpc.cli.views.words import ago, clock, cut, printable, size, span
from ocigrpc.v1 import container_pb2, log_pb2, runtime_pb2
from ocigrpc.v1.container_pb2 import ContainerSummary, ExitStatus
from ocigrpc.v1.image_pb2 import ImageSummary

NOW_S = 1_000_000.0


def before(seconds: int) -> Timestamp:
    return Timestamp(seconds=int(NOW_S) - seconds)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "less than a second"),
        (0.9, "less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (3 * 3600 - 1, "2 hours"),
        (86400, "1 day"),
        (20 * 86400, "2 weeks"),
        (800 * 86400, "2 years"),
    ],
)
def test_a_time_is_in_its_largest_whole_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words
    assert ago(seconds) == f"{words} ago"


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0, "0 B"), (999, "999 B"), (1024, "1.0 KiB"), (200 << 10, "200 KiB"), (3 << 40, "3.0 TiB")],
)
def test_an_amount_is_short(amount: int, words: str) -> None:
    assert size(amount) == words


def test_time_on_cpus_is_minutes_and_seconds() -> None:
    assert [clock(0.01), clock(59.999), clock(3723.5)] == ["0:00.01", "1:00.00", "62:03.50"]


def test_what_would_change_the_terminal_is_shown_as_escapes() -> None:
    assert printable("a\x1b[2J\nb\x07é") == r"a\x1b[2J\nb\x07é"


def test_a_text_is_cut_by_the_columns_that_it_takes() -> None:
    assert [cut("abc", 3), cut("abcd", 3), cut("日本語", 5)] == ["abc", "ab…", "日本…"]


@pytest.mark.parametrize(
    ("container", "words", "shade"),
    [
        (ContainerSummary(state="CONTAINER_STATE_CREATED"), "Created", None),
        (ContainerSummary(state="CONTAINER_STATE_UNKNOWN"), "Unknown", "red"),
        (
            ContainerSummary(state="CONTAINER_STATE_RUNNING", started_at=before(180)),
            "Up 3 minutes",
            None,
        ),
        (
            ContainerSummary(state="CONTAINER_STATE_PAUSED", started_at=before(180)),
            "Up 3 minutes (Paused)",
            "yellow",
        ),
        (
            ContainerSummary(
                state="CONTAINER_STATE_RUNNING", started_at=before(60), monitor_lost=True
            ),
            "Up 1 minute (Monitor lost)",
            "red",
        ),
        (ContainerSummary(state="CONTAINER_STATE_RUNNING"), "Up", None),
    ],
)
def test_a_living_container_in_words(
    container: ContainerSummary, words: str, shade: str | None
) -> None:
    assert (status_words(container, NOW_S), color(container)) == (words, shade)


@pytest.mark.parametrize(
    ("ended", "words", "shade"),
    [
        (
            ExitStatus(exit_code=0, finished_at=before(120)),
            "Exited (0) 2 minutes ago",
            "bright_black",
        ),
        (
            ExitStatus(exit_code=137, finished_at=before(120), oom_killed=True),
            "Exited (137) 2 minutes ago, OOM",
            "red",
        ),
        (
            ExitStatus(provenance="EXIT_PROVENANCE_MONITOR_LOST", finished_at=before(3600)),
            "Exited (unknown: monitor lost) 1 hour ago",
            "red",
        ),
        (ExitStatus(provenance="EXIT_PROVENANCE_PENDING"), "Exited (unknown: pending)", "red"),
    ],
)
def test_a_stopped_container_in_words(ended: ExitStatus, words: str, shade: str) -> None:
    container = ContainerSummary(state="CONTAINER_STATE_STOPPED", exit_status=ended)
    assert (status_words(container, NOW_S), color(container)) == (words, shade)


def test_every_field_has_a_title() -> None:
    assert fields(ContainerSummary(), "", NOW_S, whole=True).keys() == TITLES.keys()


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{.ID}} {{ .State }}", "web running"),
        (r"{{.ID}}\t{{.ID}}\n", "web\tweb\n"),
        ("{{.Labels.app}}|{{.Labels.none}}", "shop|"),
        ("{{json .Labels}}{{json .ID}}{{json .ExitCode}}", '{"app": "shop"}"web"null'),
        ("{{.ExitCode}}{{.Pid}}", "7"),
        ("{{.status.state}} {{.status.terminal}}", "CONTAINER_STATE_RUNNING true"),
        ("{{.status.exit_status.exit_code}}|{{.spec.command}}", '|["true"]'),
        ("no field", "no field"),
    ],
)
def test_a_template_is_filled_with_values(text: str, filled: str) -> None:
    answer = runtime_pb2.ContainerStatusResponse(
        status=container_pb2.ContainerStatus(state="CONTAINER_STATE_RUNNING", terminal=True),
        spec=container_pb2.ContainerSpec(command=["true"]),
    )
    values = {
        "ID": "web",
        "State": "running",
        "Labels": {"app": "shop"},
        "ExitCode": None,
        "Pid": 7,
        "status": answer.status,
        "spec": answer.spec,
    }
    assert Template.of(text, values).filled(values) == filled


@pytest.mark.parametrize("text", ["{{.id}}", "{{.}", "{{range .ID}}", "{{.ID}} }}", "{{}}"])
def test_what_a_template_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="ID"):
        Template.of(text, ["ID"])


def test_a_field_that_a_message_does_not_have_is_refused_with_those_that_it_has() -> None:
    values = {"status": container_pb2.ContainerStatus()}
    with pytest.raises(click.UsageError, match="log_path"):
        Template.of("{{.status.log}}", values).filled(values)


@pytest.mark.parametrize(
    ("text", "moment_s"),
    [
        ("10m", NOW_S - 600),
        ("1h30m", NOW_S - 5400),
        ("1.5s", NOW_S - 1.5),
        ("2d500ms", NOW_S - 2 * 86400 - 0.5),
        ("1700000000.25", 1700000000.25),
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T01:01:00+01:00", 60),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago(text: str, moment_s: float) -> None:
    assert moment_of(text, NOW_S) == moment_s


@pytest.mark.parametrize(
    "text", ["", "now", "m10", "-5m", "10 m", "99999d", "9" * 30, "1969-12-31T00:00:00Z"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        moment_of(text, NOW_S)


FIRST = Timestamp(seconds=-62135596800)
LAST = Timestamp(seconds=253402300799)


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The zone of this process."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


def test_the_first_and_the_last_moment_of_the_api_are_shown_everywhere(zone: str) -> None:
    seen = moment(FIRST), moment(LAST)
    ends = "0001-01-01 00:00:00+00:00", "9999-12-31 23:59:59+00:00"
    if zone == "UTC":
        assert seen == ends
    # The clock of one place has no year for one of them, which is in UTC then.
    elif zone == "Asia/Tokyo":
        assert (seen[0][:10], seen[1]) == ("0001-01-01", ends[1])
    else:
        assert seen == (ends[0], "9999-12-31 18:59:59-05:00")


@pytest.mark.parametrize("built", [FIRST, LAST])
def test_an_image_is_shown_whenever_it_was_built(zone: str, built: Timestamp) -> None:
    shown = Entry(ImageSummary(created_at=built), "").fields(NOW_S, whole=False)
    assert shown["CreatedAt"] == moment(built)


def test_the_times_of_a_log_have_years_of_four_digits(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    line = log_pb2.LogLine(time=FIRST, content=b"first", stream="LOG_STREAM_STDOUT")
    Printer(timestamps=True).print(log_pb2.ContainerLogsResponse(lines=[line]))
    assert capfdbinary.readouterr().out == b"0001-01-01T00:00:00.000000000Z first\n"


def test_images_must_be_as_old_as_each_filter_of_a_prune_says() -> None:
    for given in (["1h", "48h", "24h"], ["48h", "24h"], ["48h"]):
        request = request_with({"until": given, "label": []})
        assert request.older_than.ToSeconds() == 48 * 3600


def test_filters_of_different_keys_must_all_match() -> None:
    container = ContainerSummary(container_id="abcd", name="web-1", labels={"app": "shop"})

    def matches(*given: str) -> bool:
        return Filters(given).matches(container)

    assert matches()
    assert matches("id=ab", "name=web", "label=app", "label=app=shop")
    assert matches("name=db", "name=^web-[0-9]$")
    assert not matches("id=bc")
    assert not matches("name=web", "label=app=db")
    assert not matches("label=app", "label=tier")
    assert not matches("ancestor=web")


@pytest.mark.parametrize(
    ("ancestor", "is_of"),
    [
        *(("alpine", True), ("library/alpine:3", True), ("docker.io/*", True), ("ab", True)),
        *(("sha256:ab", True), ("alpine:4", False), ("lpine", False), ("sha256:", False)),
    ],
)
def test_ancestor_is_a_name_of_an_image_or_the_beginning_of_its_id(
    ancestor: str, is_of: bool
) -> None:
    name = "docker.io/library/alpine:3"
    container = ContainerSummary(image_id="ab" * 32, image_name=name)
    assert Filters([f"ancestor={ancestor}"]).matches(container) == is_of


def test_columns_are_aligned_and_a_pipe_gets_them_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Table(["A", "LONG TITLE", "C"], [Row(["日本", "x" * 200, "c"], "red")], ("LONG TITLE",)).write()
    title, line = capsys.readouterr().out.splitlines()
    assert line == f"日本  {'x' * 200}  c"
    assert title == f"A     LONG TITLE{' ' * 192}C"


def test_what_is_missing_of_a_log_is_said_where_it_is_missing(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    line = log_pb2.LogLine(content=b"here", stream="LOG_STREAM_STDOUT")
    printer = Printer(timestamps=False)
    printer.print(log_pb2.ContainerLogsResponse(gap=True, lines=[line]))
    printer.print(log_pb2.ContainerLogsResponse(skipped_lines=3))
    out, err = capfdbinary.readouterr()
    assert out == b"here\n"
    gap, skipped = err.splitlines()
    assert b"missing" in gap
    assert b"3" in skipped


def test_parts_of_lines_of_two_streams_do_not_mix(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    at = Timestamp(seconds=1, nanos=5)
    parts = [
        log_pb2.LogLine(time=at, content=b"a", stream="LOG_STREAM_STDOUT", partial=True),
        log_pb2.LogLine(time=at, content=b"x", stream="LOG_STREAM_STDERR", partial=True),
        log_pb2.LogLine(time=at, content=b"b", stream="LOG_STREAM_STDOUT"),
        log_pb2.LogLine(time=at, content=b"c", stream="LOG_STREAM_STDOUT"),
    ]
    Printer(timestamps=True).print(log_pb2.ContainerLogsResponse(lines=parts))
    stamp = b"1970-01-01T00:00:01.000000005Z "
    assert capfdbinary.readouterr() == (stamp + b"ab\n" + stamp + b"c\n", stamp + b"x")
