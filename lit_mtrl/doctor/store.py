"""The probe of MLflow's store, which it does not make."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lit_mtrl.core.addresses import public, require_no_credentials
from lit_mtrl.core.errors import ConfigError
from lit_mtrl.doctor.finding import OK, PROBLEM, Finding
from lit_mtrl.tracking.store import (
    answering,
    checked_uri,
    client_uri,
    database_of,
    first_line,
    import_mlflow,
    store_denied,
)

STORE = "LIT_MTRL_DOCTOR_STORE"
"""Environment variable with the store's address."""
OTHERWISE = "give another logger.tracking_uri, or logger=csv"


def mlflow_store() -> Iterator[Finding]:
    """Whether it answers, and, of an SQLite file, whether it can be written."""
    yield Finding("MLflow store", *_look(os.environ[STORE]))


def _look(given: str) -> tuple[str, str, str]:
    """State, finding and remedy."""
    try:
        require_no_credentials("logger.tracking_uri", given)  # which fit would refuse
        uri = checked_uri(given)
        address, database = client_uri(uri), database_of(uri)
    except ConfigError as error:
        reason, _, remedy = str(error).partition("; ")
        return PROBLEM, reason, remedy
    where = public(uri)
    if database:
        if reason := store_denied(database):
            reason, _, remedy = reason.partition("; ")
            return PROBLEM, f"{where}: {reason}", f"{remedy}, or {OTHERWISE}"
        if not (database.exists() and database.stat().st_size):
            return OK, f"{where}: the first run will make it", ""
    try:
        if not uri.startswith("http"):
            from sqlalchemy import create_engine, inspect

            if not inspect(create_engine(address)).has_table("experiments"):  # MLflow would make its tables
                return OK, f"{where}: holds no runs yet; the first one will make MLflow's tables", ""
        with answering():
            experiments = import_mlflow().MlflowClient(address).search_experiments()
    except Exception as error:  # SQLAlchemy's, drivers' and requests' errors come through MLflow unchanged
        server = "" if database else "start its server, "
        return PROBLEM, f"{where}: {first_line(error)}", f"{server}{OTHERWISE}"
    return OK, f"{where}: answers; {len(experiments)} experiments", ""
