from __future__ import annotations

import numpy as np

from engine.models.stand_in import FIRST_ID, LAST_ID, stand_in_tokens


def test_a_token_is_up_to_eight_word_characters_or_one_other_sign() -> None:
    ids = stand_in_tokens("internationally, yes")
    assert ids.dtype == np.int32
    assert (ids[0], ids[-1]) == (FIRST_ID, LAST_ID)
    assert len(ids) == 2 + len(["internat", "ionally", ",", "yes"])
    assert list(ids[1:-1]) == [int(stand_in_tokens(t)[1]) for t in ("internat", "ionally", ",", "yes")]


def test_a_lone_surrogate_has_an_id_too() -> None:
    assert len(stand_in_tokens("\udc80")) == 3
