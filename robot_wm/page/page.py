"""What every page that we write shares: its style, and a policy that lets no request leave it."""

import base64
import hashlib
import re
from pathlib import Path

from markupsafe import Markup

STYLE = Path(__file__).parent / "style.css"


def style() -> Markup:
    """The style sheet, for the page's own <style>."""
    return Markup(STYLE.read_text(encoding="utf-8"))  # our own file


def duration(seconds: float) -> str:
    """Seconds as people say them, in one piece (the spaces do not break)."""
    if seconds < 120:
        return f"{seconds:.1f}\u00a0s" if seconds < 10 else f"{seconds:.0f}\u00a0s"
    return f"{int(seconds // 60)}\u00a0min {int(seconds % 60):02d}\u00a0s"


def with_policy(page: str) -> str:
    """Allow what is inside the page and nothing else: no request can leave it, whatever a dataset's name may hold."""
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(s.encode("utf-8")).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{d}'" for d in digests)
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )
    return page.replace("POLICY", policy, 1)
