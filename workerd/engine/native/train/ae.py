"""Trains the autoencoder.

    python3 ae.py CACHE SECONDS [-resume]
"""

import os
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from nets import Decoder, Encoder

BATCH, CROP = 24, 64


def paint(pictures, color):
    """Puts pictures with alpha on a colour; both from 0 to 255, the result from -1 to 1."""
    pictures = pictures.float() / 255
    alpha = pictures[:, 3:]
    return (pictures[:, :3] * alpha + color / 255 * (1 - alpha)) * 2 - 1


def batch(pictures, rng):
    """Crops of pictures on white or any colour, half of them mirrored."""
    chosen = torch.from_numpy(rng.integers(0, len(pictures), BATCH))
    color = torch.from_numpy(rng.uniform(0, 255, (BATCH, 3, 1, 1)).astype(np.float32))
    color[rng.random(BATCH) < 0.4] = 255
    x, y = rng.integers(0, 128 - CROP + 1, 2)
    crop = paint(pictures[chosen, :, y : y + CROP, x : x + CROP], color)
    return crop.flip(3) if rng.random() < 0.5 else crop


def main():
    cache, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    rng = np.random.default_rng(time.time_ns() if "-resume" in sys.argv else 0)
    pictures = torch.from_numpy(np.load(cache / "emoji.npz")["pictures"]).permute(0, 3, 1, 2).contiguous()
    encoder, decoder = (net.to(memory_format=torch.channels_last) for net in (Encoder(), Decoder()))
    if "-resume" in sys.argv:
        state = torch.load(cache / "ae.pt")
        encoder.load_state_dict(state["encoder"])
        decoder.load_state_dict(state["decoder"])
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0)
    start, step, mean = time.time(), 0, 0.0
    while (done := (time.time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1, step / 200) * (1 - done) ** 0.7
        x = batch(pictures, rng).contiguous(memory_format=torch.channels_last)
        with torch.cpu.amp.autocast(dtype=torch.bfloat16):
            latent = encoder(x)
            noisy = latent + 0.05 * torch.randn_like(latent)
            y = decoder(noisy)
        y, latent = y.float(), latent.float()
        rough = F.avg_pool2d(y - x, 4)
        edges = (y - x)[..., 1:] - (y - x)[..., :-1], (y - x)[..., 1:, :] - (y - x)[..., :-1, :]
        off = (y - x).abs().mean()
        loss = off + rough.abs().mean() + 0.5 * (edges[0].abs().mean() + edges[1].abs().mean())
        # Latents stay near the standard normal.
        loss = loss + 1e-3 * (latent.square().mean() - 1).square() + 1e-4 * latent.square().mean() + 1e-3 * latent.mean((0, 2, 3)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        mean += off.item()
        if step % 200 == 0:
            print(f"{time.time() - start:6.0f} s step {step}: mean absolute error {mean / 200 * 127.5:.2f} of 255, latents' rms {latent.square().mean().sqrt():.2f}", flush=True)
            mean = 0.0
            torch.save({"encoder": encoder.state_dict(), "decoder": decoder.state_dict()}, cache / "ae.pt")
    standardize(encoder, decoder, pictures)
    torch.save({"encoder": encoder.state_dict(), "decoder": decoder.state_dict()}, cache / "ae.pt")


def standardize(encoder, decoder, pictures):
    """Makes each channel of the latents of pictures on white have mean 0 and variance 1, by changing the encoder's last and the decoder's first layer."""
    with torch.no_grad():
        latents = torch.cat([encoder(paint(part, torch.full((1, 3, 1, 1), 255.0))) for part in pictures[::4].split(64)])
        mean, scale = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        last, first = encoder.layers[-1], decoder.layers[0]
        last.weight /= scale[:, None, None, None]
        last.bias.sub_(mean).div_(scale)
        # Padding is zero after standardizing and was zero before: only a mean would shift the border, by a constant that training kept small.
        first.bias += (first.weight * mean[None, :, None, None]).sum((1, 2, 3))
        first.weight *= scale[None, :, None, None]


if __name__ == "__main__":
    main()
