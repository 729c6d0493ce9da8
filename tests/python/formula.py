"""Numbers in [0, 1) from a name and an index, the same here and in src/model/tests.rs.

Weights are too large to commit, so both sides make them: start from the 32-bit FNV-1a hash of the name, add
index * 2654435761, scramble with MurmurHash3's finaliser, keep the upper 24 bits. All modulo 2^32."""
import math

import numpy as np
import torch


def fractions(name, count):
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    x = (np.arange(count, dtype=np.uint64) * 2654435761 + seed).astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float64) / 2**24


def tensor(name, shape):
    """A tensor of a state dict: its range depends on what it is, by name and shape."""
    u = fractions(name, math.prod(shape))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) > 1:
        values = (2 * u - 1) * math.sqrt(3 / math.prod(shape[1:]))
    elif name.endswith(("running_var", ".weight")):
        values = 0.5 + u
    else:
        values = u - 0.5
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def images(height, width):
    """One picture [1, 3, height, width] in [0, 1)."""
    return torch.from_numpy(fractions("images", 3 * height * width).astype(np.float32)).reshape(1, 3, height, width)
