"""What a TLS error at the broker means, in one line with the fix: pure functions.

It knows nothing of connections. OpenSSL names what it saw, as in `TLSV13_ALERT_CERTIFICATE_REQUIRED`; these
lines name the setting or the file that is wrong.
"""

from __future__ import annotations

import ssl

from monitor.settings import MqttSettings

_EXPIRED, _NOT_YET_VALID = 10, 9
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_OTHER_NAME = (62, 64)
"""Results of the verification of a certificate (openssl-verification-options(1))."""

_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "PACKET_LENGTH_TOO_LONG",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "BAD_RECORD_TYPE",
)
"""What came from the port is no TLS record."""
_WANTS_CERTIFICATE = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_OWN_CERTIFICATE = {
    "UNKNOWN_CA": "is not signed by an authority that the broker knows; have the broker's authority sign it",
    "CERTIFICATE_EXPIRED": "has expired; have the broker's authority sign a new one",
    "CERTIFICATE_REVOKED": "was revoked; have the broker's authority sign a new one",
    "BAD_CERTIFICATE": "is refused by the broker; see the broker's log",
    "UNSUPPORTED_CERTIFICATE": "is refused by the broker: it is not for clients; have one for clients signed",
    "CERTIFICATE_UNKNOWN": "is refused by the broker; see the broker's log",
    "DECRYPT_ERROR": "does not go with mqtt.key_file; name the key with which it was requested",
    "ACCESS_DENIED": "is refused by the broker; see the broker's log",
}
"""By the alert that the broker sends: what is wrong with the line's certificate."""
_CLOCKS = "is this machine's clock right (timedatectl)?"


def is_no_tls(error: ssl.SSLError) -> bool:
    """Whether the port answered with something that is no TLS, or closed the connection at once."""
    return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or error.reason in _NO_TLS


def is_alert(error: ssl.SSLError) -> bool:
    """Whether the other end speaks TLS and refuses the connection."""
    return "_ALERT_" in (error.reason or "")


def explain(error: ssl.SSLError, settings: MqttSettings) -> str:
    """What the error means and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_verification(error, settings)
    reason = error.reason or ""
    alert = reason.partition("_ALERT_")[2]
    if alert in _WANTS_CERTIFICATE and settings.cert_file is None:
        return (
            "the broker wants a certificate from the line; have its authority sign one, and set "
            "mqtt.cert_file and mqtt.key_file"
        )
    if alert in _OWN_CERTIFICATE and settings.cert_file is not None:
        return f"the line's certificate, mqtt.cert_file {settings.cert_file}, {_OWN_CERTIFICATE[alert]}"
    if alert == "PROTOCOL_VERSION" or reason in ("UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"):
        return (
            "the broker has no version of TLS that this machine allows; set up TLS 1.2 or 1.3 at the broker"
        )
    what = reason.lower().replace("_", " ") or str(error)
    return f"{what}; check mqtt.ca_file and the port, and see the broker's log"


def _explain_verification(error: ssl.SSLCertVerificationError, settings: MqttSettings) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return f"a certificate of the broker has expired; renew it at the broker, or {_CLOCKS}"
    if code == _NOT_YET_VALID:
        return f"a certificate of the broker is not valid yet; {_CLOCKS}"
    if code in _OTHER_NAME:
        return (
            f"the broker's certificate is not for the name {settings.host!r}; set mqtt.host to a name in the "
            "certificate, or add this name to it (deploy/broker-certificates.sh takes several)"
        )
    if code in _UNKNOWN_AUTHORITY:
        if settings.ca_file is None:
            return (
                "the broker's certificate is not signed by an authority that this machine knows; "
                "set mqtt.ca_file to the certificate of the authority that signed it"
            )
        return (
            "the broker's certificate is not signed by the authority in mqtt.ca_file; check mqtt.ca_file "
            f"{settings.ca_file}: it must be the ca.crt of this broker"
        )
    return f"the broker's certificate is refused: {error.verify_message}; check mqtt.ca_file"
