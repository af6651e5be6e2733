"""What every page that we write must hold to: whole, offline, and read by a real browser at any width."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

_VOID = {"meta", "link", "img", "br", "input", "hr"}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
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
    """The page as a browser has built it (stdout), and what it complains about (stderr, CONSOLE)."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser found (any of {', '.join(_BROWSERS)})")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=3000",
        *arguments, "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


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
