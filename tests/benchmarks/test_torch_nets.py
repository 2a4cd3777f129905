"""The shipped nets as PyTorch modules compute what Hubel does."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.task import Case, Task
from hubel import Model


@pytest.mark.requires_torch
@pytest.mark.parametrize(
    "one",
    [
        Case("cs231n", (16, 16, 3), 10, 2),
        Case("resnet20", (16, 16, 3), 10, 2),
        Case("lenet5", (28, 28, 1), 10, 2),
        Case("mobilenet", (32, 32, 3), 10, 2),
        Case("{conv1-4 | conv3-4p1} avgpool2 fc8 relu fc", (8, 8, 3), 5, 3),
    ],
    ids=lambda one: one.net,
)
def test_a_module_gives_the_same_scores(one: Case) -> None:
    import torch

    from benchmarks.torch_nets import module

    task = Task(one, "inference", "float32", 1)
    wanted = Model(task.network(), threads=1).logits(task.images())
    net = module(task.network(), task.parameters()).eval()
    with torch.inference_mode():
        got = net(torch.from_numpy(task.images().transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.requires_torch
def test_batches_are_cut_out_and_mirrored() -> None:
    import torch

    from benchmarks.rivals.pytorch import _varied

    image = torch.arange(1, 10).reshape(1, 3, 3, 1).float()
    padded = torch.nn.functional.pad(image, (0, 0, 4, 4, 4, 4))
    made = _varied(padded, torch.zeros(4000, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert made.shape == (4000, 3, 3, 1)
    seen = {tuple(one.flatten().int().tolist()) for one in made}
    assert tuple(range(1, 10)) in seen
    assert (3, 2, 1, 6, 5, 4, 9, 8, 7) in seen
    assert (0,) * 8 + (1,) in seen  # moved down and right by two
    # Of 9 × 9 places 5 × 5 show something, mirrored or not; all others show nothing.
    assert len(seen) == 5 * 5 * 2 + 1
