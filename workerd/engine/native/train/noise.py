"""The noise that a picture begins with: the same numbers for a seed in every program that runs the nets.

The seed, as 64 bits, starts SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). Each of its numbers z
becomes u = ((z >> 11) + 0.5) / 2^53, which lies between 0 and 1. Two of them, u and v, become two normal numbers by the method of Box and Muller,
r cos(2 pi v) and then r sin(2 pi v), where r = sqrt(-2 ln u); all in double precision, at last rounded to single precision. A latent takes its
numbers channel by channel, row by row. ../noise.go does the same; both are held to ../testdata/noise.json:

    python3 noise.py            checks that
    python3 noise.py -write     writes it
"""

import json
import pathlib
import sys

import numpy as np

VECTORS = pathlib.Path(__file__).parent.parent / "testdata" / "noise.json"


def normal(seed, count):
    """Gives the first normal numbers of a seed, in single precision."""
    pairs = (count + 1) // 2
    with np.errstate(over="ignore"):
        z = np.uint64(seed % 2**64) + np.arange(1, 2 * pairs + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    r, angle = np.sqrt(-2 * np.log(u[0::2])), 2 * np.pi * u[1::2]
    return np.stack([r * np.cos(angle), r * np.sin(angle)], 1).reshape(-1)[:count].astype(np.float32)


def main():
    seeds = [0, 1, 42, 2**53 + 1, 2**63 - 1]
    vectors = [{"seed": seed, "numbers": [float(f"{x:.9g}") for x in normal(seed, 7)]} for seed in seeds]
    if "-write" in sys.argv:
        VECTORS.write_text("[\n" + ",\n".join(json.dumps(vector) for vector in vectors) + "\n]\n")
        return
    for got, want in zip(vectors, json.loads(VECTORS.read_text()), strict=True):
        assert got["seed"] == want["seed"] and np.allclose(got["numbers"], want["numbers"], rtol=1e-6, atol=1e-7), (got, want)
    many = normal(7, 100001)
    assert len(many) == 100001 and abs(many.mean()) < 0.01 and abs(many.std() - 1) < 0.01
    print("the noise is right")


if __name__ == "__main__":
    main()
