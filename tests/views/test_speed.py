"""What `hubel bench --explain` says of each call."""

from __future__ import annotations

from hubel import Network
from hubel.program.make import make
from hubel.train.settings import Settings
from hubel.train.step import step_graph
from hubel.views.speed import shape_of


def test_every_call_shows_its_sizes() -> None:
    text = "conv3-64p1 bn relu pool2 conv3-64g16p1 relu conv3-64p1 gap drop0.5 fc"
    network = Network(text, (16, 16, 64), classes=3)
    calls = make(step_graph(network.graph, Settings(weight_decay=1e-4)), 32).calls
    assert "batch_norm_pool_grad" in {call.kernel for call in calls}
    assert [call.kernel for call in calls if not shape_of(call.parameters)] == []
