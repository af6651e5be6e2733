"""The notebook of the whole path, cell by cell in order, at a tiny size.

Its cells are plain Python, so they are run as one program: a kernel and its protocol (nbclient, ipykernel, zmq) would
be fifteen more packages for what an interpreter does.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_pretrained import write_tiny_pretrained

TINY = """
RECORD = ["transitions=60", "transitions_per_episode=15", "workers=1"]
CALIBRATE = ["transitions=60", "validation=0.25", "fit.steps=300", "fit.batch=16", "model={model}"]
EXPORT = ["planner.horizon=1", "planner.candidates=8", "planner.iterations=1", "planner.sampler.elites=2"]
EPISODES = 1
"""


def cells(repository: Path) -> list[dict]:
    return json.loads((repository / "examples" / "whole_path.ipynb").read_text(encoding="utf-8"))["cells"]


def test_notebook_is_clean_and_says_what_it_does(repository: Path) -> None:
    found = cells(repository)
    assert [c["metadata"].get("tags") for c in found].count(["parameters"]) == 1
    assert all(not c["outputs"] and c["execution_count"] is None for c in found if c["cell_type"] == "code")
    for cell in found:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            assert not source.startswith(("%", "!"))  # plain Python
            compile(source, cell["id"], "exec")


@pytest.mark.slow
def test_notebook_runs_in_order(repository: Path, tmp_path: Path) -> None:
    tiny = TINY.format(model=write_tiny_pretrained(tmp_path / "tiny"))
    sources = [
        tiny if c["metadata"].get("tags") == ["parameters"] else "".join(c["source"])
        for c in cells(repository)
        if c["cell_type"] == "code"
    ]
    program = "\n\n".join(sources)  # without a file of its own, as in a notebook: worker processes have none to import
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said").open("w+") as said:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT, timeout=280, check=False,
        )  # fmt: skip
        said.seek(0)
        text = said.read()
    assert done.returncode == 0, text[-3000:]
    assert "next commands:" in text
    [page] = (tmp_path / "views").glob("*.html")
    assert "The goal image" in page.read_text(encoding="utf-8")
