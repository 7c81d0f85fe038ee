"""Writes the small parity fixtures of cellforge-gan, cellforge-classify and cellforge-train: narrow networks, side 32, computed by PyTorch.

    python3 -m venv target/torch
    target/torch/bin/pip install -r benches/torch/requirements.txt
    target/torch/bin/python benches/torch/parity.py

A file of one of the study's networks holds, with dropout off, computed in double precision and rounded to float32:

    param/NAME       every parameter and batch-norm statistic before the pass, under its state_dict name
    input            noise (b, latent) or images (b, 3, 32, 32)
    eval_output      the output in inference mode
    train_output     the output in training mode
    upstream         the gradient fed to train_output
    input_grad       the gradient with respect to the input, from the training-mode pass
    grad_norm/NAME   the L2 norm of each parameter's gradient
    grad_head/NAME   its first 64 values in row-major order
    stat_after/NAME  the running statistics after that pass

The file's `config` metadata is the JSON of the Rust configuration that builds the same network. `best_iteration` says what is in best.safetensors.
"""

import copy
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import best
import study

SIDE, CHANNELS, BATCH = 32, 3, 3
CRATES = Path(__file__).resolve().parents[2] / "crates"


def narrow(filters, width):
    """The filter rule of the Rust configurations: scaled, rounded half up, at least 8."""
    return [max(8, math.floor(f * width + 0.5)) for f in filters]


def one_pass(net, xs, upstream):
    """Everything that one inference pass and one training pass of `net` produce, by its name in the file."""
    out = {f"param/{k}": v.clone() for k, v in net.state_dict().items() if v.is_floating_point()}
    xs.requires_grad_(True)
    with torch.no_grad():
        out["eval_output"] = net.eval()(xs)
    ys = net.train()(xs)
    ys.backward(upstream)
    out |= {"input": xs, "train_output": ys, "upstream": upstream, "input_grad": xs.grad}
    for name, param in net.named_parameters():
        out[f"grad_norm/{name}"] = param.grad.norm()
        out[f"grad_head/{name}"] = param.grad.flatten()[:64]
    for name, value in net.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            out[f"stat_after/{name}"] = value
    return {k: v.detach().clone().contiguous() for k, v in out.items()}


def rounding(single, double):
    """The largest relative difference between the two precisions' gradients.

    A bias in front of batch norm has no effect and a gradient of zero but for rounding, hence the floor.
    """
    worst = 0.0
    for name, exact in double.items():
        if not name.startswith(("input_grad", "grad_")):
            continue
        scale = max(exact.abs().max().item(), 1e-30)
        if name.endswith("bias"):
            scale = max(scale, 1e-2 * double["grad_norm/" + name.split("/")[1][:-4] + "weight"].item())
        worst = max(worst, (single[name].double() - exact).abs().max().item() / scale)
    return worst


def write(path, make, images, config):
    """Saves what a network from `make` computes in double precision for an input from `images`, rounded to float32.

    A ReLU whose input is within rounding of zero has two gradients, and which of them a program takes says nothing
    about its being right. So networks are drawn until single and double precision agree about every gradient.
    """
    for seed in range(100):
        torch.manual_seed(seed)
        net = make()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                # Away from the defaults, so that a swapped or forgotten statistic shows.
                nn.init.normal_(module.weight, 1.0, 0.1)
                nn.init.normal_(module.bias, 0.0, 0.5)
                nn.init.normal_(module.running_mean, 0.0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        xs = images()
        upstream = torch.randn_like(net.eval()(xs))
        double = one_pass(copy.deepcopy(net).double(), xs.double(), upstream.double())
        worst = rounding(one_pass(net, xs, upstream), double)
        if worst < 2e-5:
            break
    else:
        raise SystemExit(f"{path.name}: no seed whose gradients are well conditioned")
    save_file({k: v.float() for k, v in double.items()}, path, metadata={"config": json.dumps(config)})
    print(path.name, path.stat().st_size, "bytes, seed", seed, f"rounding {worst:.1e}")


def images():
    return torch.rand(BATCH, CHANNELS, SIDE, SIDE) * 2 - 1


# The noise that `GanStep` draws for a batch of three at seed 0 in iteration 8, four numbers an image. A test holds them to what it draws.
NOISE = [
    [-1.329735, 1.40494, 1.6142563, 0.9572175],
    [-0.124352895, -0.8354581, -0.047051255, -0.18049166],
    [-2.053357, 0.91249025, -0.012599202, -0.71791154],
]
# Of which class each image is.
LABELS = [0, 1, 1]
# The narrow networks of `best`, and its rate: ten times the recipe's, so that updates show beside the weights.
NARROW = {"latent": 4, "generator_filters": [8, 8, 8], "discriminator_filters": [8, 8, 12, 8], "lr": 2e-3}


def best_iteration(dtype, layout):
    """What `best` computes in its eighth iteration, by its name in the file, with the seed of now.

        g/NAME, d/NAME             the parameters of generator and discriminator before it
        real, labels, noise        its images (b, 3, 32, 32), their classes (b), and its noise (b, 4)
        images                     what the generator makes of the noise
        logits_real, logits_fake   the discriminator's answers (b, 1) before its update
        input_grad                 the gradient of each logit by its real image
        loss/NAME                  the losses of both networks, and the penalty
        grad_norm/..., grad_head/...   the L2 norm of each gradient, and its first 64 values; the penalty is in them
        after_head/...             the first 64 values of each parameter after the iteration
        average_head/g.NAME        the same of the average of the generator's weights
    """
    filters = NARROW["generator_filters"], NARROW["discriminator_filters"]
    generator = best.Generator(filters[0], NARROW["latent"])
    discriminator = best.Discriminator(filters[1])
    for net in (generator, discriminator):
        for name, param in net.named_parameters():
            # Away from where they start, so that one that is left out shows.
            if name.endswith("bias"):
                param.data += 0.2 * torch.randn_like(param)
    real = images()
    out = {f"{of}/{name}": value.clone() for of, net in (("g", generator), ("d", discriminator)) for name, value in net.state_dict().items()}
    labels, noise = torch.tensor(LABELS), torch.tensor(NOISE)
    out |= {"real": real, "labels": labels, "noise": noise}

    for net in (generator, discriminator):
        net.to(dtype, memory_format=layout).memory_format = layout
    gan = best.Gan(generator, discriminator, lr=NARROW["lr"])
    real, zs, classes = real.to(dtype), noise.to(dtype), nn.functional.one_hot(labels).to(dtype)
    made = generator(zs, classes).detach()
    real.requires_grad_(True)
    logits = discriminator(real, classes)
    (input_grad,) = torch.autograd.grad(logits.sum(), real)
    out |= {"images": made, "logits_real": logits, "logits_fake": discriminator(made, classes), "input_grad": input_grad}
    out |= {f"loss/{name}": loss for name, loss in gan.step(real.detach(), classes, zs, best.PENALTY_EVERY).items()}
    for of, net in (("g", generator), ("d", discriminator)):
        for name, param in net.named_parameters():
            out[f"grad_norm/{of}.{name}"] = param.grad.norm()
            out[f"grad_head/{of}.{name}"] = param.grad.flatten()[:64]
            out[f"after_head/{of}.{name}"] = param.flatten()[:64]
    for name, param in gan.average.named_parameters():
        out[f"average_head/g.{name}"] = param.flatten()[:64]
    return {name: value.detach().clone().contiguous() for name, value in out.items()}


def parameters(side):
    """How many parameters generator and discriminator of `best` have at full width."""
    nets = best.Generator(best.up_filters(side)), best.Discriminator(best.down_filters(side))
    return [sum(param.numel() for param in net.parameters()) for net in nets]


def write_best():
    """One iteration of `best`, with a seed at which rounding and the order of sums change nothing by more than 2e-5."""
    path = CRATES / "cellforge-train" / "tests" / "fixtures" / "best.safetensors"
    for seed in range(100):
        def run(dtype, layout=torch.contiguous_format):
            torch.manual_seed(seed)
            return best_iteration(dtype, layout)

        exact = run(torch.float64)
        rounded = [run(torch.float32), run(torch.float32, torch.channels_last)]
        worst = max(
            ((other[name] - value).abs().max() / value.abs().max().clamp(min=1e-30)).item()
            for other in rounded
            for name, value in exact.items()
        )
        if worst < 2e-5:
            break
    else:
        raise SystemExit(f"{path.name}: no seed whose gradients are well conditioned")
    metadata = {"narrow": json.dumps(NARROW), "parameters": json.dumps({side: parameters(side) for side in (64, 128, 256)})}
    save_file({name: value.float() for name, value in exact.items()}, path, metadata=metadata)
    print(path.name, path.stat().st_size, "bytes, seed", seed, f"rounding {worst:.1e}")


# Parameters of the study's networks, as Keras counted them.
PUBLISHED = {"generator": 2_043_011, "discriminator": 1_613_889, "resnet": 2_164_174, "cnn": 176_290}


def write_study():
    """The study's networks, an eighth to a quarter as wide."""
    for name, make in study.full_width().items():
        assert study.keras_count(make()) == PUBLISHED[name], name
    gan, classify = (CRATES / name / "tests" / "fixtures" for name in ("cellforge-gan", "cellforge-classify"))

    config = {"image_size": SIDE, "latent": 16, "width": 0.125}
    start, *ups = narrow([study.UP_FILTERS[0], *study.up_filters(SIDE)[1]], 0.125)
    downs = narrow(study.DOWN_FILTERS, 0.125)
    write(gan / "generator.safetensors", lambda: study.Generator(16, start, ups), lambda: torch.randn(BATCH, 16), config)
    write(gan / "discriminator.safetensors", lambda: study.Discriminator(downs, SIDE, dropout=0.0), images, config)

    config = {"kind": "cnn", "image_size": SIDE, "width": 0.25, "classes": 3}
    filters, (dense,) = narrow([32, 32, 64], 0.25), narrow([64], 0.25)
    write(classify / "cnn.safetensors", lambda: study.small_cnn(filters, dense, 3, SIDE), images, config)
    config = {"kind": "resnet", "image_size": SIDE, "width": 0.125, "stages": [2, 3, 2]}
    filters = narrow([64, 128, 256, 512], 0.125)
    write(classify / "resnet.safetensors", lambda: study.ResNet([2, 3, 2], filters, 2), images, config)


def main():
    write_study()
    write_best()


if __name__ == "__main__":
    main()
