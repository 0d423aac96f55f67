"""The command ``cp`` copies as podman's and docker's do."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.bed.bundles.archives import archive, fill, member, tree
from tests.bed.bundles.bundle import make_rootfs
from tests.bed.clients.command import Command
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of the container ``box``, with some of each kind in ``/work``."""
    root = make_rootfs(tmp_path)
    lay_out(root / "work")
    return root


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The same files outside."""
    lay_out(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def command(service: Service, root: Path) -> Command:
    command = Command(service)
    command.lines("run", "-d", "--name", "box", "--rootfs", str(root), "sleep", "1000")
    return command


def lay_out(top: Path) -> None:
    (top / "tree/inner").mkdir(parents=True)
    (top / "tree/inner/leaf").write_text("leaf")
    (top / "file").write_text("file")
    (top / "other").write_text("other")
    (top / "empty").mkdir()
    (top / "to-file").symlink_to("file")
    (top / "to-empty").symlink_to("empty")
    (top / "to-none").symlink_to("empty/new")


def files(top: Path) -> dict[str, str]:
    """The files below a directory with their texts, directories with "/" behind their names."""
    found = {}
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[f"{name}/"] = ""
        else:
            found[name] = path.read_text()
    return found


TREE = {"": "", "inner/": "", "inner/leaf": "leaf"}
NEW = {f"new/{name}": text for name, text in TREE.items()}
# From where, to where, and which files there are then that were not, or not so.
COPIES = [
    ("file", "empty", {"empty/file": "file"}),
    ("file", "empty/", {"empty/file": "file"}),
    ("file", "new", {"new": "file"}),
    ("file", "other", {"other": "file"}),
    ("file", "empty/new", {"empty/new": "file"}),
    ("other", "to-file", {"file": "other"}),
    ("file", "to-empty", {"empty/file": "file"}),
    ("file", "to-none", {"empty/new": "file"}),
    (
        "tree",
        "empty",
        {"empty/tree/": "", "empty/tree/inner/": "", "empty/tree/inner/leaf": "leaf"},
    ),
    ("tree", "new", {"new/": "", "new/inner/": "", "new/inner/leaf": "leaf"}),
    ("tree/", "new/", {"new/": "", "new/inner/": "", "new/inner/leaf": "leaf"}),
    ("tree/.", "empty", {"empty/inner/": "", "empty/inner/leaf": "leaf"}),
    ("tree/.", "new", NEW),
    ("to-file", "empty", {"empty/to-file": "-> file"}),
    ("to-file", "new", {"new": "-> file"}),
    ("to-empty", "new", {"new": "-> empty"}),
    ("to-empty/.", "tree", {}),
]


def added(top: Path, before: dict[str, str]) -> dict[str, str]:
    return dict(files(top).items() - before.items())


@pytest.mark.parametrize(("source", "target", "new"), COPIES)
def test_files_go_where_podman_and_docker_put_them(
    command: Command, root: Path, here: Path, source: str, target: str, new: dict[str, str]
) -> None:
    before = files(here)
    assert command.lines("cp", f"{here}/{source}", f"box:/work/{target}") == []
    assert added(root / "work", before) == new
    shutil.rmtree(root / "work")
    lay_out(root / "work")
    # A path in a container begins at its root.
    assert command.lines("cp", f"box:work/{source}", f"{here}/{target}") == []
    assert added(here, before) == new


def test_paths_of_the_caller_begin_where_it_is(command: Command, root: Path, here: Path) -> None:
    (here / "box:file").write_text("with a colon")
    for words in (
        ("file", "box:empty"),
        ("./box:file", "box:/work/empty"),
        (".", "box:/work/new"),
        ("box:/work/other", "new/"),
        ("box:/work/other", "."),
    ):
        done = subprocess.run(
            command.argv("cp", *words), cwd=here, capture_output=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == int("new/" in words), done
    assert (root / "empty").read_text() == "file"
    assert files(root / "work/empty") == {"box:file": "with a colon"}
    assert files(root / "work/new") == files(here)
    assert not (here / "new").exists()


def test_a_link_is_followed_if_asked_for(command: Command, root: Path, here: Path) -> None:
    command.lines("cp", "-L", f"{here}/to-file", "box:/work/empty")
    command.lines("cp", "--follow-link", "box:/work/to-empty", f"{here}/new")
    assert files(root / "work/empty") == {"to-file": "file"}
    assert files(here / "new") == {"to-file": "file"}


def test_files_go_from_one_container_to_another(
    service: Service, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    second = make_rootfs(tmp_path / "second")
    command.lines("create", "--name", "crate", "--rootfs", str(second), "true")
    command.lines("cp", "box:/work/tree", "crate:/etc/new")
    assert files(second / "etc/new") == {"inner/": "", "inner/leaf": "leaf"}
    command.lines("cp", "box:/work/tree/.", "box:/work/empty")
    assert service.state("box") == "running"


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("HERE/none", "box:/work", "none: No such file"),
        ("box:/none", "HERE", "has no /none"),
        ("HERE/file", "box:/none/new", "has no /none"),
        ("box:/work/file", "HERE/none/new", "none: No such file"),
        ("HERE/file", "box:/none/", "does not exist"),
        ("box:/work/file", "HERE/none/", "does not exist"),
        ("HERE/tree", "box:/work/file", "is a directory"),
        ("box:/work/tree", "HERE/file", "is a directory"),
        ("HERE/file", "box:/work/file/", "not a directory"),
        ("box:/work/file/", "HERE", "not a directory"),
        ("box:/work", "nobody:/", "nobody"),
    ],
)
def test_what_can_not_be_copied_is_said_in_a_line(
    command: Command, root: Path, here: Path, source: str, target: str, said: str
) -> None:
    before = files(here)
    words = [each.replace("HERE", str(here)) for each in (source, target)]
    assert said.lower() in command.refusal("cp", *words).lower()
    assert files(here) == files(root / "work") == before


def test_one_side_is_a_container(command: Command, here: Path) -> None:
    for words in ((str(here), str(here)), ("-", "-"), ("-", str(here)), ("./box:x", "/tmp")):
        assert "CONTAINER:PATH" in command.refusal("cp", *words, status=2)


def test_types_are_kept_unless_they_may_be_overwritten(
    command: Command, root: Path, here: Path
) -> None:
    (root / "work/empty/file/inner").mkdir(parents=True)
    (root / "work/empty/tree").write_text("a file")
    for name in ("file", "tree"):
        assert "replaced" in command.refusal("cp", f"{here}/{name}", "box:/work/empty")
    for name in ("file", "tree"):
        command.lines("cp", "--overwrite", f"{here}/{name}", "box:/work/empty")
    assert files(root / "work/empty") == {
        "file": "file",
        "tree/": "",
        "tree/inner/": "",
        "tree/inner/leaf": "leaf",
    }
    (here / "empty/file").mkdir()
    assert "replaced" in command.refusal("cp", "box:/work/file", f"{here}/empty")
    command.lines("cp", "--overwrite", "box:/work/file", f"{here}/empty")
    assert files(here / "empty") == {"file": "file"}


def test_owners_are_the_containers_unless_they_are_to_be_kept(
    service: Service, root: Path, here: Path
) -> None:
    command = Command(service)
    words = ("--name", "box", "--user", "alice", "--rootfs", str(root))
    command.lines("run", "-d", *words, "sleep", "1000")
    os.chown(here / "file", 77, 88)
    for options, owner in (
        ((), (1001, 1002)),
        (("-a",), (1001, 1002)),
        (("--archive=false",), (77, 88)),
        (("-a=false",), (77, 88)),
        (("--no-archive",), (77, 88)),
    ):
        command.lines("cp", *options, f"{here}/file", "box:/work/new")
        found = (root / "work/new").stat()
        assert (found.st_uid, found.st_gid) == owner


def test_what_comes_out_is_the_callers_and_without_power(
    command: Command, root: Path, here: Path
) -> None:
    (root / "work/all").mkdir()
    fill(root / "work/all")
    command.lines("cp", "box:/work/all", str(here))
    found = tree(here / "all")
    assert set(found) == set(tree(root / "work/all")) - {"null"}
    assert {entry.owner for entry, _ in found.values()} == {(os.getuid(), os.getgid())}
    assert found["file"][0].mode == stat.S_IFREG | 0o755
    assert found["closed"][0].mode == stat.S_IFDIR | 0o1500
    assert found["hole"][0].modified_ns == (root / "work/all/hole").stat().st_mtime_ns
    assert found["able"][0].attributes == {}


def test_an_archive_goes_through_standard_streams(command: Command, root: Path) -> None:
    out = command.feed(b"", "cp", "box:/work/tree", "-")
    with tarfile.open(fileobj=io.BytesIO(out)) as read:
        assert read.getnames() == ["tree", "tree/inner", "tree/inner/leaf"]
    assert command.feed(out, "cp", "-", "box:/work/empty") == b""
    assert set(files(root / "work/empty")) == {"tree/", "tree/inner/", "tree/inner/leaf"}
    kept = archive(member("owned", uid=5, gid=6))
    command.feed(kept, "cp", "--no-archive", "-", "box:/work/empty")
    assert (root / "work/empty/owned").stat().st_uid == 5


def test_standard_input_is_an_archive_and_goes_to_a_directory(command: Command, root: Path) -> None:
    for data, target, said in (
        (b"no archive", "/work", "archive"),
        (archive(member("x")), "/work/file", "not a directory"),
        (archive(member("x")), "/none", "not a directory"),
    ):
        with command.start("cp", "-", f"box:{target}") as process:
            out, err = process.communicate(data, timeout=LIMIT_S)
        assert (process.returncode, out) == (1, b"")
        (line,) = err.decode().splitlines()
        assert said in line
    assert not (root / "work/x").exists()


def test_an_archive_is_not_for_a_terminal(command: Command) -> None:
    ours, theirs = os.openpty()
    for words in (("cp", "box:/work", "-"), ("cp", "-", "box:/work")):
        argv = command.argv(*words)
        done = subprocess.run(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            timeout=LIMIT_S,
            check=False,
        )
        assert (done.returncode, b"terminal" in done.stderr) == (2, True)
    os.close(theirs)
    os.close(ours)


def test_a_reader_that_goes_ends_the_command(command: Command, root: Path) -> None:
    (root / "work/large").write_bytes(b"")
    os.truncate(root / "work/large", 1 << 30)
    script = 'set -o pipefail; "$@" | head -c 1000 | wc -c'
    argv = command.argv("cp", "box:/work/large", "-")
    done = subprocess.run(
        ["bash", "-c", script, "bash", *argv], capture_output=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (141, b"1000", b"")
