"""Credentials: where they come from, and that nothing repeats them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.elasticsearch.credentials import SECRET_BYTES, Credentials
from adapters.elasticsearch.location import Location
from engine.errors import UsageError

SECRET = "s3cret-of-the-tests"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests' own environment holds."""
    for name in ("USERNAME", "PASSWORD", "PASSWORD_FILE", "API_KEY", "API_KEY_FILE", "CA_CERTS", "CLOUD_ID"):
        monkeypatch.delenv(f"ELASTICSEARCH_{name}", raising=False)


def secret_file(folder: Path, content: str = SECRET + "\n") -> str:
    path = folder / "secret"
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_without_variables_there_are_none() -> None:
    assert Credentials.from_environment({}).options() == {}


def test_a_password_may_be_in_a_file_and_the_user_be_left_out(tmp_path: Path) -> None:
    found = Credentials.from_environment({"ELASTICSEARCH_PASSWORD_FILE": secret_file(tmp_path)})
    assert found.options() == {"basic_auth": ("elastic", SECRET)}


def test_a_password_keeps_its_blanks_and_loses_its_end_of_line(tmp_path: Path) -> None:
    path = secret_file(tmp_path, " two words \r\n")
    found = Credentials.from_environment(
        {"ELASTICSEARCH_USERNAME": "ann", "ELASTICSEARCH_PASSWORD_FILE": path}
    )
    assert found.options() == {"basic_auth": ("ann", " two words ")}


def test_an_api_key_goes_before_a_user_in_either_of_its_forms(tmp_path: Path) -> None:
    user = {"ELASTICSEARCH_USERNAME": "ann", "ELASTICSEARCH_PASSWORD": "x"}
    encoded = Credentials.from_environment(user | {"ELASTICSEARCH_API_KEY": SECRET})
    assert encoded.options() == {"api_key": SECRET}
    pair = Credentials.from_environment({"ELASTICSEARCH_API_KEY_FILE": secret_file(tmp_path, "id:key\n")})
    assert pair.options() == {"api_key": ("id", "key")}


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"ELASTICSEARCH_PASSWORD_FILE": "/nowhere"}, "PASSWORD_FILE=/nowhere: No such file"),
        ({"ELASTICSEARCH_PASSWORD_FILE": "/proc"}, "PASSWORD_FILE=/proc: Is a directory"),
        ({"ELASTICSEARCH_API_KEY_FILE": "/dev/null"}, "/dev/null: empty"),
        ({"ELASTICSEARCH_API_KEY": f"{SECRET}\nX: y"}, "API_KEY: holds a blank, a line break"),
        ({"ELASTICSEARCH_API_KEY": SECRET, "ELASTICSEARCH_API_KEY_FILE": "x"}, "are both set"),
        ({"ELASTICSEARCH_USERNAME": "ann"}, "password is not"),
        ({"ELASTICSEARCH_USERNAME": f"ann:{SECRET}", "ELASTICSEARCH_PASSWORD": SECRET}, "colon"),
        ({"ELASTICSEARCH_CA_CERTS": "/nowhere/ca.pem"}, r"/nowhere/ca\.pem: no such file"),
    ],
)
def test_what_can_not_be_used_is_named_without_its_value(variables: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        Credentials.from_environment(variables)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [SECRET * SECRET_BYTES, "\n"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(UsageError, match=r"too large|empty"):
        Credentials.from_environment({"ELASTICSEARCH_API_KEY_FILE": secret_file(tmp_path, content)})


def test_they_do_not_show_what_they_hold() -> None:
    held = Credentials.from_environment(
        {"ELASTICSEARCH_PASSWORD": SECRET, "ELASTICSEARCH_API_KEY": SECRET, "ELASTICSEARCH_CLOUD_ID": "a:b"}
    )
    assert SECRET not in repr(held)


def test_a_cloud_id_takes_the_place_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location.parse("elasticsearch+https:///chunks")
    with pytest.raises(UsageError, match="ELASTICSEARCH_CLOUD_ID"):
        location.client()
    # "cluster.example.org$node" in base64, which is what a cloud id holds.
    monkeypatch.setenv("ELASTICSEARCH_CLOUD_ID", "name:Y2x1c3Rlci5leGFtcGxlLm9yZyRub2Rl")
    monkeypatch.setenv("ELASTICSEARCH_API_KEY", SECRET)
    with location.client() as client:
        (node,) = client.transport.node_pool.all()
        assert node.base_url == "https://node.cluster.example.org:443"
    monkeypatch.setenv("ELASTICSEARCH_CLOUD_ID", "no cloud id")
    with pytest.raises(UsageError, match="Cloud ID") as caught:
        location.client()
    assert SECRET not in str(caught.value)
