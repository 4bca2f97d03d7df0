"""How many images a second do ours, plain Keras and PyTorch train on this machine?

    python benchmarks/training_throughput.py

Three networks at batch 128; every peer trains the same layers with Adam on the same images, shuffled anew each epoch
and not augmented. Each has a process of its own, which waits until it is its turn and then trains one epoch: a round is
an epoch of every peer, one right after the other in an order that is drawn, so that a slow minute of the machine hits
all alike. The first epoch, which compiles, does not count, nor does another one before each that does: the system may
have taken memory from a process that waited. After three rounds only peers go on that have at least 80 % of the best
one's speed: the others cannot be the best any more, and more rounds fit into the time. 20 minutes on two cores.

Peers
    ours                     `training.fit`: bfloat16 where the CPU has it, fused batch normalisation, steps in blocks
    keras_float32            `model.compile` and `model.fit`, as most people write it
    keras_bfloat16           the same with Keras's global policy "mixed_bfloat16"
    keras_bfloat16_steps     that with `steps_per_execution` as large as ours
    torch_float32            PyTorch eager, `channels_last`
    torch_bfloat16           the same under `torch.autocast`
    torch_*_compiled         the same two with `torch.compile`, where there is a C++ compiler for it

The best peer of a network is the one with the highest median. ``NETWORK_vs_best_peer`` is the median over the rounds of
our speed by that peer's in the same round, ``_low`` and ``_high`` a 95 % bootstrap interval of it. Writes
results/bench_training_throughput.json: the headline is of the machine that the record names, the table keeps what was
measured on other processors before.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import random
import subprocess
import sys
import time
from statistics import median

from fashion_mnist import records

NETWORKS = {  # arguments, images of an epoch
    "cnn": ({"f1": 32, "f2": 64, "kernel": 3, "dense": 64}, 8_192),
    "mini_resnet": ({"blocks": 3, "filters": 64}, 1_536),
    "deep_cnn": ({}, 1_536),
}
PEERS = (
    *("ours", "keras_float32", "keras_bfloat16", "keras_bfloat16_steps", "torch_float32", "torch_bfloat16"),
    *("torch_float32_compiled", "torch_bfloat16_compiled"),
)
BATCH = 128


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--smoke", action="store_true", help="one round of tiny epochs; writes to build/smoke/")
    parser.add_argument("--train", nargs=3, metavar=("PEER", "NETWORK", "IMAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        peer, network, images = options.train
        train(peer, network, int(images))
        return 0
    if importlib.util.find_spec("torch") is None:
        raise SystemExit('Half of the peers are PyTorch\'s: pip install -e ".[bench]"')

    from fashion_mnist import study

    run = study.start("bench_training_throughput", "smoke" if options.smoke else "full")
    check_networks()
    headline, table = {}, []
    for network, (_, images) in NETWORKS.items():
        rates = race(network, 2 * BATCH if options.smoke else images, 1 if options.smoke else options.rounds)
        full = [peer for peer, values in rates.items() if peer != "ours" and len(values) == len(rates["ours"])]
        best = max(full, key=lambda peer: median(rates[peer]))
        ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates[best], strict=True)]
        headline[f"{network}_vs_best_peer"] = round(median(ratios), 3)
        headline[f"{network}_vs_best_peer_low"], headline[f"{network}_vs_best_peer_high"] = interval(ratios)
        headline[f"{network}_images_per_second"] = round(median(rates["ours"]), 1)
        for peer, values in rates.items():
            row = {"processor": processor(), "network": network, "peer": peer, "best_peer": peer == best}
            row |= {"rounds": len(values), "images_per_second": round(median(values), 1)}
            ends = ("", "_low", "_high") if peer == best else ()
            table.append(row | {f"ratio{end}": headline[f"{network}_vs_best_peer{end}"] for end in ends})
            print(f"{network:12} {peer:24} {median(values):8,.0f} images/s{' the best peer' if peer == best else ''}")
    print("\n".join(f"{key:32} {value:,.3f}" for key, value in headline.items()))
    kept = run.shipped.get("tables", {}).get("throughput", ())
    others = [row for row in kept if row.get("processor", processor()) != processor()]
    table = sorted([*others, *table], key=lambda row: row["processor"])
    run.save_result(headline, {"throughput": table}, readme=readme(table))
    return 0


def processor() -> str:
    """The kind of this machine's processor, by what it computes in."""
    machine = records.machine()
    formats = [name for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")) if flag in machine["flags"]]
    return f"{machine['cpu'].replace('(R)', '').removesuffix(' Processor')} with {[*formats, 'float32 only'][0]}"


def readme(table: list[dict]) -> str:
    """Images a second of ours and of the best peer, and the ratio with its interval, in Markdown."""
    heads = ["Processor", "Network", "Best peer", "Ours is", "Ours", "Its images a second", "Ours / best peer (95 %)"]
    rows = []
    ours = {(row["processor"], row["network"]): row["images_per_second"] for row in table if row["peer"] == "ours"}
    for row in (row for row in table if row["best_peer"]):
        low, high = row["ratio_low"], row["ratio_high"]
        rows.append(
            [
                row["processor"],
                f"`{row['network']}`",
                row["peer"].replace("_", ", "),
                "faster" if low > 1 else "slower" if high < 1 else "no difference shown",
                f"{ours[row['processor'], row['network']]:,.0f}",
                f"{row['images_per_second']:,.0f}",
                f"{row['ratio']:.3f} ({low:.3f} to {high:.3f})",
            ]
        )
    return records.table(heads, rows, left=4)


def race(network: str, images: int, rounds: int) -> dict[str, list[float]]:
    """Images a second of every peer in every round; a peer that `torch.compile` cannot make is left out."""
    command = [sys.executable, __file__, "--train"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    racers, rates = {}, {}
    try:
        for peer in PEERS:  # each is alone while it starts
            racers[peer] = subprocess.Popen([*command, peer, network, str(images)], **pipes, env=quiet)
            try:
                epoch(racers[peer])
                rates[peer] = []
            except RuntimeError:
                if not peer.endswith("compiled"):
                    raise
                print(f"{peer} does not run here; its error stands above.", file=sys.stderr)
        for turn in range(rounds):
            peers = going_on(rates)
            for peer in random.Random(turn).sample(peers, len(peers)):
                epoch(racers[peer])
                rates[peer].append(epoch(racers[peer]))
                print(f"{turn + 1} {network:12} {peer:24} {rates[peer][-1]:8,.0f}", file=sys.stderr)
    finally:
        for racer in racers.values():
            racer.kill()
            racer.communicate()
    return rates


def going_on(rates: dict[str, list[float]]) -> list[str]:
    """Who races on: everybody for three rounds, then ours and those that can still be the best peer."""
    if len(rates["ours"]) < 3:
        return list(rates)
    best = max(median(values[:3]) for peer, values in rates.items() if peer != "ours")
    return [peer for peer, values in rates.items() if peer == "ours" or median(values[:3]) >= 0.8 * best]


def epoch(racer: subprocess.Popen) -> float:
    """Let a process train an epoch; its images a second."""
    try:
        racer.stdin.write("go\n")
        racer.stdin.flush()
        return float(racer.stdout.readline())
    except (OSError, ValueError):
        raise RuntimeError(f"{' '.join(racer.args[-3:-1])} has failed; its error stands above.") from None


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median."""
    draw = random.Random(0)
    medians = sorted(median(draw.choices(ratios, k=len(ratios))) for _ in range(10_000))
    return round(medians[250], 3), round(medians[-251], 3)


def check_networks() -> None:
    """Stop if a network of PyTorch's has not as many trainable parameters as ours."""
    from fashion_mnist import models

    for network, (arguments, _) in NETWORKS.items():
        ours = sum(math.prod(weight.shape) for weight in models.build(network, **arguments).trainable_weights)
        theirs = sum(weight.numel() for weight in torch_network(network).parameters())
        if ours != theirs:
            raise SystemExit(f"{network} has {ours:,} trainable parameters here and {theirs:,} in PyTorch.")


def train(peer: str, network: str, count: int) -> None:
    """Train an epoch for every line on standard input; answer each with images a second."""
    import numpy as np

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8), rng.integers(0, 10, count)
    if peer == "ours":
        train_ours(network, images, labels)
    elif peer.startswith("keras"):
        train_keras(network, images, labels, bfloat16="bfloat16" in peer, blocks=peer.endswith("steps"))
    else:
        train_torch(network, images, labels, bfloat16="bfloat16" in peer, compiled=peer.endswith("compiled"))


def train_ours(network, images, labels) -> None:
    from fashion_mnist import models, training

    model = models.build(network, **NETWORKS[network][0])
    recipe = training.Recipe(epochs=1_000, batch_size=BATCH)
    few = images[:32], labels[:32]
    training.fit(model, (images, labels), few, recipe, callbacks=[turns(len(images))], progress=False)


def train_keras(network, images, labels, bfloat16, blocks) -> None:
    from fashion_mnist import models, training
    from fashion_mnist._backend import keras

    keras.config.set_dtype_policy("mixed_bfloat16" if bfloat16 else "float32")
    model = models.build(network, **NETWORKS[network][0])
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=training.STEPS if blocks else 1,
    )
    model.fit(images, labels, batch_size=BATCH, epochs=1_000, verbose=0, callbacks=[turns(len(images))])


def turns(images: int):
    """Callback that waits for its turn before an epoch and tells its speed after; validation is not part of it."""
    from fashion_mnist._backend import keras

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            sys.stdin.readline()
            self.began = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.ended = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            print(images / (self.ended - self.began), flush=True)

    return Turns()


def train_torch(network, images, labels, bfloat16, compiled) -> None:
    import torch

    model = torch_network(network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, foreach=True)
    criterion = torch.nn.CrossEntropyLoss()
    forward = torch.compile(model) if compiled else model
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)  # (n, 1, 28, 28) in memory as channels_last
    targets = torch.from_numpy(labels)
    while sys.stdin.readline():
        began = time.perf_counter()
        for chosen in torch.randperm(len(pixels)).split(BATCH):
            inputs = (pixels[chosen].float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                loss = criterion(forward(inputs), targets[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        print(len(pixels) / (time.perf_counter() - began), flush=True)


def torch_network(network: str):
    """The same layers in PyTorch; `check_networks` compares the parameter counts."""
    from torch import nn

    def conv(inputs, outputs, bias):
        return nn.Conv2d(inputs, outputs, 3, padding="same", bias=bias)

    def conv_bn(inputs, outputs):
        return nn.Sequential(conv(inputs, outputs, False), nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU())

    if network == "cnn":
        return nn.Sequential(
            *(conv(1, 32, True), nn.ReLU(), nn.MaxPool2d(2)),
            *(conv(32, 64, True), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
        )
    if network == "deep_cnn":
        layers, width = [], 1
        for stage, wider in enumerate((64, 128, 256)):
            layers += [conv_bn(width, wider), conv_bn(wider, wider)]
            layers += [nn.MaxPool2d(2) if stage < 2 else nn.AdaptiveAvgPool2d(1), nn.Dropout((0.25, 0.3, 0.4)[stage])]
            width = wider
        dense = [nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256, eps=1e-3), nn.ReLU(), nn.Dropout(0.4)]
        return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(256, 10))

    class Block(nn.Module):
        def __init__(self, filters):
            super().__init__()
            self.body = nn.Sequential(conv(filters, filters, True), nn.ReLU(), conv(filters, filters, True))

        def forward(self, x):
            return nn.functional.relu(self.body(x) + x)

    blocks = [Block(64) for _ in range(3)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(conv(1, 64, True), nn.ReLU(), *blocks, *head)


if __name__ == "__main__":
    raise SystemExit(main())
