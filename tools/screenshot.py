"""Take a picture of a web page or a file, with headless Chromium; for the documentation.

Install: `apt install chromium`, and playwright (with the other tools of `make dev`), which drives it; nothing is
downloaded. Use:
    python tools/screenshot.py URL_OR_FILE OUT.png [--size 1366x768] [--wait SECONDS] [--wait-for TEXT] [--full-page]
such as
    python tools/screenshot.py 'http://127.0.0.1:5000/#/experiments/1/runs?compareRunsMode=CHART' charts.png --wait-for
    eval/success

The picture is taken SECONDS after the page, and TEXT in it if given, is there. MLflow's pages scroll inside themselves:
a longer `--size` such as 1366x2000 shows more of them, `--full-page` does not.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

SECONDS = 60
"""That a page, or a text in it, may take."""
CHOICES = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}
"""What a person has clicked away in MLflow's pages: those on language models, and a chat."""


def chromium() -> str | None:
    """Path of the system's Chromium, None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def open_page(size: tuple[int, int] = (1366, 768), choices: dict[str, str] = CHOICES) -> Iterator[Page]:
    """An empty page of ``size`` pixels, in a browser of its own; ``choices`` go to each site's local storage."""
    path = chromium()
    if path is None:
        raise SystemExit("screenshot: no Chromium on this machine: apt install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise SystemExit(f"screenshot: {error}: pip install playwright") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            page.set_default_timeout(SECONDS * 1000)
            for key, value in choices.items():
                page.add_init_script(f"try {{ localStorage.setItem({key!r}, {value!r}) }} catch {{}}")
            yield page
        finally:
            browser.close()


def pixels(text: str) -> tuple[int, int]:
    """``1366x768`` as width and height."""
    width, _, height = text.partition("x")
    size = int(width), int(height)
    if min(size) < 1:
        raise ValueError(text)
    return size


def main() -> None:
    """Take the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description="Take a picture of a web page or a file with headless Chromium.")
    parser.add_argument("page", metavar="URL_OR_FILE")
    parser.add_argument("out", type=Path, metavar="OUT.png")
    parser.add_argument("--size", type=pixels, default=(1366, 768), metavar="WxH", help="of the window; 1366x768")
    parser.add_argument("--wait", type=float, default=2, metavar="SECONDS", help="before the picture; 2")
    parser.add_argument("--wait-for", metavar="TEXT", help="a text that the page shows when it is ready")
    parser.add_argument("--full-page", action="store_true", help="all that can be scrolled to, not the window")
    options = parser.parse_args()
    url = options.page
    if "://" not in url:
        if not Path(url).is_file():
            parser.error(f"{url}: neither a file nor an address such as http://127.0.0.1:5000")
        url = Path(url).absolute().as_uri()
    with open_page(options.size) as page:
        from playwright.sync_api import Error

        try:
            page.goto(url)
            if options.wait_for:
                page.get_by_text(options.wait_for).first.wait_for()
            page.wait_for_timeout(1000 * options.wait)
            page.screenshot(path=options.out, full_page=options.full_page)
        except Error as error:
            raise SystemExit(f"screenshot: {url}: {error.message.splitlines()[0]}") from None
    sys.stdout.write(f"{options.out}\n")


if __name__ == "__main__":
    main()
