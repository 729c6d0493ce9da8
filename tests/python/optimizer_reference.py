"""Prints the reference values in src/train/optimizer.rs, schedule.rs and merge.rs, by PyTorch."""
import torch

# AdamW: body weights (decay), body biases (none), head weights (five times the rate, decay).
torch.set_default_dtype(torch.float64)
body, bias, head = (torch.tensor(v, requires_grad=True) for v in ([0.5, -1.0, 2.0], [0.1], [1.5, -0.25]))
adamw = torch.optim.AdamW([
    dict(params=[body], lr=1e-3, weight_decay=0.01),
    dict(params=[bias], lr=1e-3, weight_decay=0.0),
    dict(params=[head], lr=5e-3, weight_decay=0.01),
])
for step in range(5):
    for number, tensor in enumerate((body, bias, head)):
        index = torch.arange(tensor.numel(), dtype=torch.float64)
        tensor.grad = torch.sin(1.0 + index + 3.0 * number + 0.7 * step)
    torch.nn.utils.clip_grad_norm_([body, bias, head], 0.5)
    adamw.step()
print("adamw", [round(v, 9) for t in (body, bias, head) for v in t.tolist()])

# One-cycle: torch counts the peak at pct_start * total - 1; 3 / 11 puts it at step 2 of 0..10.
sgd = torch.optim.SGD([body], lr=1.0)
cycle = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=1.0, total_steps=11, pct_start=3 / 11, cycle_momentum=False)
rates = []
for _ in range(11):
    rates.append(cycle.get_last_lr()[0])
    sgd.step()
    if len(rates) < 11:
        cycle.step()
print("one-cycle", [round(v, 12) for v in rates])

# Outer Nesterov is SGD with Nesterov momentum.
weight = torch.tensor([1.0], requires_grad=True)
sgd = torch.optim.SGD([weight], lr=0.7, momentum=0.9, nesterov=True)
for gradient in (0.5, 0.25):
    weight.grad = torch.tensor([gradient])
    sgd.step()
    print("nesterov", weight.item())
