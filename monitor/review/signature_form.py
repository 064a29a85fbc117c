"""The signature on a page: a form with name and password, its check, and the record of refused ones.

It knows nothing of what is signed. The form is the macro `sign` in `templates/signature.html`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus

from flask import abort, request

from monitor.accounts.accounts_file import AccountsError
from monitor.accounts.permissions import Permission, roles_for
from monitor.accounts.signature import Refusal, Signature, Signatures, state_meaning
from monitor.audit.trail import AuditError, AuditTrail
from monitor.review.recorded_changes import describe_refusal
from monitor.verdict import rfc3339

UNDERSTOOD = "understood"
"""The field of the tick box that an act with warnings needs."""


class SignatureForm:
    """Takes signatures from the forms of the page's requests."""

    def __init__(
        self, signatures: Signatures, trail: AuditTrail, utc_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._signatures, self._trail, self._utc_ns = signatures, trail, utc_ns
        self._log = logging.getLogger(__name__)

    def template_values(self, permission: Permission) -> dict[str, object]:
        """What the macro `sign` needs: whether a password is asked for, and who may sign."""
        try:
            asks_password = self._signatures.asks_password
        except AccountsError:
            asks_password = True
        return {"asks_password": asks_password, "roles": [role.value for role in roles_for(permission)]}

    def take(self, permission: Permission, meaning: str, warnings: Sequence[str] = ()) -> Signature:
        """The signature in the present request's form. Ends the request with one line where it is refused, or
        where there are warnings and their tick box is not set.

        The meaning is followed by the reason that the person typed, if any.
        """
        if warnings and request.form.get(UNDERSTOOD) != "yes":
            message = f"{warnings[0]} Read the warning in red, set its tick box, then sign again."
            abort(HTTPStatus.CONFLICT, message)
        name, password = request.form.get("signer", "").strip(), request.form.get("signer_password", "")
        try:
            result = self._signatures.check(
                name,
                password,
                state_meaning(meaning, request.form.get("reason", "")),
                permission,
                request.remote_addr or "",
            )
        except AccountsError as error:
            abort(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}.")
        if isinstance(result, Refusal):
            self._record_refusal(meaning, result)
            code = HTTPStatus.TOO_MANY_REQUESTS if result.is_limited else HTTPStatus.FORBIDDEN
            abort(code, result.why)
        return replace(result, confirmed=tuple(warnings))

    def _record_refusal(self, meaning: str, refusal: Refusal) -> None:
        change = describe_refusal(meaning, refusal, rfc3339(self._utc_ns()))
        self._log.warning("refused: %s by %s: %s", change.subject, change.who, change.meaning)
        if refusal.is_limited:
            # A guesser must not fill the record.
            return
        try:
            self._trail.append(change)
        except AuditError as error:
            self._log.error("%s", error)
