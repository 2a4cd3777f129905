"""`hubel bench`: the numbers of this machine, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tests.cli.conftest import Said

Hubel = Callable[..., Said]

SMALL = ("--input", "8x8x3", "--batch", "4", "--threads", "1")
NET = "conv3-4p1 relu pool2 fc5"


def test_a_net_is_timed_in_one_line(hubel: Hubel) -> None:
    said = hubel("bench", "--net", NET, *SMALL, "--seconds", "0")
    assert said.status == 0
    assert "timing" in said.err
    head, peak, empty, names, row = said.out.splitlines()
    assert re.fullmatch(r"Hubel \S+, engine native \(\w+, float32\), 1 thread", head)
    assert re.fullmatch(r"Peak [\d,]+ GFLOP/s: float32 multiply-adds on registers alone", peak)
    assert not empty
    assert names.split()[:3] == ["net", "images", "batch"]
    assert row.startswith(f"{NET}  8×8×3 ")


def test_auto_says_what_it_settled_for(hubel: Hubel) -> None:
    said = hubel("bench", "--net", NET, *SMALL, "--seconds", "0", "--precision", "auto")
    faster = {"float32": "no faster", "bfloat16": "faster"}
    settled = re.search(
        r"(float32|bfloat16), since bfloat16 is multiplied ([a-z ]+) here", said.out
    )
    assert settled is not None
    assert faster[settled[1]] == settled[2]


def test_json_gives_seconds_that_are_all_there(hubel: Hubel) -> None:
    said = hubel("bench", "--net", NET, *SMALL, "--seconds", "0", "--json")
    found = json.loads(said.out)
    assert found["threads"] == 1
    assert found["peak_gflops"] > 0.1
    (net,) = found["nets"]
    assert (net["net"], net["input"], net["batch"]) == (NET, [8, 8, 3], 4)
    assert min(net["step"], net["single"], net["inference"]) > 0
    # conv1 forward and by its weights, fc1 forward and by both: an image's gradient is not asked.
    assert net["operations"] == 2 * 4 * (2 * 64 * 4 * 27 + 3 * 64 * 5)


def test_the_shipped_nets_take_other_sizes(hubel: Hubel) -> None:
    flags = ("--input", "32x32x3", "--batch", "1", "--threads", "1", "--seconds", "0")
    said = hubel("bench", *flags, "--classes", "2")
    assert said.status == 0
    rows = said.out.splitlines()[4:]
    assert [row.split()[0] for row in rows] == ["cs231n", "lenet5", "resnet20", "mobilenet"]
    assert all(row.split()[1] == "32×32×3" for row in rows)


def test_explain_names_every_call_and_their_sum(hubel: Hubel) -> None:
    said = hubel("bench", "--explain", NET, *SMALL)
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[2] == f"A training step of {NET}, batch 4, call by call:"
    kernels = [line.split()[1] for line in lines[5:-1]]
    assert "conv_weight_grad" in kernels
    assert "sgd" in kernels
    (conv,) = (line for line in lines if re.match(r"\d+ +(conv|narrow|stem) +conv1 ", line))
    assert "8×8×3 → 8×8×4 3×3" in conv
    assert re.match(r" +all +[\d.]+ +100\.0 % ", lines[-1])


def test_explain_inference_has_no_gradients(hubel: Hubel) -> None:
    said = hubel("bench", "--explain", NET, "--inference", *SMALL, "--json")
    calls = json.loads(said.out)["calls"]
    assert not [call for call in calls if "grad" in call["kernel"] or call["kernel"] == "sgd"]
    (conv,) = (call for call in calls if call["node"] == "conv1" and call["operations"])
    assert conv["operations"] == 2 * 4 * 64 * 4 * 27
    assert conv["bytes"] >= 4 * (4 * 64 * 3 + 27 * 4 + 4 + 4 * 64 * 4)
    assert conv["seconds"] > 0


def test_what_makes_no_sense_is_refused(hubel: Hubel) -> None:
    said = hubel("bench", "--net", NET, "--explain", NET, *SMALL)
    assert said.status == 2
    assert said.err.startswith("hubel: --net and --explain both name a network")
    said = hubel("bench", "--inference")
    assert said.status == 2
    assert "--inference goes with --explain" in said.err
    said = hubel("bench", "--net", NET, *SMALL, "--precision", "float3")
    assert said.status == 2
    assert "there is no precision 'float3'" in said.err
    said = hubel("bench", "--net", NET)
    assert said.status == 2
    assert "the size of the images is not known" in said.err
