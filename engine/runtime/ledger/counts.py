"""What one invocation did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    #: Characters that could not be decoded, and pictures that end early, taken all the same.
    replaced_characters: int = 0
    truncated_images: int = 0
    #: How many items each skip rule left out.
    rules: dict[str, int] = field(default_factory=dict)

    def ended(self, state: str) -> None:
        """One more item has come to its end in this state."""
        setattr(self, state, getattr(self, state) + 1)

    @property
    def pending(self) -> int:
        """Items that were found and not brought to an end."""
        done = self.indexed + self.partial + self.unchanged + self.skipped + self.failed
        return self.discovered - done
