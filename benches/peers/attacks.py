"""Hardy's attacks beside those of other projects: the same model, the same images, in turn within one run.

  pip install -r benches/peers/requirements-attacks.txt
  cargo bench --bench attacks --no-run          # says where the executable lies
  python benches/peers/attacks.py target/release/deps/attacks-… RUN/model RUN/images/val --attacks fgsm,pgd20 \\
      --epsilon 4/255 [--count 100] [--batch 32] [--threads 1] [--seed 1] [--repeat 3] \\
      [--peers torchattacks,autoattack,art]

RUN is the folder of a job with evaluate.keep_images = true; RUN/baseline is its undefended model. Each side attacks
the images that the model gets right, in the same batches, on as many threads; each attack goes over all of them by
itself, except AutoAttack, which is a series. Times are wall-clock without loading, from the images to the class that
the model sees in each in the end, the median of the repeats; a query is an image that the network looks at, and the
last column compares the time for a query. `channels-last` is torchattacks on a model and images in that layout.
`passed` are the images that the peer gives back unbroken although one of its steps had broken them: its own count less
these is what stands every one of its steps, which is how Hardy counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file


class Classifier(torch.nn.Module):
    """An exported model, images in [0, 1] to logits."""

    def __init__(self, folder, layout):
        super().__init__()
        spec = json.loads((folder / "model.json").read_text())
        self.classes, self.side, self.queries = len(spec["classes"]), spec["input_size"], 0
        self.layout, self.labels = layout, None
        self.body = timm.create_model(spec["architecture"], num_classes=self.classes)
        self.body.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        self.body = self.body.to(memory_format=layout)
        for name in ["mean", "std"]:
            self.register_buffer(name, torch.tensor(spec[name]).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images):
        self.queries += len(images)
        logits = self.body((images - self.mean) / self.std)
        if self.labels is not None and len(images) == len(self.labels):
            self.broken |= logits.detach().argmax(1) != self.labels
        return logits

    def watch(self, labels):
        """From now on `broken` says which images of a batch with these labels were ever misclassified."""
        self.labels, self.broken = labels, torch.zeros(len(labels), dtype=torch.bool)


def pictures(folder, images):
    arrays = [np.asarray(Image.open(folder / f"{image['key']}.png").convert("RGB")) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div(255).contiguous()


def counts(name, family, default):
    """The counts in a name: pgd20x3 is (20, 3)."""
    found = [int(part) for part in name.removeprefix(family).removeprefix("-").split("x") if part]
    return found + list(default[len(found) :])


def torchattacks_peer(model, name, epsilon, _seed):
    import torchattacks

    attack = None
    if name == "fgsm":
        attack = torchattacks.FGSM(model, eps=epsilon)
    elif name.startswith("pgd"):
        steps, restarts = counts(name, "pgd", [20, 1])
        if restarts == 1:
            attack = torchattacks.PGD(model, eps=epsilon, alpha=2.5 * epsilon / steps, steps=steps, random_start=True)
    elif name.startswith("bim"):
        steps = counts(name, "bim", [10])[0]
        attack = torchattacks.BIM(model, eps=epsilon, alpha=epsilon / steps, steps=steps)
    elif name.startswith("one-pixel"):
        pixels, generations = counts(name, "one-pixel", [1, 100])
        attack = torchattacks.OnePixel(model, pixels=pixels, steps=generations, popsize=400, inf_batch=128)
    if attack:
        attack.set_model_training_mode(model_training=False)
    return attack


def authors_peer(model, name, epsilon, seed):
    """AutoAttack's attacks, towards as many classes as there are, and no more than 9."""
    from pyautoattack import AutoAttack

    names = ["autoattack", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square"]
    if name not in names:
        return None
    attack = AutoAttack(model, norm="Linf", eps=epsilon, version="standard", seed=seed, device="cpu")
    attack.verbose = False
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(model.classes - 1, 9)
    if name != "autoattack":
        attack.attacks_to_run = [name]
    return lambda x, y: attack.run_standard_evaluation(x, y, batch_size=len(x))[0]


def art_peer(model, name, epsilon, _seed):
    from art.attacks.evasion import FastGradientMethod, PixelAttack, ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), (3, model.side, model.side), model.classes, clip_values=(0.0, 1.0),
        device_type="cpu",
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


PEERS = {
    "torchattacks": (torchattacks_peer, torch.contiguous_format),
    "channels-last": (torchattacks_peer, torch.channels_last),
    "autoattack": (authors_peer, torch.contiguous_format),
    "art": (art_peer, torch.contiguous_format),
}


def hardy(options, name):
    """What Hardy's executable finds: the images, and the attack's classes, seconds and queries."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "hardy.json"
        more = [options.epsilon, name, options.count, options.batch, options.threads, options.seed]
        command = [options.bench, options.model, options.images, out, *more]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(out.read_text())
    return found, found["attacks"][0]


def measure(model, attack, images, labels, batch):
    """The class that each image ends in, whether it was ever misclassified, the attack's seconds and queries."""
    predicted, broken, seconds, before = [], [], 0.0, model.queries
    for start in range(0, len(images), batch):
        x = images[start : start + batch].clone(memory_format=model.layout)
        model.watch(labels[start : start + batch])
        began = time.perf_counter()
        adversarial = attack(x, labels[start : start + batch])
        with torch.no_grad():
            predicted += model(adversarial.detach()).argmax(1).tolist()
        seconds += time.perf_counter() - began
        broken += model.broken.tolist()
    return np.array(predicted), np.array(broken), seconds, model.queries - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--attacks", required=True)
    parser.add_argument("--epsilon", default="4/255")
    parser.add_argument("--count", type=int, default=0, help="images, of each class in turn; 0 is all")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the random starts, on either side")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--peers", default="torchattacks,channels-last,autoattack")
    options = parser.parse_args()
    wanted = options.peers.split(",")

    torch.set_num_threads(options.threads)
    models = {peer: Classifier(options.model, PEERS[peer][1]) for peer in wanted}
    print(f"{options.model}, batches of {options.batch}, {options.threads} thread(s), median of {options.repeat}")
    head = ["attack", "epsilon", "peer", "n", "robust", "peer", "differ", "passed", "s", "peer", "ratio", "queries"]
    head += ["peer", "a query"]
    form = "{:<14} {:>7} {:<13} {:>4} {:>6} {:>5} {:>6} {:>6} {:>8} {:>8} {:>6} {:>9} {:>9} {:>7}"
    print(form.format(*head), flush=True)
    for name in options.attacks.split(","):
        theirs, ours = {}, []
        for _ in range(options.repeat):
            found, attacked = hardy(options, name)
            ours.append(attacked["seconds"])
            labels = np.array([image["label"] for image in found["images"]])
            right = np.array([image["clean"] for image in found["images"]]) == labels
            images, truth = pictures(options.images, found["images"])[right], torch.from_numpy(labels[right])
            for peer in wanted:
                torch.manual_seed(options.seed)
                attack = PEERS[peer][0](models[peer], name, found["epsilon"], options.seed)
                if attack:
                    theirs.setdefault(peer, []).append(measure(models[peer], attack, images, truth, options.batch))
        stands = (np.array(attacked["predicted"]) == labels)[right]
        for peer, runs in theirs.items():
            predicted, broken, _, queries = runs[-1]
            other = predicted == labels[right]
            ratio = statistics.median(run[2] / own for run, own in zip(runs, ours))
            a_query = ratio * attacked["queries"] / max(queries, 1)
            cells = [name, options.epsilon, peer, int(right.sum()), int(stands.sum()), int(other.sum())]
            cells += [int((stands != other).sum()), int((other & broken).sum()), f"{statistics.median(ours):.1f}"]
            cells += [f"{statistics.median(run[2] for run in runs):.1f}", f"{ratio:.2f}"]
            print(form.format(*cells, attacked["queries"], queries, f"{a_query:.2f}"))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
