"""The GAN of the recipe `best` in PyTorch: its networks, its augmentation and one iteration of its training.

Parameters have the names of this project's networks (`crates/cellforge-gan`), and settings are those of
`crates/cellforge-train/recipes/gan/best.toml`. Classes are rows (b, classes) of zeros and a one.
"""

import contextlib
import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

# Filters by the size of maps: 4, 8, 16, ... 512 pixels a side.
UP_FILTERS = [192, 192, 128, 64, 32, 16, 16, 8]
DOWN_FILTERS = [192, 192, 96, 48, 24, 12, 12, 8]
LATENT, STYLE, NEGATIVE_SLOPE = 64, 128, 0.2
LEARNING_RATE, BETAS, EPS = 2e-4, (0.0, 0.99), 1e-7
R1, PENALTY_EVERY = 0.1, 8
EMA_DECAY = 0.998
TRANSLATION, COLOUR = 0.125, 0.1
# The weights of red, green and blue in a pixel's brightness (Rec. 601).
LUMA = (0.299, 0.587, 0.114)


def up_filters(side):
    """Filters of the generator's blocks for images of `side` pixels, smallest map first."""
    return UP_FILTERS[1 : int(math.log2(side // 4)) + 1]


def down_filters(side):
    """Filters of the discriminator at each size, from the image's down to 4 pixels a side."""
    return DOWN_FILTERS[int(math.log2(side // 4)) :: -1]


def he_normal(layer, negative_slope=1.0, gain=1.0, bias=0.0):
    """`layer` with normal weights of variance `gain * 2 / ((1 + slope^2) * inputs)` (He et al. 2015) and the same bias everywhere."""
    inputs = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, math.sqrt(2 * gain / ((1 + negative_slope**2) * inputs)))
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer


def full_precision(device):
    """Outside of autocast: for sums that stay in `f32`."""
    return torch.autocast(device.type, enabled=False)


class StyledConv(nn.Conv2d):
    """A 3x3 convolution of inputs that the style scales (StyleGAN2, Karras et al. 2020), after nearest upsampling where `up`.

    Scaling inputs and outputs instead of weights needs one convolution for the batch in place of one for each image.
    """

    def __init__(self, c_in, c_out, up=False):
        super().__init__(c_in, c_out, 3, padding=1)
        he_normal(self)
        self.style, self.up = he_normal(nn.Linear(STYLE, c_in), bias=1.0), up

    def modulated(self, xs, scale):
        """The convolution without its bias of `xs` (b, c, h, w) times `scale` (b, c)."""
        xs = xs * scale.to(xs.dtype)[:, :, None, None]
        if self.up:
            xs = F.interpolate(xs, scale_factor=2, mode="nearest")
        return F.conv2d(xs, self.weight, padding=1)

    def demodulation(self, scale):
        """The factors (b, out) that give outputs unit variance, times the root of 2 for what the leaky ReLU takes."""
        with full_precision(scale.device):
            scale = scale.to(self.weight.dtype)
            sums = scale.square() @ self.weight.square().sum((2, 3)).t()
            return torch.rsqrt(sums + 1e-8) * math.sqrt(2)

    def forward(self, xs, style):
        scale = self.style(style)
        ys = self.modulated(xs, scale)
        factors = self.demodulation(scale).to(ys.dtype)[:, :, None, None]
        ys = torch.addcmul(self.bias.to(ys.dtype)[:, None, None], ys, factors)
        return F.leaky_relu(ys, NEGATIVE_SLOPE, inplace=True)


class ToImage(StyledConv):
    """The last convolution, without demodulation: images in [-1, 1]."""

    def forward(self, xs, style):
        ys = self.modulated(xs, self.style(style))
        return torch.tanh(ys + self.bias.to(ys.dtype)[:, None, None])


class Block(nn.Module):
    """Two styled convolutions, of which the first doubles the side."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1, self.conv2 = StyledConv(c_in, c_out, up=True), StyledConv(c_out, c_out)

    def forward(self, xs, style):
        return self.conv2(self.conv1(xs, style), style)


class Generator(nn.Module):
    """Noise (b, latent) and classes (b, classes) to images (b, channels, side, side)."""

    memory_format = torch.contiguous_format

    def __init__(self, filters, latent=LATENT, classes=2, channels=3):
        super().__init__()
        self.mapping = nn.ModuleDict({
            "noise": he_normal(nn.Linear(latent, STYLE), NEGATIVE_SLOPE),
            "class": nn.Linear(classes, STYLE, bias=False),
            "fc": he_normal(nn.Linear(STYLE, STYLE), NEGATIVE_SLOPE),
        })
        nn.init.normal_(self.mapping["class"].weight)
        self.start = he_normal(nn.Linear(STYLE, filters[0] * 16))
        self.blocks = nn.ModuleList(Block(*pair) for pair in zip([filters[0], *filters], filters))
        self.to_image = ToImage(filters[-1], channels)

    def forward(self, zs, classes):
        mapped = F.leaky_relu(self.mapping["noise"](zs) + self.mapping["class"](classes), NEGATIVE_SLOPE)
        style = F.leaky_relu(self.mapping["fc"](mapped), NEGATIVE_SLOPE)
        xs = self.start(style).unflatten(1, (-1, 4, 4)).contiguous(memory_format=self.memory_format)
        for block in self.blocks:
            xs = block(xs, style)
        return self.to_image(xs, style)


class DownBlock(nn.Module):
    """A residual block that halves the side."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1 = he_normal(nn.Conv2d(c_in, c_in, 3, padding=1), NEGATIVE_SLOPE)
        self.conv2 = he_normal(nn.Conv2d(c_in, c_out, 3, padding=1), NEGATIVE_SLOPE, gain=0.5)
        self.skip = he_normal(nn.Conv2d(c_in, c_out, 1, bias=False), gain=0.5)

    def forward(self, xs):
        ys = F.leaky_relu(self.conv1(xs), NEGATIVE_SLOPE, inplace=True)
        ys = F.leaky_relu(self.conv2(F.avg_pool2d(ys, 2)), NEGATIVE_SLOPE, inplace=True)
        return self.skip(F.avg_pool2d(xs, 2)) + ys


class Discriminator(nn.Module):
    """Images and classes to logits (b, 1), with a projection of the class (Miyato and Koyama 2018)."""

    def __init__(self, filters, classes=2, channels=3):
        super().__init__()
        c = filters[-1]
        self.stem = he_normal(nn.Conv2d(channels, filters[0], 3, padding=1), NEGATIVE_SLOPE)
        self.blocks = nn.ModuleList(DownBlock(*pair) for pair in zip(filters, filters[1:]))
        self.conv = he_normal(nn.Conv2d(c, c, 3, padding=1), NEGATIVE_SLOPE)
        self.fc = he_normal(nn.Linear(c * 16, c), NEGATIVE_SLOPE)
        self.head = he_normal(nn.Linear(c, 1))
        self.add_module("class", nn.Linear(classes, c, bias=False))
        nn.init.normal_(self.get_submodule("class").weight, 0.0, 0.02)

    def forward(self, xs, classes):
        xs = F.leaky_relu(self.stem(xs), NEGATIVE_SLOPE, inplace=True)
        for block in self.blocks:
            xs = block(xs)
        xs = F.leaky_relu(self.conv(xs), NEGATIVE_SLOPE, inplace=True)
        features = F.leaky_relu(self.fc(xs.flatten(1)), NEGATIVE_SLOPE, inplace=True)
        rows = getattr(self, "class")(classes)
        logits = self.head(features) + (features * rows).sum(1, keepdim=True)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Augmentation:
    """Translation by up to an eighth of the side and changes of colour, each with probability `p` for each image (Zhao et al. 2020)."""

    def __init__(self, p):
        self.p = p

    def __call__(self, images):
        return self.recoloured(self.translated(images)) if self.p > 0 else images

    def chosen(self, images, shape=()):
        b = len(images)
        return torch.rand((b, *shape), device=images.device) < self.p

    def translated(self, images):
        b, _, h, w = images.shape
        most = [round(TRANSLATION * side) for side in (h, w)]
        shifts = torch.stack([torch.randint(-m, m + 1, (b,)) for m in most], 1) * self.chosen(images).cpu()[:, None]
        # What comes into view is black.
        padded = F.pad(images, (most[1], most[1], most[0], most[0]), value=-1.0).unbind(0)
        moved = [
            image[:, most[0] - down : most[0] - down + h, most[1] - right : most[1] - right + w]
            for image, (down, right) in zip(padded, shifts.tolist())
        ]
        is_last = images.is_contiguous(memory_format=torch.channels_last)
        return torch.stack(moved).contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)

    def recoloured(self, images):
        def drawn(strength):
            # Uniform in [-strength, strength] where the image is chosen, else 0.
            numbers = (2 * torch.rand(len(images), device=images.device) - 1) * strength * chosen
            return numbers[:, None, None, None].to(images.dtype)

        chosen = self.chosen(images)
        brightness, saturation, contrast = drawn(COLOUR / 2), 1 + drawn(COLOUR), 1 + drawn(COLOUR)
        luma = torch.tensor(LUMA, dtype=images.dtype, device=images.device)[:, None, None]
        grey = (images * luma).sum(1, keepdim=True)
        return contrast * (grey + saturation * (images - grey)) + brightness


class Gan:
    """Both networks, their optimizers and the moving average of the generator's weights."""

    def __init__(self, generator, discriminator, p=0.0, lr=LEARNING_RATE, cast=contextlib.nullcontext, wrap=lambda net: net):
        """`p` is the probability of augmentations, `cast` makes the context that forward passes run in, `wrap` is torch.compile or nothing."""
        self.generator, self.discriminator = generator, discriminator
        self.average = copy.deepcopy(generator).requires_grad_(False)
        self.generate, self.discriminate = wrap(generator), wrap(discriminator)
        self.cast, self.augment = cast, Augmentation(p)
        adam = {"lr": lr, "betas": BETAS, "eps": EPS, "fused": True}
        self.generator_optimizer = torch.optim.Adam(generator.parameters(), **adam)
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), **adam)
        self.pairs = list(self.average.parameters()), list(generator.parameters())

    def r1(self, images, classes):
        """The mean squared norm of the gradient of each logit by its image (Mescheder et al. 2018).

        It takes a second derivative, which compiled networks do not have.
        """
        images = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.discriminator(images, classes).sum(), images, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean()

    def step(self, real, classes, zs, iteration):
        """One iteration: an update of the discriminator, one of the generator, and the average. Returns the losses."""
        with self.cast():
            fake, shown = self.generate(zs, classes), self.augment(real)
            on_real = F.softplus(-self.discriminate(shown, classes)).mean()
            on_fake = F.softplus(self.discriminate(self.augment(fake.detach()), classes)).mean()
            losses = {"d_real": on_real.detach(), "d_fake": on_fake.detach()}
            loss = on_real + on_fake
            if iteration % PENALTY_EVERY == 0:
                penalty = R1 / 2 * self.r1(shown, classes)
                losses["r1"] = penalty.detach()
                loss = loss + PENALTY_EVERY * penalty
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()

        self.discriminator.requires_grad_(False)
        with self.cast():
            loss = F.softplus(-self.discriminate(self.augment(fake), classes)).mean()
        losses["g"] = loss.detach()
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)

        decay = min(EMA_DECAY, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            torch._foreach_lerp_(*self.pairs, 1 - decay)
        return losses
