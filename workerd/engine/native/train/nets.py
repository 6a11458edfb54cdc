"""The nets: an autoencoder between pictures and latents, and a flow from noise to latents, guided by words.

They use few kinds of layers (convolutions, SiLU, a root-mean-square norm over channels, pixel shuffles) so that every backend can run them.
Pictures are N x 3 x H x W from -1 to 1; latents are N x 8 x H/8 x W/8, about standard normal.
"""

import torch
import torch.nn.functional as F
from torch import nn

LATENT = 8  # channels of a latent
STYLES = 2  # drawing styles of the training: noto, flat
GRID = 16  # width and height of the flow's latents: pictures of 128x128


def norm(x):
    """Divides by the root mean square over the channels."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-4)


def conv(c_in, c_out, size=3, zero=False):
    layer = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    nn.init.zeros_(layer.bias)
    if zero:
        nn.init.zeros_(layer.weight)
    return layer


class Block(nn.Module):
    """A residual block, modulated by a condition where it has one."""

    def __init__(self, channels, condition=0):
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels, zero=True)
        self.film = nn.Linear(condition, 2 * channels) if condition else None
        if self.film:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x, condition=None):
        h = self.conv1(F.silu(norm(x)))
        if self.film:
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
            h = norm(h) * (1 + scale.to(h.dtype)) + shift.to(h.dtype)
        return x + self.conv2(F.silu(h))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4), conv(48, 64), Block(64),
            nn.PixelUnshuffle(2), conv(256, 128, 1), Block(128), conv(128, LATENT, 1),
        )

    def forward(self, picture):
        return self.layers(picture)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            conv(LATENT, 128), Block(128), Block(128), conv(128, 256, 1), nn.PixelShuffle(2),
            Block(64), Block(64), conv(64, 128, 1), nn.PixelShuffle(2),
            Block(32), conv(32, 12), nn.PixelShuffle(2),
        )

    def forward(self, latent):
        return self.layers(latent)


class Words(nn.Module):
    """Turns a bag of words into a condition. Word 0 is none."""

    def __init__(self, vocabulary, width=96, condition=256):
        super().__init__()
        self.meaning = nn.Embedding(vocabulary, width)
        self.weight = nn.Embedding(vocabulary, 1)
        nn.init.zeros_(self.weight.weight)
        self.mlp = nn.Sequential(nn.Linear(width, condition), nn.SiLU(), nn.Linear(condition, condition))

    def forward(self, words):
        weight = self.weight(words).exp() * (words > 0)[:, :, None]
        mean = (self.meaning(words) * weight).sum(1) / (weight.sum(1) + 1e-4)
        return self.mlp(mean)


class Wide(nn.Linear):
    """A large linear layer; it trains as a convolution, which torch computes faster than its matrix product where that is plain."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        return F.conv2d(x.t()[None, :, :, None], self.weight[:, :, None, None], self.bias)[0, :, :, 0].t()


class Draft(nn.Module):
    """Guesses from words alone the latents of what they mean, in each style: blurred where the words leave a choice."""

    def __init__(self, condition=256, hidden=384):
        super().__init__()
        self.layers = nn.Sequential(Wide(condition, hidden), nn.SiLU(), Wide(hidden, STYLES * LATENT * GRID**2))

    def forward(self, words):
        return self.layers(words).reshape(-1, STYLES * LATENT, GRID, GRID)


class Flow(nn.Module):
    """Gives the velocity of a latent at time t, 1 being noise and 0 a picture, for a condition made of words."""

    def __init__(self, wide=96, deep=192, condition=256, layout=16):
        super().__init__()
        self.layout = layout
        self.draft = Draft(condition)
        self.clock = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.place = nn.Parameter(torch.zeros(1, wide, GRID, GRID))
        self.sketch = nn.Linear(condition, layout * (GRID // 2) ** 2)
        self.enter = conv(LATENT + STYLES * LATENT, wide)
        self.down1 = Block(wide, condition)
        self.down = conv(4 * wide, deep, 1)
        self.mix = conv(deep + layout, deep, 1)
        self.middle = nn.ModuleList(Block(deep, condition) for _ in range(4))
        self.up = conv(deep, 4 * wide, 1)
        self.join = conv(2 * wide, wide, 1)
        self.up1 = Block(wide, condition)
        self.up2 = Block(wide, condition)
        self.leave = conv(wide, LATENT, zero=True)

    def forward(self, latent, t, words):
        angle = t.float()[:, None] * torch.exp(torch.linspace(0, 6, 32))[None] * 3.14159265
        condition = F.silu(self.clock(torch.cat([angle.sin(), angle.cos()], 1)) + words)
        h = self.enter(torch.cat([latent, self.draft(words).to(latent.dtype)], 1)) + self.place.to(latent.dtype)
        h = self.down1(h, condition)
        side = h
        h = self.down(F.pixel_unshuffle(h, 2))
        sketch = self.sketch(words).view(-1, self.layout, GRID // 2, GRID // 2).to(h.dtype)
        h = self.mix(torch.cat([h, sketch], 1))
        for block in self.middle:
            h = block(h, condition)
        h = F.pixel_shuffle(self.up(h), 2)
        h = self.join(torch.cat([h, side], 1))
        h = self.up1(h, condition)
        h = self.up2(h, condition)
        return self.leave(F.silu(norm(h)))


class Enlarger(nn.Module):
    """Makes a picture four times as wide and high: it adds what is missing to a bilinear enlargement."""

    def __init__(self, wide=32):
        super().__init__()
        self.layers = nn.Sequential(conv(3, wide), nn.SiLU(), conv(wide, wide), nn.SiLU(), conv(wide, wide), nn.SiLU(), conv(wide, 48), nn.PixelShuffle(4))

    def forward(self, picture):
        return self.layers(picture) + F.interpolate(picture, scale_factor=4, mode="bilinear", align_corners=False)
