"""Measures the trained nets, as they were exported, and draws a contact sheet.

    python3 evaluate.py CACHE MODEL SHEET.png REPORT.json [GUIDANCE]

Every picture is made as workerd makes it: same words, noise and steps. A picture counts as right when, of all 1,109 emoji in both styles, the
nearest drawing (root mean square over 32x32 averages) is one of the emoji that were asked for. Prompts are
 - labels: the own label of emoji in learned.txt, in the training's wording;
 - shortcodes: GitHub's names for such emoji where they are other words than the label (from emojibase-data), a wording that was not trained;
 - prompts.json: sentences written by hand, none of which is a caption of the training; these are on the sheet.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from PIL import Image, ImageDraw

import data
import export
import words
from ae import paint
from noise import normal

STEPS, GUIDANCE = 5, 2.0  # as calibration.go has them
MOST = 120  # prompts of a kind


class Model:
    """The exported nets, with their weights of 8 bits."""

    def __init__(self, folder):
        self.vocabulary = {word: number for number, word in enumerate((folder / "vocabulary.txt").read_text().split(), 1)}
        self.nets = export.load(folder)

    def numbers(self, prompts):
        table = np.zeros((len(prompts), words.MOST), np.int64)
        for row, prompt in enumerate(prompts):
            found = words.encode(prompt, self.vocabulary)[0]
            table[row, : len(found)] = found
        return torch.from_numpy(table)

    @torch.no_grad()
    def latents(self, prompts, seeds, guidance):
        condition = self.nets["words"](self.numbers(prompts))
        nothing = self.nets["words"](torch.zeros(len(prompts), words.MOST, dtype=torch.long))
        x = torch.stack([torch.from_numpy(normal(seed, 8 * 16 * 16)).float().view(8, 16, 16) for seed in seeds])
        before = None
        for step in range(STEPS):
            t = torch.full((len(prompts),), 1 - step / STEPS)
            v = self.nets["flow"](x, t, condition)
            if guidance != 1:
                without = self.nets["flow"](x, t, nothing)
                v = without + guidance * (v - without)
            # Within a step the velocity goes on changing as it did (Adams and Bashforth).
            x = x - (v if before is None else 1.5 * v - 0.5 * before) / STEPS
            before = v
        return x

    @torch.no_grad()
    def pictures(self, prompts, seeds, guidance):
        return torch.cat([
            self.nets["decoder"](self.latents(prompts[at : at + 32], seeds[at : at + 32], guidance)).clamp(-1, 1) for at in range(0, len(prompts), 32)
        ])


def small(pictures):
    return torch.nn.functional.avg_pool2d(pictures, 4).flatten(1)


def nearest(pictures, drawings, labels):
    """Gives the labels of the nearest drawing of each picture."""
    return [labels[number] for number in torch.cdist(small(pictures), drawings).argmin(1).tolist()]


def shortcodes(cache, labels):
    """Gives GitHub's names that are other words than the label, with the label."""
    folder = cache / data.WORDS / "package/en"
    names = json.loads((folder / "shortcodes/github.json").read_text())
    for entry in json.loads((folder / "data.json").read_text()):
        name = names.get(entry["hexcode"], [])
        for text in [name] if isinstance(name, str) else name:
            text = text.replace("_", " ")
            if entry["label"] in labels and set(words.split(text)) != set(words.split(entry["label"])):
                yield text, entry["label"]


def main():
    cache, folder, sheet, report = map(pathlib.Path, sys.argv[1:5])
    guidance = float(sys.argv[5]) if len(sys.argv) > 5 else GUIDANCE
    torch.set_num_threads(1)
    model = Model(folder)
    emoji = np.load(cache / "emoji.npz")
    labels = [a["label"] for a in json.loads(str(emoji["about"]))]
    white = torch.full((1, 3, 1, 1), 255.0)
    drawn = paint(torch.from_numpy(emoji["pictures"]).permute(0, 3, 1, 2), white)
    drawings = small(drawn)
    numbers = {}
    with torch.no_grad():
        part = drawn[::20]
        again = model.nets["decoder"](model.nets["encoder"](part))
        numbers["autoencoder, mean absolute error of 255"] = round((again - part).abs().mean().item() * 127.5, 2)
    rng = np.random.default_rng(0)
    learned = (pathlib.Path(__file__).parent / "learned.txt").read_text().splitlines()
    pairs = {"labels": [(label, label) for label in learned], "shortcodes": list(shortcodes(cache, set(learned)))}
    for kind, all_tests in pairs.items():
        tests = [all_tests[i] for i in rng.permutation(len(all_tests))[:MOST]]
        made = model.pictures([p for p, _ in tests], list(range(len(tests))), guidance)
        found = nearest(made, drawings, labels)
        numbers[f"{kind}, right of {len(tests)}"] = sum(f == wanted for f, (_, wanted) in zip(found, tests))
    prompts = json.loads((pathlib.Path(__file__).parent / "prompts.json").read_text())
    made = model.pictures([p["prompt"] for p in prompts], [p["seed"] for p in prompts], guidance)
    backgrounds = [next((w.split(":")[1] for w in words.split(p["prompt"]) if w.startswith("background:")), None) for p in prompts]
    results = []
    for number, prompt in enumerate(prompts):
        on = drawings
        if backgrounds[number]:
            color = torch.tensor(words.COLORS[backgrounds[number]]).float()[None, :, None, None]
            on = small(paint(torch.from_numpy(emoji["pictures"]).permute(0, 3, 1, 2), color))
        found = nearest(made[number : number + 1], on, labels)[0]
        results.append({**prompt, "nearest": found, "right": found in prompt["wanted"]})
    numbers[f"sentences, right of {len(prompts)}"] = sum(r["right"] for r in results)
    report.write_text(json.dumps({"guidance": guidance, "steps": STEPS, "numbers": numbers, "prompts": results}, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))
    draw_sheet(model, made, results, sheet)


def draw_sheet(model, made, results, path):
    """Draws the pictures, enlarged by the net and halved, in rows of six, each over its prompt."""
    side, text = 256, 40
    rows = (len(results) + 5) // 6
    canvas = Image.new("RGB", (6 * side, rows * (side + text)), "white")
    pen = ImageDraw.Draw(canvas)
    with torch.no_grad():
        large = torch.cat([model.nets["enlarger"](part) for part in made.split(4)]).clamp(-1, 1)
    for number, picture in enumerate((large.permute(0, 2, 3, 1) * 127.5 + 127.5).round().byte().numpy()):
        x, y = number % 6 * side, number // 6 * (side + text)
        canvas.paste(Image.fromarray(picture).resize((side, side), Image.LANCZOS), (x, y))
        pen.text((x + 4, y + side + 4), results[number]["prompt"], fill="black")
        pen.text((x + 4, y + side + 18), "nearest: " + results[number]["nearest"], fill="green" if results[number]["right"] else "gray")
    canvas.save(path)


if __name__ == "__main__":
    main()
