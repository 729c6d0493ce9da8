"""Compares what hardy and PyTorch say of ImageNet photos, proves an exported model in timm, and writes what PyTorch
says into tests/fixtures/model/imagenet_photos.json.

    python tests/python/imagenet_reference.py HARDY WEIGHTS PHOTOS

HARDY is the program, WEIGHTS efficientnet-lite0-57934424.pth, PHOTOS a folder of photos with labels.tsv
(columns index and file). Both see the largest centred square, resized to 224 pixels (bicubic); timm's usual
preprocessing (shorter side to 256, centre 224) is counted beside it."""
import csv
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

hardy, weights, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
torch.set_num_threads(1)
with open(folder / "labels.tsv") as file:
    labels = {row["file"]: int(row["index"]) for row in csv.DictReader(file, delimiter="\t")}

# Hardy's import, loaded by timm, must be the network that PyTorch gets from the original file.
network, imported = (timm.create_model("tf_efficientnet_lite0").eval() for _ in range(2))
original = torch.load(weights, map_location="cpu", weights_only=True)
network.load_state_dict(dict(zip(network.state_dict(), original.values())), strict=True)
with tempfile.TemporaryDirectory() as scratch:
    out = f"{scratch}/imported.safetensors"
    command = ["weights", "import", weights, "--architecture", "tf_efficientnet_lite0", "--out", out]
    subprocess.run([hardy, *command], check=True, stdout=subprocess.DEVNULL)
    imported.load_state_dict(load_file(out), strict=True)


def square(image):
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((224, 224), Image.BICUBIC, box=(left, top, left + side, top + side))


def usual(image):
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return image.crop((left, top, left + 224, top + 224))


def logits(model, image):
    x = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.no_grad():
        return model(x)[0]


answer = subprocess.run([hardy, "predict", "--model", "imagenet", "--top", "1", "--json", folder], check=True, stdout=subprocess.PIPE)
said = {pathlib.Path(photo["path"]).name: photo["predictions"][0] for photo in json.loads(answer.stdout)["photos"]}
root = pathlib.Path(__file__).parents[2]
names = (root / "src/model/imagenet_classes.txt").read_text().splitlines()
counts = {"photos": len(labels), "hardy right": 0, "pytorch right": 0, "pytorch right, usual crop": 0, "same class": 0}
furthest, reference = 0.0, {}
for file, label in labels.items():
    image = Image.open(folder / file).convert("RGB")
    theirs, best = logits(network, square(image)), said[file]
    assert torch.equal(theirs, logits(imported, square(image))), f"the imported network differs on {file}"
    first = int(theirs.argmax())
    counts["hardy right"] += best["class"] == names[label]
    counts["pytorch right"] += first == label
    counts["pytorch right, usual crop"] += int(logits(network, usual(image)).argmax()) == label
    counts["same class"] += best["class"] == names[first]
    furthest = max(furthest, abs(best["confidence"] - float(theirs.softmax(0).max())))
    reference[file] = first
text = json.dumps(reference).replace(", ", ",\n")
(root / "tests/fixtures/model/imagenet_photos.json").write_text(text + "\n")
print(json.dumps(counts | {"largest difference of confidence": round(furthest, 4)}))
