"""How a command ends: its last line, and its exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

import grpc

from ocigrpc.errors import OcigrpcError


def exit_status(work: Callable[[], None]) -> int:
    """Do a command's work: 0 if all of it was true, 130 if it was interrupted, else 1."""
    try:
        work()
    except KeyboardInterrupt:
        print("\nInterrupted; nothing is left behind.", file=sys.stderr)
        return 130
    except AssertionError as error:
        print(f"\nNot true: {error}", file=sys.stderr)
        return 1
    except (OcigrpcError, grpc.RpcError) as error:
        print(f"\nFailed: {error}", file=sys.stderr)
        return 1
    print("Left behind: no process, cgroup, mount or file.")
    return 0
