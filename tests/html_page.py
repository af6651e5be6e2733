"""What every page that we write must hold to: whole, offline, and read by a real browser at any width."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

_VOID = {"meta", "link", "img", "br", "input", "hr"}
BROWSER = "ROBOT_WM_TEST_BROWSER"
_MEASURE = "<script>parent.postMessage(document.documentElement.scrollWidth, '*');</script></body>"
_FRAME = """<!doctype html><title>?</title><iframe src="inside.html" style="width: {}px; height: 900px"></iframe>
<script>addEventListener("message", (event) => { document.title = "width " + event.data; });</script>"""


class Page(HTMLParser):
    """Balance of tags, and the attributes of every element."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def check_well_formed(self) -> None:
        """Every tag is closed, and no id is given twice."""
        assert self.open == []
        ids = [a["id"] for _, a in self.elements if "id" in a]
        assert len(ids) == len(set(ids))

    def check_offline(self) -> None:
        """Nothing is asked of the network, and the page's own policy would not let it."""
        for tag, attributes in self.elements:
            for name in ("src", "href", "poster", "srcset", "xlink:href"):
                value = attributes.get(name, "")
                assert value.startswith(("data:", "#")) or not value, (tag, name, value[:80])
        assert "@import" not in self.text
        assert not re.search(r"url\((?!#)", self.text)
        assert "default-src 'none'" in self.text


def browse(page: Path, folder: Path, width: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The page as a browser has built it (stdout), and what it complains about (stderr, CONSOLE).

    The browser knows no other host, and it and all that it starts are ended, whatever happens.
    """
    browser = os.environ.get(BROWSER) and shutil.which(os.environ[BROWSER])
    if not browser:  # not whatever is installed: two browsers that end at once have been seen to lock up a kernel
        pytest.skip(f"no browser named by {BROWSER} (make test-browser)")
    arguments = (f"--window-size={width},900", *arguments)
    said = _dump(browser, page, folder, arguments)
    assert said.returncode == 0, said.stderr[-2000:]
    return said


def _dump(browser: str, page: Path, folder: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    profile = tempfile.mkdtemp(dir=folder, prefix="profile")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--virtual-time-budget=500",
        *arguments, "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    with (Path(profile) / "out").open("w+") as out, (Path(profile) / "err").open("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        try:
            code = process.wait(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


def complaints(page: Path, folder: Path, width: int, dark: bool) -> list[str]:
    """What a browser writes to its console about a page: errors, and requests that the page's policy refused."""
    arguments = ["--blink-settings=preferredColorScheme=0"] if dark else []
    return [line for line in browse(page, folder, width, *arguments).stderr.splitlines() if "CONSOLE" in line]


def width_needed(text: str, folder: Path, width: int) -> int:
    """How wide the page gets in a frame of the given width [px]; more than that scrolls sideways."""
    unlocked = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", _MEASURE)
    (folder / "inside.html").write_text(unlocked, encoding="utf-8")
    # A window has a least width that telephones lack; a frame has none.
    (folder / "frame.html").write_text(_FRAME.replace("{}", str(width)), encoding="utf-8")
    done = browse(folder / "frame.html", folder, 2000)
    measured = re.search(r"<title>width (\d+)</title>", done.stdout)
    assert measured, done.stdout[:500]
    return int(measured[1])
