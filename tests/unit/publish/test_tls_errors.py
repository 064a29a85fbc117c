"""What OpenSSL reports becomes a line that names the setting or the file that is wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from monitor.publish import tls_errors
from monitor.settings import MqttSettings

PLAIN = MqttSettings()
WITH_CA = MqttSettings(ca_file=Path("ca.crt"))
WITH_CERTIFICATE = MqttSettings(ca_file=Path("ca.crt"), cert_file=Path("line.crt"), key_file=Path("line.key"))


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def verification(code: int, message: str = "") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "settings", "words"),
    [
        (verification(10), WITH_CA, "has expired"),
        (verification(9), WITH_CA, "not valid yet"),
        (verification(62), WITH_CA, "not for the name '127.0.0.1'"),
        (verification(64), WITH_CA, "not for the name '127.0.0.1'"),
        (verification(18), WITH_CA, "the authority in mqtt.ca_file"),
        (verification(19), WITH_CA, "the authority in mqtt.ca_file"),
        (verification(20), WITH_CA, "the authority in mqtt.ca_file"),
        (verification(20), MqttSettings(cert_file=Path("a"), key_file=Path("b")), "set mqtt.ca_file"),
        (verification(26, "unsuitable purpose"), WITH_CA, "unsuitable purpose"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), WITH_CA, "set mqtt.cert_file and mqtt.key_file"),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), WITH_CA, "set mqtt.cert_file and mqtt.key_file"),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), WITH_CERTIFICATE, "line.crt, is not signed by an authority"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), WITH_CERTIFICATE, "line.crt, has expired"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_REVOKED"), WITH_CERTIFICATE, "line.crt, was revoked"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), WITH_CA, "TLS 1.2 or 1.3"),
        (tls_error("UNSUPPORTED_PROTOCOL"), WITH_CA, "TLS 1.2 or 1.3"),
        (tls_error("DH_KEY_TOO_SMALL"), WITH_CA, "dh key too small"),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), WITH_CERTIFICATE, "handshake failure"),
    ],
)
def test_a_tls_error_is_one_line_that_names_what_is_wrong(
    error: ssl.SSLError, settings: MqttSettings, words: str
) -> None:
    told = tls_errors.explain(error, settings)
    assert words in told
    assert "\n" not in told
    assert "protocol = 4" not in told


def test_what_is_no_tls_is_told_from_an_alert() -> None:
    for reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        assert tls_errors.is_no_tls(tls_error(reason))
        assert not tls_errors.is_alert(tls_error(reason))
    assert tls_errors.is_no_tls(ssl.SSLEOFError(8, "EOF"))
    assert tls_errors.is_alert(tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"))
    assert not tls_errors.is_no_tls(tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"))
