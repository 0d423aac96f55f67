"""Every command of the documents is run, on the default paths, and prints what they show.

All blocks of all documents are one session, in a mount namespace where the default paths are empty.
A few need a host of their own, and are run by other tests; CI runs those that run these tests.
What they pull from docker.io comes from a registry of the tests, as from a mirror.
Several sessions may run at once: the cgroup parent, which they would share, is not the default.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocigrpc.host.cgroups.cgroup import Cgroup
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.waiting import Deadline
from tests.bed import REPOSITORY
from tests.bed.commands.go_program import go_program
from tests.bed.commands.picture import lines, steady
from tests.bed.documents import OPERATING, README, Block, programs
from tests.bed.images.layers import tree
from tests.bed.images.layout import image
from tests.bed.images.registry import serving_registry

SERVE = "scripts/serve"
SHORTER = {
    "scripts/bench": "--samples 1",
    "scripts/fuzz": "--cases 200",
    "scripts/soak": "--lifecycles 20",
}
"""Arguments for commands that repeat the same thing many times, to repeat it less often."""
RUN_BY_CI = {
    "scripts/test",
    "scripts/test quick",
    "scripts/lint",
    "scripts/interop",
    "scripts/protos --check",
    "scripts/node make /var/tmp/ocigrpc-node",
    "scripts/node enter /var/tmp/ocigrpc-node cat /etc/os-release",
    "scripts/node enter /var/tmp/ocigrpc-node bash -c 'cd /root/project"
    " && .venv/bin/python -m pytest -q -p no:cacheprovider"
    " tests/real/images/test_signatures.py tests/real/images/test_podman_storage.py'",
    "scripts/node test /var/tmp/ocigrpc-node",
}
"""Commands of scripts/test and .ci/run."""
RUN_BY_TESTS = {
    "systemctl": "test_unit_file",
    "apt-get": "test_package",
    "runc delete": "test_recovery",
    "curl -s": "test_metrics",
    "grpc.channelz": "test_channelz",
    "prjquota": "images/test_quota",
    "buildah": "images/test_podman_storage",
}
"""Parts of the commands that need a host or a service of their own, and the tests that run them."""

_LIMIT_S = 480.0
_PRIVATE = (
    "/run/ocigrpc",
    "/var/lib/ocigrpc",
    "/var/log/ocigrpc",
    "/run/runc",
    "/srv",
    "/opt/ocigrpc",
    "/var/backups",
    "/var/lib/containers",
    "/run/containers",
    "/run/libpod",
    "/dev/shm",
)
_GROUP = f"/ocigrpc-documents-{secrets.token_hex(4)}"
# The mode of directories that a session has made, by which another one that needs them knows them.
_MADE = 0o701
# What the images of docker.io are: shells, of which one may be told from the other.
_SHELL = {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}
_ALPINE = (("latest", "0"), ("3.20", "0:0"))
_VOLATILE = re.compile(r'("pid": )\d+|("(?:\w+_at|time)": )"[^"]+Z"')

_DRIVER = """
set -E
trap 'failures=$((failures + 1))' ERR
for directory in $PRIVATE; do mount -t tmpfs -o mode=0755 tmpfs "$directory"; done
# Commands that change the repository change a copy of it, whose only commit is what is there now.
tar --exclude=./.git --exclude=./.venv --exclude=./.cache -c . | tar -C "$COPY" -x
for directory in .venv .cache; do
    mkdir "$COPY/$directory"
    mount --bind "$directory" "$COPY/$directory"
done
mount --rbind "$COPY" "$PWD"
cd "$PWD"
git init --quiet
git add --all
git -c user.name=copy -c user.email=copy commit --quiet --message=copy
# For podman, which then needs no registry.
tar -C / -c "$(command -v busybox)" | podman import -q -c CMD=sh - docker.io/library/alpine
block() {
    failures=0
    "${@:2}" >"$BLOCKS/$1.out" 2>"$BLOCKS/$1.err" </dev/null
    echo "$failures" >"$BLOCKS/$1.failures"
}
serve() {
    export OCIGRPC_IMAGES_REGISTRIES_CONF=$BLOCKS/registries.conf
    exec {output}< <(OCIGRPC_CGROUP_PARENT=$GROUP exec "$1" 2>&1)
    unset OCIGRPC_IMAGES_REGISTRIES_CONF
    service=$!
    trap 'kill "$service"' EXIT
    sed -u '/"service.ready"/q' <&"$output" >"$BLOCKS/serve.log"
    # Otherwise it has ended, and its log says why.
    grep '"service.ready"' "$BLOCKS/serve.log" || exit
    cat <&"$output" >>"$BLOCKS/serve.log" &
}
end() {
    trap - EXIT
    kill "$service"
    wait "$service"
}
"""


BLOCKS = list(programs())
BY_TESTS = [
    block
    for block in BLOCKS
    if block.document in (README, OPERATING) and any(each in block.text for each in RUN_BY_TESTS)
]
SESSION = [block for block in BLOCKS if block.command not in RUN_BY_CI and block not in BY_TESTS]

pytestmark = pytest.mark.timeout(_LIMIT_S + 30)


@dataclass(frozen=True)
class Outcome:
    failures: int
    out: str
    err: str


class Session:
    """The outcomes of the blocks of a session that has ended."""

    def __init__(self, directory: Path, done: subprocess.CompletedProcess[str]) -> None:
        self._directory = directory
        self.done = done

    def of(self, block: Block) -> Outcome:
        found = {
            name: self._directory / f"{block.name}.{name}" for name in ("failures", "out", "err")
        }
        if not found["failures"].exists():
            pytest.fail(f"the session ended before this block: {self.done}")
        text = {name: path.read_text() for name, path in found.items()}
        return Outcome(int(text["failures"]), text["out"], text["err"])


@pytest.fixture(scope="module")
def docker_io(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registries.conf whose mirror of docker.io has two images of alpine's name."""
    # Each of its own, since a name that goes would leave the other one's image.
    made = {tag: image(tree(rootfs), config=_SHELL | {"User": user}) for tag, user in _ALPINE}
    with serving_registry(tmp_path_factory.mktemp("registry")) as registry:
        for tag, each in made.items():
            registry.push(each, "library/alpine", tag)
        mirror = f'[[registry.mirror]]\nlocation = "{registry.host}"\ninsecure = true\n'
        yield f'[[registry]]\nlocation = "docker.io"\n{mirror}'


@pytest.fixture(scope="module")
def session(docker_io: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    directory = tmp_path_factory.mktemp("documents")
    (directory / "registries.conf").write_text(docker_io)
    for each in ("bin", "copy"):
        (directory / each).mkdir()
    (directory / "bin/grpcurl").symlink_to(go_program("grpcurl"))
    for block in SESSION:
        command = block.command
        (directory / block.name).write_text(f"{command} {SHORTER.get(command, '')}\n")
    steps = "".join(map(_step, SESSION))
    driver = f"{_DRIVER}{steps}end\n"
    with ExitStack() as undo:
        for path in map(Path, _PRIVATE):
            _make(path, undo)
        undo.callback(_empty, Hierarchies.detect().group(_GROUP))
        yield Session(directory, _run(driver, directory))


def _step(block: Block) -> str:
    """The driver's commands for a block."""
    if block.command == SERVE:
        return f"block {block.name} serve {SERVE}\n"
    how = ".venv/bin/python" if block.language == "python" else "source"
    return f"block {block.name} {how} $BLOCKS/{block.name}\n"


def _run(driver: str, directory: Path) -> subprocess.CompletedProcess[str]:
    ours = {key: text for key, text in os.environ.items() if not key.startswith("OCIGRPC_")}
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", driver],
        cwd=REPOSITORY,
        env=ours
        | {
            "BLOCKS": str(directory),
            "COPY": str(directory / "copy"),
            "PRIVATE": f"{directory}/copy {' '.join(_PRIVATE)}",
            "GROUP": _GROUP,
            "STORAGE_DRIVER": "vfs",
            "PATH": f"{directory}/bin:{os.environ['PATH']}",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def _make(path: Path, undo: ExitStack) -> None:
    """Make a directory to mount on, and remove it at the end, unless others have made it."""
    for each in reversed([path, *path.parents]):
        with suppress(FileExistsError):
            each.mkdir(_MADE)
        if stat.S_IMODE(each.stat().st_mode) == _MADE:
            undo.callback(_remove_unused, each)


def _remove_unused(path: Path) -> None:
    # The kernel would take the mount of another session away with the directory.
    if not _is_mounted_on(path):
        with suppress(OSError):
            path.rmdir()


def _is_mounted_on(path: Path) -> bool:
    """Whether a session has a mount there, in any mount namespace."""
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        # Processes may end meanwhile.
        with suppress(OSError):
            if f" {path} " in mounts.read_text():
                return True
    return False


def _empty(group: Cgroup) -> None:
    deadline = Deadline(10)
    group.kill(deadline)
    group.remove(deadline)


@pytest.mark.parametrize("block", SESSION, ids=str)
def test_a_block_does_what_is_shown(session: Session, block: Block) -> None:
    outcome = session.of(block)
    is_error = block.shown.startswith(("ERROR:", "ocigrpc: "))
    assert (outcome.failures > 0) == is_error, outcome
    if block.shown_as == "json":
        assert _status_alone(json.loads(_steady(outcome.out))) == json.loads(_steady(block.shown))
    elif block.shown_as == "text":
        printed = outcome.err if is_error else outcome.out
        assert printed.split() == block.shown.split()


def _status_alone(answer: object) -> object:
    """An answer without the fields beside a status, which are long or depend on the host."""
    if isinstance(answer, dict) and isinstance(answer.get("status"), dict):
        assert all(answer.pop(key) for key in ("spec", "resources", "restart_safe"))
    return answer


def _steady(text: str) -> str:
    """Without values that differ in each run."""
    return _VOLATILE.sub(r"\1\g<2>0", text.replace(_GROUP, "/ocigrpc"))


def test_the_session_ends_well_and_leaves_nothing(session: Session) -> None:
    assert session.done.returncode == 0, session.done
    assert not Hierarchies.detect().group(_GROUP).exists()


def test_the_documents_show_the_commands_that_are_named_here() -> None:
    shown = {block.command for block in BLOCKS}
    assert {"scripts/demo", SERVE, *SHORTER, *RUN_BY_CI} <= shown


@pytest.mark.parametrize("command", sorted(RUN_BY_CI))
def test_what_the_session_leaves_out_is_run_by_ci(command: str) -> None:
    script = REPOSITORY / command.split()[0]
    assert os.access(script, os.X_OK)
    runners = [REPOSITORY / ".ci/run", REPOSITORY / "scripts/test"]
    assert any(command == line.strip() for path in runners for line in path.open())


@pytest.mark.parametrize("command", RUN_BY_TESTS)
def test_what_needs_a_host_of_its_own_is_run_by_a_test(command: str) -> None:
    test = (REPOSITORY / f"tests/real/{RUN_BY_TESTS[command]}.py").read_text()
    assert "fences(OPERATING)" in test
    assert f'"{command}" in text' in test
    assert any(command in block.text for block in BY_TESTS)


def test_the_picture_of_the_demo_is_what_it_prints(session: Session) -> None:
    (demo,) = (block for block in SESSION if block.command == "scripts/demo")
    printed = session.of(demo).out.splitlines()
    shown = lines((REPOSITORY / "scripts/demo.svg").read_text())
    assert _once(shown) == _once(["$ scripts/demo", *printed])


def _once(output: Sequence[str]) -> list[str]:
    """Lines without what differs in each run, such as the number of log lines."""
    kept = [steady(line) for line in output if line.strip() not in ("", "...")]
    return [line for line, _ in itertools.groupby(kept)]
