"""Certificates for servers of tests, made by openssl: a CA, and what it has signed or has not."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Certificates:
    """A CA in a folder of its own. Each certificate is a `NAME.pem` and a `NAME.key`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._openssl(
            "req",
            "-x509",
            *_KEY,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "2",
            "-subj",
            "/CN=CA of tests",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )
        self.ca = str(folder / "ca.pem")

    def signed(self, name: str, *names: str, days: int = 2) -> tuple[str, str]:
        """Files of certificate and key for these names ("DNS:localhost").

        With `days` below 0, it is expired.
        """
        # Python 3.13 and later demand what RFC 5280 does.
        extensions = ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
        if names:
            extensions.append(f"subjectAltName={','.join(names)}")
        (self._folder / f"{name}.ext").write_text("\n".join(extensions) + "\n")
        self._openssl(
            "req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        self._openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            str(days),
            "-extfile",
            f"{name}.ext",
            "-out",
            f"{name}.pem",
        )
        return self._files(name)

    def self_signed(self, name: str, *names: str) -> tuple[str, str]:
        extension = ["-addext", f"subjectAltName={','.join(names)}"]
        self._openssl(
            "req",
            "-x509",
            *_KEY,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            *extension,
        )
        return self._files(name)

    def _files(self, name: str) -> tuple[str, str]:
        for suffix in (".pem", ".key"):
            (self._folder / f"{name}{suffix}").chmod(0o644)
        return str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key")

    def _openssl(self, *words: str) -> None:
        subprocess.run(
            ["openssl", *words], cwd=self._folder, check=True, capture_output=True, timeout=30
        )


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
