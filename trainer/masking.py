"""Settings without what nobody else may read: passwords and keys that engines and environments take as options."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
SECRET = re.compile(
    r"(key|token|secret|password|passwd|passphrase|credential|authorization)$|(key|secret|credential)s$", re.I
)
"""Ends of names whose values are hidden: `api_key`, `hf_token`; not counts such as `max_new_tokens`."""


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """JSON data in which every value with such a name, at any depth and of any type, is `HIDDEN`; none stays none."""
    return {
        key: HIDDEN if SECRET.search(key) and value is not None else _inner(value) for key, value in settings.items()
    }


def _inner(value: Any) -> Any:
    if isinstance(value, Mapping):
        return masked(value)
    return [_inner(one) for one in value] if isinstance(value, list | tuple) else value
