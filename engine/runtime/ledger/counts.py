"""What one invocation did, in numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from engine import parsers

#: What follows a suffix whose format the item does not have.
OTHER_CONTENT = " with other content"

#: The rule of what no parser reads, and the most types of it that are counted each for itself.
UNKNOWN_TYPE, MOST_TYPES = "unknown-type", 100


@dataclass
class Counts:
    """What this invocation did; `summary.json` takes it from here."""

    discovered: int = 0
    indexed: int = 0
    partial: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    removed: int = 0
    text_chunks: int = 0
    image_chunks: int = 0
    #: Of both, those whose vector was at hand, because the same content had been embedded before.
    deduplicated: int = 0
    records: int = 0
    deleted: int = 0
    tokens: int = 0
    padding: int = 0
    #: Tokens and pictures that were not computed, because the same content had been embedded before.
    spared_tokens: int = 0
    spared_pictures: int = 0
    bytes_read: int = 0
    #: Bytes of the items that were found, and of those that came to an end.
    bytes_found: int = 0
    bytes_done: int = 0
    #: Characters that could not be decoded, and pictures that end early, taken all the same.
    replaced_characters: int = 0
    truncated_images: int = 0
    #: How many items each skip rule left out, and of those that no parser reads how many of each type.
    rules: dict[str, int] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)
    #: Items with records that have left the corpus, and stay in the index because nobody asked to prune.
    gone: int = 0

    def ended(self, state: str) -> None:
        """One more item has come to its end in this state."""
        setattr(self, state, getattr(self, state) + 1)

    def skip(self, uri: str, rule: str) -> None:
        """A rule has left one more item out."""
        self.ended("skipped")
        self.rules[rule] = self.rules.get(rule, 0) + 1
        if rule == UNKNOWN_TYPE:
            word = _type_word(uri)
            if word not in self.unread and len(self.unread) >= MOST_TYPES:
                word = "other"
            self.unread[word] = self.unread.get(word, 0) + 1

    @property
    def computed_tokens(self) -> int:
        """Tokens that a model computed: those of texts whose vector was at hand are not among them."""
        return self.tokens - self.spared_tokens

    @property
    def computed_images(self) -> int:
        """Pictures that a model computed."""
        return self.image_chunks - self.spared_pictures

    @property
    def computed_chunks(self) -> int:
        """Chunks of both kinds that a model computed."""
        return self.text_chunks + self.image_chunks - self.deduplicated

    @property
    def pending(self) -> int:
        """Items that were found and not brought to an end."""
        done = self.indexed + self.partial + self.unchanged + self.skipped + self.failed
        return self.discovered - done


def _type_word(uri: str) -> str:
    """What to call the type of an item that no parser reads: its suffix, as far as that is true of it."""
    suffix = re.search(r"[^/]\.(?=[0-9]*[A-Za-z])([A-Za-z0-9_+-]{1,12})$", uri)
    if suffix is None:
        return "without a suffix"
    word = suffix[1].lower()
    return word + OTHER_CONTENT if parsers.type_by_name(uri) else word
