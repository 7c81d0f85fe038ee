"""Times one kind of work in PyTorch, as benches/in_turn.py runs it beside this project's own.

    target/torch/bin/python benches/torch/bench.py gan|best|resnet|cnn|generate|generate_best [--side 64] [--batch 32]
        [--channels 3] [--precision f32|bf16] [--compile] [--contiguous] [--samples 5] [--device cpu] [--threads N]

Weights and images are channels last, which is PyTorch's fastest layout, unless --contiguous is given. bf16 is autocast. Optimizers are the
fused ones. A sample is one iteration or one batch of images. For `best` it is eight iterations, one of which has the penalty, and its
time is divided by eight. Two iterations, one with the penalty, come before and are not counted. Prints one line of JSON.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import time

import torch
from torch.nn import functional as F

import best
import study

CLASSES = 2
# Probability of each augmentation of `best`, whose own moves with the run. This project's benchmarks have the same.
AUGMENTED = 0.5


class Setup:
    """How networks are laid out and run."""

    def __init__(self, args):
        self.args, self.device = args, torch.device(args.device)
        self.layout = torch.contiguous_format if args.contiguous else torch.channels_last

    def place(self, net):
        net = net.to(self.device, memory_format=self.layout)
        net.memory_format = self.layout
        return net

    def wrap(self, net):
        return torch.compile(net, dynamic=False) if self.args.compile else net

    def cast(self):
        is_bf16 = self.args.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if is_bf16 else contextlib.nullcontext()

    def images(self):
        args = self.args
        images = torch.randn(args.batch, args.channels, args.side, args.side, device=self.device)
        return images.contiguous(memory_format=self.layout)

    def study(self, name):
        return self.place(study.full_width(self.args.side, self.args.channels)[name]())

    def best_generator(self):
        return self.place(best.Generator(best.up_filters(self.args.side), channels=self.args.channels))

    def noise(self, latent):
        return torch.randn(self.args.batch, latent, device=self.device)

    def labels(self):
        return torch.arange(self.args.batch, device=self.device) % CLASSES

    def classes(self):
        return F.one_hot(self.labels(), CLASSES).float()


def gan(setup):
    """The study's iteration: fakes by the generator in inference mode, an update of the discriminator on reals and one on fakes, and one of
    the generator, which makes its images anew."""
    args = setup.args
    nets = setup.study("generator"), setup.study("discriminator")
    adam = {"lr": 1.5e-4, "betas": (0.5, 0.999), "eps": 1e-7, "fused": True}
    generator_optimizer, discriminator_optimizer = (torch.optim.Adam(net.parameters(), **adam) for net in nets)
    (generator, discriminator), (generate, discriminate) = nets, map(setup.wrap, nets)
    real, ones, zeros = setup.images(), *(torch.full((args.batch, 1), value, device=setup.device) for value in (1.0, 0.0))

    def update(optimizer, images, target):
        with setup.cast():
            logits = discriminate(images() if callable(images) else images)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits.float(), target).backward()
        optimizer.step()

    def step(_):
        zs = setup.noise(100)
        generator.eval()
        with torch.no_grad(), setup.cast():
            fake = generate(zs)
        generator.train()
        update(discriminator_optimizer, real, ones)
        update(discriminator_optimizer, fake, zeros)
        discriminator.requires_grad_(False)
        update(generator_optimizer, lambda: generate(zs), ones)
        discriminator.requires_grad_(True)

    return step, nets


def train_best(setup):
    """See best.Gan.step."""
    discriminator = best.Discriminator(best.down_filters(setup.args.side), channels=setup.args.channels)
    nets = setup.best_generator(), setup.place(discriminator)
    model = best.Gan(*nets, p=AUGMENTED, cast=setup.cast, wrap=setup.wrap)
    real, classes = setup.images(), setup.classes()
    return lambda iteration: model.step(real, classes, setup.noise(best.LATENT), iteration), nets


def classify(setup, net):
    """Forward, cross-entropy, backward, SGD with momentum."""
    run, optimizer = setup.wrap(net), torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, fused=True)
    images, labels = setup.images(), setup.labels()

    def step(_):
        with setup.cast():
            logits = run(images)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step, (net,)


def generate(setup, net, latent, *inputs):
    """A batch of images from noise, in inference mode."""
    run = setup.wrap(net.eval())

    def step(_):
        with torch.no_grad(), setup.cast():
            run(setup.noise(latent), *inputs)

    return step, (net,)


# What each work makes: a function that runs one iteration, and the networks.
WORK = {
    "gan": gan,
    "best": train_best,
    "resnet": lambda setup: classify(setup, setup.study("resnet")),
    "cnn": lambda setup: classify(setup, setup.study("cnn")),
    "generate": lambda setup: generate(setup, setup.study("generator"), 100),
    "generate_best": lambda setup: generate(setup, setup.best_generator(), best.LATENT, setup.classes()),
}


def timed(step, iterations, device):
    """Seconds an iteration."""
    def synchronize():
        if device.type == "cuda":
            torch.cuda.synchronize()

    synchronize()
    start = time.perf_counter()
    for iteration in iterations:
        step(iteration)
    synchronize()
    return (time.perf_counter() - start) / len(iterations)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true", help="networks through torch.compile")
    parser.add_argument("--contiguous", action="store_true", help="channels first in memory")
    parser.add_argument("--samples", type=int, default=5, help="how many times the median is of")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # On a GPU this project computes in tf32, too.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)

    setup = Setup(args)
    step, nets = WORK[args.work](setup)
    period = best.PENALTY_EVERY if args.work == "best" else 1
    timed(step, range(2), setup.device)
    seconds = [timed(step, range(period * i, period * (i + 1)), setup.device) for i in range(1, args.samples + 1)]
    print(json.dumps({
        **vars(args),
        "torch": torch.__version__,
        "parameters": [sum(param.numel() for param in net.parameters()) for net in nets],
        "median_s": statistics.median(seconds),
        "samples_s": seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,  # KiB on Linux
    }))


if __name__ == "__main__":
    main()
