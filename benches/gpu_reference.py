"""What PyTorch does of the same: images/s of FGSM and of N-FGSM training, timm's network, channels-last, eager.

    python benches/gpu_reference.py SIDE BATCH,BATCH,... [DEVICE]
"""
import json
import sys
import time

import timm
import torch
import torch.nn.functional as F

EPSILON, STEPS = 4 / 255, 10
side, batches = int(sys.argv[1]), [int(batch) for batch in sys.argv[2].split(",")]
device = sys.argv[3] if len(sys.argv) > 3 else "cuda"


def rate(work, batch):
    for _ in range(STEPS):
        work()
    torch.cuda.synchronize() if device == "cuda" else None
    start = time.perf_counter()
    for _ in range(STEPS):
        work()
    torch.cuda.synchronize() if device == "cuda" else None
    return STEPS * batch / (time.perf_counter() - start)


for precision in ("fp32", "bf16"):
    for batch in batches:
        # In eval mode, as robust fine-tuning of the folded network is: BatchNorm's statistics stay.
        network = timm.create_model("tf_efficientnet_lite0").eval().to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6, fused=device == "cuda")
        images = torch.rand(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
        labels = torch.arange(batch, device=device) % 5

        def loss(x):
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                return F.cross_entropy(network((x - 127 / 255) / (128 / 255)).float(), labels)

        def attack(start):
            for parameter in network.parameters():
                parameter.requires_grad_(False)
            x = start.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(x), x)
            for parameter in network.parameters():
                parameter.requires_grad_(True)
            return (x + EPSILON * gradient.sign()).detach().clamp(0, 1)

        def train():
            noise = (torch.rand_like(images) * 2 - 1) * 2 * EPSILON
            adversarial = attack(images + noise)
            optimizer.zero_grad(set_to_none=True)
            loss(adversarial).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

        row = {"batch": batch, "precision": precision, "fgsm": rate(lambda: attack(images), batch)}
        print(json.dumps(row | {"n_fgsm_training": rate(train, batch)}), flush=True)
