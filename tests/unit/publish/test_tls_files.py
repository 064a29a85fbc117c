"""Each mistake with the files for TLS is a line of its own with the fix; nothing asks for a passphrase."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.publish.tls_files import TlsFilesError, find_problems, make_context
from monitor.settings import MqttSettings
from tests.real.certificates import Certificates


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    certificates = Certificates(tmp_path_factory.mktemp("tls"))
    certificates.protect("client")
    certificates.protect("server", old_format=True)
    certificates.convert_to_der("client")
    subprocess.run(
        ["openssl", "genrsa", "-out", certificates.path("rsa.key"), "2048"], check=True, capture_output=True
    )
    for name, content in {
        "empty": b"",
        "cut.crt": certificates.path("ca.crt").read_bytes()[:300],
        "cut.key": b"-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n",
        "both.pem": certificates.path("client.crt").read_bytes()
        + certificates.path("client.key").read_bytes(),
    }.items():
        certificates.path(name).write_bytes(content)
    os.mkfifo(certificates.path("pipe"))
    return certificates


def settings(made: Certificates, **files: str) -> MqttSettings:
    return MqttSettings(**{key: made.path(name) for key, name in files.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ca", "words"),
    [
        ("none.crt", "no such file"),
        (".", "is a folder"),
        ("pipe", "is no file but a pipe or a device"),
        ("empty", "holds no certificate in PEM format"),
        ("client.crt.der", "openssl x509 -inform der"),
        ("cut.crt", "its certificate is damaged"),
        ("ca.key", "holds a private key and no certificate"),
    ],
)
def test_each_mistake_with_the_authoritys_file_is_told(made: Certificates, ca: str, words: str) -> None:
    (told,) = find_problems(settings(made, ca_file=ca))
    assert told.startswith(f"mqtt.ca_file {made.path(ca)}: ")
    assert words in told
    with pytest.raises(TlsFilesError, match=r"mqtt\.ca_file"):
        make_context(settings(made, ca_file=ca))


@pytest.mark.parametrize(
    ("cert", "key", "blamed", "words"),
    [
        ("none.crt", "client.key", "cert_file", "no such file"),
        ("client.crt", "none.key", "key_file", "no such file"),
        ("client.crt", "client.protected", "key_file", "passphrase"),
        ("server.crt", "server.protected", "key_file", "passphrase"),
        ("client.crt", "server.key", "key_file", "is not the key of the certificate"),
        ("client.crt", "rsa.key", "key_file", "is not the key of the certificate"),
        ("client.crt", "cut.key", "key_file", "its private key is damaged"),
        ("client.crt", "client.key.der", "key_file", "openssl pkey -inform der"),
        ("client.crt", "empty", "key_file", "holds no private key"),
        ("client.crt", "client.crt", "key_file", "holds a certificate and no private key"),
        ("client.key", "client.key", "cert_file", "holds a private key and no certificate"),
        ("cut.crt", "client.key", "cert_file", "its certificate is damaged"),
    ],
)
def test_each_mistake_with_the_lines_certificate_and_key_is_told(
    made: Certificates, cert: str, key: str, blamed: str, words: str
) -> None:
    (told,) = find_problems(settings(made, cert_file=cert, key_file=key))
    assert told.startswith(f"mqtt.{blamed} ")
    assert words in told
    assert "\n" not in told


def test_files_that_go_together_are_no_problem(made: Certificates) -> None:
    for files in (
        {"ca_file": "ca.crt"},
        {"ca_file": "ca.crt", "cert_file": "client.crt", "key_file": "client.key"},
        {"cert_file": "both.pem", "key_file": "both.pem"},
    ):
        assert find_problems(settings(made, **files)) == []
        assert make_context(settings(made, **files)) is not None
    assert make_context(MqttSettings()) is None


def test_two_wrong_files_are_both_told(made: Certificates) -> None:
    told = find_problems(settings(made, ca_file="none.crt", cert_file="client.crt", key_file="none.key"))
    assert [line.split()[0] for line in told] == ["mqtt.ca_file", "mqtt.key_file"]


def test_a_file_that_this_user_may_not_read_is_told(
    made: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(file: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    (told,) = find_problems(settings(made, ca_file="ca.crt"))
    assert "can't be read by this user" in told


def test_nothing_is_asked_on_a_terminal(made: Certificates) -> None:
    """Also of a key whose passphrase is not looked for first."""
    code = (
        "from pathlib import Path; from monitor.publish import tls_files as t; t._PROTECTED = ()\n"
        "from monitor.settings import MqttSettings\n"
        f"print(t.find_problems(MqttSettings(cert_file=Path({str(made.path('client.crt'))!r}), "
        f"key_file=Path({str(made.path('client.protected'))!r}))))"
    )
    ours, terminal = pty.openpty()
    result = subprocess.run(
        [sys.executable, "-c", code],
        stdin=terminal,
        stderr=terminal,
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    os.close(terminal)
    os.set_blocking(ours, False)
    with pytest.raises(OSError, match=r"unavailable|Input/output"):
        os.read(ours, 100)
    os.close(ours)
    assert b"passphrase" in result.stdout
