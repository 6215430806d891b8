"""The tokenizer of stand-in text models; the models themselves are in the stand-in backend."""

from __future__ import annotations

import re
import zlib

import numpy as np

from engine.records import TokenIds

#: The id in front of every input and the one behind it, as a real tokenizer's special tokens are.
FIRST_ID, LAST_ID = 1, 2

#: One token of a stand-in: up to 8 word characters, or one other character that isn't a space.
STAND_IN_TOKEN = re.compile(r"\w{1,8}|[^\w\s]")


def stand_in_id(token: str) -> int:
    """The id of one token: its CRC-32 without the highest bit, so that it fits an int32."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF


def stand_in_tokens(text: str) -> TokenIds:
    """The whole input for `text`, int32 [tokens + 2], the two special ids included.

    Concatenating the ids of texts that are cut where a token of `STAND_IN_TOKEN` ends gives the ids of the
    whole, special ids apart.
    """
    ids = [stand_in_id(token) for token in STAND_IN_TOKEN.findall(text)]
    return np.array([FIRST_ID, *ids, LAST_ID], dtype=np.int32)
