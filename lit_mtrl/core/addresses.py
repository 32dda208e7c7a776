"""Addresses of stores: they are written into configurations, checkpoints, parameters and tags, so they hold no
password.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from lit_mtrl.core.errors import ConfigError

SECRET = r"[\w.-]*(?:password|passwd|pwd|secret|token|api_?key|credential|signature)[\w.-]*|\b(?:key|sig|auth)"
"""Names of options whose values are secret; ``sslkey`` and ``passfile`` are paths."""
SQLITE = "sqlite:///"
REMEDIES = {
    "http": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment",
    "https": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment",
    "postgresql": "set PGPASSWORD in the environment, or write it into ~/.pgpass",
    "mysql": "write it into an option file and add ?read_default_file=PATH",
}


def require_no_credentials(key: str, uri: str) -> None:
    """`ConfigError` if ``uri``, the value of ``key``, holds a password or token. A path after ``sqlite:///`` holds
    none.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or uri.startswith(SQLITE):
        return
    if _user_tells(scheme, rest) or re.search(rf"(?:{SECRET})\s*=\s*[^&;\s]", _options(rest), re.IGNORECASE):
        remedy = REMEDIES.get(
            scheme.partition("+")[0], "let an MLflow server open the database, and give its http:// address"
        )
        raise ConfigError(
            f"{key}={scheme}://***: holds a password or token, which would be stored with the run; {remedy}"
        )


def public(text: str) -> str:
    """The text without the users, passwords and tokens in its addresses."""
    text = re.sub(r"(?<=://)(?!/)(?![^\s:/@]*(?::\d+)?/)\S*@", "***@", text)
    return re.sub(rf"(?<=[?&;#])((?:{SECRET})=)[^&;#\s]+", r"\1***", text, flags=re.IGNORECASE)


def _user_tells(scheme: str, rest: str) -> bool:
    """Whether what stands before the last @ has a password; of a server the name alone may be a token."""
    user, at, _ = rest.rpartition("@")
    if not at or re.match(r"/|[^:/?@]*(?::\d+)?[/?]", user):  # the @ belongs to a path or an option
        return False
    return ":" in user or scheme in ("http", "https")


def _options(rest: str) -> str:
    """What follows the first ``?`` or ``#``, also where one option holds others in percent codes."""
    return unquote_plus(re.split(r"[?#]", rest, maxsplit=1)[-1]) if re.search(r"[?#]", rest) else ""
