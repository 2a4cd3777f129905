"""Every shipped net as a case, small enough for the reference engine."""

from __future__ import annotations

import re
from importlib.resources import files

from tests.engine.cases import Case

__all__ = ["SHIPPED"]


def shipped(name: str) -> str:
    return (files("hubel") / "notation" / "nets" / f"{name}.hub").read_text("utf-8")


def narrow(text: str) -> str:
    """The same net with an eighth of the filters in each layer and group count."""

    def eighth(found: re.Match[str]) -> str:
        return found[1] + str(max(1, int(found[2]) // 8))

    return re.sub(r"((?:conv\d+-|g|\bfc))(\d+)", eighth, re.sub(r"#.*", "", text))


SHIPPED: dict[str, Case] = {
    "lenet5": Case(shipped("lenet5"), (28, 28, 1), 3),
    "cs231n": Case(shipped("cs231n"), (32, 32, 3), 2),
    "resnet20": Case(shipped("resnet20"), (32, 32, 3), 2),
    "squeezenet": Case(narrow(shipped("squeezenet")), (33, 33, 3), 2),
    "mobilenet": Case(narrow(shipped("mobilenet")), (64, 64, 3), 4),
    "resnet18": Case(narrow(shipped("resnet18")), (64, 64, 3), 4),
    "vgg16": Case(narrow(shipped("vgg16")), (32, 32, 3), 2),
    "alexnet": Case(narrow(shipped("alexnet")), (63, 63, 3), 2),
}
"""Every shipped net, the wide ones with fewer filters, on images that the reference can afford."""
