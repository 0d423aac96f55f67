"""``images``, ``tag``, ``rmi`` and the group ``image``: as users of podman and docker know them."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.bed.clients.command import Command
from tests.bed.clients.terminal import on_terminal
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image
from tests.bed.services.service import Service
from tests.real.images.conftest import ImagesOf

WEB = "registry.example/team/web:1"
ALPINE = "docker.io/library/alpine:3.20"
UNKNOWN = "0" * 64


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


@pytest.fixture
def web(images_of_service: ImagesOf) -> Image:
    """An image with two names, of two layers."""
    config = {"Cmd": ["/web"], "User": "1001", "Labels": {"tier": "front"}}
    made = image([file("web", b"w" * 5000)], [file("more", b"m" * 3000)], config=config)
    # The name that came last is the first one.
    images_of_service.put(made, "localhost/web:latest", WEB)
    return made


@pytest.fixture
def alpine(images_of_service: ImagesOf) -> Image:
    made = image([file("alpine")])
    images_of_service.put(made, ALPINE)
    return made


def names(command: Command, *words: str) -> list[str]:
    return command.lines("images", "--output", "name", *words)


def test_each_name_has_a_line(web: Image, alpine: Image, command: Command) -> None:
    title, *rows = command.lines("images")
    assert title.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    cells = sorted(re.split(r"\s{2,}", row) for row in rows)
    assert [each[:3] for each in cells] == [
        ["docker.io/library/alpine", "3.20", alpine.image_id[:12]],
        ["localhost/web", "latest", web.image_id[:12]],
        ["registry.example/team/web", "1", web.image_id[:12]],
    ]
    # When they were built, as they say.
    assert {each[3] for each in cells} == {"2 years ago"}


def test_without_images_there_is_the_title_alone(command: Command) -> None:
    assert len(command.lines("images")) == 1
    assert command.lines("images", "-q") == []


def test_ids_are_short_unless_they_are_wanted_whole_and_each_is_once(
    web: Image, command: Command
) -> None:
    assert command.lines("images", "--quiet") == [web.image_id[:12]]
    assert command.lines("images", "-q", "--no-trunc") == [f"sha256:{web.image_id}"]


def test_digests_are_those_of_the_manifests(alpine: Image, command: Command) -> None:
    title, row = command.lines("images", "--digests")
    assert "DIGEST" in title
    assert f" {alpine.digest} " in row


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("alpine", [ALPINE]),
        ("library/alpine:3.20", [ALPINE]),
        ("docker.io/*", [ALPINE]),
        ("web", [WEB, "localhost/web:latest"]),
        ("web:1", [WEB]),
        ("lpine", []),
        ("alpine:3", []),
        ("*", [ALPINE, WEB, "localhost/web:latest"]),
    ],
)
def test_a_name_may_lack_its_registry_and_its_tag(
    web: Image, alpine: Image, command: Command, pattern: str, found: list[str]
) -> None:
    assert sorted(names(command, pattern)) == sorted(found)
    assert sorted(names(command, "--filter", f"reference={pattern}")) == sorted(found)


def test_the_beginning_of_an_id_stands_for_all_names(
    web: Image, alpine: Image, command: Command
) -> None:
    assert names(command, web.image_id[:5]) == [WEB, "localhost/web:latest"]
    assert names(command, f"sha256:{alpine.image_id}") == [ALPINE]


def test_any_reference_and_every_label(web: Image, alpine: Image, command: Command) -> None:
    references = ["-f", "reference=web:1", "-f", "reference=alpine"]
    assert set(names(command, *references)) == {ALPINE, WEB}
    assert names(command, *references, "-f", "label=tier") == [WEB]
    assert names(command, *references, "-f", "label=tier=front") == [WEB]
    assert names(command, *references, "-f", "label=tier=back") == []


def test_an_image_that_has_lost_its_name_is_dangling(
    web: Image, images_of_service: ImagesOf, command: Command
) -> None:
    other = image([file("other")])
    images_of_service.put(other, "localhost/moved:1")
    command.lines("tag", WEB, "localhost/moved:1")
    assert command.lines("images", "-q", "--filter", "dangling=true") == [other.image_id[:12]]
    assert command.lines("images", "-q", "--filter", "dangling=false") == [web.image_id[:12]]
    [_, row] = command.lines("images", other.image_id[:12])
    assert row.split()[:2] == ["<none>", "<none>"]
    assert names(command, other.image_id) == [other.image_id]


def test_an_image_that_was_pulled_by_its_digest_alone_has_that_name_and_no_tag(
    small_image: Image, images_of_service: ImagesOf, command: Command
) -> None:
    manifest = small_image.digest
    images_of_service.put(small_image, f"registry.example/pinned@{manifest}")
    assert command.lines("images", "-q", "--filter", "dangling=true") == []
    assert command.lines("images", "-q", "--filter", "dangling=false") == [
        small_image.image_id[:12]
    ]
    template = "{{.Repository}} {{.Tag}} {{.Digest}}"
    expected = f"registry.example/pinned <none> {manifest}"
    assert command.lines("images", "--format", template, "pinned") == [expected]


def test_images_are_chosen_by_when_others_were_built(
    web: Image, images_of_service: ImagesOf, command: Command
) -> None:
    for year in ("2001", "2031"):
        built = image([file(year)], created=f"{year}-01-01T00:00:00Z")
        images_of_service.put(built, f"localhost/of:{year}")
    assert names(command, "-f", f"before={WEB}") == ["localhost/of:2001"]
    assert names(command, "-f", f"since={WEB}") == ["localhost/of:2031"]
    between = ("-f", "since=of:2001", "-f", "before=of:2031")
    assert set(names(command, *between)) == {WEB, "localhost/web:latest"}
    assert names(command, *between, "-f", "reference=of") == []
    assert names(command, "-f", "until=2002-01-01T00:00:00Z") == ["localhost/of:2001"]
    assert "no image" in command.refusal("images", "-f", "before=nobody")
    assert "is no time" in command.refusal("images", "-f", "until=often", status=2)


def test_the_order_is_the_one_that_is_wanted(
    web: Image, alpine: Image, images_of_service: ImagesOf, command: Command
) -> None:
    old = image([file("o", b"o" * 9000)], [file("p")], created="2001-01-01T00:00:00Z")
    images_of_service.put(old, "localhost/old:0")
    assert names(command, "--sort", "created")[-1] == "localhost/old:0"
    by_name = [ALPINE, "localhost/old:0", "localhost/web:latest", WEB]
    assert names(command, "--sort", "repository") == by_name
    by_size = [ALPINE, "localhost/web:latest", WEB, "localhost/old:0"]
    assert names(command, "--sort", "size") == by_size
    tags = command.lines("images", "--sort", "tag", "--format", "{{.Tag}}")
    assert tags == ["0", "1", "3.20", "latest"]
    ids = command.lines("images", "--sort", "id", "-q")
    assert ids == sorted(ids)
    command.refusal("images", "--sort", "colour", status=2)


def test_a_template_has_how_many_containers_use_an_image(
    small_image: Image, images_of_service: ImagesOf, service: Service, command: Command
) -> None:
    images_of_service.put(small_image, WEB)
    template = ("images", "--format", "{{.Containers}}")
    assert command.lines(*template) == ["0"]
    for _ in range(2):
        command.lines("create", "--pull", "never", WEB)
    assert command.lines(*template) == ["2"]
    service.remove_all()


def test_programs_get_the_summaries_of_the_api(web: Image, command: Command) -> None:
    [found] = json.loads("".join(command.lines("images", "-o", "json")))
    assert found["image_id"] == web.image_id
    assert found["names"] == [WEB, "localhost/web:latest"]
    assert found["labels"] == {"tier": "front"}
    assert yaml.safe_load("\n".join(command.lines("images", "-o", "yaml"))) == [found]
    assert json.loads("".join(command.lines("images", "--format", "json"))) == [found]


def test_templates_have_the_fields_of_podman_and_docker(web: Image, command: Command) -> None:
    template = "{{.Repository}}:{{.Tag}} {{.ID}} {{json .Labels}} {{.User}}"
    expected = f'{WEB} {web.image_id[:12]} {{"tier": "front"}} 1001'
    assert command.lines("images", "--format", template)[0] == expected


def test_kinds_of_output_exclude_each_other(command: Command) -> None:
    assert "exclude" in command.refusal("images", "-q", "-o", "json", status=2)
    assert "KEY=VALUE" in command.refusal("images", "-f", "size=3", status=2)
    assert "neither" in command.refusal("images", "-f", "dangling=maybe", status=2)


def test_tag_gives_a_name_and_says_nothing(web: Image, command: Command) -> None:
    assert command.lines("tag", web.image_id[:10], "shop", "registry.example/shop:2") == []
    assert set(names(command, "shop")) == {"localhost/shop:latest", "registry.example/shop:2"}


def test_a_name_that_cannot_be_is_complained_about_and_the_others_are_given(
    web: Image, command: Command
) -> None:
    done = command("tag", WEB, "Wrong", "right")
    assert done.returncode == 1
    assert "must be a name" in done.stderr
    assert names(command, "right") == ["localhost/right:latest"]


def test_rmi_takes_a_name_and_with_the_last_one_the_image(web: Image, command: Command) -> None:
    assert command.lines("rmi", WEB) == [f"Untagged: {WEB}"]
    assert command.lines("rmi", "web") == [
        "Untagged: localhost/web:latest",
        f"Deleted: {web.image_id}",
    ]
    assert names(command) == []


def test_an_id_with_several_names_is_removed_by_force_alone(web: Image, command: Command) -> None:
    assert "--force" in command.refusal("rmi", web.image_id[:12], status=125)
    assert command.lines("rmi", "--force", web.image_id[:12]) == [
        f"Untagged: {WEB}",
        "Untagged: localhost/web:latest",
        f"Deleted: {web.image_id}",
    ]


def test_force_takes_of_a_name_that_one_alone(web: Image, command: Command) -> None:
    assert command.lines("rmi", "--force", "web") == ["Untagged: localhost/web:latest"]
    assert names(command) == [WEB]
    whole = f"sha256:{web.image_id}"
    command.lines("tag", WEB, "shop")
    assert len(command.lines("rmi", "--force", whole)) == 3


def test_what_is_not_there_is_complained_about_and_the_rest_is_removed(
    web: Image, alpine: Image, command: Command
) -> None:
    done = command("rmi", "nobody", ALPINE)
    assert done.returncode == 1
    assert "no image 'nobody'" in done.stderr
    assert done.stdout.startswith(f"Untagged: {ALPINE}\n")
    assert set(names(command)) == {WEB, "localhost/web:latest"}


@pytest.mark.parametrize("option", ["--force", "--ignore"])
def test_what_is_not_there_may_be_no_failure(web: Image, command: Command, option: str) -> None:
    assert command.lines("rmi", option, "nobody", WEB)[0] == f"Untagged: {WEB}"


def test_an_image_in_use_is_untagged_and_goes_with_its_last_container(
    images_of_service: ImagesOf, service: Service, small_image: Image, command: Command
) -> None:
    images_of_service.put(small_image, WEB)
    done = command("create", "--pull", "never", WEB)
    container_id = done.stdout.strip()
    done = command("rmi", WEB)
    assert (done.returncode, done.stdout) == (0, f"Untagged: {WEB}\n")
    assert f"image {small_image.image_id[:12]} is deleted with the last" in done.stderr
    assert container_id[:12] in done.stderr
    service.remove(container_id)
    assert command.lines("images", "-q") == []


def test_the_exit_status_of_rmi_is_as_podman_has_it(
    web: Image, alpine: Image, images_of_service: ImagesOf, command: Command
) -> None:
    # It stands for a container of another program; only the image of it is looked at.
    containers = images_of_service.storage.root / "overlay-containers/containers.json"
    containers.parent.mkdir(exist_ok=True)
    containers.write_text(json.dumps([{"id": "c" * 64, "image": alpine.image_id}]))
    try:
        assert "another program" in command.refusal("rmi", ALPINE, status=2)
        assert command("rmi", ALPINE, "nobody").returncode == 2
        assert command("rmi", ALPINE, web.image_id).returncode == 125
        assert command("image", "rm", "nobody", ALPINE).returncode == 2
    finally:
        containers.unlink()
    assert "--force" in command.refusal("image", "rm", web.image_id, status=125)


def test_all_are_removed_or_those_that_are_named(
    web: Image, alpine: Image, command: Command
) -> None:
    command.refusal("rmi", status=125)
    command.refusal("image", "rm", "--all", "alpine", status=125)
    assert len(command.lines("rmi", "--all")) == 5
    assert names(command) == []


def test_inspect_prints_all_that_is_known(web: Image, command: Command) -> None:
    [found] = json.loads("".join(command.lines("image", "inspect", "web")))
    assert found["image"]["image_id"] == web.image_id
    assert found["config"]["cmd"] == ["/web"]
    assert [each["diff_id"] for each in found["layers"]] == [each.diff_id for each in web.layers]
    template = "{{.ID}} {{.config.user}} {{json .config.cmd}}"
    expected = f'sha256:{web.image_id} 1001 ["/web"]'
    assert command.lines("image", "inspect", "-f", template, WEB) == [expected]


def test_inspect_complains_about_each_that_is_not_there(web: Image, command: Command) -> None:
    done = command("image", "inspect", "nobody", WEB, UNKNOWN)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert len(json.loads(done.stdout)) == 1


def test_prune_takes_those_without_a_name_and_with_all_the_others(
    web: Image, alpine: Image, command: Command
) -> None:
    command.lines("tag", WEB, ALPINE)
    *ids, total = command.lines("image", "prune", "--force")
    assert ids == [alpine.image_id]
    assert total.startswith("Total reclaimed space: ")
    would = ["image", "prune", "--all", "--dry-run"]
    assert command.lines(*would)[:-1] == [web.image_id]
    assert command.lines(*would, "--filter", "label=tier=back")[:-1] == []
    assert command.lines(*would, "--filter", "until=1h")[:-1] == []
    assert command.lines(*would, "--until-free", "1k")[:-1] == []
    assert command.lines("image", "prune", "-a", "-f")[:-1] == [web.image_id]


def test_prune_asks_on_a_terminal_and_fails_without_one(alpine: Image, command: Command) -> None:
    assert "--force" in command.refusal("image", "prune", "-a", status=2)
    for answer, status, left in (("n", 130, [ALPINE]), ("y", 0, [])):
        with on_terminal(command.argv("image", "prune", "--all")) as terminal:
            terminal.read_until("Remove all unused images? [y/N]:")
            terminal.type(f"{answer}\n")
            terminal.read_all()
            assert terminal.wait() == status
        assert names(command) == left


def test_wrong_filters_of_prune_are_usage_errors(command: Command) -> None:
    prune = ("image", "prune", "-f")
    assert "lacks a value" in command.refusal(*prune, "--filter", "label=tier", status=2)
    assert "is no time" in command.refusal(*prune, "--filter", "until=often", status=2)
    assert "is no size" in command.refusal(*prune, "--until-free", "0", status=2)


def test_df_counts_each_layer_once(
    web: Image, images_of_service: ImagesOf, command: Command
) -> None:
    on_top = image(*web.layers, [file("on-top", b"t" * 2000)])
    images_of_service.put(on_top, "localhost/top:1")
    info = json.loads("".join(command.lines("system", "df", "--output", "json")))
    [one, two] = json.loads("".join(command.lines("images", "-o", "json")))
    shared = int(one["size_bytes"]) - int(one["unique_bytes"])
    assert info["image_count"] == 2
    assert int(info["image_bytes"]) == int(one["unique_bytes"]) + int(two["size_bytes"])
    assert shared > 0
    title, row, containers = command.lines("system", "df")
    assert title.split() == ["TYPE", "TOTAL", "SIZE", "RECLAIMABLE", "FREE"]
    assert row.split()[:2] == ["Images", "2"]
    assert row.split("  ")[-2].endswith("(100%)")
    assert containers.split()[:2] == ["Containers", "0"]
    assert command.lines("system", "df", "--format", "{{.Type}} {{.Total}}") == [
        "Images 2",
        "Containers 0",
    ]


def test_df_has_a_line_for_each_name_and_each_container_if_it_is_verbose(
    small_image: Image, images_of_service: ImagesOf, service: Service, command: Command
) -> None:
    images_of_service.put(small_image, WEB, "localhost/web:latest")
    command.lines("create", "--name", "shop", "--pull", "never", WEB)
    lines = command.lines("system", "df", "--verbose")
    place = lines.index("")
    title, *rows = lines[:place]
    assert title.endswith("SHARED SIZE  UNIQUE SIZE  CONTAINERS")
    assert [row.split()[-1] for row in rows] == ["1", "1"]
    title, row = lines[place + 1 :]
    assert title.endswith("NAMES  SIZE")
    assert WEB in row
    assert "shop" in row
    command.refusal("system", "df", "-v", "-o", "json", status=2)
    service.remove_all()


def test_exists_answers_by_its_status_alone(web: Image, command: Command) -> None:
    for name, status in ((WEB, 0), (web.image_id[:9], 0), ("nobody", 1)):
        done = command("image", "exists", name)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
    command.refusal("image", "exists", "Wrong", status=125)


def test_history_has_the_last_step_first_with_what_its_layer_takes(
    images_of_service: ImagesOf, command: Command
) -> None:
    steps: list[dict[str, object]] = [
        {"created_by": "COPY small", "created": "2001-01-01T00:00:00Z"},
        {"created_by": "ENV " + "x" * 100, "empty_layer": True, "comment": "why"},
        {"created_by": "COPY large"},
    ]
    layers = ([file("small")], [file("large", b"l" * 9000)])
    images_of_service.put(image(*layers, history=steps), "localhost/built:1")
    title, large, env, small = command.lines("history", "built:1")
    assert title.split() == ["CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert "KiB" in large[large.index("COPY large") :]
    assert env.split()[-3:] == ["0", "B", "why"]
    assert "…" in env
    assert small.split()[1:] == ["years", "ago", "COPY", "small", *small.split()[-2:]]
    assert "x" * 100 in command.lines("image", "history", "--no-trunc", "built:1")[2]
    found = json.loads("".join(command.lines("history", "-o", "json", "built:1")))
    assert [each["created_by"][:4] for each in found] == ["COPY", "ENV ", "COPY"]


def test_the_group_has_the_names_of_podman_and_docker(web: Image, command: Command) -> None:
    assert command.lines("image", "ls", "-q") == [web.image_id[:12]]
    assert command.lines("image", "tag", WEB, "again") == []
    assert command.lines("image", "rm", "again") == ["Untagged: localhost/again:latest"]
    listed = " ".join(command.lines("image", "--help"))
    assert all(
        each in listed for each in ("inspect", "load", "ls", "prune", "pull", "rm", "save", "tag")
    )
    assert "image nothing" not in command.refusal("image", "nothing", status=2)


def test_completion_has_names_and_ids(web: Image, alpine: Image, command: Command) -> None:
    def completed(*words: str) -> list[str]:
        given = ["ocigrpc", "--address", command.address, *words]
        variables = {"COMP_WORDS": " ".join(given), "COMP_CWORD": str(len(given) - 1)}
        done = command(_OCIGRPC_COMPLETE="bash_complete", **variables)
        return [line.partition(",")[2] for line in done.stdout.split()]

    for verb in ("rmi", "images", "pull", "run", "save", "tag"):
        assert completed(verb, "docker") == [ALPINE]
    assert completed("create", "--rm", "docker") == [ALPINE]
    assert completed("rmi", web.image_id[:9]) == [web.image_id]
    # What follows is for the program.
    assert completed("run", ALPINE, "docker") == []
    assert completed("run", "--rootfs", "/srv", "docker") == []
