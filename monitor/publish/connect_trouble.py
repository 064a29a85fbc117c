"""Why a connection to the broker did not come about or ended, in words with the fix.

It knows nothing of verdicts. A mistake in the settings often shows as a connection that is closed without an
answer: with `diagnose` these functions find out what the port speaks (`monitor.publish.port_probe`).
"""

from __future__ import annotations

import ssl

from paho.mqtt.reasoncodes import ReasonCode

from monitor.publish import port_probe, tls_errors
from monitor.publish.port_probe import Speech
from monitor.publish.tls_files import uses_tls
from monitor.settings import MqttSettings

_FIXES = {
    0x84: "set mqtt.protocol = {other_protocol}",
    0x85: "let the broker take client ids that begin with line.site and line.name",
    0x8B: "the broker is being shut down; start it again",
    0x8D: "the line was silent for longer than the keepalive: is this machine overloaded?",
    0x8E: "another client connected with this client id: give each line its own line.site and line.name",
    0x93: "the line sent more than the broker's receive maximum; see the broker's log",
    0x95: "raise the limit at the broker (Mosquitto: max_packet_size)",
    0x96: "raise the broker's limit of messages a second for the line",
    0x97: "raise the broker's quota for the line",
    0x98: "somebody ended the connection at the broker",
    0x9A: "allow retained messages at the broker (Mosquitto: retain_available true)",
    0x9B: "allow QoS 1 at the broker (Mosquitto: max_qos 1 or 2)",
    0x9C: "set mqtt.host to the broker that takes its place",
    0x9D: "set mqtt.host to the broker that takes its place",
    0x9F: "raise the broker's limit of connections a second",
}
"""By MQTT 5's reason code (2.4): what helps."""
_ACCOUNT = (0x86, 0x87)
"""A wrong account; `Not authorized`."""
BUSY = (0x88, 0x89)
"""The broker takes no client at present."""


def explain_reason(reason: ReasonCode | None, settings: MqttSettings) -> str:
    """The broker's reason for refusing or ending a connection, with the fix."""
    if reason is None:
        return "gives no reason; see the broker's log"
    code = reason.value
    if code in _ACCOUNT:
        fix = "check mqtt.username and password"
        if settings.username is None:
            fix = "the broker wants an account; check mqtt.username and password, which are not set"
    elif code in BUSY:
        fix = "the broker is overloaded or starting"
    else:
        fix = _FIXES.get(code, "see the broker's log").format(other_protocol=9 - settings.protocol)
    return f"says {str(reason)!r} (0x{code:02X}): {fix}"


def explain_tls(error: ssl.SSLError, settings: MqttSettings, *, diagnose: bool) -> str:
    """What a failed TLS handshake means, with the fix."""
    if tls_errors.is_no_tls(error) and (why := _explain_port(settings, diagnose=diagnose)):
        return why
    return tls_errors.explain(error, settings)


def explain_unreachable(error: Exception, settings: MqttSettings, *, diagnose: bool) -> str:
    """Why there is no TCP connection, or why it ended during the TLS handshake."""
    is_broken_off = uses_tls(settings) and isinstance(error, ConnectionResetError | TimeoutError)
    if is_broken_off and (why := _explain_port(settings, diagnose=diagnose)):
        return f"breaks the connection off: {why}"
    # TCP itself times out without that word, and is refused rather than reset.
    if is_broken_off and (isinstance(error, ConnectionResetError) or "handshake" in str(error)):
        what = "breaks off" if isinstance(error, ConnectionResetError) else "does not answer"
        return (
            f"takes the connection and {what} the TLS handshake: is mqtt.port its port with TLS (8883 is "
            "usual)? See the broker's log"
        )
    return f"can't be reached: {error}; start it, or set mqtt.host and mqtt.port"


def _explain_port(settings: MqttSettings, *, diagnose: bool) -> str | None:
    """Why the port does not answer as the settings expect; None when that is not found out."""
    speech = port_probe.find_speech(settings) if diagnose else Speech.UNKNOWN
    if speech is Speech.TLS and not uses_tls(settings):
        return (
            "this port speaks TLS, and the settings have none: set mqtt.ca_file to the certificate of the "
            "authority that signed the broker's, or set mqtt.port to the port without TLS (1883 is usual)"
        )
    if speech is Speech.TLS and settings.cert_file is None:
        return (
            "the broker breaks the TLS handshake off; it may want a certificate from the line: have its "
            "authority sign one, and set mqtt.cert_file and mqtt.key_file"
        )
    if speech is Speech.MQTT and uses_tls(settings):
        return (
            "this port speaks MQTT without TLS: set mqtt.port to the port with TLS (8883 is usual), or "
            "remove mqtt.ca_file, mqtt.cert_file and mqtt.key_file"
        )
    if speech is Speech.HTTP:
        return (
            "this port speaks HTTP, not MQTT: set mqtt.port to the broker's MQTT port (1883, with TLS 8883)"
        )
    return None


def explain_no_answer(
    settings: MqttSettings, context: ssl.SSLContext | None, is_closed: bool, *, diagnose: bool
) -> str:
    """Why the broker did not answer CONNECT, with the fix."""
    what = "does not answer CONNECT" + (" and closes the connection" if is_closed else "")
    if not diagnose:
        return f"{what}; see the broker's log"
    if context is not None and (alert := port_probe.find_alert(settings, context)) is not None:
        return f"{what}: TLS failed: {tls_errors.explain(alert, settings)}"
    if why := _explain_port(settings, diagnose=context is None):
        return f"{what}: {why}"
    other = 9 - settings.protocol
    if not port_probe.takes_version(settings, settings.protocol, context):
        if port_probe.takes_version(settings, other, context):
            return f"{what}: it speaks another version of MQTT; set mqtt.protocol = {other}"
        return f"{what}: is it an MQTT broker? See its log"
    # A CONNECT without account and Will is answered.
    return (
        f"{what} with this account and Will: it may take no message with QoS 1, no retained message or only "
        "small packets; see the broker's log"
    )
