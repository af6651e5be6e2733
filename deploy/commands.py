"""The commands: where each one's code is, what it does, and an example."""

from typing import NamedTuple


class Stage(NamedTuple):
    """Where a command's function and config dataclass are, what it does, and an example of its use."""

    module: str
    function: str
    config: str
    does: str
    example: str


STAGES: dict[str, Stage] = {
    "record": Stage(
        "sims.stages.record", "record", "RecordConfig",
        "Simulated video of many arms, or a calibration log of one robot, as a LeRobot dataset",
        "robot-wm record episodes=200 workers=2",
    ),
    "ingest": Stage(
        "robot_wm.stages.ingest", "ingest", "IngestConfig",
        "Your own video (a file, a folder, a LeRobot dataset) as a dataset without actions",
        "robot-wm ingest data=videos/kitchen.mp4",
    ),
    "inspect": Stage(
        "deploy.stages.inspect", "inspect", "InspectConfig",
        "What is in a dataset and what is wrong with it: a table, and a page with pictures and ranges",
        "robot-wm inspect runs/ingest/RUN",
    ),
    "pretrain": Stage(
        "robot_wm.stages.pretrain", "pretrain", "PretrainConfig",
        "Labeler and world model from video without actions",
        "robot-wm pretrain data=[runs/record/RUN]",
    ),
    "label": Stage(
        "robot_wm.stages.label", "label", "LabelConfig",
        "A dataset with the latent actions that the labeler infers",
        "robot-wm label data=runs/ingest/RUN model=runs/pretrain/RUN",
    ),
    "calibrate": Stage(
        "deploy.stages.calibrate", "calibrate", "LiveCalibrateConfig",
        "The world model fitted to one body from a few minutes of its own log, or live on the robot",
        "robot-wm calibrate embodiment=fetch model=runs/pretrain/RUN data=runs/record/RUN",
    ),
    "plan": Stage(
        "calibration.stages.plan", "plan_motion", "PlanConfig",
        "A safe motion that makes a body's parameters identifiable, judged before anything moves",
        "robot-wm calibrate plan embodiment=so101",
    ),
    "identify": Stage(
        "calibration.stages.identify", "identify_body", "IdentifyConfig",
        "MuJoCo parameters of a body from a log of it, with 95 % intervals, as a patch to its MJCF",
        "robot-wm calibrate identify embodiment=so101 data=runs/record/RUN",
    ),
    "board": Stage(
        "calibration.stages.board", "print_board", "BoardConfig",
        "The calibration board as a PDF to print",
        "robot-wm calibrate board file=board.pdf",
    ),
    "camera": Stage(
        "calibration.stages.camera", "calibrate_camera", "CameraConfig",
        "A camera's lens and place from pictures of the board, as an MJCF whose render overlays the real picture",
        "robot-wm calibrate camera embodiment=so101 data=runs/record/RUN",
    ),
    "export": Stage(
        "deploy.stages.export", "export", "ExportConfig",
        "Encoder, world model and planner as ONNX, with numeric parity as a gate",
        "robot-wm export calibration=runs/calibrate/RUN",
    ),
    "run": Stage(
        "deploy.stages.run", "run", "RunConfig",
        "A controller in closed loop on a twin; its flight log is a dataset",
        "robot-wm run bundle=runs/export/RUN episodes=5",
    ),
    "serve": Stage(
        "deploy.stages.serve", "serve", "ServeConfig",
        "A twin in its own process and in real time, for `run robot=remote`",
        "robot-wm serve embodiment=fetch port=5555",
    ),
    "evaluate": Stage(
        "deploy.stages.evaluate", "evaluate", "EvaluateConfig",
        "Success on held-out goals beside random, hold, oracle and from scratch",
        "robot-wm evaluate embodiment=fetch bundle=runs/export/RUN goals=25",
    ),
    "verify": Stage(
        "deploy.stages.verify", "verify", "VerifyConfig",
        "Where a controller fails on the twin: how often, how little it takes, and the worst of it to watch",
        "robot-wm verify embodiment=fetch bundle=runs/export/RUN",
    ),
    "rebuild": Stage(
        "deploy.rebuild", "rebuild", "RebuildConfig",
        "A run made again from its manifest alone, every output compared bit for bit",
        "robot-wm rebuild runs/calibrate/RUN",
    ),
    "demo": Stage(
        "deploy.stages.demo", "demo", "DemoConfig",
        "All stages at a small size, from video to a report of the Fetch arm under control",
        "robot-wm demo video=path/to/your/video.mp4",
    ),
    "robots": Stage(
        "sims.stages.robots", "show", "RobotsConfig",
        "Which robots can be simulated by name; or one of them, with joints, limits and a picture",
        "robot-wm robots panda",
    ),
    "view": Stage(
        "deploy.stages.view", "view", "ViewConfig",
        "A page to look at: a run, dataset, flight, world model, controller or robot",
        "robot-wm view runs/run/RUN",
    ),
    "bench": Stage(
        "deploy.bench.bench", "bench", "BenchConfig",
        "A measurement with targets, machine, versions and seed",
        "robot-wm bench parity size=quick --json",
    ),
}  # fmt: skip

OTHERS = {  # commands without a config: they run where nothing but the bare package is installed
    "lineage": "Where a run came from, back to the videos, with every SHA-256 verified",
    "doctor": "What this machine can do and what it lacks: rendering, codecs, ONNX Runtime, GPU, disk, versions",
    "completion": "The commands and keys for the Tab key of bash, zsh or fish",
}
