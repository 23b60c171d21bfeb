"""What the OpenAPI says is so: requests made from it get no unexpected 5xx, and answers of the forms it describes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from anmok.server.app import build
from anmok.server.settings import Settings
from serving import FAKES, Running, running

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:PIL")

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ON_PURPOSE = (501, 503, 504, 507)
QUIET = settings(
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@cache
def document() -> dict[str, Any]:
    return build(Settings(models=FAKES)).api.openapi()


@cache
def operations() -> dict[str, Any]:
    schema = schemathesis.openapi.from_dict(document())
    found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    return {one.label: one for one in found}


LABELS = sorted(f"{method.upper()} {path}" for path, methods in document()["paths"].items() for method in methods)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


def check(server: Running, label: str, examples: int) -> None:
    """So many requests of one route, half of them with the name of a model that is there."""

    @settings(QUIET, max_examples=examples)
    @given(case=operations()[label].as_strategy())
    def asked(case: Any) -> None:
        if case.path_parameters and "name" in case.path_parameters and len(str(case.path_parameters["name"])) % 2:
            case.path_parameters["name"] = "fake-places"
        response = case.call(base_url=server.address)
        assert response.status_code < 500 or response.status_code in ON_PURPOSE, response.text[:300]
        assert "x-request-id" in response.headers
        case.validate_response(response, checks=CHECKS)

    asked()


def test_every_operation_is_asked() -> None:
    assert sorted(operations()) == LABELS
    assert len(LABELS) > 40


@pytest.mark.parametrize("label", LABELS)
def test_answers_are_as_described(server: Running, label: str) -> None:
    check(server, label, 4)


@pytest.mark.slow
@pytest.mark.parametrize("label", LABELS)
def test_many_answers_are_as_described(server: Running, label: str) -> None:
    check(server, label, 150)
