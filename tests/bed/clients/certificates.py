"""Certificates for tests, made by openssl."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_NAMES = "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost"


class Authority:
    """A certificate authority in a directory of its own, and those it vouches for."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.cert = directory / "ca.crt"
        self._key = _make_key(directory / "ca.key")
        # Without it, newer versions of Python trust nobody.
        usage = "-addext keyUsage=critical,keyCertSign"
        _openssl(
            f"req -x509 -new -days 2 -subj /CN=authority {usage}", key=self._key, out=self.cert
        )

    def vouch(self, name: str, days: int = 1) -> tuple[Path, Path]:
        """A certificate for ``/O=tests/CN=name`` and its key; already expired after no days."""
        key = _make_key(self._directory / f"{name}.key")
        request, names = self._directory / f"{name}.csr", self._directory / "names"
        cert = self._directory / f"{name}.crt"
        names.write_text(_NAMES)
        _openssl(f"req -new -subj /O=tests/CN={name}", key=key, out=request)
        _openssl(
            f"x509 -req -days {days} -set_serial {int.from_bytes(os.urandom(8))}"
            f" -in {request} -extfile {names} -CA {self.cert} -CAkey {self._key}",
            out=cert,
        )
        return cert, key


def _make_key(path: Path) -> Path:
    _openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", out=path)
    return path


def _openssl(arguments: str, *, out: Path, key: Path | None = None) -> None:
    argv = ["openssl", *arguments.split(), "-out", str(out), *(["-key", str(key)] if key else [])]
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
