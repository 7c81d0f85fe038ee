"""The study's four networks in PyTorch, with the layers and the parameter names that this project's crates give them.

Images are (b, channels, side, side) in [-1, 1]. A network whose `memory_format` is torch.channels_last keeps its maps in that order.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

# Filters of the generator by the size of the map that they make: 4, 8, 16, ... 512 pixels a side.
UP_FILTERS = [256, 256, 256, 128, 128, 64, 32, 16]
DOWN_FILTERS = [32, 64, 128, 256, 512]
# How many of the discriminator's convolutions have stride 2.
STRIDED = 3


def up_filters(side):
    """The filters of the generator's first map, and of each upsampling block for images of `side` pixels."""
    doublings = int(math.log2(side // 4))
    return UP_FILTERS[0], UP_FILTERS[1 : doublings + 1]


def same_pad(side, stride, kernel=3):
    """Padding (before, after) of Keras 'same' along one axis of length `side`."""
    total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class PaddedConv(nn.Module):
    """A 3x3 convolution whose padding may differ between the two ends; only then is it a pass of its own."""

    def __init__(self, c_in, c_out, side, stride):
        super().__init__()
        before, after = same_pad(side, stride)
        self.edges = None if before == after else (before, after, before, after)
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, before if before == after else 0)

    def forward(self, xs):
        return self.conv(xs if self.edges is None else F.pad(xs, self.edges))


class Generator(nn.Module):
    """Noise (b, latent) to images: a dense layer, one upsampling block per count of `filters`, then the image."""

    memory_format = torch.contiguous_format

    def __init__(self, latent, start, filters, channels=3):
        super().__init__()
        self.start = start
        self.fc = nn.Linear(latent, start * 16)
        layers = []
        for c_in, c_out in zip([start, *filters], filters):
            layers += [
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(c_in, c_out, 3, padding=1),
                nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.2),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.Conv2d(filters[-1], channels, 3, padding=1), nn.Tanh()]
        self.body = nn.Sequential(*layers)

    def forward(self, zs):
        xs = self.fc(zs).relu().unflatten(1, (self.start, 4, 4))
        return self.body(xs.contiguous(memory_format=self.memory_format))


class Discriminator(nn.Module):
    """Images to logits (b, 1): three convolutions of stride 2 (zeros added after the second), then unstrided ones, then a dense layer."""

    def __init__(self, filters, side, channels=3, dropout=0.25):
        super().__init__()
        layers, c_in = [], channels
        for i, c_out in enumerate(filters):
            stride = 2 if i < STRIDED else 1
            layers.append(PaddedConv(c_in, c_out, side, stride))
            side, c_in = math.ceil(side / stride), c_out
            if i == 1:
                layers.append(nn.ZeroPad2d((0, 1, 0, 1)))
                side += 1
            if i > 0:
                layers.append(nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.2))
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.Dropout(dropout)]
        layers += [nn.Flatten(), nn.Linear(c_in * side * side, 1)]
        self.body = nn.Sequential(*layers)

    def forward(self, xs):
        return self.body(xs)


def small_cnn(filters, dense, classes, side, channels=3):
    """Valid 3x3 convolutions, each with ReLU and 2x2 max pooling, then two dense layers: images to logits (b, classes)."""
    layers, c_in = [], channels
    for c_out in filters:
        layers += [nn.Conv2d(c_in, c_out, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        side, c_in = (side - 2) // 2, c_out
    layers += [nn.Flatten(), nn.Linear(c_in * side * side, dense), nn.ReLU(inplace=True), nn.Linear(dense, classes)]
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """A pre-activation bottleneck; the first block of a stage projects its activated input."""

    def __init__(self, c_in, c_out, stride, project):
        super().__init__()
        mid = c_out // 4
        self.bn1 = nn.BatchNorm2d(c_in, eps=2e-5)
        self.conv1 = nn.Conv2d(c_in, mid, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid, eps=2e-5)
        if stride == 2:
            self.conv2 = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(mid, mid, 3, 2, bias=False))
        else:
            self.conv2 = nn.Conv2d(mid, mid, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(mid, eps=2e-5)
        self.conv3 = nn.Conv2d(mid, c_out, 1, bias=False)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if project else None

    def forward(self, xs):
        act = self.bn1(xs).relu_()
        ys = self.conv2(self.bn2(self.conv1(act)).relu_())
        ys = self.conv3(self.bn3(ys).relu_())
        return ys + (xs if self.shortcut is None else self.shortcut(act))


class ResNet(nn.Module):
    """Images to logits (b, classes): batch norm, 5x5 stem, max pooling, stages of bottlenecks, average pooling, dense."""

    def __init__(self, stages, filters, classes, channels=3):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(channels, eps=2e-5)
        self.stem = nn.Conv2d(channels, filters[0], 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(filters[0], eps=2e-5)
        self.blocks = nn.Sequential(*[
            Bottleneck(filters[i] if first else filters[i + 1], filters[i + 1], 2 if first and i > 0 else 1, first)
            for i, count in enumerate(stages)
            for first in [True] + [False] * (count - 1)
        ])
        self.bn2 = nn.BatchNorm2d(filters[-1], eps=2e-5)
        self.fc = nn.Linear(filters[-1], classes)

    def forward(self, xs):
        # What is pooled is not negative, so that windows beyond the edge see the zeros that Keras pads with.
        ys = F.max_pool2d(self.bn1(self.stem(self.bn0(xs))).relu_(), 3, 2, padding=1)
        return self.fc(self.bn2(self.blocks(ys)).relu_().mean((2, 3)))


def keras_count(net):
    """Parameters as Keras counts them: running statistics are among them."""
    running = (value for name, value in net.state_dict().items() if name.endswith(("running_mean", "running_var")))
    return sum(p.numel() for p in net.parameters()) + sum(value.numel() for value in running)


def full_width(side=64, channels=3):
    """The networks as wide as the study's, for images of `side` pixels: what makes each, by its name."""
    return {
        "generator": lambda: Generator(100, *up_filters(side), channels),
        "discriminator": lambda: Discriminator(DOWN_FILTERS, side, channels),
        "resnet": lambda: ResNet([3, 4, 6], [64, 128, 256, 512], 2, channels),
        "cnn": lambda: small_cnn([32, 32, 64], 64, 2, side, channels),
    }
