from __future__ import annotations

from pathlib import Path

import pytest

from hubel.errors import FormatError, UsageError
from hubel.notation.expand import expand
from hubel.notation.named import NETS, Header, find, read_header
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Item
from tests.graph.known_nets import KNOWN_NETS


@pytest.mark.parametrize("name", NETS)
def test_a_shipped_net_says_its_input_its_classes_and_its_paper(name: str) -> None:
    text, origin = find(f" {name} ")
    header = read_header(text)
    assert origin == name
    assert header == NETS[name]
    assert header.input == KNOWN_NETS[name][0]
    assert header.classes == (10 if header.input[0] < 224 else 1000)
    assert header.paper


def test_the_shipped_nets_are_those_of_the_documentation() -> None:
    assert list(NETS) == list(KNOWN_NETS)


@pytest.mark.parametrize("name", [name for name in NETS if name != "squeezenet"])
def test_a_shipped_net_ends_in_as_many_outputs_as_there_are_classes(name: str) -> None:
    last = parse(find(name)[0]).items[-1]
    assert (last.kind, last.count) == ("fc", None)


@pytest.mark.parametrize(
    ("name", "weighted"),
    [("lenet5", 5), ("alexnet", 8), ("vgg16", 16), ("resnet18", 18 + 3), ("resnet20", 20 + 2)],
)
def test_a_shipped_net_is_as_deep_as_its_name_says(name: str, weighted: int) -> None:
    def walk(items: tuple[Item, ...]) -> int:
        return sum(
            sum(walk(branch) for branch in item.branches)
            if isinstance(item, Branches)
            else item.kind in ("conv", "fc")
            for item in items
        )

    assert walk(expand(parse(find(name)[0])).items) == weighted


def test_a_header_is_read_from_any_text() -> None:
    assert read_header("# input: 8x9x1\nfc") == Header((8, 9, 1))
    assert read_header("fc # x\n#input: 8x9x1 ,classes:3 \n") == Header((8, 9, 1), 3)
    assert read_header("# paper:  Hubel, Wiesel, 1962 \nfc").paper == "Hubel, Wiesel, 1962"
    assert read_header("# my input: 8x9x1\n# input: 8x9\nfc") == Header()


def test_text_is_found_as_itself() -> None:
    for text in ("conv3-8 relu", "fc", "fc10", "", "# vgg16\nfc", "qqqqq", "conv3-8\n# see a.hub"):
        assert find(text) == (text, "")


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "my net.hub"
    path.write_bytes("\ufeff# größer\r\nconv3-8 relu".encode())
    text, origin = find(str(path))
    assert origin == str(path)
    assert parse(text).items == parse("conv3-8 relu").items


def test_a_missing_file_names_what_lies_nearby(tmp_path: Path) -> None:
    (tmp_path / "small.hub").write_text("fc", encoding="utf-8")
    path = tmp_path / "smal.hub"
    with pytest.raises(UsageError) as caught:
        find(str(path))
    assert str(caught.value) == (
        f"{path}: there is no such file. Hint: in {tmp_path} there is small.hub."
    )


def test_a_missing_file_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no \.hub file; the shipped nets are alexnet, "):
        find(str(tmp_path / "a.hub"))
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere either\.$"):
        find(str(tmp_path / "nowhere" / "a.hub"))


def test_a_shipped_net_asked_for_as_a_file() -> None:
    with pytest.raises(UsageError, match=r"the shipped net is called vgg16, without \.hub"):
        find("vgg16.hub")


def test_a_folder_or_a_picture_is_no_network_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder.hub"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"folder\.hub: the file cannot be read"):
        find(str(folder))
    picture = tmp_path / "picture.hub"
    picture.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(FormatError, match=r"picture\.hub: this is no text file"):
        find(str(picture))


@pytest.mark.parametrize("path", ["a" * 5000 + ".hub", "a\0.hub"])
def test_a_path_that_no_file_can_have(path: str) -> None:
    with pytest.raises(UsageError, match="the file cannot be read"):
        find(path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("vgg19", "vgg16"), ("resnet50", "resnet20"), ("AlexNet", "alexnet"), ("lenet", "lenet5")],
)
def test_a_name_like_a_shipped_one_is_told_the_names(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(name)
    assert str(caught.value) == (
        f"there is no shipped net {name}. "
        f"Hint: did you mean {meant}? The shipped nets are {', '.join(KNOWN_NETS)}."
    )
