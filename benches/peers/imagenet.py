"""The share of ImageNet photos that PGD-10 at 2/255 breaks: Hardy's beside torchattacks'.

  pip install -r benches/peers/requirements-attacks.txt
  python benches/peers/imagenet.py HARDY WEIGHTS PHOTOS

HARDY is the program, WEIGHTS efficientnet-lite0-57934424.pth, PHOTOS a folder of photos with labels.tsv (columns index
and file). Both sides see the largest centred square at 224 pixels and attack what they classify correctly; Hardy's
count is of float images, and of those that are still broken once they are saved with 8 bits.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torchattacks
from PIL import Image

hardy, weights, photos = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), Path(sys.argv[3])
epsilon, steps = 2 / 255, 10
with open(photos / "labels.tsv") as file:
    labels = {row["file"]: int(row["index"]) for row in csv.DictReader(file, delimiter="\t")}
names = (Path(__file__).parents[2] / "src/model/imagenet_classes.txt").read_text().splitlines()

with tempfile.TemporaryDirectory() as scratch:
    for file, label in labels.items():
        folder = Path(scratch) / "photos" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).symlink_to((photos / file).resolve())
    out = Path(scratch) / "out"
    command = ["attack", Path(scratch) / "photos", "--model", "imagenet", "--out", out]
    subprocess.run([hardy, *command, "--method", f"pgd{steps}", "--epsilon", "2/255", "-q"], check=True)
    summary = json.loads((out / "attack.json").read_text())


class Network(torch.nn.Module):
    """Images in [0, 1] to logits."""

    def __init__(self):
        super().__init__()
        self.body = timm.create_model("tf_efficientnet_lite0")
        original = torch.load(weights, map_location="cpu", weights_only=True)
        self.body.load_state_dict(dict(zip(self.body.state_dict(), original.values())), strict=True)

    def forward(self, images):
        return self.body((images * 255 - 127) / 128)


def square(file):
    image = Image.open(photos / file).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return np.array(image.resize((224, 224), Image.BICUBIC, box=(left, top, left + side, top + side)))


torch.manual_seed(1)
network = Network().eval().requires_grad_(False)
images = torch.from_numpy(np.stack([square(file) for file in labels])).permute(0, 3, 1, 2).float() / 255
truth = torch.tensor(list(labels.values()))
right = network(images).argmax(1) == truth
attack = torchattacks.PGD(network, eps=epsilon, alpha=2.5 * epsilon / steps, steps=steps, random_start=True)
attack.set_model_training_mode(model_training=False)
attacked = attack(images[right], truth[right])
broken = int((network(attacked).argmax(1) != truth[right]).sum())
levels = (attacked * 255).round()
saved = int((network(levels / 255).argmax(1) != truth[right]).sum())
print(f"torchattacks: {int(right.sum())} of {len(labels)} right, {broken} of them broken, {saved} with 8 bits")
budget = summary["budgets"][0]
print(f"hardy:        {summary['n'] - summary['misclassified']} of {summary['n']} right, {json.dumps(budget)}")
