"""A password and a certificate for a node, so that TLS and sign-in can be tried out on this machine.

The authority is made with the node and signs nothing else: clients trust its file, `DIR/tls/ca.pem`, and no
other. Only the standard library and the program openssl are used.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

from elasticsearch_software import Account, SetupError

#: Days for which the certificates are valid.
CERTIFICATE_DAYS = 3650

#: What the node's certificate says: the names by which a client on this machine reaches it, and who signed.
EXTENSIONS = """\
subjectAltName=DNS:localhost,IP:127.0.0.1
authorityKeyIdentifier=keyid
basicConstraints=CA:FALSE
"""

#: The user that every server is born with.
USER = "elastic"

#: The server's own bound; a shorter password stops its start.
SHORTEST_PASSWORD = 6


def read_password(path: str) -> str:
    """The first line of the file. Raises `SetupError` where the server wouldn't take it."""
    try:
        password = Path(path).read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"--password-file {path}: {error}") from None
    if len(password) < SHORTEST_PASSWORD:
        raise SetupError(f"--password-file {path}: give at least {SHORTEST_PASSWORD} characters")
    return password


def authority(folder: Path) -> Path:
    """The file that a client must trust; it exists where the node was started with a password."""
    return folder / "tls" / "ca.pem"


def make_certificates(folder: Path) -> None:
    """An authority and the node's certificate below `folder`, unless they are there."""
    place = authority(folder).parent
    if (place / "node.pem").exists():
        return
    if shutil.which("openssl") is None:
        raise SetupError("openssl is needed for certificates: install the Debian package openssl")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    new_key = ["-newkey", "rsa:2048", "-nodes", "-days", str(CERTIFICATE_DAYS)]
    _openssl("req", "-x509", *new_key, "-subj", "/CN=trial authority", "-keyout", "ca.key", "-out", "ca.pem",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign", folder=place)  # fmt: skip
    _openssl("req", "-new", *new_key[:3], "-subj", "/CN=localhost", "-keyout", "node.key",
             "-out", "node.csr", folder=place)  # fmt: skip
    (place / "extensions").write_text(EXTENSIONS, encoding="ascii")
    _openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
             "-days", str(CERTIFICATE_DAYS), "-extfile", "extensions", "-out", "node.pem",
             folder=place)  # fmt: skip


def install(
    folder: Path, software: Path, password: str, account: Account, environment: dict[str, str]
) -> None:
    """Put certificate and password into the node's configuration; the server's user owns what it reads."""
    place = folder / "config" / "tls"
    place.mkdir()
    for name in ("node.pem", "node.key"):
        shutil.copy(authority(folder).parent / name, place / name)
        if account.uid is not None:
            shutil.chown(place / name, account.uid, account.gid)
    tool = ["/bin/bash", str(software / "bin" / "elasticsearch-keystore")]
    for arguments, text in ((["create"], ""), (["add", "-x", "-f", "bootstrap.password"], password)):
        done = subprocess.run(
            [*tool, *arguments], input=text, capture_output=True, text=True, check=False, cwd="/",
            env=environment, **account.switch(),
        )  # fmt: skip
        if done.returncode:
            raise SetupError(f"elasticsearch-keystore {arguments[0]}: {(done.stdout + done.stderr).strip()}")


def settings() -> dict[str, str]:
    """The server's settings for all this; paths are below its configuration."""
    return {
        "xpack.security.enabled": "true",
        "xpack.security.http.ssl.enabled": "true",
        "xpack.security.http.ssl.key": "tls/node.key",
        "xpack.security.http.ssl.certificate": "tls/node.pem",
    }


def header(password: str) -> dict[str, str]:
    """The request header that signs in."""
    return {"Authorization": "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()}


def _openssl(*arguments: str, folder: Path) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"openssl {arguments[0]}: {done.stderr.strip()}")
