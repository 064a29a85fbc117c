"""Each mistake with TLS at a real broker is one line that names it, in `check` as in the running line."""

from __future__ import annotations

import http.server
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.publish.broker_client import BrokerClient, ConnectError, Subscriptions
from monitor.settings import MqttSettings
from tests.real.certificates import Certificates
from tests.real.mosquitto import Mosquitto


@pytest.fixture(scope="module")
def made() -> Iterator[Certificates]:
    # Mosquitto drops root rights before it reads the files, and pytest's folders are private.
    with tempfile.TemporaryDirectory(prefix="tls-") as folder:
        Path(folder).chmod(0o755)
        certificates = Certificates(Path(folder))
        certificates.sign("expired", "ca", days="-days -1")
        certificates.sign("foreign", "other-ca")
        yield certificates


def tls_broker(made: Certificates, server: str = "server", more: str = "") -> Mosquitto:
    cert, key = made.path(f"{server}.crt"), made.path(f"{server}.key")
    return Mosquitto(extra=f"cafile {made.path('ca.crt')}\ncertfile {cert}\nkeyfile {key}\n{more}")


def told(settings: MqttSettings) -> str:
    """What the attempt to connect says; empty when it succeeds."""
    client = BrokerClient(settings, "t", None, Subscriptions())
    line = ""
    try:
        client.connect(diagnose=True)
    except ConnectError as error:
        line = str(error)
    else:
        client.disconnect()
    assert "\n" not in line
    assert "protocol = 4" not in line, "the version of MQTT is not the trouble"
    return line


def files(made: Certificates, **names: str) -> dict[str, Path]:
    return {key: made.path(name) for key, name in names.items()}


OWN = {"cert_file": "client.crt", "key_file": "client.key"}
WANTED = "require_certificate true"


@pytest.mark.parametrize(
    ("given", "server", "more", "words"),
    [
        ({}, "server", "", "this port speaks TLS"),
        ({"ca_file": "ca.crt"}, "server", "", ""),
        ({"ca_file": "other-ca.crt"}, "server", "", "not signed by the authority in mqtt.ca_file"),
        ({"ca_file": "ca.crt"}, "expired", "", "has expired"),
        (OWN, "server", "", "set mqtt.ca_file to the certificate of the authority"),
        ({"ca_file": "ca.crt"}, "server", WANTED, "certificate from the line"),
        (
            {"ca_file": "ca.crt"},
            "server",
            f"{WANTED}\ntls_version tlsv1.2",
            "certificate from the line",
        ),
        ({"ca_file": "ca.crt", **OWN}, "server", WANTED, ""),
        (
            {"ca_file": "ca.crt", "cert_file": "foreign.crt", "key_file": "foreign.key"},
            "server",
            WANTED,
            "is not signed by an authority that the broker knows",
        ),
        (
            {"ca_file": "ca.crt", "cert_file": "expired.crt", "key_file": "expired.key"},
            "server",
            WANTED,
            "has expired; have the broker's authority sign a new one",
        ),
    ],
)
def test_each_mistake_with_certificates_is_told(
    made: Certificates, given: dict[str, str], server: str, more: str, words: str
) -> None:
    with tls_broker(made, server, more) as broker:
        line = told(MqttSettings(host="localhost", port=broker.port, **files(made, **given)))  # type: ignore[arg-type]
    assert words in line
    assert bool(line) is bool(words)


def test_a_certificate_for_another_name_is_told(made: Certificates) -> None:
    with tls_broker(made) as broker:
        line = told(MqttSettings(host="127.0.0.1", port=broker.port, ca_file=made.path("ca.crt")))
    assert "TLS failed: the broker's certificate is not for the name '127.0.0.1'; set mqtt.host" in line


@pytest.mark.parametrize("protocol", [4, 5])
def test_tls_to_a_port_without_it_is_told(made: Certificates, protocol: int) -> None:
    with Mosquitto() as broker:
        settings = MqttSettings(
            host="localhost", port=broker.port, ca_file=made.path("ca.crt"), protocol=protocol
        )
        assert "this port speaks MQTT without TLS: set mqtt.port to the port with TLS" in told(settings)


def test_a_web_servers_port_is_told(made: Certificates) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for more in ({}, files(made, ca_file="ca.crt")):
            line = told(MqttSettings(port=server.server_address[1], **more))  # type: ignore[arg-type]
            assert "this port speaks HTTP, not MQTT" in line
        server.shutdown()


def test_check_names_the_mistake_and_asks_for_no_passphrase(made: Certificates, tmp_path: Path) -> None:
    """On a terminal, where OpenSSL would ask."""
    made.protect("client")
    config = tmp_path / "line.toml"
    with tls_broker(made, more=WANTED) as broker:
        config.write_text(
            f'[line]\ndata = "data"\n[mqtt]\nhost = "localhost"\nport = {broker.port}\n'
            f'ca_file = "{made.path("ca.crt")}"\ncert_file = "{made.path("client.crt")}"\n'
            f'key_file = "{made.path("client.protected")}"\n[metrics]\nport = 0\n[review]\nport = 0\n'
        )
        command = f"{sys.executable} -m monitor.cli --config {config} check"
        result = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            stdin=subprocess.PIPE,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (
        f"FAIL  broker: mqtt.key_file {made.path('client.protected')}: is protected by a passphrase"
        in result.stdout
    )
    assert "PEM" not in result.stdout
