"""The OpenAPI document, as other people's tools read it."""

import httpx
from openapi_spec_validator import OpenAPIV31SpecValidator

from conftest import StartFlywheel


def test_the_document_is_valid_openapi_and_needs_no_key(server: StartFlywheel) -> None:
    flywheel = server()
    flywheel.cli("key", "create", "ops", "--role", "admin")
    document = httpx.get(f"{flywheel.url}/openapi.json").raise_for_status().json()
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
