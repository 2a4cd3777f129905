"""The planner's side of the table of kernels: what each reads and writes, and its parameters.

The compiled side is native/kernels.inc; a test holds the two together. A signature lists a kernel's
operands in order: `name` is read, `name>` written, `name!` changed in place, `name?` may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hubel.program import structs
from hubel.records import dataclass

__all__ = ["BFLOAT16", "KERNELS", "PANEL", "Kernel", "packed_size"]

PANEL = 32
"""Columns of weights that lie side by side; kPanel in native/brgemm.h."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's operands, as its signature says, and the class of its parameters.

    A kernel of `maps` has a twin for maps of bfloat16 numbers, called by its name and BFLOAT16.
    One that `repeats` may do any number of parts in a call: the operands and the parameters are
    those of each, one part after another.
    """

    signature: str
    parameters: type
    maps: bool = False
    repeats: bool = False

    @property
    def operands(self) -> tuple[str, ...]:
        """The operands with their marks, in order."""
        return tuple(self.signature.split())


BFLOAT16 = "_bf16"
"""Ends the name of a kernel whose maps hold bfloat16 numbers."""


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "assemble": Kernel(
            "images indices rows? columns? affine? colours? boxes? scale shift batch>",
            structs.Assembly,
        ),
        "mix": Kernel("second shares boxes batch!", structs.Mixing),
        "pack_maps": Kernel("images maps>", structs.Layout, maps=True),
        "unpack_maps": Kernel("maps images>", structs.Layout, maps=True),
        "copy_channels": Kernel("from to!", structs.CopyChannels, maps=True),
        "widen": Kernel("x y>", structs.Size),
        "pack_weights": Kernel("weight packed>", structs.PackWeights),
        "fold_norm": Kernel("weight bias? scale offset mean variance folded> shift>", structs.Fold),
        "conv": Kernel("x weights bias? y>", structs.Cut, maps=True),
        "conv_input_grad": Kernel("dy weights gate? dx>", structs.Cut, maps=True),
        "conv_weight_grad": Kernel("x dy workspace> dweight> dbias?>", structs.Cut, maps=True),
        "turn_groups": Kernel("weight turned>", structs.PackWeights),
        "grouped": Kernel("x weights bias? y>", structs.Convolution, maps=True),
        "grouped_input_grad": Kernel("dy weights gate? dx>", structs.Convolution, maps=True),
        "grouped_weight_grad": Kernel(
            "x dy workspace> dweight> dbias?>", structs.Chunked, maps=True
        ),
        "narrow": Kernel("x weights bias? gate? y>", structs.Narrow, maps=True),
        "stem_weights": Kernel("weight packed>", structs.WindowWeights),
        "stem": Kernel("x weights bias? y>", structs.Stem, maps=True),
        "stem_weight_grad": Kernel("x dy workspace> dweight> dbias?>", structs.Stem, maps=True),
        "winograd_weights": Kernel("weight packed>", structs.PackWeights),
        "winograd": Kernel("x weights bias? gate? y>", structs.Winograd, maps=True),
        "winograd_moments": Kernel("x weights bias? y> moments>", structs.Winograd, maps=True),
        "winograd_pool": Kernel("x weights bias? y> index?>", structs.WinogradPool, maps=True),
        "winograd_weight_grad": Kernel(
            "x dy workspace> dweight> dbias?>", structs.WinogradGradient, maps=True
        ),
        "max_pool": Kernel("x y> index>", structs.Pooling, maps=True),
        "max_pool_grad": Kernel("dy index gate? dx>", structs.MaxPoolGradient, maps=True),
        "average_pool": Kernel("x y>", structs.Pooling, maps=True),
        "average_pool_grad": Kernel("dy dx>", structs.Pooling, maps=True),
        "activation": Kernel("x y>", structs.Function, maps=True),
        "activation_grad": Kernel("kept dy dx>", structs.Function, maps=True),
        "add": Kernel("a b gate? y>", structs.Sum, maps=True),
        "prelu": Kernel("x slope y>", structs.Rows, maps=True),
        "prelu_grad": Kernel("x slope dy dx> dslope> workspace>", structs.Rows, maps=True),
        "maxout": Kernel("x y>", structs.Pieces, maps=True),
        "maxout_grad": Kernel("x dy dx>", structs.Pieces, maps=True),
        "dropout": Kernel("x seed step y>", structs.Drop, maps=True),
        "batch_norm": Kernel(
            "x weight bias other? moments? running_mean?! running_var?! "
            "y> mean> inverse> workspace>",
            structs.Norm,
            maps=True,
        ),
        "batch_norm_apply": Kernel(
            "x weight bias mean variance y> workspace>", structs.Norm, maps=True
        ),
        "batch_norm_apply_grad": Kernel(
            "dy weight variance dx> workspace>", structs.NormApplyGradient, maps=True
        ),
        "batch_norm_grad": Kernel(
            "x dy weight bias? mean inverse dx> dweight> dbias> workspace>",
            structs.NormGradient,
            maps=True,
        ),
        "batch_norm_pool": Kernel(
            "x weight bias moments? running_mean?! running_var?! "
            "y> peak?> mean> inverse> workspace>",
            structs.NormPool,
            maps=True,
        ),
        "batch_norm_pool_grad": Kernel(
            "x peak dy weight bias mean inverse dx> dweight> dbias> workspace>",
            structs.NormPoolGradient,
            maps=True,
        ),
        "group_norm": Kernel(
            "x weight bias y> mean> inverse> workspace>", structs.GroupNorm, maps=True
        ),
        "group_norm_grad": Kernel(
            "x dy weight mean inverse dx> dweight> dbias> workspace>", structs.GroupNorm, maps=True
        ),
        "softmax_cross_entropy": Kernel("scores labels losses> probabilities>", structs.Loss),
        "softmax_cross_entropy_grad": Kernel(
            "probabilities labels dscores>", structs.Loss, maps=True
        ),
        "target_cross_entropy": Kernel("scores targets losses> probabilities>", structs.Rows),
        "target_cross_entropy_grad": Kernel(
            "probabilities targets dscores>", structs.Rows, maps=True
        ),
        "hinge": Kernel("scores labels losses>", structs.Loss),
        "hinge_grad": Kernel("scores labels dscores>", structs.Loss, maps=True),
        "mean_loss": Kernel("losses loss>", structs.Size),
        "count_correct": Kernel("scores labels correct>", structs.Loss),
        "penalty": Kernel("weight penalty!", structs.Regularisation),
        "gradient_norm": Kernel("gradient sums> norm! scale?!", structs.NormPart),
        "sgd": Kernel(
            "gradient rate step scale? weight! velocity?!", structs.SgdStep, repeats=True
        ),
        "rmsprop": Kernel(
            "gradient rate step scale? weight! square! velocity?!",
            structs.RmspropStep,
            repeats=True,
        ),
        "adam": Kernel(
            "gradient rate step scale? weight! first! second!", structs.AdamStep, repeats=True
        ),
        "muon": Kernel("gradient rate step scale? weight! velocity! workspace>", structs.MuonStep),
        "average": Kernel("weight step mean!", structs.AverageStep, repeats=True),
        "pair_weights": Kernel("weight packed>", structs.PackWeights),
        "pair_conv": Kernel("x weights bias? y>", structs.Cut),
        "pair_conv_input_grad": Kernel("dy weights gate? dx>", structs.Cut),
        "pair_conv_weight_grad": Kernel("x dy workspace> dweight> dbias?>", structs.Cut),
    }
)
"""Every kernel of the compiled engine."""


def packed_size(taps: int, inner: int, columns: int, groups: int) -> int:
    """Numbers that weights take in panels."""
    return groups * -(-columns // PANEL) * taps * inner * PANEL
