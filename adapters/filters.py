"""The filters of a search."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filters:
    """What a record must be to be found at all, besides its kind; None lets everything pass.

    `source_prefix` is compared with the start of `source`, letter by letter; `media_type` is the whole of it.
    """

    source_prefix: str | None = None
    media_type: str | None = None


#: Lets every record pass.
NO_FILTERS = Filters()
