"""OpenVINO on the processor, by its performance hints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import openvino

from benchmarks.rivals import Run
from benchmarks.rivals.onnx_file import onnx_bytes
from benchmarks.task import Task

__all__ = ["inference"]

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def inference(task: Task, hint: str) -> Run:
    """The scores of a batch: at once for "LATENCY", in parts side by side for "THROUGHPUT"."""
    batch = task.case.batch
    parts = task.threads if hint == "THROUGHPUT" and batch % task.threads == 0 else 1
    part = replace(task, case=replace(task.case, batch=batch // parts))
    core = openvino.Core()
    compiled: Any = core.compile_model(
        core.read_model(onnx_bytes(part)),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[task.precision],
            "INFERENCE_NUM_THREADS": task.threads,
            "PERFORMANCE_HINT": hint,
            **({"NUM_STREAMS": parts} if parts > 1 else {}),
        },
    )
    x = task.images().transpose(0, 3, 1, 2).copy()
    if parts == 1:
        request = compiled.create_infer_request()
        return lambda: next(iter(request.infer(x, share_inputs=True).values()))
    requests = [compiled.create_infer_request() for _ in range(parts)]
    shares = np.split(x, parts)

    def run() -> Any:
        for request, share in zip(requests, shares, strict=True):
            request.start_async(share, share_inputs=True)
        for request in requests:
            request.wait()
        return np.concatenate([request.get_output_tensor().data for request in requests])

    return run
