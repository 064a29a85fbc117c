"""Certificates for tests: an authority, a broker's, a client's, and broken ones, made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1"


class Certificates:
    """The files of one folder, which the broker's user can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("ca", "other-ca"):
            self._run(
                f"openssl req -x509 {_KEY} -nodes -keyout {name}.key -out {name}.crt -days 9 -subj /CN={name}"
            )
        self.sign("server", "ca")
        self.sign("client", "ca")

    def sign(self, name: str, authority: str, days: str = "-days 9", names: str = "DNS:localhost") -> None:
        """Makes `NAME.key`, and `NAME.crt` that this authority signs."""
        (self.folder / "ext").write_text(f"subjectAltName={names}\n")
        self._run(f"openssl req {_KEY} -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}")
        self._run(
            f"openssl x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial "
            f"-out {name}.crt {days} -extfile ext"
        )

    def protect(self, name: str, *, old_format: bool = False) -> Path:
        """The key of that name with a passphrase."""
        how = "ec -aes256" if old_format else "pkcs8 -topk8"
        self._run(f"openssl {how} -in {name}.key -out {name}.protected -passout pass:secret")
        return self.path(f"{name}.protected")

    def convert_to_der(self, name: str) -> None:
        """`NAME.crt` and `NAME.key` as `NAME.crt.der` and `NAME.key.der`."""
        self._run(f"openssl x509 -in {name}.crt -outform der -out {name}.crt.der")
        self._run(f"openssl pkey -in {name}.key -outform der -out {name}.key.der")

    def path(self, name: str) -> Path:
        return self.folder / name

    def _run(self, command: str) -> None:
        subprocess.run(command.split(), cwd=self.folder, check=True, capture_output=True)
        for file in self.folder.iterdir():
            file.chmod(0o644)
