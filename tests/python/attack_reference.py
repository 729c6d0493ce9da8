"""Prints the reference values in src/attack/tests.rs, by PyTorch: FGSM and PGD on a network given by a formula."""
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
N, C, H, W, K, HIDDEN = 3, 3, 4, 4, 4, 6


def wave(*shape, a, b):
    return torch.sin(a * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + b).reshape(shape)


images = 0.5 + 0.5 * wave(N, C, H, W, a=0.37, b=0.1)
labels = torch.tensor([0, 2, 1])
first, second = wave(C * H * W, HIDDEN, a=0.9, b=0.3), wave(HIDDEN, K, a=1.7, b=0.5)


def gradient(x):
    x = x.clone().requires_grad_(True)
    logits = torch.tanh(x.flatten(1) @ first / 2) @ second
    return torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), x)[0]


def show(name, x):
    weights = wave(N, C, H, W, a=0.11, b=0.2)
    print(name, [round(v, 9) for v in ((x - images) * weights).flatten(1).sum(1).tolist()], round(gradient(x).abs().sum().item(), 9))


epsilon = 0.03
show("gradient", images)
show("fgsm", (images + epsilon * gradient(images).sign()).clamp(0, 1))
x = images.clone()
for _ in range(7):
    x = x + 2.5 * epsilon / 7 * gradient(x).sign()
    x = torch.min(torch.max(x, images - epsilon), images + epsilon).clamp(0, 1)
show("pgd7", x)
