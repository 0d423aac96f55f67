"""Trees as archives and back: nothing is lost, and nothing gets out of the target."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.errors import InvalidArgument, OcigrpcError, PreconditionFailed
from ocigrpc.host.archives import attributes
from ocigrpc.host.archives.pack import DEPTH_LIMIT, DESCRIPTORS, PIECE_BYTES, joined, pack
from ocigrpc.host.archives.reading import Archive
from ocigrpc.host.archives.unpack import Rules, Unpacked, parts_of, unpack
from ocigrpc.host.descriptors import closing_fd
from ocigrpc.host.mappings.owners import Owners
from tests.bed.bundles.archives import archive, fill, member, tree

ALL = Rules(Owners().here, keep_types=False)
MINE = Rules(None, keep_types=True)


def packed(path: Path, name: str = "top", owners: Owners | None = None) -> bytes:
    with closing_fd(os.open(path, os.O_PATH | os.O_NOFOLLOW)) as file:
        pieces = pack(file, name, str(path), owners or Owners())
        return b"".join(joined(pieces, PIECE_BYTES))


def unpacked(content: bytes, target: Path, rules: Rules = ALL) -> Unpacked:
    with closing_fd(os.open(target, os.O_PATH)) as directory:
        return unpack([content[:700], content[700:]], directory, "/t", rules)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_files_of_every_kind_come_back_as_they_were(source: Path, target: Path) -> None:
    fill(source)
    content = packed(source, ".")
    unpacked(content, target)
    assert tree(target) == tree(source)
    # Again, over what is there now.
    unpacked(content, target)
    assert tree(target) == tree(source)


def test_tar_finds_no_difference(source: Path, tmp_path: Path) -> None:
    fill(source)
    (tmp_path / "a.tar").write_bytes(packed(source, "source"))
    argv = ["tar", "--compare", "--xattrs", "--xattrs-include=*", "-f", "a.tar"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_what_tar_packs_comes_back(source: Path, target: Path) -> None:
    fill(source)
    argv = ["tar", "--format=pax", "--xattrs", "--xattrs-include=*", "-cf", "-", "."]
    done = subprocess.run(argv, cwd=source, capture_output=True, check=True)
    unpacked(done.stdout, target)
    assert tree(target) == tree(source)
    gnu = subprocess.run(
        ["tar", "--format=gnu", "-cf", "-", "."], cwd=source, capture_output=True, check=True
    )
    unpacked(gnu.stdout, target)
    assert set(tree(target)) == set(tree(source))


def test_an_attribute_that_no_header_can_name_is_left_out(source: Path, target: Path) -> None:
    (source / "file").write_text("content")
    for name in (b"user.\xff", b"user.a=b", b"user.kept"):
        os.setxattr(source / "file", name, b"value")
    unpacked(packed(source, "."), target)
    assert (target / "file").read_text() == "content"
    assert os.listxattr(target / "file") == ["user.kept"]


def test_more_attributes_than_an_archive_has_room_for_are_an_error(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few file systems take as many as the limit.
    monkeypatch.setattr(attributes, "_ATTRIBUTES_BYTES", 2000)
    for number in range(2):
        os.setxattr(source, f"user.{number}", b"x" * 900)
    assert packed(source)
    os.setxattr(source, "user.more", b"x" * 200)
    with pytest.raises(OSError, match="attributes") as caught:
        packed(source)
    assert (caught.value.errno, caught.value.filename) == (errno.E2BIG, str(source))


def test_no_piece_is_longer_than_one_may_be() -> None:
    given = [b"a" * 30, b"", b"b" * 2, b"c" * 10, b"d"]
    pieces = list(joined(given, 10))
    assert b"".join(pieces) == b"".join(given)
    assert {len(each) for each in pieces} <= set(range(1, 11))


def test_a_deep_tree_takes_two_descriptors_for_each_level(source: Path) -> None:
    (source / "/".join("d" * (DEPTH_LIMIT - 1))).mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with closing_fd(os.open(source, os.O_PATH)) as file:
        counts = [
            len(os.listdir("/proc/self/fd")) for _ in pack(file, "top", str(source), Owners())
        ]
    assert max(counts) - before <= DESCRIPTORS + 2


def test_a_socket_is_left_out(source: Path) -> None:
    os.mknod(source / "socket", stat.S_IFSOCK | 0o600)
    members = [each.info.name for each in Archive([packed(source)])]
    assert members == ["top"]


def test_owners_are_those_of_a_user_namespace(source: Path, target: Path) -> None:
    owners = Owners(((0, 100_000, 65_536),), ((0, 200_000, 65_536),))
    for name, uid in (("inside", 100_005), ("outside", 5)):
        (source / name).write_text("")
        os.chown(source / name, uid, 200_006)
    members = {each.info.name: each.info for each in Archive([packed(source, ".", owners)])}
    assert (members["./inside"].uid, members["./inside"].gid) == (5, 6)
    assert members["./outside"].uid == 65_534
    unpacked(archive(member("file", uid=5, gid=6)), target, Rules(owners.here, keep_types=True))
    found = (target / "file").stat()
    assert (found.st_uid, found.st_gid) == (100_005, 200_006)
    for uid in (65_536, (1 << 32) - 1):
        with pytest.raises(OSError, match="no owner") as caught:
            unpacked(archive(member("x", uid=uid)), target, Rules(owners.here, keep_types=True))
        assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, "/t/x")
    assert not (target / "x").exists()


def test_a_caller_without_owners_gets_files_of_its_own_without_power(
    source: Path, target: Path
) -> None:
    fill(source)
    unpacked(packed(source, "."), target, MINE)
    found = tree(target)
    assert set(tree(source)) - set(found) == {"null"}
    assert {entry.owner for entry, _ in found.values()} == {(os.getuid(), os.getgid())}
    file, able = found["file"][0], found["able"][0]
    assert (stat.S_IMODE(file.mode), file.attributes) == (0o755, {"user.note": b"\xff\0note"})
    assert able.attributes == {}


def test_what_a_directory_does_not_get_is_an_error_of_its_path(target: Path) -> None:
    made = [
        member("wide", type=tarfile.DIRTYPE, pax_headers={"SCHILY.xattr.user.x": "y" * 70_000}),
        member("wide/file"),
        member("other"),
    ]
    for count in (1, 2, 3):
        with pytest.raises(OSError, match="too long") as caught:
            unpacked(archive(*made[:count]), target)
        assert (caught.value.errno, caught.value.filename) == (errno.E2BIG, "/t/wide")


def test_all_zeros_become_a_hole(source: Path, target: Path) -> None:
    (source / "hole").write_bytes(b"")
    os.truncate(source / "hole", 64 << 20)
    unpacked(packed(source, "."), target)
    found = (target / "hole").stat()
    assert (found.st_size, found.st_blocks) == (64 << 20, 0)


def test_a_file_that_becomes_shorter_is_no_whole_archive(source: Path) -> None:
    file = source / "log"
    file.write_bytes(bytes(2 * PIECE_BYTES))
    with closing_fd(os.open(source, os.O_PATH)) as directory:
        pieces = pack(directory, "top", "/top", Owners())
        while len(next(pieces)) != PIECE_BYTES:
            pass
        file.write_bytes(b"")
        with pytest.raises(PreconditionFailed) as caught:
            list(pieces)
    assert (caught.value.reason, caught.value.metadata) == ("FILE_CHANGED", {"path": "/top/log"})


def test_a_tree_that_is_too_deep_is_refused(source: Path) -> None:
    here = os.open(source, os.O_PATH)
    for _ in range(DEPTH_LIMIT + 1):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_PATH, dir_fd=here), here
        os.close(above)
    os.close(here)
    with pytest.raises(OSError, match="deeper") as caught:
        packed(source)
    assert caught.value.errno == errno.ENAMETOOLONG


NAMES = st.lists(
    st.sampled_from(["..", ".", "", "a", "b", "link", "out", "\udcff", "ä"]), min_size=1, max_size=6
).map("/".join)
MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *(tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
                *(tarfile.FIFOTYPE, tarfile.CHRTYPE),
            ]
        ),
        NAMES,
        NAMES,
    ),
    max_size=6,
)


@given(members=MEMBERS, keep_types=st.booleans())
def test_nothing_gets_out_of_the_target(
    tmp_path_factory: pytest.TempPathFactory,
    members: list[tuple[bytes, str, str]],
    keep_types: bool,
) -> None:
    top = tmp_path_factory.mktemp("top")
    outside, target = top / "out", top / "target"
    outside.mkdir()
    target.mkdir()
    (outside / "a").write_text("kept")
    (target / "link").symlink_to(outside)
    (target / "out").symlink_to("../out")
    before = tree(outside)
    made = [member(name, type=kind, linkname=link or "a") for kind, name, link in members if name]
    with suppress(OcigrpcError, OSError):
        unpacked(archive(*made), target, Rules(Owners().here, keep_types))
    assert tree(outside) == before
    assert set(os.listdir(top)) == {"out", "target"}


def test_names_that_lead_above_begin_at_the_target(target: Path) -> None:
    assert parts_of("/../../etc/./passwd") == ["etc", "passwd"]
    assert parts_of("a/../../b") == ["b"]
    assert unpacked(archive(member("../../x"), member("/y/z")), target).entries == 2
    assert set(tree(target)) == {"x", "y", "y/z"}


def test_a_hard_link_out_of_the_target_is_refused(target: Path) -> None:
    (target.parent / "secret").write_text("secret")
    for link in ("../secret", "/secret", str(target.parent / "secret")):
        with pytest.raises(InvalidArgument) as caught:
            unpacked(archive(member("x", type=tarfile.LNKTYPE, linkname=link)), target)
        assert caught.value.reason == "ARCHIVE_MALFORMED"
    assert tree(target) == {}


def test_a_hard_link_to_itself_keeps_the_file(target: Path) -> None:
    made = archive(
        (member("a"), b"kept"),
        member("a", type=tarfile.LNKTYPE, linkname="./a"),
        member("b", type=tarfile.LNKTYPE, linkname="a"),
        member("b", type=tarfile.LNKTYPE, linkname="a"),
    )
    for rules in (ALL, MINE):
        assert unpacked(made, target, rules).entries == 4
        assert (target / "a").read_bytes() == b"kept"
        assert (target / "a").samefile(target / "b")


@pytest.mark.parametrize("link", ["d/inner/file", "d/inner", "d", "none"])
def test_a_hard_link_that_can_not_be_made_removes_nothing(link: str, target: Path) -> None:
    (target / "d/inner").mkdir(parents=True)
    (target / "d/inner/file").write_text("kept")
    before = tree(target)
    with pytest.raises(InvalidArgument) as caught:
        unpacked(archive(member("d", type=tarfile.LNKTYPE, linkname=link)), target)
    assert caught.value.reason == "ARCHIVE_MALFORMED"
    assert tree(target) == before


def test_no_link_below_the_target_is_followed(target: Path) -> None:
    (target.parent / "outside").mkdir()
    made = archive(member("l", type=tarfile.SYMTYPE, linkname="../outside"), member("l/x"))
    with pytest.raises(NotADirectoryError) as caught:
        unpacked(made, target)
    assert caught.value.filename == "/t/l/x"
    (target / "file").symlink_to("../outside/file")
    unpacked(archive((member("file"), b"new")), target)
    assert (target / "file").read_bytes() == b"new"
    assert not (target / "file").is_symlink()
    assert list((target.parent / "outside").iterdir()) == []


@pytest.mark.parametrize(
    "made",
    [
        member("directory", size=0),
        member("file", type=tarfile.DIRTYPE),
        member("link", type=tarfile.DIRTYPE),
        member("directory", type=tarfile.SYMTYPE, linkname="x"),
        member("directory", type=tarfile.LNKTYPE, linkname="file"),
        member("directory", type=tarfile.FIFOTYPE),
    ],
    ids=lambda made: f"{made.name}-{made.type.decode()}",
)
def test_types_are_kept_or_replaced(made: tarfile.TarInfo, target: Path) -> None:
    (target / "directory/inner").mkdir(parents=True)
    (target / "file").write_text("old")
    (target / "link").symlink_to("directory")
    before = tree(target)
    with pytest.raises(PreconditionFailed) as caught:
        unpacked(archive(made), target, ALL._replace(keep_types=True))
    assert caught.value.reason == "WRONG_FILE_TYPE"
    assert caught.value.metadata == {"path": f"/t/{made.name}"}
    assert tree(target) == before
    unpacked(archive(made), target)
    now = (target / made.name).lstat().st_mode
    assert stat.S_ISDIR(now) == (made.type == tarfile.DIRTYPE)


def test_a_file_is_new_or_as_it_was_at_a_broken_archive(target: Path) -> None:
    whole = archive((member("first"), b"1" * 1000), (member("second"), b"2" * 1000))
    with pytest.raises(InvalidArgument) as caught:
        unpacked(whole[:2700], target)
    assert (caught.value.reason, caught.value.metadata) == (
        "ARCHIVE_MALFORMED",
        {"field": "chunk"},
    )
    assert set(tree(target)) == {"first"}


@pytest.mark.parametrize("length", [0, 100, 512, 700, 1024])
def test_an_archive_without_its_end_is_refused(length: int, target: Path) -> None:
    whole = archive((member("file"), b"x" * 500))
    with pytest.raises(InvalidArgument):
        unpacked(whole[:length], target)


def claim(kind: bytes, size: int) -> Iterator[bytes]:
    """A header that is of so many bytes, and as many as are wanted of them."""
    info = member("x", type=kind, size=size)
    yield info.tobuf(tarfile.GNU_FORMAT)
    while True:
        yield b"1" * (1 << 20)


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK],
)
def test_no_header_takes_more_memory_than_one_may(kind: bytes) -> None:
    for size in (2 << 20, 1 << 40):
        with pytest.raises(InvalidArgument):
            list(Archive(claim(kind, size)))


@pytest.mark.parametrize(("major", "minor"), [(1 << 40, 1), (1, 1 << 20), (4096, 0), (-1, 0)])
@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_a_device_that_linux_can_not_have_is_refused(
    kind: bytes, major: int, minor: int, target: Path
) -> None:
    info = member("device", type=kind, devmajor=major, devminor=minor)
    # This form has numbers of any size, and negative ones.
    made = info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    with pytest.raises(InvalidArgument) as caught:
        unpacked(made, target)
    assert caught.value.reason == "ARCHIVE_MALFORMED"
    assert tree(target) == {}


def test_a_name_of_an_attribute_has_no_nul(target: Path) -> None:
    made = archive(member("file", pax_headers={"SCHILY.xattr.user.a\0b": "x"}))
    with pytest.raises(InvalidArgument) as caught:
        unpacked(made, target)
    assert caught.value.reason == "ARCHIVE_MALFORMED"


@given(content=st.data())
def test_whatever_an_archive_has_it_is_read_or_refused(content: st.DataObject) -> None:
    whole = bytearray(
        archive(
            (member("file", pax_headers={"SCHILY.xattr.user.x": "y"}, mtime=1.5), b"x" * 600),
            member("n" * 120, type=tarfile.SYMTYPE, linkname="l" * 120),
        )
    )
    for _ in range(content.draw(st.integers(1, 4))):
        at = content.draw(st.integers(0, len(whole) - 1))
        whole[at] = content.draw(st.integers(0, 255))
        block = at // 512 * 512
        if content.draw(st.booleans()) and block + 512 <= len(whole):
            # With the checksum that fits, so that it is not that which is wrong.
            whole[block + 148 : block + 156] = b" " * 8
            total = sum(whole[block : block + 512])
            whole[block + 148 : block + 156] = b"%06o\0 " % total
    with suppress(InvalidArgument):
        for each in Archive([bytes(whole)]):
            assert each.info.name
