"""When to ask a flash card again: each success lengthens the wait, each failure starts over."""

from dataclasses import dataclass, replace

#: Days until a card is asked a second time, and the factor from one success to the next.
FIRST_WAIT = 1.0
GROWTH = 2.2


@dataclass(frozen=True)
class Card:
    """A question, its answer and what is known of how well it is remembered."""

    question: str
    answer: str
    wait_days: float = 0.0
    failures: int = 0


def review(card: Card, remembered: bool) -> Card:
    """The card after one more answer."""
    if not remembered:
        return replace(card, wait_days=0.0, failures=card.failures + 1)
    return replace(card, wait_days=card.wait_days * GROWTH or FIRST_WAIT)


def due(cards: dict[Card, float]) -> list[Card]:
    """Cards whose days since the last answer exceed their wait, most overdue first."""
    late = [(days - card.wait_days, card) for card, days in cards.items() if days >= card.wait_days]
    return [card for _, card in sorted(late, key=lambda pair: -pair[0])]
