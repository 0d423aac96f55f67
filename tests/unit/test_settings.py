"""Settings: what they may say, where they come from, and who is named when they are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidSettings
from ocigrpc.settings.access import FileMode, MetricsSettings, SocketSettings
from ocigrpc.settings.images import ImagesSettings
from ocigrpc.settings.rules import path_problem, problems
from ocigrpc.settings.sources import CONFIG_LIMIT_BYTES, load_settings
from ocigrpc.settings.table import settings_table
from ocigrpc.settings.values import (
    CgroupManager,
    CgroupSettings,
    RuntimeHandler,
    Settings,
)

WriteConfig = Callable[[str], str]


@pytest.fixture
def config(tmp_path: Path) -> WriteConfig:
    """Writes a settings file and gives its path."""

    def write(toml: str) -> str:
        path = tmp_path / "ocigrpc.toml"
        path.write_text(toml)
        return str(path)

    return write


def refused(
    *,
    environ: dict[str, str] | None = None,
    flags: dict[str, str] | None = None,
    config_path: str | None = None,
) -> InvalidSettings:
    """The error of loading settings that can't be used."""
    with pytest.raises(InvalidSettings) as caught:
        load_settings(
            environ=environ or {}, flags=flags, config_path=config_path, default_path="/nonexistent"
        )
    return caught.value


def where(error: InvalidSettings) -> tuple[str, str]:
    """Who gave the wrong value, and which."""
    return error.metadata["source"], error.metadata["key"]


def test_without_any_source_all_settings_have_their_defaults() -> None:
    assert load_settings(environ={}, default_path="/nonexistent") == Settings()


def test_the_defaults_have_no_problem() -> None:
    assert list(problems(Settings())) == []


def test_a_socket_of_metrics_without_a_path_is_refused_for_that() -> None:
    # No read-only socket has no path, either.
    settings = Settings(metrics=MetricsSettings(address="unix://"))
    assert dict(problems(settings)) == {"metrics.address": path_problem("")}


def test_settings_that_are_too_long_to_be_told_by_status_are_refused() -> None:
    handler = RuntimeHandler(path="runc", args=("x" * 4096,) * 63)
    fits = Settings(runtimes={"runc": handler})
    assert list(problems(fits)) == []
    too_long = Settings(runtimes={"runc": handler, "more": handler})
    assert [key for key, _ in problems(too_long)] == ["runtimes"]


def test_the_default_file_is_read_if_it_exists(config: WriteConfig) -> None:
    assert (
        load_settings(
            environ={}, default_path=config("limits.unary_threads = 7")
        ).limits.unary_threads
        == 7
    )


def test_a_named_file_replaces_the_default_one(config: WriteConfig, tmp_path: Path) -> None:
    named = tmp_path / "named.toml"
    named.write_text("limits.stream_threads = 8")
    settings = load_settings(
        environ={"OCIGRPC_CONFIG": str(named)}, default_path=config("limits.unary_threads = 7")
    )
    assert (settings.limits.stream_threads, settings.limits.unary_threads) == (
        8,
        Settings().limits.unary_threads,
    )


def test_the_config_flag_outranks_the_config_variable(config: WriteConfig) -> None:
    settings = load_settings(
        environ={"OCIGRPC_CONFIG": "/nonexistent"}, config_path=config("limits.unary_threads = 7")
    )
    assert settings.limits.unary_threads == 7


@pytest.mark.parametrize("path", ["/nonexistent/ocigrpc.toml", "", "/etc", "/a\0b"])
def test_a_named_file_that_cannot_be_read_is_refused(path: str) -> None:
    assert where(refused(environ={"OCIGRPC_CONFIG": path})) == ("file", "")


@given(
    in_file=st.none() | st.integers(1, 4096),
    in_environment=st.none() | st.integers(1, 4096),
    in_flag=st.none() | st.integers(1, 4096),
)
def test_flags_outrank_the_environment_which_outranks_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    in_file: int | None,
    in_environment: int | None,
    in_flag: int | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "precedence.toml"
    path.write_text("" if in_file is None else f"limits.unary_threads = {in_file}")
    settings = load_settings(
        environ={}
        if in_environment is None
        else {"OCIGRPC_LIMITS_UNARY_THREADS": str(in_environment)},
        flags={} if in_flag is None else {"limits.unary_threads": str(in_flag)},
        config_path=str(path),
    )
    given_values = [value for value in (in_flag, in_environment, in_file) if value is not None]
    assert settings.limits.unary_threads == [*given_values, Settings().limits.unary_threads][0]


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ("limits.unary_threads = '64'", "limits.unary_threads"),
        ("limits.unary_threads = 0", "limits.unary_threads"),
        ("limits.unary_threads = true", "limits.unary_threads"),
        ("socket.path = 1", "socket.path"),
        ("socket.path = 'ocigrpc.sock'", "socket.path"),
        (f"socket.path = '/{'x' * 107}'", "socket.path"),
        ("socket.mode = 660", "socket.mode"),
        ("socket.mode = '0888'", "socket.mode"),
        ("root_dir = '/'", "root_dir"),
        ('root_dir = "/a\\nb"', "root_dir"),
        (f"run_dir = '/{'x' * 1024}'", "run_dir"),
        ("run_dir = '/var/lib/ocigrpc'", "run_dir"),
        ("logs.dir = '/logs:old'", "logs.dir"),
        ("cgroup.manager = 'cgroupsv3'", "cgroup.manager"),
        ("conmon.path = 'bin/conmon'", "conmon.path"),
        ("conmon.path = ''", "conmon.path"),
        ("conmon.log_level = 'loud'", "conmon.log_level"),
        ("timeouts.stop_s = 0", "timeouts.stop_s"),
        ("timeouts.stop_s = -1", "timeouts.stop_s"),
        ("timeouts.stop_s = nan", "timeouts.stop_s"),
        ("timeouts.stop_s = inf", "timeouts.stop_s"),
        ("timeouts.drain_s = 86401", "timeouts.drain_s"),
        ("log_level = ['info']", "log_level"),
        ("limits.message_bytes = 1", "limits.message_bytes"),
        ("limits.containers = 1979-05-27", "limits.containers"),
        ("default_runtime = 'kata'", "default_runtime"),
        ("logs = 1", "logs"),
        ("logs.dirr = '/logs'", "logs.dirr"),
        ("logs.dir.x = '/logs'", "logs.dir"),
        ("'logs.dir' = '/logs'", "logs.dir"),
        ("logs_dir = '/logs'", "logs_dir"),
        ("runtimes = ['runc']", "runtimes"),
        ("runtimes.runc = 'runc'", "runtimes.runc"),
        ("runtimes.kata = {}", "runtimes.kata"),
        ("runtimes.runc.path = 1", "runtimes.runc.path"),
        ("runtimes.runc.path = './runc'", "runtimes.runc.path"),
        ("runtimes.runc.root = 'run'", "runtimes.runc.root"),
        ("runtimes.runc.args = ['--debug', 1]", "runtimes.runc.args[1]"),
        ('runtimes.runc.args = ["\\u0000"]', "runtimes.runc.args"),
        ("runtimes.runc.create_timeout_s = 0", "runtimes.runc.create_timeout_s"),
        ("runtimes.runc.pathh = 'runc'", "runtimes.runc"),
        ("runtimes.'a/b' = {path = 'runc'}", "runtimes.a/b"),
        ("no_such_setting = 1", "no_such_setting"),
    ],
)
def test_a_wrong_value_in_the_file_is_refused_with_its_key(
    config: WriteConfig, toml: str, key: str
) -> None:
    path = config(toml)
    error = refused(config_path=path)
    assert (*where(error), error.metadata["where"]) == ("file", key, path)


@pytest.mark.parametrize("toml", ["unary_threads =", "a = " + "[" * 100_000])
def test_a_file_that_is_not_toml_is_refused(config: WriteConfig, toml: str) -> None:
    assert where(refused(config_path=config(toml))) == ("file", "")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ocigrpc.toml"
    path.write_bytes(b"logs.dir = '/\xff'")
    assert where(refused(config_path=str(path))) == ("file", "")


def test_a_file_over_the_limit_is_refused(config: WriteConfig) -> None:
    at_limit = "#" * CONFIG_LIMIT_BYTES
    assert load_settings(environ={}, config_path=config(at_limit)) == Settings()
    assert where(refused(config_path=config(at_limit + "#"))) == ("file", "")


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("OCIGRPC_LIMITS_UNARY_THREADS", "many", "limits.unary_threads"),
        ("OCIGRPC_LIMITS_UNARY_THREADS", "", "limits.unary_threads"),
        ("OCIGRPC_LOG_LEVEL", "INFO", "log_level"),
        ("OCIGRPC_CGROUP_MANAGER", "none", "cgroup.manager"),
        ("OCIGRPC_LOGS_DIR", "/\udcff", "logs.dir"),
        ("OCIGRPC_RUNTIMES", "{", "runtimes"),
        ("OCIGRPC_RUNTIMES", "[" * 100_000, "runtimes"),
        ("OCIGRPC_RUNTIMES", '{"runc": {"path": ""}}', "runtimes.runc.path"),
        ("OCIGRPC_LIMITS_UNARY_THREAD", "1", "OCIGRPC_LIMITS_UNARY_THREAD"),
        ("OCIGRPC_limits_unary_threads", "1", "OCIGRPC_limits_unary_threads"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(name: str, value: str, key: str) -> None:
    error = refused(environ={name: value})
    assert (*where(error), error.metadata["where"]) == ("environment", key, name)


def test_a_wrong_flag_is_refused_by_its_name() -> None:
    error = refused(flags={"log_level": "loud"})
    assert (*where(error), error.metadata["where"]) == ("flag", "log_level", "--log-level")


def test_variables_of_others_are_none_of_our_business() -> None:
    environ = {"PATH": "/bin", "OCI": "x", "LOG_LEVEL": "loud"}
    assert load_settings(environ=environ, default_path="/nonexistent") == Settings()


def test_a_problem_between_two_settings_names_the_one_that_was_given() -> None:
    assert where(refused(flags={"root_dir": Settings().run_dir})) == ("flag", "root_dir")


@given(name=st.text(max_size=20), value=st.text(max_size=20))
def test_an_error_is_one_line_whatever_it_quotes(name: str, value: str) -> None:
    error = refused(flags={"log_level": value + "x", name + "=": ""})
    assert len(error.message.splitlines()) == 1


def test_tables_of_runtimes_are_merged_key_by_key(config: WriteConfig) -> None:
    settings = load_settings(
        environ={"OCIGRPC_RUNTIMES": '{"kata": {"path": "/opt/kata"}}'},
        flags={"runtimes": '{"runc": {"create_timeout_s": 5}}'},
        config_path=config("[runtimes.runc]\nroot = '/run/other'\nargs = ['--debug']"),
    )
    assert settings.runtimes == {
        "runc": RuntimeHandler(
            path="runc", root="/run/other", args=("--debug",), create_timeout_s=5.0
        ),
        "crun": RuntimeHandler(path="crun"),
        "kata": RuntimeHandler(path="/opt/kata"),
    }


def test_a_runtime_of_the_settings_can_be_the_default_one() -> None:
    settings = load_settings(environ={}, flags={"default_runtime": "crun"})
    assert settings.default_runtime == "crun"


@pytest.mark.parametrize(
    ("manager", "parent"), [("cgroupfs", "/ocigrpc"), ("systemd", "machine.slice")]
)
def test_an_empty_cgroup_parent_is_the_managers_own(manager: str, parent: str) -> None:
    assert load_settings(environ={}, flags={"cgroup.manager": manager}).cgroup.parent == parent


@pytest.mark.parametrize(
    ("manager", "parent"),
    [
        ("cgroupfs", "/kubepods/burstable"),
        ("systemd", "machine.slice"),
        ("systemd", "kubepods-burstable.slice"),
        ("systemd", "-.slice"),
    ],
)
def test_a_cgroup_parent_in_the_managers_form_is_taken(manager: str, parent: str) -> None:
    flags = {"cgroup.manager": manager, "cgroup.parent": parent}
    assert load_settings(environ={}, flags=flags).cgroup.parent == parent


@pytest.mark.parametrize(
    ("manager", "parent"),
    [
        ("cgroupfs", "/"),
        ("cgroupfs", "machine.slice"),
        ("cgroupfs", "ocigrpc"),
        ("cgroupfs", "/a/../b"),
        ("cgroupfs", "/a//b"),
        ("cgroupfs", "/a/"),
        ("cgroupfs", "/a\n"),
        ("systemd", "/machine.slice"),
        ("systemd", "machine"),
        ("systemd", "a--b.slice"),
        ("systemd", "-a.slice"),
        ("systemd", "a-.slice"),
        ("systemd", ".slice"),
        ("systemd", "machine.slice\n"),
        ("systemd", "x" * 250 + ".slice"),
    ],
)
@pytest.mark.parametrize("key", ["cgroup.parent", "conmon.cgroup_parent"])
def test_a_cgroup_parent_in_another_form_is_refused(manager: str, parent: str, key: str) -> None:
    usual = "machine.slice" if manager == "systemd" else "/ocigrpc"
    error = refused(flags={"cgroup.manager": manager, "cgroup.parent": usual, key: parent})
    assert where(error) == ("flag", key)


@pytest.mark.parametrize("size", ["0", "16384"])
def test_logs_are_rotated_never_or_at_some_size(size: str) -> None:
    assert load_settings(environ={}, flags={"logs.max_bytes": size}).logs.max_bytes == int(size)


@pytest.mark.parametrize(
    ("key", "value"), [("logs.max_bytes", "1"), ("logs.max_bytes", "-1"), ("logs.max_files", "1")]
)
def test_logs_that_would_always_be_rotated_are_refused(key: str, value: str) -> None:
    assert where(refused(flags={key: value})) == ("flag", key)


def test_permissions_are_octal_text() -> None:
    settings = load_settings(environ={"OCIGRPC_SOCKET_MODE": "0600"})
    assert settings.socket.mode == 0o600
    assert settings.effective()["socket"] == {
        "path": settings.socket.path,
        "mode": "0600",
        "group": "",
        "identify_peers": True,
    }


def test_effective_settings_are_what_a_settings_file_could_say() -> None:
    settings = Settings(
        socket=SocketSettings(mode=FileMode(0o600)),
        cgroup=CgroupSettings(manager=CgroupManager.SYSTEMD),
        runtimes={"runc": RuntimeHandler(path="/bin/runc", args=("--debug",))},
    )
    effective = settings.effective()
    assert json.loads(json.dumps(effective)) == effective
    flags = {}
    for setting in settings_table():
        table, _, name = setting.key.rpartition(".")
        value = (effective[table] if table else effective)[name]  # type: ignore[index]  # a dict
        flags[setting.key] = json.dumps(value) if isinstance(value, dict) else str(value)
    # crun is a default, which a file can't take away.
    reloaded = load_settings(environ={}, flags=flags)
    assert {**reloaded.effective(), "runtimes": effective["runtimes"]} == effective


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().log_level = "debug"  # type: ignore[misc]


def test_every_setting_is_explained_and_has_its_variable_and_flag() -> None:
    table = settings_table()
    names = [field.name for field in msgspec.structs.fields(Settings)]
    assert list(dict.fromkeys(each.key.partition(".")[0] for each in table)) == names
    assert len({each.variable for each in table}) == len(table)
    for each in table:
        assert each.description.endswith(".")
        assert each.flag == "--" + each.key.replace("_", "-").replace(".", "-")
        assert each.variable == "OCIGRPC_" + each.key.upper().replace(".", "_")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), ""),
        (("metacopy=on",), ""),
        (("metacopy=on", "redirect_dir=on", "index=off", "xino=auto"), ""),
        (("volatile",), "volatile"),
        (("metacopy",), "metacopy"),
        (("nosuid",), "none of"),
        (("index=on", "index=off"), "twice"),
        (("metacopy=on", "redirect_dir=follow"), "redirect_dir=on"),
        (("redirect_dir=off", "metacopy=on"), "redirect_dir=on"),
    ],
)
def test_options_of_overlays_are_those_that_the_kernel_mounts_again(
    options: tuple[str, ...], problem: str
) -> None:
    images = ImagesSettings(mount_options=options)
    found = [text for _, text in problems(Settings(images=images))]
    assert [problem in each for each in found] == ([True] if problem else [])
