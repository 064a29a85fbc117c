"""The TLS context for the connection to the broker, from the files that the settings name.

It knows nothing of MQTT. OpenSSL's messages about these files do not say which file is wrong or what to do,
and OpenSSL asks for a passphrase on the terminal. So each file is looked at first, and a passphrase is never
asked for: the service has no terminal.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from monitor.errors import LineMonitorError
from monitor.settings import MqttSettings

_CERTIFICATE = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE-----")
_PROTECTED = (b"ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")
_OTHER_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's reasons for a key of another certificate; the last one is for a key of another algorithm."""


class TlsFilesError(LineMonitorError):
    """A file for TLS can't be used. The message is one line with the fix."""


def uses_tls(settings: MqttSettings) -> bool:
    return settings.ca_file is not None or settings.cert_file is not None


def make_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """The context; None without TLS. Raises TlsFilesError for the first file that can't be used."""
    if not uses_tls(settings):
        return None
    if problems := find_problems(settings):
        raise TlsFilesError(problems[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.ca_file is not None:
        context.load_verify_locations(settings.ca_file)
    else:
        context.load_default_certs()
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file, _refuse_passphrase)
    return context


def find_problems(settings: MqttSettings) -> list[str]:
    """One line for each file that can't be used, with the fix; one for a key and a certificate that do not
    belong together."""
    found = []
    for key in ("ca_file", "cert_file"):
        file: Path | None = getattr(settings, key)
        if file is not None and (why := _find_certificate_problem(file)):
            found.append(f"mqtt.{key} {file}: {why}")
    if settings.key_file is not None and (why := _find_key_problem(settings.key_file)):
        found.append(f"mqtt.key_file {settings.key_file}: {why}")
    if not found and settings.cert_file is not None and settings.key_file is not None:
        found += _find_pair_problem(settings.cert_file, settings.key_file)
    return found


def _read(file: Path) -> tuple[bytes, str]:
    """The file's content, or why it can't be read."""
    try:
        # To open a pipe would wait for a writer.
        if file.exists() and not (file.is_file() or file.is_dir()):
            return b"", "is no file but a pipe or a device; name a file"
        return file.read_bytes(), ""
    except FileNotFoundError:
        return b"", "no such file; correct the path, or copy the file there"
    except PermissionError:
        return b"", "can't be read by this user; let the service's user read it"
    except IsADirectoryError:
        return b"", "is a folder; name the file in it"
    except OSError as error:
        return b"", f"can't be read: {error.strerror}"


def _find_certificate_problem(file: Path) -> str:
    content, why = _read(file)
    if why:
        return why
    if not any(mark in content for mark in _CERTIFICATE):
        if b"PRIVATE KEY-----" in content:
            return "holds a private key and no certificate; name the certificate's file"
        return (
            "holds no certificate in PEM format; "
            f"convert one in DER format with: openssl x509 -inform der -in {file} -out NEW.pem"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return "its certificate is damaged; copy the file again"
    return ""


def _find_key_problem(file: Path) -> str:
    content, why = _read(file)
    if why:
        return why
    if b"PRIVATE KEY-----" not in content:
        if any(mark in content for mark in _CERTIFICATE):
            return "holds a certificate and no private key; name the key's file"
        return (
            "holds no private key in PEM format; "
            f"convert one in DER format with: openssl pkey -inform der -in {file} -out NEW.pem"
        )
    if any(mark in content for mark in _PROTECTED):
        return (
            "is protected by a passphrase, which a service can't type; store it without one: "
            f"openssl pkey -in {file} -out NEW.key, and chmod 600 NEW.key"
        )
    return ""


def _find_pair_problem(cert_file: Path, key_file: Path) -> list[str]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, _refuse_passphrase)
    except TlsFilesError as error:
        return [f"mqtt.key_file {key_file}: {error}"]
    except ssl.SSLError as error:
        if error.reason in _OTHER_KEY:
            return [
                f"mqtt.key_file {key_file}: is not the key of the certificate in mqtt.cert_file {cert_file}; "
                "name the key with which that certificate was requested"
            ]
        if not error.reason:
            return [f"mqtt.key_file {key_file}: its private key is damaged; copy the file again"]
        why = error.reason.lower().replace("_", " ")
        return [f"mqtt.cert_file {cert_file} and mqtt.key_file {key_file}: OpenSSL refuses them: {why}"]
    return []


def _refuse_passphrase() -> str:
    """In place of OpenSSL's question on the terminal."""
    raise TlsFilesError("the private key is protected by a passphrase; store it without one")
