"""The flight log after a kill, a torn row and a full disk: what was acknowledged is there, and nothing else."""

import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime import recorder
from deploy.runtime.controller import Plan
from deploy.runtime.recorder import FlightLog, read_episode, read_episodes
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import colour, make_spec

WRITE_UNTIL_KILLED = """
import sys
from pathlib import Path
import numpy as np
from deploy.runtime.recorder import FlightLog
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import colour, make_spec
log = FlightLog(Path(sys.argv[1]), make_spec())
log.begin()
for row in range(10**9):
    seen = Observation(colour(0, 0, 0), np.full(4, row, np.float32), row / 20)
    log.append(seen, np.full(2, row / 7), np.full(2, row / 7))
    print(row, flush=True)
"""


def append(log: FlightLog, rows: int, value: float = 0.5) -> None:
    for row in range(rows):
        seen = Observation(colour(value, 0, 0), np.full(4, row, np.float32), row / 20)
        log.append(seen, np.full(2, value), np.full(2, value / 3))


def test_acknowledged_rows_survive_a_kill(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
    (episode,) = read_episodes(tmp_path)
    assert len(episode.rows_L) >= acknowledged[-1] + 1
    assert np.array_equal(episode.rows_L["state"][:, 0], np.arange(len(episode.rows_L)))
    assert episode.outcome is None


def test_values_come_back_bit_by_bit(tmp_path: Path) -> None:
    log = FlightLog(tmp_path, make_spec())
    log.begin()
    append(log, 3)
    log.end({"success": False, "distance_m": 0.1})
    (episode,) = read_episodes(tmp_path)
    assert np.array_equal(episode.rows_L["frame"], np.stack([colour(0.5, 0, 0)] * 3))
    assert (episode.rows_L["action"] == 0.5 / 3).all()
    assert np.isnan(episode.rows_L["latency_s"]).all()
    assert episode.outcome == {"success": False, "distance_m": 0.1}


@pytest.mark.parametrize("cut", [1, 100])
def test_torn_tail_is_dropped(tmp_path: Path, cut: int) -> None:
    log = FlightLog(tmp_path, make_spec())
    path = log.begin()
    append(log, 5)
    log.close()
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(read_episode(path).rows_L) == 4


def test_altered_row_ends_the_episode(tmp_path: Path) -> None:
    log = FlightLog(tmp_path, make_spec())
    path = log.begin()
    append(log, 5)
    log.close()
    data = bytearray(path.read_bytes())
    data[-2 * (len(data) // 5)] ^= 1
    path.write_bytes(data)
    assert len(read_episode(path).rows_L) < 5


def test_log_goes_on_beside_what_is_there(tmp_path: Path) -> None:
    for rows in (2, 3):
        log = FlightLog(tmp_path, make_spec())
        log.begin()
        append(log, rows)
        log.close()
    (tmp_path / "episode_000002.flight").write_bytes(b'{"format": "rob')  # killed within the first line
    assert [len(episode.rows_L) for episode in read_episodes(tmp_path)] == [2, 3]


@pytest.mark.parametrize(
    "content", [b"\x80\x04pickle\n", b'{"format": "other"}\n', b'{"format": "robot-wm flight log 1"}\n']
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "episode_000000.flight"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a flight log"):
        read_episodes(tmp_path)


def test_full_disk_is_one_line_and_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FlightLog(tmp_path, make_spec())
    path = log.begin()
    append(log, 2)
    write = recorder.os.write

    def half(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(recorder.os, "write", half)
    with pytest.raises(UserError, match=r"episode_000000.*Free some space"):
        append(log, 1)
    monkeypatch.undo()
    log.close()
    assert len(read_episode(path).rows_L) == 2


def test_what_a_plan_imagined_is_kept(tmp_path: Path) -> None:
    spec = make_spec(schema=3)
    imagined_HD = np.arange(9, dtype=np.float32).reshape(3, 3) / 8
    plan = Plan(np.zeros((4, 2)), 0.5, 0.1, 0.0, 0.0, np.ones(3, np.float32), imagined_HD=imagined_HD)
    log = FlightLog(tmp_path, spec)
    log.begin()
    seen = Observation(colour(0, 0, 0), np.zeros(4, np.float32), 0.0)
    log.append(seen, np.zeros(2), np.zeros(2), plan)
    log.append(seen, np.zeros(2), np.zeros(2))
    log.close()
    (episode,) = read_episodes(tmp_path)
    assert np.array_equal(episode.rows_L["imagined"][0], imagined_HD)
    assert np.isnan(episode.rows_L["imagined"][1]).all()


def test_what_was_known_is_kept_and_logs_of_before_are_read(tmp_path: Path) -> None:
    seen = Observation(colour(0, 0, 0), np.zeros(4, np.float32), 0.0)
    expected = Plan(np.zeros((4, 2)), 0.5, 0.1, 0.0, 0.0, np.ones(3, np.float32), expected_D=np.zeros(3, np.float32))
    log = FlightLog(tmp_path / "new", make_spec())
    log.begin()
    log.append(seen, np.zeros(2), np.zeros(2), expected, 0.01, None, 0.75, 0.25)
    log.append(seen, np.zeros(2), np.zeros(2))
    log.close()
    (episode,) = read_episodes(tmp_path / "new")
    found = [[float(row[name]) for name in ("imagination_error", "surprise", "miss")] for row in episode.rows_L]
    assert found[0] == [1.0, 0.75, 0.25]
    assert np.isnan(found[1]).all()
    signs, header = ("imagination_error", "surprise", "miss"), '"height": 8, "width": 8, "proprio": 4, "command": 2}'
    for number, left_out in ((1, (*signs, "imagined")), (2, ("imagined",))):
        (folder := tmp_path / str(number)).mkdir()
        names = [name for name in episode.rows_L.dtype.names or () if name not in left_out]
        row = np.zeros((), np.dtype([(name, episode.rows_L.dtype[name]) for name in names]))
        row["action"] = 0.25
        row["crc32"] = zlib.crc32(row.tobytes()[:-4])
        head = f'{{"format": "robot-wm flight log {number}", {header}\n'.encode()
        (folder / "episode_000000.flight").write_bytes(head + row.tobytes())
        (old,) = read_episodes(folder)
        assert old.rows_L["action"].tolist() == [[0.25, 0.25]]
