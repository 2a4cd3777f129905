"""The shipped nets as their papers, or torchvision, count them."""

from __future__ import annotations

__all__ = ["KNOWN_NETS"]

# name -> (input height, width, depth; trainable parameters with the net's own number of classes).
# alexnet, resnet18, squeezenet and vgg16 are the counts that torchvision documents for its models,
# mobilenet that of Keras without the moving statistics; lenet5, cs231n and resnet20 are added up
# by hand (resnet20: 269,722 of the paper's identity shortcuts, and 2,752 of two projections).
KNOWN_NETS: dict[str, tuple[tuple[int, int, int], int]] = {
    "alexnet": ((224, 224, 3), 61_100_840),
    "cs231n": ((32, 32, 3), 307_498),
    "lenet5": ((28, 28, 1), 61_706),
    "mobilenet": ((224, 224, 3), 4_231_976),
    "resnet18": ((224, 224, 3), 11_689_512),
    "resnet20": ((32, 32, 3), 272_474),
    "squeezenet": ((224, 224, 3), 1_235_496),
    "vgg16": ((224, 224, 3), 138_357_544),
}
