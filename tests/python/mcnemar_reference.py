"""Writes src/gate/mcnemar_reference.in: McNemar's exact test in rational arithmetic.

    python3 tests/python/mcnemar_reference.py > src/gate/mcnemar_reference.in

Where SciPy is at hand, its binomtest is compared with the same values.
"""

from fractions import Fraction
from math import comb

PAIRS = [
    (0, 0), (1, 0), (0, 5), (1, 5), (6, 6), (10, 2), (3, 14),
    (25, 11), (40, 60), (86, 150), (300, 240), (900, 1000), (1, 1200),
]


def p_value(gained: int, lost: int) -> Fraction:
    n, fewer = gained + lost, min(gained, lost)
    below = sum(comb(n, k) for k in range(fewer + 1))
    return min(Fraction(1), 2 * Fraction(below, 2**n))


def main() -> None:
    rows = [(a, b, float(p_value(a, b))) for a, b in PAIRS]
    try:
        from scipy.stats import binomtest
    except ImportError:
        pass
    else:
        for a, b, p in rows:
            if a + b:
                assert abs(binomtest(a, a + b).pvalue - p) <= 1e-9 * max(p, 1e-12), (a, b)
    print("&[")
    for a, b, p in rows:
        print(f"    ({a}, {b}, {p!r}),")
    print("]")


if __name__ == "__main__":
    main()
