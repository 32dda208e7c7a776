"""The command line in this process."""

from __future__ import annotations

import contextlib
import io

from lit_mtrl.cli.main import main


def run(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(args)
    return code, out.getvalue(), err.getvalue()


def refused(*args: str) -> str:
    """The one line in which the command line refuses ``args``."""
    code, out, err = run(*args)
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("error: ")
    return err
