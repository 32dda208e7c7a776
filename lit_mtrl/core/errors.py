"""What the user's input is answered with where it cannot be used."""

from __future__ import annotations

PAGE = "docs/your_method.md"
"""Where users' own classes are described, as messages name it."""


class ConfigError(ValueError):
    """A value given by the user cannot be used; the message is one line that names key and remedy."""


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)
