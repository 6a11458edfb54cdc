"""Turns a prompt into words that the net knows.

A prompt is cut into runs of letters and digits, in lower case. A colour right before "background" or "backdrop" becomes one word such as
"background:blue". A word that the vocabulary lacks is tried without a plural ending. What stays unknown is left out, and at most 24 words count.
"""

import re

COLORS = {
    "red": (229, 57, 53), "orange": (251, 140, 0), "yellow": (253, 216, 53), "green": (67, 160, 71), "teal": (0, 137, 123),
    "blue": (30, 136, 229), "purple": (142, 36, 170), "pink": (244, 143, 177), "brown": (109, 76, 65), "gray": (158, 158, 158), "black": (24, 24, 24),
}
IGNORED = frozenset("a an and at by for from in is it of on or the to with background backdrop".split())
MOST = 24  # words of a prompt that count


def split(text):
    """Cuts a prompt into words and backgrounds."""
    parts = re.findall(r"[^\W_]+", text.lower())
    words = []
    for part in parts:
        if part in ("background", "backdrop") and words and words[-1].replace("grey", "gray") in COLORS:
            words[-1] = "background:" + words[-1].replace("grey", "gray")
        elif part not in IGNORED:
            words.append(part)
    return words


def find(word, vocabulary):
    """Gives the number of a word, or of its singular, or 0."""
    for ending, instead in (("", ""), ("s", ""), ("es", ""), ("ies", "y")):
        if word.endswith(ending):
            number = vocabulary.get(word[: len(word) - len(ending)] + instead)
            if number:
                return number
    return 0


def encode(text, vocabulary):
    """Gives the numbers of the known words of a prompt, and the unknown words."""
    words = split(text)
    numbers = [find(word, vocabulary) for word in words]
    return [n for n in numbers if n][:MOST], [w for w, n in zip(words, numbers) if not n]


def build(texts):
    """Numbers all words of the given texts, from 1."""
    known = {word for text in texts for word in split(text)}
    return {word: number for number, word in enumerate(sorted(known | {"background:" + color for color in COLORS}), 1)}
