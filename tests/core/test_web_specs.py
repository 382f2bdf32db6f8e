from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamclust.core.web_specs import TokenSpec, WebSpec

TOKEN = {"sha256": "0" * 64, "name": "ada"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_only_this_machine_reaches_the_loopback(host):
    assert WebSpec(host=host).on_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "station7", "2001:db8::1"])  # noqa: S104 — nothing is bound
def test_an_address_that_others_reach_needs_a_token_or_a_word(host):
    with pytest.raises(ValidationError, match="insecure: true"):
        WebSpec(host=host)
    with pytest.raises(ValidationError, match="--new-token"):
        WebSpec(host=host, enabled=True)
    assert not WebSpec(host=host, insecure=True).on_loopback
    assert WebSpec(host=host, enabled=False).host == host
    assert WebSpec.model_validate({"host": host, "tokens": [TOKEN]}).tokens[0].scopes == ("read",)


@pytest.mark.parametrize(
    "wrong", [{"sha256": "abc"}, {"sha256": "0" * 63 + "G"}, {"name": ""}, {"scopes": []}, {"scopes": ["root"]}]
)
def test_a_token_has_a_hash_a_name_and_scopes_that_there_are(wrong):
    with pytest.raises(ValidationError):
        TokenSpec.model_validate({**TOKEN, **wrong})


def test_no_token_is_given_twice():
    with pytest.raises(ValidationError, match="another one"):
        WebSpec.model_validate({"tokens": [TOKEN, {**TOKEN, "name": "bob"}]})


@pytest.mark.parametrize("name", ["evil.example/x", "a b", "", "a:80"])
def test_a_name_that_the_page_may_be_asked_for_by_is_a_host_name(name):
    with pytest.raises(ValidationError):
        WebSpec.model_validate({"hosts": [name]})
