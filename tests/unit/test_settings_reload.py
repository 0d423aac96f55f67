"""Which new settings a running service takes over."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ocigrpc.settings.access import SocketSettings
from ocigrpc.settings.reload import RELOADABLE, RELOADABLE_LIMITS, reload
from ocigrpc.settings.table import settings_table
from ocigrpc.settings.values import LimitSettings, RuntimeHandler, Settings, TimeoutSettings
from tests.bed.documents import OPERATING

STARTED = Settings()


def test_equal_settings_change_nothing() -> None:
    assert reload(Settings(), STARTED, STARTED) == (STARTED, [], [])


def test_what_was_used_at_the_start_waits_for_the_next() -> None:
    wanted = Settings(log_level="debug", root_dir="/other", socket=SocketSettings(group="adm"))
    settings, changed, at_restart = reload(wanted, STARTED, STARTED)
    assert (changed, at_restart) == (["log_level"], ["root_dir", "socket.group"])
    assert settings == Settings(log_level="debug")


def test_keys_in_tables_are_taken_over_by_themselves() -> None:
    wanted = Settings(timeouts=TimeoutSettings(stop_s=3.0))
    settings, changed, at_restart = reload(wanted, STARTED, STARTED)
    assert (settings, changed, at_restart) == (wanted, ["timeouts.stop_s"], [])


@pytest.mark.parametrize(
    ("threads", "now", "expected"),
    [
        (10, 64, (10, ["limits.unary_threads"], [])),
        (64, 10, (64, ["limits.unary_threads"], [])),
        (65, 10, (10, [], ["limits.unary_threads"])),
    ],
)
def test_limits_of_calls_are_never_above_those_of_the_start(
    threads: int, now: int, expected: tuple[int, list[str], list[str]]
) -> None:
    current = replace(STARTED, limits=LimitSettings(unary_threads=now))
    wanted = replace(STARTED, limits=LimitSettings(unary_threads=threads))
    settings, changed, at_restart = reload(wanted, current, STARTED)
    assert (settings.limits.unary_threads, changed, at_restart) == expected


def test_a_runtime_is_added_and_none_is_forgotten() -> None:
    added = {"youki": RuntimeHandler(path="/usr/bin/youki")}
    wanted = Settings(runtimes=added, default_runtime="youki")
    settings, changed, _ = reload(wanted, STARTED, STARTED)
    assert settings.runtimes == STARTED.runtimes | added
    assert changed == ["default_runtime", "runtimes"]
    settings, changed, at_restart = reload(STARTED, settings, STARTED)
    assert settings.runtimes == STARTED.runtimes | added
    assert (changed, at_restart) == (["default_runtime"], ["runtimes.youki"])


def test_where_a_runtime_has_its_containers_waits_for_the_next_start() -> None:
    other = RuntimeHandler(path="/usr/bin/runc", root="/other", args=("--root=/third",))
    wanted = replace(STARTED, runtimes=STARTED.runtimes | {"runc": other})
    settings, changed, at_restart = reload(wanted, STARTED, STARTED)
    assert settings.runtimes["runc"] == RuntimeHandler(path="/usr/bin/runc")
    assert (changed, at_restart) == (["runtimes"], ["runtimes.runc.root", "runtimes.runc.args"])


def test_all_keys_are_settings_and_documented() -> None:
    assert {each.key for each in settings_table()} >= RELOADABLE | RELOADABLE_LIMITS
    _, _, section = OPERATING.read_text().partition("\n### Changing settings")
    section = section.partition("\n#")[0]
    for key in RELOADABLE | RELOADABLE_LIMITS:
        assert f"`{key}`" in section or (key.startswith("timeouts.") and "`[timeouts]`" in section)
