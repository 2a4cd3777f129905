"""The sheets by which an eye judges what the audit takes for copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.audit import draw_sheets


def test_pairs_lie_side_by_side_thirty_to_a_sheet(tmp_path: Path) -> None:
    images = np.arange(0, 160, 5, np.uint8).repeat(16 * 16 * 3).reshape(32, 16, 16, 3)
    pairs = np.stack([np.arange(31), np.arange(1, 32)], axis=1)
    draw_sheets(images, pairs, tmp_path / "sheets")
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["1.png", "2.png"]
    first, second = (np.asarray(Image.open(tmp_path / f"sheets/{n}.png")) for n in (1, 2))
    assert first.shape == second.shape == (6 * 144, 5 * 272, 3)
    for number, row in ((0, first), (6, first), (30, second)):
        top, left = number % 30 // 5 * 144 + 80, number % 5 * 272
        assert (row[top, left + 64] == 5 * number).all()
        assert (row[top, left + 192] == 5 * (number + 1)).all()
