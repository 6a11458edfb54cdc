"""Trains the flow and its words on the autoencoder's latents.

    python3 flow.py CACHE SECONDS [-resume] [-draft]

It learns the emoji of learned.txt. -resume goes on from flow.pt. -draft trains only the words and the draft of the flow: that is quick, comes
first, and is what the flow then sharpens.
"""

import concurrent.futures
import copy
import json
import math
import os
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

import words
from ae import paint
from nets import Encoder, Flow, Words

BATCH = 32
RATE = 1e-3
EMPTY = 0.1  # share of examples without words


def latents(cache):
    """Encodes every picture on white and on every named colour: pictures x colours x latent."""
    kept = cache / "latents.npy"
    if kept.exists() and kept.stat().st_mtime > (cache / "ae.pt").stat().st_mtime:
        return torch.from_numpy(np.load(kept, mmap_mode=None))
    encoder = Encoder()
    encoder.load_state_dict(torch.load(cache / "ae.pt")["encoder"])
    encoder = encoder.eval().to(memory_format=torch.channels_last)
    pictures = torch.from_numpy(np.load(cache / "emoji.npz")["pictures"]).permute(0, 3, 1, 2)
    colors = [torch.tensor(c).float()[None, :, None, None] for c in ((255, 255, 255), *words.COLORS.values())]
    result = torch.empty(len(pictures), len(colors), 8, 16, 16, dtype=torch.float16)
    with torch.no_grad(), torch.cpu.amp.autocast(dtype=torch.bfloat16):
        for at in range(0, len(pictures), 64):
            for number, color in enumerate(colors):
                result[at : at + 64, number] = encoder(paint(pictures[at : at + 64], color)).half()
    np.save(kept, result.numpy())
    return result


class Captions:
    """Makes prompts: a label, some of its tags, or both, sometimes with the style and always with the background's colour."""

    def __init__(self, about, vocabulary, rng):
        self.rng, self.vocabulary = rng, vocabulary
        self.labels = [self.numbers(a["label"]) for a in about]
        self.tags = [[n for tag in a["tags"] if (n := self.numbers(tag))] for a in about]
        self.styles = [self.numbers(a["style"]) for a in about]
        self.colors = [[]] + [self.numbers(color + " background") for color in words.COLORS]

    def numbers(self, text):
        return words.encode(text, self.vocabulary)[0]

    def make(self, picture, color):
        draw = self.rng.random(3)
        if draw[0] < EMPTY:
            return []
        tags = self.tags[picture]
        some = [n for i in self.rng.permutation(len(tags))[: self.rng.integers(1, 5)] for n in tags[i]] if tags else []
        if draw[1] < 0.35 or not some:
            caption = list(self.labels[picture])
        elif draw[1] < 0.75:
            caption = self.labels[picture] + some
        else:
            caption = some
        if draw[2] < 0.3:
            caption = caption + self.styles[picture]
        return (caption + self.colors[color])[: words.MOST]

    def batch(self, pictures, colors):
        table = np.zeros((len(pictures), words.MOST), np.int64)
        for row, (picture, color) in enumerate(zip(pictures, colors)):
            caption = self.make(picture, color)
            table[row, : len(caption)] = caption
        return torch.from_numpy(table)


def main():
    cache, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(1)  # each part of a batch has a thread of its own, which meets the others once a step and not once a layer
    parts = os.cpu_count()
    about = json.loads(str(np.load(cache / "emoji.npz")["about"]))
    vocabulary = words.build([f"{a['label']} {' '.join(a['tags'])} {a['style']}" for a in about])
    (cache / "vocabulary.txt").write_text("".join(word + "\n" for word in vocabulary))
    data = latents(cache)
    names = set((pathlib.Path(__file__).parent / "learned.txt").read_text().splitlines())
    learned = [number for number, a in enumerate(about) if a["label"] in names]
    drawings = {}
    for number in learned:
        drawings.setdefault(about[number]["label"], {})[about[number]["style"]] = number
    # For each picture the pictures of its emoji in all styles; one that is missing is replaced by another.
    styles = sorted({a["style"] for a in about}, reverse=True)
    family = {number: [same.get(style, number) for style in styles] for same in drawings.values() for number in same.values()}
    rng = np.random.default_rng(int(time.time()) if "-resume" in sys.argv else 0)
    torch.manual_seed(rng.integers(1 << 31))
    captions = Captions(about, vocabulary, rng)
    flow, texts = Flow().to(memory_format=torch.channels_last), Words(len(vocabulary) + 1)
    if "-resume" in sys.argv:
        state = torch.load(cache / "flow.pt")
        flow.load_state_dict(state["flow"])
        texts.load_state_dict(state["words"])
    only_draft = "-draft" in sys.argv
    batch = 4 * BATCH if only_draft else BATCH
    parameters = [*flow.parameters(), *texts.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
    mean = copy.deepcopy((flow, texts))
    pool = concurrent.futures.ThreadPoolExecutor(parts)
    start, step, total = time.time(), 0, 0.0
    while (done := (time.time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 300) * (0.02 + 0.98 * math.cos(math.pi / 2 * done) ** 1.2)
        optimizer.zero_grad(set_to_none=True)
        examples = [draw(data, captions, family, rng, batch // parts) for _ in range(parts)]
        losses = np.array(list(pool.map(lambda example: learn(flow, texts, only_draft, example), examples))).mean(0)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        decay = min(0.9995, (step + 1) / (step + 20))
        with torch.no_grad():
            for module, average in zip((flow, texts), mean):
                for p, q in zip(module.parameters(), average.parameters()):
                    q.lerp_(p, 1 - decay)
        total = total + losses
        if step % 100 == 0:
            print(f"{time.time() - start:6.0f} s step {step}: loss {total[0] / 100:.4f}, draft {total[1] / 100:.4f}", flush=True)
            total = 0.0
        if step % 500 == 0:
            save(cache, mean)
    save(cache, mean)


def draw(data, captions, family, rng, count):
    """Makes examples: latents, how much noise they get, and their words."""
    pictures = rng.choice(list(family), count)
    colors = np.where(rng.random(count) < 0.85, 0, rng.integers(1, data.shape[1], count))
    x = data[torch.from_numpy(pictures), torch.from_numpy(colors)].float()
    t = torch.sigmoid(torch.randn(count)) if rng.random() < 0.8 else torch.rand(count)
    goal = data[torch.from_numpy(np.array([family[picture] for picture in pictures])), torch.from_numpy(colors)[:, None]].float().flatten(1, 2)
    return x, goal, torch.randn_like(x), t, captions.batch(pictures, colors)


def learn(flow, texts, only_draft, example):
    """Adds the gradients of some examples; gives their loss and that of the draft."""
    x, drafts, noise, t, table = example
    known = (table > 0).any(1)
    at = (x + t[:, None, None, None] * (noise - x)).contiguous(memory_format=torch.channels_last)
    with torch.cpu.amp.autocast(dtype=torch.bfloat16):
        condition = texts(table).float()
        draft = flow.draft(condition).float()
        off = F.mse_loss(draft[known], drafts[known])
        loss = off if only_draft else F.mse_loss(flow(at, t, condition).float(), noise - x)
    ((loss + 0.3 * off) / os.cpu_count()).backward()
    return loss.item(), off.item()


def save(cache, nets):
    """Replaces flow.pt."""
    torch.save({"flow": nets[0].state_dict(), "words": nets[1].state_dict()}, cache / "flow.pt.new")
    os.replace(cache / "flow.pt.new", cache / "flow.pt")


if __name__ == "__main__":
    main()
