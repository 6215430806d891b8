"""Captions in varied wording, and for each of them the scenes of which it is true.

A caption tells some of a scene's attributes. What it tells is kept as one bit mask for each attribute (the
values that it allows), so that training knows which pictures of a batch a caption also describes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .scenes import BACKGROUNDS, COLOURS, COUNTS, PLACES, SHAPES, SIZES, Scene

SHAPE_WORDS = {
    "circle": ("circle", "circle", "circle", "disc", "dot"),
    "square": ("square", "square", "square", "box"),
    "diamond": ("diamond", "diamond", "rhombus"),
    "cross": ("cross", "cross", "plus"),
    "ring": ("ring", "ring", "hoop"),
}
COLOUR_WORDS = {"grey": ("grey", "gray"), "purple": ("purple", "purple", "violet")}
COUNT_WORDS = {2: ("two", "two", "2", "a pair of"), 3: ("three", "three", "3"), 4: ("four", "four", "4")}
SIZE_WORDS = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium",),
    "large": ("large", "large", "big", "huge"),
}
PLACE_WORDS = {
    "top": ("at the top", "top", "above"),
    "left": ("on the left", "at the left", "left"),
    "right": ("on the right", "at the right", "right"),
    "bottom": ("at the bottom", "bottom", "below"),
    "centre": ("in the centre", "in the center", "in the middle", "center"),
}
CORNER_WORDS = ("in the {}", "in the {} corner", "at the {}", "{}")
OPENINGS = (
    "a picture of", "an image of", "a photo of", "a drawing of", "a picture with", "an image showing",
    "there is", "show me", "find", "picture of", "image of", "i see",
)  # fmt: skip
NOUNS = ("shape", "thing", "object", "something")
SPECIAL = ("[PAD]", "[UNK]", "[START]", "[END]")

#: What a caption allows or a scene has, as bit masks: shape, colour, count, size, place, background.
Masks = tuple[int, int, int, int, int, int]

_ANY = -1
_MANY = 0b1110


@dataclass(frozen=True, slots=True)
class Caption:
    """A text and what it tells: it is true of a scene when every mask shares a bit with the scene's."""

    text: str
    allows: Masks


def masks_of(scene: Scene) -> Masks:
    """The scene's own attributes, one bit set in each mask (none for a place that is not told)."""
    return (
        1 << SHAPES.index(scene.shape),
        1 << list(COLOURS).index(scene.colour),
        1 << COUNTS.index(scene.count),
        1 << SIZES.index(scene.size),
        0 if scene.place is None else 1 << PLACES.index(scene.place),
        1 << BACKGROUNDS.index(scene.background),
    )


def full_caption(scene: Scene) -> Caption:
    """Everything that can be told of the scene, in the plainest words."""
    what = scene.shape if scene.count == 1 else plural(scene.shape)
    number = "a" if scene.count == 1 else COUNT_WORDS[scene.count][0]
    size = f"{scene.size} " if scene.count == 1 and scene.size != "medium" else ""
    text = f"{number} {size}{scene.colour} {what}"
    if scene.place is not None and scene.size != "large":
        words = PLACE_WORDS.get(scene.place, (CORNER_WORDS[0].format(scene.place),))
        text += f" {words[0]}"
    own = masks_of(scene)
    allows = (
        *own[:3],
        own[3] if size else _ANY,
        own[4] if scene.place and scene.size != "large" else _ANY,
        own[5],
    )
    return Caption(f"{_article(text)} on a {scene.background} background", allows)


def random_caption(scene: Scene, rng: random.Random) -> Caption:
    """Some of what can be told of the scene, in words drawn at random."""
    tell_shape = rng.random() < 0.95
    tell_colour = rng.random() < (0.93 if tell_shape else 1.0)
    tell_place = scene.place is not None and scene.size != "large" and rng.random() < 0.55
    tell_size = scene.count == 1 and rng.random() < (0.6 if scene.size != "medium" else 0.08)
    tell_background = rng.random() < 0.55
    what = rng.choice(SHAPE_WORDS.get(scene.shape, (scene.shape,))) if tell_shape else rng.choice(NOUNS[:3])
    colour = rng.choice(COLOUR_WORDS.get(scene.colour, (scene.colour,))) if tell_colour else ""
    size = rng.choice(SIZE_WORDS[scene.size]) if tell_size else ""
    own = masks_of(scene)
    count_mask = own[2]
    if scene.count == 1:
        number = rng.choice(("a", "a", "one", "a single", "", "", "the"))
        phrase = f"{what} that is {colour}" if colour and rng.random() < 0.04 else f"{colour} {what}"
        noun = f"{number} {size} {phrase}"
    else:
        number = rng.choice(COUNT_WORDS[scene.count])
        if rng.random() < 0.15:
            number, count_mask = rng.choice(("", "some", "several", "many")), _MANY
        noun = f"{number} {colour} {plural(what)}"
    place = _place_words(scene.place or "", rng) if tell_place else ""
    background = _background_words(scene.background, rng) if tell_background else ""
    opening = rng.choice(OPENINGS) if rng.random() < 0.35 else ""
    parts = [noun, background, place] if rng.random() < 0.3 else [noun, place, background]
    if background and rng.random() < 0.08:
        parts = [background + ",", *[part for part in parts if part != background]]
    allows = (
        own[0] if tell_shape else _ANY, own[1] if tell_colour else _ANY, count_mask,
        own[3] if tell_size else _ANY, own[4] if tell_place else _ANY, own[5] if tell_background else _ANY,
    )  # fmt: skip
    return Caption(_article(" ".join([opening, *parts])), allows)


def vocabulary() -> list[str]:
    """Every word that a caption can hold, after the special tokens; `[END]` is last, as CLIP pools there."""
    texts = [
        *OPENINGS,
        *NOUNS,
        "a an one single the that is some several many on against background backdrop ,",
    ]
    for words in (SHAPE_WORDS, COLOUR_WORDS, COUNT_WORDS, SIZE_WORDS, PLACE_WORDS):
        texts += [text for group in words.values() for text in group]
    texts += [*SHAPES, *COLOURS, *PLACES, "corner upper lower"]
    singular = {word for group in SHAPE_WORDS.values() for word in group} | set(SHAPES) | set(NOUNS[:3])
    texts += [plural(word) for word in singular]
    words_seen = sorted({word for text in texts for word in text.split()})
    return [*SPECIAL[:3], *words_seen, SPECIAL[3]]


def plural(word: str) -> str:
    """The plural of a shape's name."""
    return word + ("es" if word.endswith("s") else "s")


def _article(text: str) -> str:
    """Spaces closed up and "a" made "an" before a vowel."""
    words = text.split()
    for here, after in zip(range(len(words)), words[1:], strict=False):
        if words[here] == "a" and after[0] in "aeiou":
            words[here] = "an"
    return " ".join(words).replace(" ,", ",")


def _place_words(place: str, rng: random.Random) -> str:
    if place in PLACE_WORDS:
        return rng.choice(PLACE_WORDS[place])
    if rng.random() < 0.3:
        place = place.replace("top", "upper").replace("bottom", "lower")
    return rng.choice(CORNER_WORDS).format(place)


def _background_words(background: str, rng: random.Random) -> str:
    name = rng.choice(COLOUR_WORDS.get(background, (background,)))
    form = rng.choice(
        ("on a {} background", "on a {} background", "on {}", "against a {} backdrop", "{} background")
    )
    return form.format(name)
