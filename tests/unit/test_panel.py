"""What a person sees of a flight, and that nobody is bothered where there is no terminal."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from deploy.panel import Panel, watched
from deploy.runtime.controller import Controller
from deploy.runtime.loop import run_loop
from deploy.runtime.safety import Safety
from tests.handmade_bundle import IMAGINING_PLAN, colour, make_spec, write_bundle
from tests.unit.test_familiar import known
from tests.unit.test_runtime_loop import ListRobot


def drawn(panel: Panel) -> str:
    console = Console(width=120, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(panel)
    return captured.get()


def test_panel_tells_what_goes_on(tmp_path: Path) -> None:
    spec = known(max_surprise=10.0)
    controller = Controller(
        write_bundle(tmp_path / "bundle", replace(spec, schema=3), plan=IMAGINING_PLAN), num_threads=1
    )
    controller.set_goal(colour(1, 0, 0))
    safety = Safety(controller.spec)
    panel = Panel(controller.spec, safety, total=5, done=1)
    assert "waiting" in drawn(panel)
    run_loop(controller, ListRobot(frame_times={5: -1.0}), 6, safety, on_step=panel.tick)
    shown = drawn(panel)
    for words in ("flight 2 of 5, tick 5: held by stale_frame", "of 20 Hz", "ms (p50/95/99 of 200)", "stale_frame 1",
                  "calibration's worst miss", "off by 0, by 0 expected from here", "+0.500 rad/s", "●"):  # fmt: skip
        assert words in shown
    panel.landed("3.1 cm left")
    shown = drawn(panel)
    assert "flight 3 of 5" in shown
    assert "stale_frame 1" in shown, "not counted twice"
    assert "3.1 cm left" in shown


def test_no_panel_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    spec = make_spec()
    with watched(spec, Safety(spec), 2, 0, real_time=True) as found:
        assert not isinstance(found, Panel)
        found.landed("one")
    assert "\x1b" not in capfd.readouterr().err
