"""Prints the reference values in src/attack/tests/reference.rs: attacks on a network given by a formula.

FGSM and PGD are written here in PyTorch; the others are those of torchattacks and of AutoAttack's authors, as
pinned in benches/peers/requirements-attacks.txt, from the image itself wherever they would start at random.
"""
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
N, C, H, W, K, HIDDEN = 3, 3, 4, 4, 4, 6


def wave(*shape, a, b):
    return torch.sin(a * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + b).reshape(shape)


images = 0.5 + 0.5 * wave(N, C, H, W, a=0.37, b=0.1)
labels = torch.tensor([0, 2, 1])
first, second = wave(C * H * W, HIDDEN, a=0.9, b=0.3), wave(HIDDEN, K, a=1.7, b=0.5)


def logits(x):
    return torch.tanh(x.flatten(1).double() @ first / 2) @ second


def bumpy(x):
    """Always of class 0, and so far from linear that the step of APGD is halved again and again."""
    return torch.sin(2 * (x.flatten(1).double() @ first)) @ second + torch.tensor([8.0, 0, 0, 0])


def gradient(x):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(F.cross_entropy(logits(x), labels, reduction="sum"), x)[0]


def show(name, x, loss=True):
    weights = wave(N, C, H, W, a=0.11, b=0.2)
    moved = [round(v, 9) for v in ((x - images) * weights).flatten(1).sum(1).tolist()]
    print(f"{name:10}", moved, round(gradient(x).abs().sum().item(), 9) if loss else "")


def by_hand(epsilon=0.03):
    show("gradient", images)
    show("fgsm", (images + epsilon * gradient(images).sign()).clamp(0, 1))
    x = images.clone()
    for _ in range(7):
        x = x + 2.5 * epsilon / 7 * gradient(x).sign()
        x = torch.min(torch.max(x, images - epsilon), images + epsilon).clamp(0, 1)
    show("pgd7", x)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return logits(x)


def by_torchattacks():
    import torchattacks

    model = Model().eval()
    show("bim7", torchattacks.BIM(model, eps=0.03, alpha=0.03 / 7, steps=7)(images, labels))
    show("mi-fgsm7", torchattacks.MIFGSM(model, eps=0.03, alpha=0.03 / 7, steps=7)(images, labels))
    target = torchattacks.FGSM(model, eps=0.03)
    target.set_mode_targeted_by_label()
    show("targeted", target(images, (labels + 1) % K))
    # Their labels are the predicted ones: an image misclassified to begin with would be left as it is.
    predicted = logits(images).argmax(1)
    found = torchattacks.CW(model, c=5.0, steps=60, lr=0.01)(images, predicted)
    print("cw", [round(v, 7) for v in (found - images).flatten(1).norm(dim=1).tolist()])


def apgd(model, epsilon):
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    predicted = model(images).argmax(1)
    ranked = model(images).argsort(1, descending=True)
    settings = dict(n_iter=40, norm="Linf", eps=epsilon, device="cpu")
    for loss in ["ce", "dlr", "t"]:
        if loss == "t":
            attack = APGDAttack_targeted(model, **settings)
            attack.loss, attack.y_target = "dlr-targeted", ranked[:, 1]
        else:
            attack = APGDAttack(model, loss=loss, **settings)
        attack.init_hyperparam(images)
        best, accuracy, value, _ = attack.attack_single_run(images, predicted, x_init=images)
        assert accuracy.all(), "an image broke: Hardy would stop there"
        show(f"apgd-{loss}", best, loss=False)
        print("  loss", [round(v, 9) for v in value.tolist()])


def by_the_authors():
    from pyautoattack.fab_pt import FABAttack_PT

    apgd(logits, 0.004)
    apgd(bumpy, 0.05)

    predicted = logits(images).argmax(1)
    # It computes in 32 bits.
    torch.set_default_dtype(torch.float32)
    attack = FABAttack_PT(lambda x: logits(x).float(), norm="Linf", n_iter=50, eps=1.0, targeted=True, n_target_classes=K - 1, device="cpu")
    nearest = torch.full([N], float("inf"), dtype=torch.float64)
    for attack.target_class in range(2, K + 1):
        found = attack.attack_single_run(images, predicted, is_targeted=True)
        nearest = nearest.minimum((found - images).abs().flatten(1).amax(1))
    print("fab-t", [round(v, 7) for v in nearest.tolist()])


print("predicted", logits(images).argmax(1).tolist())
by_hand()
by_torchattacks()
by_the_authors()
