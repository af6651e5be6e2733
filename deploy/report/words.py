"""What the page says about things whose names mean nothing to a newcomer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Named:
    """A controller in plain words: a heading, the same inside a sentence, and what it is."""

    name: str
    phrase: str
    meaning: str


CONTROLLERS = {
    "model": Named(
        "Learned controller",
        "the learned controller",
        "sees the camera image and feels where its own joints or hand are; the goal it knows from a picture only",
    ),
    "head": Named(
        "Learned, without search",
        "the learned controller without its search",
        "takes the first plan that comes to its mind (its command head); the learned controller searches on from there",
    ),
    "scratch": Named(
        "Same, without the video",
        "the same network without the video",
        "the same network and the same short log of this robot, but nothing learned from video before",
    ),
    "random": Named(
        "Random commands", "random commands", "a new random command at every step; what luck alone reaches"
    ),
    "hold": Named("Standing still", "standing still", "never moves; shows that no goal was reached at the start"),
    "oracle": Named(
        "Planner in the true physics",
        "a planner in the true physics",
        "searches in the simulator itself and knows the goal’s true position; about the best one could hope for",
    ),
}

TASKS = {  # what a goal asks for, and between what and the goal its distance is
    "reach": ("reach", "hand"),
    "push": ("push", "object"),
    "pick_and_place": ("pick and place", "object"),
    "whole_body_reach": ("reach with both hands", "the hand further away"),
}

STAGES = {
    "record": (
        "Watch",
        "Simulated arms of many shapes move and push things about, each in a scene of its own. The model sees the "
        "video; nobody tells it which commands made the arms move.",
    ),
    "ingest": (
        "Watch your video",
        "The video that was given is cut into clips at scene changes. It too has no commands.",
    ),
    "pretrain": (
        "Learn how things move",
        "The model learns to turn each image into a list of numbers, to say in a few numbers what changed from one "
        "image to the next, and to predict the list that follows.",
    ),
    "calibrate": (
        "Meet the robot",
        "A body that the model has never seen moves about at random. From this short log, with its commands, the "
        "model learns what a command of this robot brings about.",
    ),
    "export": (
        "Pack for the robot",
        "Image reader, model and planner become a few files that run on a robot's small computer, without the software "
        "that trained them. Both versions must give the same numbers.",
    ),
    "evaluate": (
        "Act",
        "The robot gets a picture of the goal. Several times a second it imagines the outcome of many possible "
        "movements, starts with the best, and looks again.",
    ),
}

GUARDS = {
    "stale_frame": "held still, because the camera image was too old",
    "unchanged_frame": "held still, because no new camera image had come",
    "bad_proprio": "held still, because a joint sensor gave no number",
    "bad_plan": "held still, because the plan held no number",
    "overrun": "held still, because decisions took too long",
    "bad_command": "held still, because a command was no number",
    "limit": "kept a command within the robot’s range",
    "rate": "slowed a sudden change of command",
}

CURVES = {  # in the order in which they are shown
    "total": ("Total", "the weighted sum of all terms; lower is better"),
    "predict": ("Next step", "error of the predicted next image, in the model's own numbers; lower is better"),
    "rollout": ("Several steps", "the same when it goes on from its own predictions; lower is better"),
    "flow": ("Motion", "error of the picture's motion, read back from the latent action; lower is better"),
    "moments": ("Main motion", "error of where and which way the picture moves fastest; lower is better"),
    "nats": ("Content of the latent action", "how much it says about what changed [nat]; below about 1 it is dead"),
    "hand_r2": ("Does it see the hand move?", "share of the hand's motion on unseen clips that it explains; 1 is all"),
    "copy_ratio": (
        "Gain over repeating",
        "error of repeating the last image over that of predicting; above 1 is better",
    ),
    "proprio": ("Robot's posture ahead", "error of predicted positions and speeds, standardised; lower is better"),
    "read": ("Robot's posture now", "error of positions and speeds read from the image, standardised; lower is better"),
    "label": ("Agreement", "between commands and what the labeler saw happen; lower is better"),
    "loss": ("Total", "the sum that training makes small; lower is better"),
}

GLOSSARY = (
    ("Controller", "the program that turns camera images into commands; here a few ONNX files and a small loop"),
    ("Command", "what is sent to the motors, or to the arm's own low-level controller"),
    ("Goal image", "a picture of the scene as it should look at the end; the controller is told nothing else"),
    ("World model", "a network that predicts what comes next, given what is done"),
    ("Latent", "the list of numbers that stands for one image inside the model"),
    (
        "Latent action",
        "a few numbers, found by the model itself, for what changed between two images, whatever body acts",
    ),
    ("Calibration", "teaching the model one robot's commands from a short log of that robot"),
    ("Held out", "never used in training, nor for any choice that was made"),
    ("95 % interval", "where the true value plausibly lies, given how few attempts there were; drawn as a whisker"),
    ("ONNX", "an open file format for neural networks that runs in many places"),
    ("Run", "one stage's result in a folder, with a manifest that names by fingerprint all that went in and came out"),
)
