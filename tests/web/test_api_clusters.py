from __future__ import annotations

import jsonschema
import pytest
from web_client import client, site

from streamclust.web import api_clusters


@pytest.fixture(scope="module")
def asker(filled):
    with client(site(filled.state)) as made:
        yield made


def test_the_answers_are_as_they_are_described(asker):
    listed = asker.get("/api/v1/clusters").json()

    for item in listed["items"]:
        jsonschema.validate(item, {**api_clusters.CLUSTER, "additionalProperties": False})
        detail = asker.get(f"/api/v1/clusters/{item['id']}").json()
        jsonschema.validate(detail, {**api_clusters.DETAIL, "additionalProperties": False})
        common = {key: value for key, value in detail.items() if key in item}
        assert common == item


@pytest.mark.parametrize("name", ["C99", "nope", "%27%20OR%201%3D1", "undo", "C1%2F..%2F.."])
def test_an_unknown_cluster_is_not_found(asker, name):
    assert asker.get(f"/api/v1/clusters/{name}").status_code == 404


def test_no_parameter_is_known(asker):
    assert asker.get("/api/v1/clusters?x=1").status_code == 422
    assert asker.get("/api/v1/clusters/C1?x=1").status_code == 422
