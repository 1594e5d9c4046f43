"""Folders of ``.ckpt`` as MindFormers' trainer writes and reads them: ``rank_0/wizardcoder_15B.ckpt`` and the like.

With ``--load_checkpoint ./ckpt`` each process of MindFormers loads its own rank's folder. Merging ranks that hold
shards requires the strategy files of MindSpore's automatic parallel mode, which is not done here.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from mindcoder.checkpoint.mindspore_file import list_mindspore
from mindcoder.checkpoint.training_state import split_state
from mindcoder.errors import UserError
from mindcoder.files import file_there

RANK_FOLDER = re.compile(r"rank_(\d+)")
SAVED_STEP = re.compile(r"(.+)-(\d+)_(\d+)\.ckpt")  # <prefix>-<epoch>_<step of the epoch>.ckpt

log = logging.getLogger(__name__)


def find_ckpt(folder: Path) -> Path | None:
    """The latest ``.ckpt`` in a folder or in its ``rank_0``; None if there is none.

    Raises:
        UserError: there are several files and none is clearly the latest, or the ranks hold shards.
    """
    own = _files(folder)
    ranks = sorted(
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := RANK_FOLDER.fullmatch(path.name)) and path.is_dir() and _files(path)
    )
    if own and ranks:
        raise UserError(f"holds {own[0].name} and {ranks[0][1].name}/: give one of them", folder)
    if own:
        return _newest(own, folder)
    if not ranks:
        return None
    if ranks[0][0] != 0:
        raise UserError(f"holds {ranks[0][1].name}/ but no rank_0/", folder)
    newest = [_newest(_files(path), path) for _, path in ranks]
    _check_copies(newest)
    return newest[0]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.ckpt") if file_there(path))


def _newest(files: list[Path], folder: Path) -> Path:
    if len(files) == 1:
        return files[0]
    steps = [SAVED_STEP.fullmatch(file.name) for file in files]
    if not all(steps) or len({match[1] for match in steps if match}) > 1:
        names = ", ".join(file.name for file in files[:5]) + (" …" if len(files) > 5 else "")
        raise UserError(f"holds {len(files)} .ckpt files: give one of {names}", folder)
    newest = max(zip(steps, files), key=lambda item: (int(item[0][2]), int(item[0][3])) if item[0] else (0, 0))[1]
    log.info("%s: using the latest of %d files, %s", folder, len(files), newest.name)
    return newest


def _check_copies(files: list[Path]) -> None:
    """Check that all ranks hold the same tensors; shards differ in shape from rank to rank, or lack layers."""
    shapes = []
    for file in files:
        weights, _ = split_state(list_mindspore(file))
        shapes.append({name: tensor.shape for name, tensor in weights.items()})
    for file, found in zip(files[1:], shapes[1:]):
        if found != shapes[0]:
            raise UserError(
                f"holds other tensors than {files[0]}: the ranks hold slices or stages; merge them first with "
                "MindSpore's transform_checkpoints and the run's strategy files",
                file,
            )
    if len(files) > 1:
        log.info("%d ranks hold the same tensors; reading %s", len(files), files[0])
