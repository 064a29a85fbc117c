"""A real nginx on a free port, with TLS, before a page on this machine."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from http.client import HTTPResponse
from pathlib import Path
from types import TracebackType

from tests.real.https_request import NAME, request
from tests.real.port import free_port


class Nginx:
    """`with Nginx(folder, server) as proxy:` serves `https://line-pc.example:<proxy.port>`.

    `server` is a server block as people write it, with port 443, the name `line-pc.example` and certificates
    below `/etc/ssl`, in place of which the test's own are used.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._folder, self.port = folder, free_port()
        self.url = f"https://{NAME}:{self.port}"
        folder.mkdir(exist_ok=True)
        mine = server.replace("/etc/ssl/", f"{folder}/").replace("443", f"127.0.0.1:{self.port}")
        places = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self._config = folder / "nginx.conf"
        self._config.write_text(
            f"daemon off;\nmaster_process off;\npid {folder}/pid;\n"
            f"error_log {folder}/error.log;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{places}{mine}\n}}\n"
        )

    def __enter__(self) -> Nginx:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            raise RuntimeError("nginx is missing: apt-get install nginx (deploy/test.sh does)")
        self._make_certificate()
        self._process = subprocess.Popen(
            [program, "-c", str(self._config), "-e", f"{self._folder}/error.log"]
        )
        until = time.monotonic() + 10
        while time.monotonic() < until and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.02)
        raise RuntimeError(f"nginx did not start: {(self._folder / 'error.log').read_text()}")

    def _make_certificate(self) -> None:
        made = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={NAME}"
        files = ["-keyout", f"{self._folder}/line-pc.key", "-out", f"{self._folder}/line-pc.crt"]
        command = ["openssl", "req", *made.split(), "-addext", f"subjectAltName=DNS:{NAME}", *files]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def request(
        self, method: str, path: str, form: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[HTTPResponse, str]:
        """The answer to a request of a browser that has opened the page by its public address."""
        return request(self.port, self._folder / "line-pc.crt", method, path, form, headers or {})
