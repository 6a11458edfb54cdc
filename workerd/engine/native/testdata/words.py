"""Writes words.json: what ../train/words.py makes of some prompts.

    python3 words.py > words.json
"""

import importlib.util
import json
import pathlib
import sys

spec = importlib.util.spec_from_file_location("trained_words", pathlib.Path(__file__).parent.parent / "train" / "words.py")
words = importlib.util.module_from_spec(spec)
spec.loader.exec_module(words)

TEXTS = ["red apple", "cat face", "grinning squinting face with tears", "berry", "boxes", "pizza slice 1st", "straße über noël", "sun", "fox"]
PROMPTS = [
    "", "   ", "a red apple", "Two CATS, and an apple!", "berries on a blue background", "grey backdrop", "light blue background", "background red",
    "red  background and blue Backdrop", "apple background", "boxes box foxes foxs", "the of in", "dragon", "under_score cat_face", "1st 2nd",
    "STRASSE Straße ÜBER Noël noe\u0308l", "İstanbul ΣΑΣ", "sun\nsuns\tSUN", "²³ ½ Ⅷ", "猫 cat", "cat-face/cat'face", "red " * 30 + "apple",
    "unknown " * 30 + "cat", "blue and background", "greyish background", "gray grey background",
]
vocabulary = words.build(TEXTS)
prompts = []
for prompt in PROMPTS:
    numbers, unknown = words.encode(prompt, vocabulary)
    prompts.append({"prompt": prompt, "numbers": numbers, "unknown": unknown})
json.dump({"vocabulary": list(vocabulary), "prompts": prompts}, sys.stdout, indent=1)
print()
