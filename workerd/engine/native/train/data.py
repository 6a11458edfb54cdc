"""Fetches the emoji and their words from npm, and draws them.

    python3 data.py CACHE

CACHE gets emoji.npz: pictures of 128x128 pixels with alpha, and for each its style, label and tags. Sources and licences:
@iconify-json/noto (Apache-2.0), @iconify-json/fluent-emoji-flat (MIT), emojibase-data (MIT).
"""

import io
import json
import pathlib
import subprocess
import sys

import cairosvg
import numpy as np
from PIL import Image

PACKAGES = ("@iconify-json/noto@1.2.9", "@iconify-json/fluent-emoji-flat@1.2.6", "emojibase-data@17.0.0")
STYLES = {"noto": "iconify-json-noto-1.2.9", "flat": "iconify-json-fluent-emoji-flat-1.2.6"}
WORDS = "emojibase-data-17.0.0"
SIZE = 128

# Groups and subgroups of emojibase that the net learns: things with a shape. Persons, flags, clocks and signs are left out.
GROUPS = {0, 3, 4, 5, 6, 7}
WITHOUT = {58}  # clock faces
EXTRA = {16, 17, 18, 19, 20, 21, 22, 84, 96}  # hands, body parts, warnings, geometric shapes


def fetch(cache):
    """Unpacks the packages into the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        folder = cache / package.lstrip("@").replace("/", "-").replace("@", "-")
        if folder.exists():
            continue
        name = subprocess.run(["npm", "pack", package], cwd=cache, check=True, capture_output=True, text=True).stdout.split()[-1]
        folder.mkdir()
        subprocess.run(["tar", "xzf", cache / name, "-C", folder], check=True)


def icons(cache):
    """Yields style, label, tags and the SVG of every emoji to learn."""
    words = json.loads((cache / WORDS / "package/en/data.json").read_text())
    for style, folder in STYLES.items():
        package = cache / folder / "package"
        drawings = json.loads((package / "icons.json").read_text())
        names = json.loads((package / "chars.json").read_text())
        for entry in words:
            group, subgroup = entry.get("group"), entry.get("subgroup")
            if not (group in GROUPS and subgroup not in WITHOUT or subgroup in EXTRA):
                continue
            code = entry["hexcode"].lower()
            name = names.get(code) or names.get(code.replace("-fe0f", ""))
            icon = drawings["icons"].get(name)
            if icon is None:
                continue
            width = icon.get("width", drawings.get("width", 16))
            height = icon.get("height", drawings.get("height", 16))
            box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}">{icon["body"]}</svg>'
            yield style, entry["label"], entry.get("tags", []), svg


def draw(svg, size):
    """Draws an SVG with alpha."""
    png = cairosvg.svg2png(bytestring=svg.encode(), output_width=size, output_height=size)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def main():
    cache = pathlib.Path(sys.argv[1])
    fetch(cache)
    pictures, about = [], []
    for style, label, tags, svg in icons(cache):
        pictures.append(draw(svg, SIZE))
        about.append({"style": style, "label": label, "tags": tags})
    np.savez(cache / "emoji.npz", pictures=np.stack(pictures), about=json.dumps(about))
    print(f"{len(pictures)} pictures of {len({a['label'] for a in about})} emoji")


if __name__ == "__main__":
    main()
