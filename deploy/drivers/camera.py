"""A USB camera as a source of frames: a thread keeps the newest one, so that nobody waits for it."""

import threading
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from robot_wm.data.video import resize

_START_S = 10.0
_END_S = 2.0


class Camera:
    """Frames of one OpenCV device, RGB, scaled as those of a log are."""

    def __init__(self, device: str, height: int, width: int):
        """Open it and wait for the first frame.

        Args:
            device: a number, or what OpenCV opens by name (a path, a URL).
            height, width: of the frames [px].

        Raises:
            UserError: it does not open, or shows nothing within ten seconds.
        """
        self._device = device
        self._capture = cv2.VideoCapture(int(device) if device.isdecimal() else device)
        if not self._capture.isOpened():
            raise UserError(f"camera {device} does not open", "Give the number of a connected camera, such as 0")
        self._size = (height, width)
        self._over = threading.Event()
        self._lock = threading.Condition()
        self._newest: tuple[NDArray[np.uint8], float] | None = None
        self._thread = threading.Thread(target=self._watch, name="camera", daemon=True)
        self._thread.start()
        with self._lock:
            shown = self._lock.wait_for(lambda: self._newest is not None, _START_S)
        if not shown:
            self.close()
            raise UserError(f"camera {device} shows nothing", "Close whoever else uses it, or give another")

    def newest(self) -> tuple[NDArray[np.uint8], float]:
        """The newest picture, and when it arrived [s, time.monotonic]; its age tells when the camera has stopped."""
        with self._lock:
            assert self._newest is not None
            return self._newest

    def close(self) -> None:
        """End the thread and free the device."""
        self._over.set()
        self._thread.join(_END_S)
        self._capture.release()

    def _watch(self) -> None:
        while not self._over.is_set():
            whole, picture = self._capture.read()
            if not whole:
                self._over.wait(0.01)
                continue
            taken_s = time.monotonic()
            small = resize(np.asarray(picture[..., ::-1], dtype=np.uint8), self._size)
            with self._lock:
                self._newest = small, taken_s
                self._lock.notify_all()
