"""The convolutional autoencoder of the source article: an image through a short code and back.

Encoder 64-128-256 with two halvings and a dense layer to the code; the decoder mirrors it and, unlike the article's,
returns the size it was given.
"""

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Autoencoder of square patches through a dense code.

    Parameters
    ----------
    channels : int
        Channels of the image.
    image_size : int
        Side of the patch that one code describes, a multiple of 4.
    code_length : int
        Numbers in a code.
    features : int
        Feature maps of the first layer (64 in the article), doubled twice.
    """

    def __init__(self, channels: int, image_size: int, code_length: int, features: int) -> None:
        super().__init__()
        self.image_size = image_size
        side = image_size // 4
        f = features
        self.encoder = nn.Sequential(
            _conv(channels, f), nn.MaxPool2d(2), _conv(f, 2 * f), nn.MaxPool2d(2), _conv(2 * f, 4 * f),
            nn.Flatten(), nn.Linear(4 * f * side * side, code_length),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(code_length, 4 * f * side * side), nn.ReLU(), nn.Unflatten(1, (4 * f, side, side)),
            _conv(4 * f, 2 * f), nn.Upsample(scale_factor=2), _conv(2 * f, f), nn.Upsample(scale_factor=2),
            _conv(f, f), nn.Conv2d(f, channels, 3, padding=1),
        )  # fmt: skip

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, size, size) to codes (N, code_length)."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Codes (N, code_length) to (N, C, size, size)."""
        image: Tensor = self.decoder(code)
        return image

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images whose sides are multiples of the patch: each patch through its own code."""
        n, c, height, width = x.shape
        s = self.image_size
        rows, columns = height // s, width // s
        patches = x.reshape(n, c, rows, s, columns, s).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, s, s)
        done = self.decode(self.encode(patches)).reshape(n, rows, columns, c, s, s)
        return done.permute(0, 3, 1, 4, 2, 5).reshape(n, c, height, width)


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(layer, nn.ReLU())
