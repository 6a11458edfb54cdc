"""Trains the net that makes pictures four times as wide and high.

    python3 enlarger.py CACHE SECONDS [-resume]

Its examples are what the autoencoder makes of a picture of 128x128, beside the same emoji drawn at 512x512.
"""

import pathlib
import sys
import time

import numpy as np
import torch

import data
import words
from ae import paint
from nets import Decoder, Encoder, Enlarger

BATCH, CROP, PICTURES = 8, 48, 700


def examples(cache):
    """Draws some emoji large, and has the autoencoder see them small."""
    rng = np.random.default_rng(0)
    drawings = list(data.icons(cache))
    nets = Encoder(), Decoder()
    state = torch.load(cache / "ae.pt")
    nets[0].load_state_dict(state["encoder"])
    nets[1].load_state_dict(state["decoder"])
    backgrounds = np.array([(255, 255, 255), *words.COLORS.values()], np.float32)
    for number in rng.permutation(len(drawings))[:PICTURES]:
        color = torch.from_numpy(backgrounds[0 if rng.random() < 0.6 else rng.integers(len(backgrounds))])[None, :, None, None]
        large = paint(torch.from_numpy(data.draw(drawings[number][3], 512).copy()).permute(2, 0, 1)[None], color)
        small = torch.nn.functional.avg_pool2d(large, 4)
        with torch.no_grad(), torch.cpu.amp.autocast(dtype=torch.bfloat16):
            latent = nets[0](small)
            seen = nets[1](latent + 0.1 * torch.randn_like(latent)).float()
        yield (large[0] * 127).round().to(torch.int8), seen[0].half(), small[0].half()


def main():
    cache, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pairs = list(examples(cache))
    net = Enlarger().to(memory_format=torch.channels_last)
    if "-resume" in sys.argv:
        net.load_state_dict(torch.load(cache / "enlarger.pt")["enlarger"])
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0)
    start, step, total, plain = time.time(), 0, 0.0, 0.0
    while (done := (time.time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1, step / 100) * (1 - done) ** 0.7
        goal, given = [], []
        for number in rng.integers(0, len(pairs), BATCH):
            large, seen, small = pairs[number]
            x, y = rng.integers(0, 128 - CROP + 1, 2)
            source = seen if rng.random() < 0.7 else small
            given.append(source[:, y : y + CROP, x : x + CROP].float())
            goal.append(large[:, 4 * y : 4 * (y + CROP), 4 * x : 4 * (x + CROP)].float() / 127)
        given, goal = torch.stack(given), torch.stack(goal)
        with torch.cpu.amp.autocast(dtype=torch.bfloat16):
            guess = net(given.contiguous(memory_format=torch.channels_last))
        # The border of a crop lacks neighbours that a whole picture has.
        loss = (guess.float() - goal)[..., 16:-16, 16:-16].abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        total += loss.item()
        plain += (torch.nn.functional.interpolate(given, scale_factor=4, mode="bicubic", align_corners=False) - goal)[..., 16:-16, 16:-16].abs().mean().item()
        if step % 200 == 0:
            print(f"{time.time() - start:6.0f} s step {step}: mean absolute error {total / 200 * 127.5:.2f} of 255, bicubic {plain / 200 * 127.5:.2f}", flush=True)
            total = plain = 0.0
            torch.save({"enlarger": net.state_dict()}, cache / "enlarger.pt")
    torch.save({"enlarger": net.state_dict()}, cache / "enlarger.pt")


if __name__ == "__main__":
    main()
