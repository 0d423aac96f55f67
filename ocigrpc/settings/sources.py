"""Where settings come from: a TOML file, the environment and flags, in that rising order."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from ocigrpc.errors import InvalidSettings
from ocigrpc.settings.rules import problems
from ocigrpc.settings.table import Setting, settings_table
from ocigrpc.settings.values import RuntimeHandler, Settings, decode_hook

# The settings file that is read, if it exists, when none is named.
DEFAULT_CONFIG_PATH = "/etc/ocigrpc/ocigrpc.toml"

# The most bytes of a settings file.
CONFIG_LIMIT_BYTES = 1 << 20

# The variable that names the settings file; the ``--config`` flag outranks it.
CONFIG_VARIABLE = "OCIGRPC_CONFIG"

_PREFIX = "OCIGRPC_"
# The second one names the service to its clients.
_NO_SETTINGS = (CONFIG_VARIABLE, "OCIGRPC_ADDRESS")
_SETTINGS = {each.key: each for each in settings_table()}
_VARIABLES = {each.variable: each.key for each in settings_table()}
_TABLES = {key.partition(".")[0] for key in _SETTINGS if "." in key}


class _Given(NamedTuple):
    """One value of one source; ``where`` is the file's path, the variable or the flag."""

    source: str
    where: str
    key: str
    value: object

    def wrong(self, detail: str, key: str = "") -> InvalidSettings:
        """The error that names where ``key`` was given, and what is wrong with it."""
        # ``where`` may be the key itself, and a whole file has no key.
        parts = dict.fromkeys((self.where, key or self.key, detail))
        return InvalidSettings(
            re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]", "?", ": ".join(filter(None, parts))),
            source=self.source,
            where=self.where,
            key=key or self.key,
            detail=detail,
        )


def load_settings(
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, str] | None = None,
    config_path: str | None = None,
    default_path: str = DEFAULT_CONFIG_PATH,
) -> Settings:
    """The settings in force.

    ``flags`` has the text of each flag by its setting's key, such as ``logs.dir``. A file that
    is named, by ``config_path`` or the environment, must exist; the one at ``default_path``
    need not. Tables are merged key by key over those of lower sources. Raises
    ``InvalidSettings`` for the first value that is wrong, with its source, its key and the
    reason.
    """
    named = config_path if config_path is not None else environ.get(CONFIG_VARIABLE)
    values: dict[str, object] = {"runtimes": msgspec.to_builtins(Settings().runtimes)}
    origins: dict[str, _Given] = {}
    for given in _all_given(named, default_path, environ, flags or {}):
        setting = _known(given)
        merged = _merged(values.get(given.key), _parsed(given, setting))
        _check(given, setting, merged)
        values[given.key] = merged
        origins[given.key] = given
    # Each value has been checked already, and strictly if its source has types.
    settings = msgspec.convert(_nested(values), Settings, strict=False, dec_hook=decode_hook)
    _refuse_problems(settings, origins)
    return settings


def _refuse_problems(settings: Settings, origins: Mapping[str, _Given]) -> None:
    """Raise for the first problem; those of given values come before those of defaults."""
    found = [
        (origins.get(key) or origins.get(key.partition(".")[0]), key, why)
        for key, why in problems(settings)
    ]
    for given, key, why in sorted(found, key=lambda problem: problem[0] is None):
        raise (given or _Given("default", "default", key, None)).wrong(why, key)


def _all_given(
    named: str | None, default_path: str, environ: Mapping[str, str], flags: Mapping[str, str]
) -> Iterator[_Given]:
    path = default_path if named is None else named
    for key, value in _read(path, must_exist=named is not None).items():
        yield from _given_in_file(path, key, value)
    for name, text in sorted(environ.items()):
        if name.startswith(_PREFIX) and name not in _NO_SETTINGS:
            yield _Given("environment", name, _VARIABLES.get(name, name), text)
    for key, text in flags.items():
        flag = _SETTINGS[key].flag if key in _SETTINGS else f"--{key}"
        yield _Given("flag", flag, key, text)


def _given_in_file(path: str, key: str, value: object) -> Iterator[_Given]:
    given = _Given("file", path, key, value)
    if key in _TABLES:
        if not isinstance(value, dict):
            raise given.wrong(f"must be a table, not {_short(value)}")
        for name, inner in value.items():
            yield _Given("file", path, f"{key}.{name}", inner)
    elif "." in key:
        raise given.wrong("unknown setting; a table is written as [table]")
    else:
        yield given


def _nested(values: Mapping[str, object]) -> dict[str, object]:
    """Values by their keys, as ``Settings`` has them in its tables."""
    nested: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {"": nested}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = value
    return nested | {table: inner for table, inner in tables.items() if table}


def _read(path: str, must_exist: bool) -> dict[str, object]:
    whole = _Given("file", path or '""', "", None)
    try:
        with open(path, "rb") as file:
            content = file.read(CONFIG_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        if not must_exist:
            return {}
        raise whole.wrong("no such file") from error
    except (OSError, ValueError) as error:
        raise whole.wrong(getattr(error, "strerror", None) or str(error)) from error
    if len(content) > CONFIG_LIMIT_BYTES:
        raise whole.wrong(f"larger than {CONFIG_LIMIT_BYTES} bytes")
    try:
        return tomllib.loads(content.decode())
    except RecursionError as error:
        raise whole.wrong("nested too deeply") from error
    except ValueError as error:
        raise whole.wrong(f"not TOML: {error}") from error


def _known(given: _Given) -> Setting:
    if given.key in _SETTINGS:
        return _SETTINGS[given.key]
    wanted = given.key.removeprefix(_PREFIX).lower()[:64]
    near = difflib.get_close_matches(wanted, _SETTINGS, n=1)
    raise given.wrong("unknown setting" + "".join(f"; did you mean {key}?" for key in near))


def _parsed(given: _Given, setting: Setting) -> object:
    """The value as TOML would have it, except for numbers, which msgspec can read itself."""
    if given.source == "file" or not isinstance(given.value, str):
        return given.value
    try:
        given.value.encode()
        return msgspec.json.decode(given.value) if setting.is_table else given.value
    except UnicodeEncodeError as error:
        raise given.wrong("not UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise given.wrong(f"not JSON: {error}") from error


def _merged(lower: object, upper: object) -> object:
    if isinstance(lower, dict) and isinstance(upper, dict):
        return lower | {key: _merged(lower.get(key), value) for key, value in upper.items()}
    return upper


def _check(given: _Given, setting: Setting, value: object) -> None:
    if setting.choices and value not in setting.choices:
        raise given.wrong(f"must be one of {', '.join(setting.choices)}, not {_short(value)}")
    if setting.is_table and isinstance(value, dict):
        # One by one, since msgspec's path of a wrong field does not name the key of a dict.
        for name, entry in value.items():
            _convert(given, f"{setting.key}.{name}", RuntimeHandler, entry)
    _convert(given, setting.key, setting.type, value)


def _convert(given: _Given, key: str, wanted: object, value: object) -> None:
    try:
        msgspec.convert(value, wanted, strict=given.source == "file", dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        # TOML's name for what msgspec and JSON call an object.
        detail = re.sub("[Oo]bject", "table", reason[:1].lower() + reason[1:])
        if not isinstance(value, dict):
            detail = f"{re.sub(', got .*', '', detail)}, not {_short(value)}"
        raise given.wrong(detail, key + path.rstrip("`")) from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
