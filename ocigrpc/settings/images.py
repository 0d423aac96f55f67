"""The settings of images: the table ``images``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ocigrpc.settings.access import Table


class ImagesSettings(Table, frozen=True):
    """Where images are, and how they are had."""

    root: Annotated[
        str,
        Meta(
            description="Directory of the store of images, in the form of containers/storage."
            " Empty: `images` in root_dir. /var/lib/containers/storage is podman's."
        ),
    ] = ""
    run: Annotated[
        str,
        Meta(
            description="Directory of what the store keeps while the node runs. Empty: `images` in"
            " run_dir. /run/containers/storage is podman's."
        ),
    ] = ""
    skopeo: Annotated[
        str, Meta(description="The program that moves images: a path, or a name on PATH.")
    ] = "skopeo"
    policy: Annotated[
        str,
        Meta(
            description="File that says which images may be pulled; containers-policy.json(5)."
            " Empty: /etc/containers/policy.json."
        ),
    ] = ""
    registries_conf: Annotated[
        str,
        Meta(
            description="File with mirrors, short names, and registries that are blocked or"
            " insecure; containers-registries.conf(5). Empty: /etc/containers/registries.conf."
        ),
    ] = ""
    registries_d: Annotated[
        str,
        Meta(
            description="Directory that says where signatures are; containers-registries.d(5)."
            " Empty: /etc/containers/registries.d."
        ),
    ] = ""
    auth_file: Annotated[
        str,
        Meta(
            description="File with credentials for pulls that bring none; containers-auth.json(5)."
            " Empty: they have none."
        ),
    ] = ""
    stall_timeout_s: Annotated[
        float,
        Meta(ge=1, le=86400, description="Time without any bytes that ends a pull, in seconds."),
    ] = 120.0
    lock_timeout_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="Time that a pull waits while another program, such as podman, has the"
            " store locked, in seconds.",
        ),
    ] = 600.0
    resolve_timeout_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="Time in which registries have to say which image a name means, in"
            " seconds.",
        ),
    ] = 300.0
    parallel_pulls: Annotated[
        int, Meta(ge=1, le=64, description="Most images that are pulled at once; others wait.")
    ] = 3
    mount_options: Annotated[
        tuple[str, ...],
        Meta(
            max_length=16,
            description="Options of the overlays that containers of images have: `metacopy`,"
            " `redirect_dir`, `index`, `xino`, each with its value.",
        ),
    ] = ()
    pinned: Annotated[
        tuple[str, ...],
        Meta(
            max_length=1000,
            description="Names of images that nothing removes; `*` stands for anything.",
        ),
    ] = ()
    usage_interval_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="Pause between two measurements of what containers have written to their"
            " root filesystems, in seconds.",
        ),
    ] = 300.0
