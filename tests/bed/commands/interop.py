"""Clients in other languages, each built from ``protos/`` by the tools of its language.

Every one leads a container through the same life, and prints the same. Exit status 1 if one that
this machine can build does not; what it can't build is left out, with the reason.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bed import REPOSITORY
from tests.bed.commands.go_program import CACHE, BuildFailed, wheel_go
from tests.bed.services.service import Service
from tests.bed.services.serving import sandbox

SOURCES = REPOSITORY / "tests/interop"
WORK = CACHE / "interop"

Argv = tuple[str, ...]
Version = tuple[int, ...]
Environment = dict[str, str]

# Longest time of one command: minutes on a small machine with nothing in its caches.
COMMAND_TIMEOUT_S = 900.0
PROGRAM_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Language:
    """How the program in the directory of this name is made and run, in a copy of it."""

    name: str
    needs: Mapping[str, Version]
    """Programs, and the oldest version of each that will do."""
    fetch: Argv
    """Fetches what it depends on, as its lock file has it."""
    build: Sequence[Argv]
    run: Argv

    @property
    def directory(self) -> Path:
        return WORK / self.name


GO = Language(
    "go",
    {"go": (1, 25)},
    ("go", "mod", "download"),
    [("go", "generate"), ("go", "build", "-o", "main")],
    ("./main",),
)
LANGUAGES = (
    GO,
    Language(
        "typescript",
        {"node": (18,), "npm": (7,)},
        ("npm", "ci", "--no-audit", "--no-fund"),
        [("npm", "run", "generate"), ("npm", "run", "build")],
        ("node", "out/main.js"),
    ),
    Language(
        "rust",
        {"cargo": (1, 85)},
        ("cargo", "fetch", "--locked"),
        [("cargo", "build", "--locked", "--target-dir", "target")],
        ("target/debug/interop",),
    ),
    Language(
        "java",
        {"javac": (17,), "mvn": (3, 8)},
        # Which also runs protoc: Maven fetches it no sooner than it needs it.
        ("mvn", "--batch-mode", "--quiet", "generate-sources"),
        [("mvn", "--batch-mode", "--quiet", "compile")],
        ("java", "-cp", "target/classes:target/lib/*", "Main"),
    ),
)

LIFE = """\
EVENT_KIND_CREATED
EVENT_KIND_STARTED
wrong state: paused
30 100
you
heard you
exit code 4
hello
exit code 3
EVENT_KIND_PAUSED
EVENT_KIND_RESUMED
EVENT_KIND_EXITED
EVENT_KIND_REMOVED
"""
"""What each program prints."""


class LeftOut(Exception):
    """This machine can't build the program; the message says why."""


class Failed(Exception):
    """The program can't be built although all that it needs is there, or does not do its work."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/interop", description=__doc__)
    names = [each.name for each in LANGUAGES]
    parser.add_argument("languages", nargs="*", help=f"of {', '.join(names)}; all unless named")
    wanted = parser.parse_args().languages or names
    if unknown := set(wanted) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    environment = _environment()
    table = [["language", "outcome", "build", "run", ""]]
    with sandbox() as service:
        for language in LANGUAGES:
            if language.name in wanted:
                table.append([language.name, *_outcome(language, environment, service)])
    print()
    for name, outcome, build, run, why in table:
        print(f"{name:12}{outcome:10}{build:>7}{run:>7}  {why}".rstrip())
    sys.exit(1 if any(row[1] == "failed" for row in table) else 0)


def _outcome(language: Language, environment: Environment, service: Service) -> list[str]:
    """What became of it, how long it took to build and to run, and why it is not as it should."""
    print(f"{language.name}: building it", flush=True)
    times = ["", ""]
    began_s = time.monotonic()
    try:
        build(language, environment)
        built_s = time.monotonic()
        times[0] = f"{built_s - began_s:.0f} s"
        _live(language, environment, service)
        times[1] = f"{time.monotonic() - built_s:.1f} s"
    except LeftOut as error:
        return ["left out", *times, str(error)]
    except Failed as error:
        return ["failed", *times, str(error)]
    return ["ran", *times, ""]


def build(language: Language, environment: Environment) -> None:
    """Build it from a copy of its directory; raises ``LeftOut`` or ``Failed``."""
    for program, oldest in language.needs.items():
        if why := lack(program, oldest, environment):
            raise LeftOut(why)
    shutil.copytree(SOURCES / language.name, language.directory, dirs_exist_ok=True)
    if _run(language.fetch, language.directory, environment):
        raise LeftOut(f"{' '.join(language.fetch)} failed: see above")
    for argv in language.build:
        if _run(argv, language.directory, environment):
            raise Failed(f"{' '.join(argv)} failed: see above")


def _live(language: Language, environment: Environment, service: Service) -> None:
    """Run the program, and compare what it prints and leaves."""
    argv = [*language.run, f"{service.directory}/socket", str(service.rootfs)]
    try:
        done = subprocess.run(
            argv,
            cwd=language.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROGRAM_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(str(error)) from error
    if done.returncode != 0 or done.stdout != LIFE:
        print(done.stdout, done.stderr[-4000:], f"wanted:\n{LIFE}", sep="\n")
        raise Failed("its output is not what it should be: see above")
    if left := service.ids():
        raise Failed(f"it left {', '.join(left)}")


def lack(program: str, oldest: Version, environment: Environment) -> str:
    """Why a program of this machine will not do; empty if it does."""
    path = shutil.which(program, path=environment["PATH"])
    if path is None:
        return f"there is no {program}"
    ask = [path, "version" if program == "go" else "--version"]
    told = subprocess.run(ask, env=environment, capture_output=True, text=True)
    found = re.search(r"\d+(?:\.\d+)+", told.stdout)
    if told.returncode != 0 or found is None:
        return f"{' '.join(ask)} failed: {told.stderr.strip()[-200:]}"
    if tuple(map(int, found[0].split("."))) < oldest:
        return f"{program} {found[0]} is older than {'.'.join(map(str, oldest))}"
    return ""


def _run(argv: Argv, directory: Path, environment: Environment) -> bool:
    """Whether it fails; then its last lines are printed."""
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, flush=True)
        return True
    if done.returncode != 0:
        print(done.stdout[-4000:], flush=True)
    return done.returncode != 0


def _environment() -> Environment:
    """What the programs are built in: where the contract is, and a protoc."""
    programs = WORK / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    protoc = programs / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PROTOC": str(protoc),
        "PROTOS": str(REPOSITORY / "protos"),
        # Has the protos of google.rpc.
        "GOOGLEAPIS": sysconfig.get_path("purelib"),
    }
    return environment | _go(programs, environment)


def _go(programs: Path, environment: Environment) -> Environment:
    """What is different for Go, which comes from a wheel unless this machine has a new one."""
    different = {"GOBIN": str(programs), "GOFLAGS": "", "CGO_ENABLED": "0"}
    if lack("go", GO.needs["go"], environment):
        try:
            go = wheel_go(WORK)
        except BuildFailed as error:
            print(error, flush=True)
        else:
            different |= {"PATH": f"{go.parent}:{environment['PATH']}", "GOROOT": ""}
    return different


if __name__ == "__main__":
    main()
