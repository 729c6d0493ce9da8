"""Proves that a run's model says the same in timm as in hardy, on the very pictures that the run measured.

    python tests/python/timm_predictions.py HARDY RUN

HARDY is the program, RUN a finished run with evaluate.keep_images = true. Prints the pictures, those that both see
alike, the largest difference of a confidence and of a logit (up to what is common to all of an image, which confidences do
not tell), and how many are right beside report.json's clean figure. Exits with 1 where anything differs, logits by more
than 1e-4."""
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

hardy, run = sys.argv[1], pathlib.Path(sys.argv[2])
spec = json.loads((run / "model/model.json").read_text())
classes = spec["classes"]
network = timm.create_model(spec["architecture"], num_classes=len(classes)).eval()
network.load_state_dict(load_file(run / "model/model.safetensors"), strict=True)
mean, std = (torch.tensor(spec[name]).view(3, 1, 1) for name in ("mean", "std"))


def confidence(path):
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 255
    assert pixels.shape[1:] == (spec["input_size"],) * 2, path
    with torch.no_grad():
        return network(((pixels - mean) / std).unsqueeze(0))[0].double().softmax(0).tolist()


command = [hardy, "predict", "--model", run / "model", "--top", str(len(classes)), "--json", run / "images"]
answers = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
said = {photo["path"]: {p["class"]: p["confidence"] for p in photo["predictions"]} for photo in answers["photos"]}
pictures = sorted(run.glob("images/*/*/*.png"))
alike = right = 0
furthest = apart = 0.0
for path in pictures:
    theirs, ours = dict(zip(classes, confidence(path))), said[str(path)]
    best = max(theirs, key=theirs.get)
    alike += best == max(ours, key=ours.get)
    right += best == path.parent.name
    furthest = max(furthest, *(abs(theirs[name] - ours[name]) for name in classes))
    logits = [math.log(theirs[name]) - math.log(ours[name]) for name in classes]
    apart = max(apart, max(logits) - min(logits))

results = json.loads((run / "report.json").read_text())["results"]
(reported,) = (r["correct"] for r in results if (r["model"], r["attack"]) == ("trained", "clean"))
counts = {"pictures": len(pictures), "alike": alike, "right in timm": right, "right in report.json": reported}
print(json.dumps(counts | {"largest difference of confidence": furthest, "of a logit": apart}))
sys.exit(not pictures or alike != len(pictures) or right != reported or apart > 1e-4)
