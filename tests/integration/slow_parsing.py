"""`engine.run` whose parsers take a while for each file and need no processor for it.

python -m tests.integration.slow_parsing SECONDS OPTIONS OF engine.run
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from unittest.mock import patch

from engine import run
from engine.runtime.workers import parser
from engine.stages.parse import FileJob, Parsed, ParseStage


def slow_main(seconds: float, *rest: object) -> None:
    """In place of the parser's entry."""
    parse = ParseStage.parse

    def slowly(stage: ParseStage, job: FileJob) -> Iterator[Parsed]:
        time.sleep(seconds)
        yield from parse(stage, job)

    with patch.object(ParseStage, "parse", slowly):
        parser.main(*rest)  # type: ignore[arg-type]


if __name__ == "__main__":
    with patch("engine.runtime.pipeline.parser.main", partial(slow_main, float(sys.argv[1]))):
        sys.exit(run.main(sys.argv[2:]))
