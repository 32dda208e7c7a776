"""Text that users and foreign files bring: shown on one line, and short enough for a file system."""

from __future__ import annotations

from lit_mtrl.core.errors import ConfigError, require

NAME_BYTES = 255
"""What a file system takes for a file's name."""
PATH_BYTES = 4095


def shown(value: object) -> str:
    """The value as it is written in a configuration, on one line and not too long."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = one_line(str(value))
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def one_line(text: str) -> str:
    """The text with control characters, and bytes that are no text, written as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; the name of its class if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def require_short(key: str, path: str) -> None:
    """`ConfigError` if no file system takes the path."""
    try:
        parts = [len(part.encode()) for part in path.split("/")]
    except UnicodeEncodeError as error:
        raise ConfigError(f"{key}={shown(path)}: holds bytes that are no text") from error
    require(
        max(parts) <= NAME_BYTES and sum(parts) + len(parts) <= PATH_BYTES,
        f"{key}={shown(path)}: {max(parts)} bytes between two slashes, a name has {NAME_BYTES} at most; shorten it",
    )
