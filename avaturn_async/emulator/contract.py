"""The contract as an OpenAPI document."""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["contract", "served"]


@cache
def contract() -> dict[str, Any]:
    """Load the contract as it ships with the package. Not to be changed."""
    document: dict[str, Any] = json.loads(resources.files(__package__).joinpath("openapi.json").read_bytes())
    return document


def served(url: str, bodies: Sequence[str]) -> dict[str, Any]:
    """Return the contract of a server at `url`, which knows these bodies and no others."""
    document = contract()
    components = document["components"]
    schemas = components["schemas"]
    narrowed = {**schemas, "AvatarBody": {**schemas["AvatarBody"], "enum": [*bodies]}}
    return {**document, "servers": [{"url": url}], "components": {**components, "schemas": narrowed}}
