"""`lite-seg`: the segmenter for robots: EfficientNet-Lite and the pyramid decoder of `onboard-seg`.

The default student, and the teacher: its encoder starts from ImageNet weights (``pretrained:
imagenet``, see ``models.pretrained``). With the option ``recurrent`` it carries a state from window
to window, with ``instances`` it tells things of one class apart.
"""

# Shape letters: B batch, C channels, H and W of the feature map at hand.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.ranges import BELOW_ONE, check_ranges
from evdistill_core.models.efficientnet_lite import EfficientNetLite, Variant
from evdistill_core.models.network import initialise_convolutions
from evdistill_core.models.pyramid import PyramidSegmenter, RecurrentPyramid


@dataclass(frozen=True, kw_only=True)
class LiteSegOptions:
    """Size of the network.

    Attributes:
        encoder: ``lite0``, ``lite1`` or ``lite2``, from small to large.
        decoder_channels: 8..256, a multiple of 8.
        dropout: share of decoder channels that training silences, 0 <= dropout < 1.
        recurrent: whether it carries a state from window to window.
        state_channels: of that state, 8..256.
        instances: whether it has an instance head: things of one class are told apart.
    """

    encoder: Variant = "lite0"
    decoder_channels: int = 48
    dropout: float = 0.1
    recurrent: bool = False
    state_channels: int = 32
    instances: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that are no network of ours."""
        check_ranges(
            self,
            decoder_channels=(8, 256),
            state_channels=(8, 256),
            dropout=(0, BELOW_ONE),
        )
        if self.decoder_channels % 8:
            raise ConfigError(
                f"decoder_channels must be a multiple of 8, got {self.decoder_channels}"
            )


class LiteSeg(PyramidSegmenter):
    """The network; see the module's text."""

    def __init__(self, options: LiteSegOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes)
        self.encoder = EfficientNetLite(options.encoder, in_channels=in_channels)
        self._add_decoder(
            self.encoder.channels[::-1],
            options.decoder_channels,
            options.dropout,
            instances=options.instances,
        )
        initialise_convolutions(self)
        self._initialise_heads()

    def encode(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features at strides 32, 16, 8 and 4."""
        features: list[Tensor] = self.encoder(x_BCHW)
        return features[::-1]


class RecurrentLiteSeg(RecurrentPyramid, LiteSeg):
    """The network with a memory."""

    def __init__(self, options: LiteSegOptions, *, in_channels: int, num_classes: int) -> None:
        super().__init__(options, in_channels=in_channels, num_classes=num_classes)
        self._add_memory(options.decoder_channels, options.state_channels)


def build(options: Mapping[str, object], *, in_channels: int, num_classes: int) -> LiteSeg:
    """Build the network (see ``registry.build_student``)."""
    typed = from_mapping(LiteSegOptions, options, "network options")
    kind = RecurrentLiteSeg if typed.recurrent else LiteSeg
    return kind(typed, in_channels=in_channels, num_classes=num_classes)
