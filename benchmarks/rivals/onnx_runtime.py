"""ONNX Runtime on the processor, with all its optimisations of the graph."""

from __future__ import annotations

import onnxruntime

from benchmarks.rivals import Run
from benchmarks.rivals.onnx_file import onnx_bytes
from benchmarks.task import Task

__all__ = ["inference"]


def inference(task: Task) -> Run:
    """The scores of a batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        onnx_bytes(task), options, providers=["CPUExecutionProvider"]
    )
    feeds = {"x": task.images().transpose(0, 3, 1, 2).copy()}
    return lambda: session.run(None, feeds)[0]
