"""What moved between frames: dense optical flow, pooled to cells, and four moments of it.

Flow ties the latent action to motion without any label: without it the labeler learns the scene instead.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

# On 64 px the preset's patches of 8 px leave one level of the pyramid, and motion over a few pixels is missed: with
# these, the hand's motion is found better in the same time (docs/data-speed.md).
_PATCH_PX, _STRIDE_PX, _DESCENTS, _REFINEMENTS = 5, 2, 16, 0
STILL_PX = 0.1  # below this, compression noise and rounding move as much as the scene does


def flow(frames_TYXC: NDArray[np.uint8], max_px: float = 5.0) -> NDArray[np.float32]:
    """Optical flow from each frame to the next, on grey images.

    Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016), as in OpenCV.

    Args:
        frames_TYXC: T consecutive RGB frames, at least 12 pixels high and wide.
        max_px: components are clipped to ± this many pixels.

    Returns:
        (T - 1, Y, X, 2) float32: displacement in pixels, first to the right, then down.
    """
    grey = [cv2.cvtColor(frame_YXC, cv2.COLOR_RGB2GRAY) for frame_YXC in frames_TYXC]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setPatchSize(_PATCH_PX)
    search.setPatchStride(_STRIDE_PX)
    search.setGradientDescentIterations(_DESCENTS)
    search.setVariationalRefinementIterations(_REFINEMENTS)
    out = np.zeros((max(0, len(grey) - 1), *frames_TYXC.shape[1:3], 2), dtype=np.float32)
    for index in range(len(out)):
        out[index] = search.calc(grey[index], grey[index + 1], None)
    return np.clip(out, -max_px, max_px, out=out)


def pool(flow_TYX2: NDArray[np.float32], cells: int = 16) -> NDArray[np.float32]:
    """Mean flow of each cell of a cells x cells grid: (T, cells, cells, 2), in the pixels of the input."""
    num, height, width, _ = flow_TYX2.shape
    if height % cells or width % cells:
        raise ValueError(f"a flow of {height} x {width} pixels does not divide into {cells} x {cells} cells")
    pooled = np.zeros((num, cells, cells, 2), dtype=np.float32)
    for index in range(num):  # ten times as fast as numpy's mean over two axes
        pooled[index] = cv2.resize(flow_TYX2[index], (cells, cells), interpolation=cv2.INTER_AREA)
    return pooled


def moments(
    pooled_TYX2: NDArray[np.floating], fastest: float = 0.05, still_px: float = STILL_PX
) -> NDArray[np.float32]:
    """How fast and where the fastest cells move: (T, 4) float32.

    Columns: magnitude-weighted mean displacement (right, down) [pixels of the flow], then the magnitude-weighted mean
    position (right, down) of those cells, from -1 to 1 over the image. All zero when no cell moves `still_px`.

    Args:
        pooled_TYX2: flow on cells.
        fastest: fraction of the cells that count, the fastest of each frame.
        still_px: cells slower than this do not count [pixels].
    """
    num, height, width, _ = pooled_TYX2.shape
    flat_TN2 = pooled_TYX2.reshape(num, height * width, 2).astype(np.float32)
    speed_TN = np.linalg.norm(flat_TN2, axis=-1)
    rank = max(1, round(fastest * height * width))
    threshold_T1 = np.partition(speed_TN, -rank, axis=1)[:, -rank, None] if num else speed_TN[:, :1]
    weight_TN = np.where((speed_TN >= threshold_T1) & (speed_TN >= still_px), speed_TN, np.float32(0))
    total_T1 = weight_TN.sum(axis=1, keepdims=True)
    weight_TN /= np.where(total_T1 > 0, total_T1, 1)
    down, right = np.meshgrid(_centres(height), _centres(width), indexing="ij")
    place_N2 = np.stack([right.ravel(), down.ravel()], axis=-1)
    return np.concatenate([np.einsum("tn,tnc->tc", weight_TN, flat_TN2), weight_TN @ place_N2], axis=1)


def _centres(cells: int) -> NDArray[np.float32]:
    return ((np.arange(cells, dtype=np.float32) + 0.5) / cells * 2 - 1).astype(np.float32)
