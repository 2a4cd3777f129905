"""A net as an ONNX file, written by PyTorch's exporter in a process that ends with it.

`python -m benchmarks.rivals.onnx_file TASK FILE` writes one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.task import Task

__all__ = ["onnx_bytes"]


def onnx_bytes(task: Task) -> bytes:
    """The task's net with its weights; the exporter's own words are shown where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.rivals.onnx_file", task.to_json(), str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"PyTorch's exporter failed: {done.stderr[-2000:]}")
        return file.read_bytes()


def _write(task: Task, file: str) -> None:
    import torch

    from benchmarks.torch_nets import module

    net = module(task.network(), task.parameters()).eval()
    x = torch.from_numpy(task.images().transpose(0, 3, 1, 2).copy())
    torch.onnx.export(
        net, (x,), file, dynamo=True, external_data=False, input_names=["x"], output_names=["y"]
    )


if __name__ == "__main__":
    _write(Task.from_json(sys.argv[1]), sys.argv[2])
