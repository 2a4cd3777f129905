"""Calls are joined only where nothing else needs what lies between."""

from __future__ import annotations

import pytest

from hubel.graph.build import build
from hubel.graph.modes import for_inference, with_gradients, with_loss
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.notation.parse import parse
from hubel.program.fuse import fuse
from hubel.program.lower import Lowered, lower
from hubel.program.make import lay_out
from hubel.program.program import Call

IMAGE = (8, 8, 3)
DEEP = (9, 10, 64)
"""Large enough for Winograd's algorithm; odd, so that a row of it is left over by 2×2 windows."""


def inference(text: str, *outputs: str, image: tuple[int, int, int] = IMAGE) -> Lowered:
    graph = for_inference(build(parse(text), image, 5).graph, outputs or None)
    return fuse(lower(graph, 4, lay_out(graph)))


def gradients(
    text: str, *extra: str, image: tuple[int, int, int] = IMAGE, batch: int = 4
) -> Lowered:
    built = build(parse(text), image, 5).graph
    lossy = with_loss(built, "softmax_cross_entropy", CrossEntropy())
    wrt = [value.name for value in built.with_role("parameter")]
    graph = with_gradients(lossy, wrt)
    graph = Graph(graph.values, graph.nodes, (*graph.outputs, *extra))
    return fuse(lower(graph, batch, lay_out(graph)))


def kernels(lowered: Lowered) -> list[str]:
    apart = ("pack", "copy", "stem_weights")
    return [call.kernel for call in lowered.calls if not call.kernel.startswith(apart)]


FORWARD = ("conv", "narrow", "stem")


def relus(lowered: Lowered) -> list[int]:
    return [call.parameters.convolution.relu for call in lowered.calls if forward(call)]


def forward(call: Call) -> bool:
    return call.kernel in FORWARD and "grad" not in call.node


def gates(lowered: Lowered) -> list[str]:
    return [
        call.operand("gate")
        for call in lowered.calls
        if call.kernel in ("conv_input_grad", "max_pool_grad")
        or (call.kernel == "narrow" and "grad" in call.node)
    ]


def test_a_relu_joins_the_convolution_or_fully_connected_layer_before_it() -> None:
    made = inference("conv3-16 relu fc17 relu fc17")
    assert kernels(made) == ["conv", "conv", "conv"]
    assert relus(made) == [1, 1, 0]
    assert [call.operand("y") for call in made.calls if forward(call)][:2] == [
        "relu1",
        "relu2",
    ]
    assert "conv1" not in made.buffers


def test_a_relu_joins_a_sum_of_three() -> None:
    made = inference("[conv3-5p1 | conv1-5 | conv5-5p2] relu fc")
    first, second = (call for call in made.calls if call.kernel == "add")
    assert first.operand("y") in (second.operand("a"), second.operand("b"))
    assert (first.parameters.relu, second.parameters.relu) == (0, 1)
    assert "activation" not in kernels(made)


def test_a_relu_and_its_gate_join_a_depthwise_convolution() -> None:
    made = gradients("conv3-3p1 relu conv3-3g3p1 relu fc")
    assert "activation" not in kernels(made)
    (forward,) = (call for call in made.calls if call.kernel == "grouped")
    (backward,) = (call for call in made.calls if call.kernel == "grouped_input_grad")
    assert (forward.operand("y"), forward.parameters.relu) == ("relu2", 1)
    assert (backward.operand("gate"), backward.parameters.has_gate) == ("relu1", 1)


@pytest.mark.parametrize(
    "text",
    [
        "conv3-4 drop0.5 gap relu fc",  # something lies between
        "conv3-4 tanh fc",  # another function
        "pool2 relu fc",  # no convolution
        "relu conv3-4 fc",  # behind it
    ],
)
def test_a_relu_elsewhere_stays(text: str) -> None:
    assert not any(relus(inference(text)))


def test_a_value_that_is_used_twice_stays() -> None:
    made = inference("conv3-3p1 [relu | tanh] fc")
    assert relus(made) == [0, 0]
    assert kernels(made).count("activation") == 2


def test_a_value_that_is_a_result_stays() -> None:
    made = inference("conv3-4 relu fc", "conv1", "fc1")
    assert relus(made) == [0, 0]
    assert "conv1" in made.buffers


def test_a_value_whose_gradient_needs_it_stays() -> None:
    made = gradients("conv3-4p1 [relu | gelu] fc")
    assert relus(made) == [0, 0]


def test_the_gradient_of_a_relu_becomes_a_gate() -> None:
    made = gradients("conv3-4p1 relu conv3-4p1 relu pool2 fc7 relu fc")
    assert "activation" not in kernels(made)
    assert "activation_grad" not in kernels(made)
    assert gates(made) == ["relu3", "", "relu2", "relu1"]


def test_a_gradient_that_is_fetched_is_not_gated() -> None:
    made = gradients("conv3-4p1 relu conv3-4p1 relu fc", "grad(relu1)")
    assert gates(made) == ["relu2", ""]
    assert kernels(made).count("activation_grad") == 1


def test_gradients_that_are_added_are_gated_by_the_sum() -> None:
    made = gradients("conv3-3p1 relu [conv3-3p1 | ] fc")
    assert "activation_grad" not in kernels(made)
    (total,) = (call for call in made.calls if call.kernel == "add" and call.operand("gate"))
    assert (total.operand("gate"), total.parameters.has_gate) == ("relu1", 1)


@pytest.mark.parametrize("text", ["conv3-3p1 bn relu fc", "[conv3-3p1 | ] relu fc"])
def test_a_relu_joins_a_normalisation_and_a_sum(text: str) -> None:
    made = gradients(text)
    assert "activation" not in kernels(made)
    (joined,) = (
        call for call in made.calls if call.kernel in ("batch_norm", "add") and call.parameters.relu
    )
    assert "relu1" in joined.writes()


def test_the_gradient_of_a_relu_behind_a_normalisation_joins_its_gradient() -> None:
    made = gradients("conv3-3p1 bn relu drop0.5 fc")
    assert "activation_grad" not in kernels(made)
    (joined,) = (call for call in made.calls if call.kernel == "batch_norm_grad")
    *_, dropped = (call for call in made.calls if call.kernel == "dropout")
    assert (joined.operand("bias"), joined.parameters.relu) == ("bn1.bias", 1)
    assert joined.operand("dy") == dropped.operand("y")


@pytest.mark.parametrize("behind", ["conv3-3p1", "conv3-64p1", "pool3s2~", "[conv3-3p1 | ]"])
def test_a_gate_that_a_normalisation_can_remake_is_read_by_nobody(behind: str) -> None:
    made = gradients(f"conv3-3p1 bn relu {behind} fc")
    (joined,) = (call for call in made.calls if call.kernel == "batch_norm_grad")
    assert (joined.operand("bias"), joined.parameters.relu) == ("bn1.bias", 1)
    assert "activation_grad" not in kernels(made)
    assert not any(call.operand("gate") for call in made.calls if "gate" in call.places())


def test_a_gate_that_others_were_added_to_is_read() -> None:
    made = gradients("conv3-3p1 [conv3-3p1 bn | ] relu drop0.5 fc")
    assert "activation_grad" in kernels(made)
    assert not any(call.parameters.relu for call in made.calls if call.kernel == "batch_norm_grad")


@pytest.mark.parametrize(
    "text",
    [
        "conv3-3p1 bn tanh drop0.5 fc",  # another function
        "conv3-3p1 bn drop0.5 relu fc",  # something lies between
    ],
)
def test_the_gradient_of_a_normalisation_elsewhere_stays_open(text: str) -> None:
    (norm,) = (call for call in gradients(text).calls if call.kernel == "batch_norm_grad")
    assert (norm.operand("bias"), norm.parameters.relu) == ("", 0)


def test_a_gradient_that_is_fetched_does_not_join_a_normalisation() -> None:
    made = gradients("conv3-3p1 bn relu drop0.5 fc", "grad(bn1)")
    assert "activation_grad" in kernels(made)
    (norm,) = (call for call in made.calls if call.kernel == "batch_norm_grad")
    assert norm.operand("bias") == ""


@pytest.mark.parametrize("relu", [True, False])
def test_pooling_joins_a_normalisation_there_and_back(relu: bool) -> None:
    made = gradients(f"conv3-5p1 bn {'relu ' * relu}pool2~ drop0.5 fc", image=DEEP)
    assert not {"batch_norm", "batch_norm_grad", "max_pool", "max_pool_grad"} & set(kernels(made))
    (there,) = (call for call in made.calls if call.kernel == "batch_norm_pool")
    (back,) = (call for call in made.calls if call.kernel == "batch_norm_pool_grad")
    assert (there.operand("x"), there.operand("y"), there.node) == ("conv1", "pool1", "bn1")
    assert there.operand("peak") == back.operand("peak") == "pool1:peak"
    assert made.buffers["pool1:peak"].bytes == made.buffers["pool1"].bytes
    assert (there.parameters.relu, there.parameters.has_peak) == (relu, 1)
    assert (back.parameters.relu, back.operand("bias")) == (relu, "bn1.bias")
    assert not {"bn1", "relu1", "pool1.index"} & set(made.buffers)


def test_pooling_joins_a_normalisation_without_a_gradient() -> None:
    built = build(parse("conv3-5p1 bn relu pool2~ fc"), DEEP, 5).graph
    made = fuse(lower(built, 4, lay_out(built)))
    (there,) = (call for call in made.calls if call.kernel == "batch_norm_pool")
    assert (there.operand("peak"), there.parameters.has_peak) == ("", 0)


@pytest.mark.parametrize(
    ("text", "fetched"),
    [
        ("conv3-5p1 bn relu pool3s2~ fc", ()),  # windows overlap
        ("conv3-5p1 bn tanh pool2~ fc", ()),  # another function
        ("conv3-5p1 [conv3-5p1 bn | ] relu pool2~ fc", ()),  # something is added
        ("conv3-5p1 bn relu {pool2~ | avgpool2~} fc", ()),  # read elsewhere
        ("conv3-5p1 bn relu pool2~ fc", ("relu1",)),
        ("conv3-5p1 bn relu pool2~ fc", ("grad(relu1)",)),
        ("conv3-5p1 bn relu pool2~ fc", ("grad(bn1)",)),
        ("conv3-5p1 bn pool2~ fc", ("grad(bn1)",)),
    ],
)
def test_pooling_that_others_stand_between_joins_no_normalisation(
    text: str, fetched: tuple[str, ...]
) -> None:
    made = kernels(gradients(text, *fetched, image=DEEP))
    assert "batch_norm_pool" not in made
    assert "batch_norm_pool_grad" not in made


def test_what_is_not_used_any_more_takes_no_memory() -> None:
    made = gradients("conv3-4p1 relu pool2 fc")
    used = {name for call in made.calls for name in call.operands}
    assert {name for name, buffer in made.buffers.items() if buffer.memory == "arena"} <= used


def test_pooling_joins_winograds_convolution() -> None:
    made = inference("conv3-64p1 relu pool2~ fc", image=DEEP)
    assert kernels(made) == ["winograd_weights", "winograd_pool", "narrow"]
    (joined,) = (call for call in made.calls if call.kernel == "winograd_pool")
    assert joined.node == "conv1"
    assert (joined.operand("y"), joined.operand("index")) == ("pool1", "")
    assert (joined.parameters.convolution.relu, joined.parameters.has_index) == (1, 0)
    assert not {"conv1", "relu1", "pool1.index"} & set(made.buffers)


def test_where_the_largest_lay_is_kept_for_the_gradient_and_the_gate_moves_behind() -> None:
    made = gradients("conv3-64p1 relu pool2~ drop0.5 fc", image=DEEP)
    (joined,) = (call for call in made.calls if call.kernel == "winograd_pool")
    (backward,) = (call for call in made.calls if call.kernel == "max_pool_grad")
    assert joined.parameters.has_index == 1
    assert joined.operand("index") == backward.operand("index") != ""
    assert backward.operand("gate") == joined.operand("y") == "pool1"
    assert (backward.parameters.has_gate, backward.parameters.gate_is_y) == (1, 1)
    assert not {"conv1", "relu1"} & set(made.buffers)


def test_pooling_without_a_relu_before_it_has_no_gate_to_move() -> None:
    made = gradients("conv3-64p1 pool2~ fc", image=DEEP)
    (joined,) = (call for call in made.calls if call.kernel == "winograd_pool")
    (backward,) = (call for call in made.calls if call.kernel == "max_pool_grad")
    assert (joined.parameters.convolution.relu, joined.parameters.has_index) == (0, 1)
    assert (backward.operand("gate"), backward.parameters.gate_is_y) == ("", 0)


def test_every_pooling_joins_its_own_convolution() -> None:
    text = "[conv3-64p1 relu pool2~ | conv3-64p1 pool2~] conv3-64p1 relu pool2 fc"
    made = gradients(text, image=DEEP)
    joined = [call for call in made.calls if call.kernel == "winograd_pool"]
    assert [call.node for call in joined] == ["conv1", "conv2", "conv3"]
    assert {call.operand("index") for call in joined} == {
        call.operand("index") for call in made.calls if call.kernel == "max_pool_grad"
    }
    gated = [call.operand("gate") for call in made.calls if call.kernel == "max_pool_grad"]
    assert sorted(gated) == sorted(["", joined[0].operand("y"), joined[2].operand("y")])


@pytest.mark.parametrize(
    "text",
    [
        "conv3-64p1 relu pool3s2~ fc",  # windows overlap
        "conv3-64p1 relu pool2s1 fc",
        "conv3-64p1 relu pool3s3~ fc",  # another size
        "conv3-64p1 relu pool2x1s2x1~ fc",
        "conv3-64p1 relu pool2p1~ fc",  # windows begin outside
        "conv3-64p1 relu pool2same fc",  # one ends outside
        "conv3-64p1 relu avgpool2~ fc",  # no largest
        "conv3-64p1 tanh pool2~ fc",  # something lies between
        "conv3-64p1 relu [pool2~ | conv3-64s2p1~ conv2-64] fc",  # read elsewhere
        "conv3-64p1 relu {pool2~ | pool2~} fc",
    ],
)
def test_other_pooling_stays(text: str) -> None:
    for made in (inference(text, image=DEEP), gradients(text, image=DEEP)):
        assert "winograd" in kernels(made)
        assert "winograd_pool" not in kernels(made)
        assert not any(
            call.parameters.gate_is_y for call in made.calls if call.kernel == "max_pool_grad"
        )


@pytest.mark.parametrize("fetched", ["relu1", "conv1"])
def test_maps_that_are_fetched_are_written_before_they_are_pooled(fetched: str) -> None:
    made = inference("conv3-64p1 relu pool2~ fc", fetched, "fc1", image=DEEP)
    assert {"winograd", "max_pool"} <= set(kernels(made))
    assert "winograd_pool" not in kernels(made)
    assert fetched in made.buffers


def test_a_gradient_of_the_maps_that_is_fetched_keeps_them() -> None:
    made = gradients("conv3-64p1 relu pool2~ fc", "grad(relu1)", image=DEEP)
    assert {"winograd", "max_pool", "activation_grad"} <= set(kernels(made))


def norms(lowered: Lowered) -> list[Call]:
    return [call for call in lowered.calls if call.kernel == "batch_norm"]


@pytest.mark.parametrize("block", ["[conv3-8p1 bn | ]", "[ | conv3-8p1 bn]"])
def test_the_sum_with_a_shortcut_joins_the_batch_normalisation(block: str) -> None:
    made = gradients(f"conv3-8p1 tanh {block} relu fc")
    (norm,) = norms(made)
    assert norm.operand("other") == "tanh1"
    assert (norm.operand("y"), norm.parameters.relu) == ("relu1", 1)
    assert "add" not in [call.kernel for call in made.calls if "grad" not in call.node]


def test_of_two_batch_normalisations_the_later_one_adds() -> None:
    made = gradients("conv3-8p1 tanh [conv1-8 bn | conv3-8p1 bn] fc")
    first, second = norms(made)
    assert not first.operand("other")
    assert second.operand("other") == first.operand("y") == "bn1"


def test_a_normalised_map_that_others_need_is_kept() -> None:
    made = gradients("conv3-8p1 tanh [conv3-8p1 bn | ] relu fc", "bn1")
    (norm,) = norms(made)
    assert norm.operand("y") == "bn1"
    assert not norm.operand("other")
    assert "add" in kernels(made)


def test_a_relu_between_the_two_keeps_them_apart() -> None:
    made = gradients("conv3-8p1 tanh [conv3-8p1 bn relu | ] fc")
    (norm,) = norms(made)
    assert not norm.operand("other")


@pytest.mark.parametrize("behind", ["relu drop0.5", "relu pool2~", "tanh"])
def test_what_a_normalisation_measures_is_measured_in_the_convolutions_tiles(behind: str) -> None:
    made = gradients(f"conv3-64p1 bn {behind} fc", image=DEEP, batch=32)
    (conv,) = (call for call in made.calls if call.kernel == "winograd_moments")
    (norm,) = (call for call in made.calls if call.kernel in ("batch_norm", "batch_norm_pool"))
    assert (conv.operand("y"), norm.operand("x")) == ("conv1", "conv1")
    assert conv.operand("moments") == norm.operand("moments") == "conv1:moments"
    # Nine rows and ten columns are 3 × 3 tiles of 4 × 4 outputs, of 16 images; 64 rows hold four.
    assert norm.parameters.parts == 5
    assert made.buffers["conv1:moments"].bytes == 5 * 3 * 64 * 8


@pytest.mark.parametrize(
    "text",
    [
        "conv3-64p1 relu bn fc",  # a ReLU between
        "conv3-64p1 [bn | tanh] bn fc",  # a sum between
        "conv1-64 bn fc",  # another algorithm
    ],
)
def test_other_normalisations_measure_themselves(text: str) -> None:
    made = gradients(text, image=DEEP, batch=32)
    last = [call for call in made.calls if call.kernel == "batch_norm"][-1]
    assert (last.operand("moments"), last.parameters.parts) == ("", 0)


def test_two_normalisations_of_one_convolution_measure_it_once() -> None:
    made = gradients("conv3-64p1 [bn | bn relu] fc", image=DEEP, batch=32)
    assert kernels(made).count("winograd_moments") == 1
    assert {call.operand("moments") for call in norms(made)} == {"conv1:moments"}
