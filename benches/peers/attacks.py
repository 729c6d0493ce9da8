"""Attacks of other projects on the images and the model that benches/attacks.rs attacked, beside its figures.

  cargo bench --bench attacks -- RUN/model RUN/images/val hardy.json 4/255 fgsm,pgd20,apgd-ce,apgd-t,fab-t,square 100
  pip install -r benches/peers/requirements-attacks.txt
  python benches/peers/attacks.py hardy.json RUN/model RUN/images/val [--channels-last] [--only fgsm,pgd20] [--art]

hardy.json holds `epsilon`, `batch`, `threads`, `images`: [{key, label, clean}], and `attacks`: [{attack, seconds,
predicted}] with a class for each image, that of the clean image where it was misclassified to begin with. Both
sides attack the images that the model gets right, in the same batches, on as many threads; each attack goes over
all of them by itself, except AutoAttack, which is a series. Times are wall-clock and leave out loading.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file


class Classifier(torch.nn.Module):
    """An exported model, images in [0, 1] to logits."""

    def __init__(self, folder, channels_last):
        super().__init__()
        spec = json.loads((folder / "model.json").read_text())
        self.classes = len(spec["classes"])
        self.body = timm.create_model(spec["architecture"], num_classes=self.classes)
        self.body.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        self.body = self.body.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        for name in ["mean", "std"]:
            self.register_buffer(name, torch.tensor(spec[name]).view(1, 3, 1, 1))

    def forward(self, images):
        return self.body((images - self.mean) / self.std)


def pictures(folder, images):
    arrays = [np.asarray(Image.open(folder / f"{image['key']}.png").convert("RGB")) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div(255).contiguous()


def counts(name, family, default):
    """The counts in a name: pgd20x3 is (20, 3)."""
    found = [int(part) for part in name.removeprefix(family).removeprefix("-").split("x") if part]
    return found + list(default[len(found) :])


def torchattacks_peer(model, name, epsilon):
    import torchattacks

    if name == "fgsm":
        return torchattacks.FGSM(model, eps=epsilon)
    if name.startswith("pgd"):
        steps, restarts = counts(name, "pgd", [20, 1])
        if restarts == 1:
            return torchattacks.PGD(model, eps=epsilon, alpha=2.5 * epsilon / steps, steps=steps, random_start=True)
    if name.startswith("one-pixel"):
        pixels, generations = counts(name, "one-pixel", [1, 100])
        return torchattacks.OnePixel(model, pixels=pixels, steps=generations, popsize=400, inf_batch=128)
    return None


def authors_peer(model, name, epsilon):
    """AutoAttack's attacks, towards as many classes as there are, and no more than 9."""
    from pyautoattack import AutoAttack

    targets = min(model.classes - 1, 9)
    names = {"autoattack": None, "apgd-ce": "apgd-ce", "apgd-dlr": "apgd-dlr"}
    names |= {"apgd-t": "apgd-t", "fab-t": "fab-t", "square": "square"}
    if name not in names:
        return None
    attack = AutoAttack(model, norm="Linf", eps=epsilon, version="standard", seed=1, device="cpu")
    attack.verbose = False
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    if name != "autoattack":
        attack.attacks_to_run = [name]
    return lambda x, y: attack.run_standard_evaluation(x, y, batch_size=len(x))[0]


def art_peer(model, name, epsilon, side):
    from art.attacks.evasion import FastGradientMethod, PixelAttack, ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    loss = torch.nn.CrossEntropyLoss()
    classifier = PyTorchClassifier(
        model, loss, (3, side, side), model.classes, clip_values=(0.0, 1.0), device_type="cpu"
    )
    if name == "fgsm":
        attack = FastGradientMethod(classifier, eps=epsilon, batch_size=1024)
    elif name.startswith("pgd") and counts(name, "pgd", [20, 1])[1] == 1:
        steps = counts(name, "pgd", [20, 1])[0]
        step = 2.5 * epsilon / steps
        attack = ProjectedGradientDescentPyTorch(
            classifier, eps=epsilon, eps_step=step, max_iter=steps, num_random_init=1, batch_size=1024, verbose=False
        )
    elif name.startswith("one-pixel"):
        pixels, generations = counts(name, "one-pixel", [1, 100])
        attack = PixelAttack(classifier, th=pixels, es=1, max_iter=generations)
    else:
        return None
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy())).float()


def measure(model, attack, images, labels, batch, channels_last):
    """The class that each image ends in, and the seconds that its attack took."""
    predicted, seconds = [], 0.0
    for start in range(0, len(images), batch):
        x, y = images[start : start + batch].clone(), labels[start : start + batch]
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        began = time.perf_counter()
        adversarial = attack(x, y)
        seconds += time.perf_counter() - began
        with torch.no_grad():
            predicted += model(adversarial.detach()).argmax(1).tolist()
    return np.array(predicted), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hardy", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--only", help="some of the attacks in the file, with commas between")
    parser.add_argument("--art", action="store_true", help="ART as well")
    options = parser.parse_args()

    hardy = json.loads(options.hardy.read_text())
    torch.set_num_threads(hardy["threads"])
    torch.manual_seed(1)
    model = Classifier(options.model, options.channels_last).eval().requires_grad_(False)
    every = pictures(options.images, hardy["images"])
    with torch.no_grad():
        clean = torch.cat([model(part) for part in every.split(hardy["batch"])]).argmax(1).numpy()
    labels = np.array([image["label"] for image in hardy["images"]])
    differing = int((clean != [image["clean"] for image in hardy["images"]]).sum())
    kept = [i for i, image in enumerate(hardy["images"]) if image["clean"] == image["label"] == clean[i]]
    print(f"{len(labels)} images, {len(kept)} right on both sides, {differing} with another clean class here")
    layout = "channels-last" if options.channels_last else "NCHW"
    print(f"epsilon {hardy['epsilon']:.6f}, batches of {hardy['batch']}, {hardy['threads']} thread(s), {layout}")
    head = ["attack", "peer", "robust: hardy", "peer", "agree", "only hardy", "only peer", "s: hardy", "peer", "ratio"]
    form = "{:<14} {:<12} {:>13} {:>6} {:>6} {:>10} {:>9} {:>9} {:>9} {:>6}"
    print(form.format(*head))

    wanted = options.only.split(",") if options.only else None
    for ours in hardy["attacks"]:
        name = ours["attack"]
        if wanted and name not in wanted:
            continue
        peers = {
            "torchattacks": torchattacks_peer(model, name, hardy["epsilon"]),
            "autoattack": authors_peer(model, name, hardy["epsilon"]),
            "art": art_peer(model, name, hardy["epsilon"], every.shape[-1]) if options.art else None,
        }
        broken = np.array(ours["predicted"])[kept] != labels[kept]
        for peer, attack in peers.items():
            if attack is None:
                continue
            if peer == "torchattacks":
                attack.set_model_training_mode(model_training=False)
            truth = torch.from_numpy(labels[kept])
            found, seconds = measure(model, attack, every[kept], truth, hardy["batch"], options.channels_last)
            theirs = found != labels[kept]
            row = [int((~broken).sum()), int((~theirs).sum()), int((broken == theirs).sum())]
            row += [int((broken & ~theirs).sum()), int((theirs & ~broken).sum())]
            times = [f"{ours['seconds']:.1f}", f"{seconds:.1f}", f"{seconds / max(ours['seconds'], 1e-9):.2f}"]
            print(form.format(name, peer, *row, *times))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
