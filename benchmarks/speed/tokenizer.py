"""`engine.run` whose stand-in reads the ids of a real tokenizer, so that parsers do what that model asks for.

    python -m benchmarks.speed.tokenizer MODEL OPTIONS OF engine.run

A stand-in's own tokens are found by a regular expression, which costs something else.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from unittest.mock import patch

from engine import run
from engine.models.resolve import resolve_text
from engine.models.spec import TextSpec
from engine.runtime import generation


def reads_as(stand_in: TextSpec, model: TextSpec) -> TextSpec:
    """The stand-in with tokenizer, largest input and prompt of a model."""
    return replace(
        stand_in,
        digest=model.digest,
        max_tokens=model.max_tokens,
        tokenizer_file=model.tokenizer_file,
        document_prompt=model.document_prompt,
    )


def main() -> int:
    """The command."""
    model = resolve_text(sys.argv[1])

    def resolved(name: str, **options: bool) -> TextSpec:
        return reads_as(resolve_text(name, **options), model)

    with patch.object(generation, "resolve_text", resolved):
        return run.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
