"""Credentials from `ELASTICSEARCH_…` variables or the files that they name.

Never from the URL or an option: those show in the process list, the ledger and the logs. For the same
reason no error here repeats a value, and the `repr` of `Credentials` hides secrets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import UsageError

#: The variables that give credentials, in words.
VARIABLES = (
    "ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD (or ELASTICSEARCH_PASSWORD_FILE), or "
    "ELASTICSEARCH_API_KEY (or ELASTICSEARCH_API_KEY_FILE)"
)

#: The user where only a password is given, as servers are set up with.
DEFAULT_USER = "elastic"

#: Bytes of a file that holds a secret, at most: a larger one is the wrong file.
SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API key, or a user with a password, or neither; `authority` is a PEM file, `cloud` a cloud id."""

    api_key: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    authority: str | None = None
    cloud: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Credentials:
        """Read the variables, and the files that they name.

        Raises `UsageError` for a file that can't be read, a variable given both ways, or a key that no
        header could carry.
        """
        variables = os.environ if environment is None else environment
        api_key = _secret(variables, "ELASTICSEARCH_API_KEY")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise UsageError(
                "ELASTICSEARCH_API_KEY: holds a blank, a line break or another unusual character"
            )
        user = variables.get("ELASTICSEARCH_USERNAME") or None
        password = _secret(variables, "ELASTICSEARCH_PASSWORD")
        if user is not None and password is None and api_key is None:
            raise UsageError("ELASTICSEARCH_USERNAME is set, its password is not: set ELASTICSEARCH_PASSWORD")
        if user is not None and ":" in user:
            raise UsageError("ELASTICSEARCH_USERNAME: a user's name can't hold a colon")
        authority = variables.get("ELASTICSEARCH_CA_CERTS") or None
        if authority is not None and not Path(authority).is_file():
            raise UsageError(f"ELASTICSEARCH_CA_CERTS={authority}: no such file")
        cloud = variables.get("ELASTICSEARCH_CLOUD_ID") or None
        return cls(api_key, user or (DEFAULT_USER if password else None), password, authority, cloud)

    def options(self) -> dict[str, object]:
        """Arguments of the client; an API key goes before a user."""
        if self.api_key is not None:
            name, colon, secret = self.api_key.partition(":")
            return {"api_key": (name, secret) if colon else self.api_key}
        if self.user is not None:
            return {"basic_auth": (self.user, self.password or "")}
        return {}


def _secret(variables: Mapping[str, str], name: str) -> str | None:
    """The value of `name`, or the content of the file that `name`_FILE names, its end of line left out."""
    path = variables.get(f"{name}_FILE")
    if not path:
        return variables.get(name) or None
    if variables.get(name):
        raise UsageError(f"{name} and {name}_FILE are both set: give one of them")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(SECRET_BYTES + 1).rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"{name}_FILE={path}: not a text file") from None
    except OSError as error:
        raise UsageError(f"{name}_FILE={path}: {error.strerror}") from None
    if not text or len(text) > SECRET_BYTES:
        raise UsageError(f"{name}_FILE={path}: {'too large' if text else 'empty'}")
    return text
