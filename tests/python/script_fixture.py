"""Writes tests/fixtures/script: a small torchvision network as TorchScript, traced and scripted, and what it computes.

    python tests/python/script_fixture.py

A MobileNetV2 of 14,000 parameters learns in seconds which of three colours a noisy picture leans to: it is right
on clear pictures, and small changes break it. It normalises nothing by itself: Hardy is told mean and std."""
import json
import pathlib

import torch
from torchvision.models import MobileNetV2

import formula

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "script"
CLASSES = ["reddish", "greenish", "bluish"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZE = 32


def normalised(images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def pictures(count):
    """Grey noise in which one channel is raised a little."""
    labels = torch.arange(count) % 3
    images = 0.45 + 0.1 * torch.rand(count, 3, SIZE, SIZE)
    images[torch.arange(count), labels] += 0.06
    return images, labels


def trained():
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    settings = [[1, 8, 1, 1], [4, 16, 2, 1]]
    model = MobileNetV2(num_classes=3, width_mult=0.25, inverted_residual_setting=settings, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        images, labels = pictures(48)
        loss = torch.nn.functional.cross_entropy(model(normalised(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


FOLDER.mkdir(parents=True, exist_ok=True)
model = trained()
images, labels = pictures(300)
print("accuracy", (model(normalised(images)).argmax(1) == labels).float().mean().item())
print("parameters", sum(p.numel() for p in model.parameters()))
torch.jit.trace(model, torch.zeros(1, 3, SIZE, SIZE)).save(str(FOLDER / "traced.pt"))
torch.jit.script(model).save(str(FOLDER / "scripted.pt"))
described = {"classes": CLASSES, "input_size": SIZE, "resize": "squash", "mean": MEAN, "std": STD}
(FOLDER / "traced.json").write_text(json.dumps(described) + "\n")

probe = formula.images(SIZE, SIZE).requires_grad_(True)
logits = model(normalised(probe))
torch.nn.functional.cross_entropy(logits, torch.tensor([0])).backward()
answers = {
    "logits": [round(v, 6) for v in logits[0].tolist()],
    "gradient_l1": round(probe.grad.abs().sum().item(), 6),
    "gradient_first": [round(v, 9) for v in probe.grad.flatten()[:8].tolist()],
}
(FOLDER / "expected.json").write_text(json.dumps(answers) + "\n")
