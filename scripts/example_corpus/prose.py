"""The words of the example corpus: written originals, and longer texts composed from a stock of sentences."""

from __future__ import annotations

import calendar
import random
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

ORIGINALS = Path(__file__).parent / "originals"

_WIND = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
_FORCE = (
    "no wind worth the name from the {wind}, and the smoke stood straight up",
    "a light air from the {wind}",
    "a steady breeze from the {wind}, good for the fishing boats",
    "half a gale from the {wind}; the spray reached the gallery",
    "a full gale from the {wind}, and the tower hummed like a bottle",
)
_SKY = {
    "winter": ("sleet until noon", "hard frost", "low cloud", "snow on the rocks", "clear and bitterly cold"),
    "spring": (
        "showers with sun between them",
        "a bright morning",
        "soft rain",
        "haze over the land",
        "a rainbow",
    ),
    "summer": (
        "heat that lifted the horizon",
        "thunder in the afternoon",
        "a cloudless day",
        "fog before sunrise",
    ),
    "autumn": (
        "fog the whole day",
        "driving rain",
        "a red dawn",
        "mist that burnt off by ten",
        "a grey even sky",
    ),
}
_WORK = (
    "Polished the lens with rouge and spirit, which takes the two of us four hours.",
    "Trimmed the wicks and strained eleven gallons of oil.",
    "Painted the railing of the gallery on its weather side.",
    "Wound the clockwork every hour and a half, as the second weight is with the smith.",
    "Whitewashed the store and found the rat's nest behind the flour.",
    "Cleared a gull's nest from the chimney, with a gull in it.",
    "Mended the speaking tube, so that shouting is at an end.",
    "Caulked the landing boat and gave her a coat of tar.",
    "Took the fog signal apart; the reed was cracked, and the spare doesn't fit.",
    "Baked twice, since the supply boat is late and hard biscuit is all that is left.",
    "Dug seaweed into the potato bed.",
    "Counted the stores for the inspector and am short of one lantern glass.",
    "Washed salt from the panes three times between dusk and midnight.",
    "Wrote up the rain gauge and set the chronometer by the noon gun from the fort.",
)
_SEEN = (
    "A barque passed to the south under short sail and did not answer our flags.",
    "Four seals on the skerry, one of them with a pup as white as a pillow.",
    "The mail steamer went by at six with all her lamps lit.",
    "A flock of goldcrests fell on the gallery in the night, too tired to fear us.",
    "The pilot came across with letters, tobacco and an old newspaper.",
    "Two drifters lay in our lee until the sea went down.",
    "Whales blowing beyond the reef, five or six of them.",
    "A crate of oranges came ashore, hardly bruised, and we ate nothing else for two days.",
    "Nobody and nothing, not so much as a sail.",
    "A message in a bottle, from a schoolboy in Cork, eleven months under way. Answered it.",
    "The inspector looked at everything twice and praised the brass.",
    "A collier struck the outer bank on the ebb and came off on the flood without our help.",
    "Northern lights from ten until one, green with a hem of rose.",
)
_THOUGHTS = (
    "Hallam reads Dickens aloud at supper and does all the voices.",
    "I have begun to carve a chess set; the knights look like sheep.",
    "Dreamt of a wood. Woke and could smell it.",
    "My sister writes that the apple tree came down.",
    "We don't speak much before noon, and are the better friends for it.",
    "The concertina has lost its lowest note to the damp.",
    "I can tell the hour by the sound of the tide under the stairs.",
    "Hallam has a tooth that must come out, and I have a pair of pliers.",
    "Learnt the Greek alphabet this week from the back of a hymn book.",
    "Thought about what a light is for, and who has ever thanked one.",
)

_CARE = (
    "Water in the evening, at the root and not on the leaf; once properly beats three times a little.",
    "Hoe on dry mornings. Weeds that are cut then lie on top and wither by noon.",
    "A mulch of grass cuttings, a hand deep, saves both hoeing and water.",
    "Rain water is better than water from the main, which is cold and hard here.",
    "Mark the row with radishes, which are up in a week and eaten before they are in the way.",
    "Tread on a board and never on the bed, or all the digging was in vain.",
    "Nettles steeped in a barrel for a fortnight make a feed that can be smelt from the road.",
    "If the leaves turn pale, a spoon of dried blood to the metre brings the colour back.",
    "Sow a few more than are needed, and give the rest of the seedlings to somebody with bad luck.",
)
_DIARY = (
    "In the wet summer of {year} we lost one row in three and learnt to give up the low corner by the pump.",
    "In {year}, after a dry May, ours came three weeks late and were the best that anybody could remember.",
    "The neighbour's bed in {year} was twice as high as ours. He had said nothing of the pigeon dung.",
    "Our notes for {year} say only: too many. We left bags of them on doorsteps and ran.",
    "A late frost on the twelfth of May {year} took the first sowing; the second overtook it in any case.",
    "In {year} a hailstorm in July shredded everything above ground within four minutes.",
    "The show of {year} gave us second prize, and first to the vicar, whose gardener had been at work.",
    "In {year} the hens got in. There is nothing further to report of that year.",
    "We tried seed of our own in {year}, and half of what grew was something else.",
)


@dataclass(frozen=True, slots=True)
class Original:
    """A written text: the `#` line's fields in order, and its paragraphs."""

    fields: tuple[str, ...]
    paragraphs: tuple[str, ...]

    @property
    def title(self) -> str:
        """The last field of the heading."""
        return self.fields[-1]


def read(name: str) -> list[Original]:
    """The texts of one file of originals; a line that starts with `# ` begins each."""
    texts = []
    for part in ("\n" + (ORIGINALS / name).read_text(encoding="utf-8")).split("\n# ")[1:]:
        heading, _, body = part.partition("\n")
        lines = body.split("\n\n") if "\n\n" in body else body.split("\n")
        texts.append(
            Original(tuple(heading.split(" | ")), tuple(line.strip() for line in lines if line.strip()))
        )
    return texts


def vegetables() -> list[dict[str, str]]:
    """The gardening table: a mapping of column to value for each kind."""
    heading, *rows = (ORIGINALS / "vegetables.txt").read_text(encoding="utf-8").splitlines()
    columns = heading.removeprefix("# ").split(" | ")
    return [dict(zip(columns, row.split(" | "), strict=True)) for row in rows]


def log_month(year: int, month: int, rng: random.Random) -> tuple[str, list[str]]:
    """A lighthouse keeper's log: the month's title and one paragraph for each day."""
    season = ("winter", "spring", "summer", "autumn")[month % 12 // 3]
    stocks = {id(stock): rng.sample(stock, len(stock)) for stock in (_WORK, _SEEN, _THOUGHTS)}
    day = date(year, month, 1)
    entries = []
    while day.month == month:
        force = rng.choice(_FORCE).format(wind=rng.choice(_WIND))
        sky = rng.choice(_SKY[season])
        glass = round(rng.uniform(28.6, 30.6), 2)
        parts = [f"{day:%A} the {_ordinal(day.day)}. {sky.capitalize()}, {force}. Barometer {glass} inches."]
        for stock, chance in ((_WORK, 0.8), (_SEEN, 0.6), (_THOUGHTS, 0.35)):
            if rng.random() < chance:
                left = stocks[id(stock)]
                parts.append(left.pop())
                if not left:
                    stocks[id(stock)] = rng.sample(stock, len(stock))
        entries.append(" ".join(parts))
        day += timedelta(days=1)
    return f"Skerry Point Light, {calendar.month_name[month]} {year}", entries


def vegetable_page(row: dict[str, str], rng: random.Random) -> list[str]:
    """A page of the garden handbook on one vegetable, as paragraphs."""
    name = row["name"]
    plural = _plural(name)
    weeks = int(row["weeks to harvest"])
    length = (
        f"about {weeks} weeks"
        if weeks < 52
        else f"nearly {round(weeks / 52)} years"
        if weeks > 60
        else "a year"
    )
    depth = (
        "on the surface, as the seed needs light" if row["depth cm"] == "0" else f"{row['depth cm']} cm deep"
    )
    sow = rng.choice((
        "The time to begin is {sow}. Set them {depth} and {apart} cm apart; crowded plants compete and sulk.",
        "Begin in this manner: {sow}; {depth}, with {apart} cm from one plant to the next.",
        "Start {plural} as follows: {sow}. They go {depth}, and later stand {apart} cm from each other.",
    )).format(sow=row["sow"], depth=depth, apart=row["apart cm"], plural=plural)  # fmt: skip
    patience = rng.choice((
        f"From there to the first harvest it is {length}, a little less in a warm year.",
        f"Reckon with {length} until there is something to eat, and don't grudge a week more.",
        f"You will wait {length}; write the date on the label, because nobody remembers it.",
    ))  # fmt: skip
    ground = (
        f"Ground: {row['ground']}. Family: {row['family']}; nothing of it should follow on the same bed"
        f" for {rng.choice(('three', 'four'))} years."
    )
    trouble, _, cure = row["trouble and cure"].partition("; ")
    worry = f"The usual trouble with {plural} is this: {trouble}. What helps: {cure or 'patience'}."
    years = sorted(rng.sample(range(1988, 2020), 3))
    diary = " ".join(text.format(year=year) for text, year in zip(rng.sample(_DIARY, 3), years, strict=True))
    care = " ".join(rng.sample(_CARE, 3))
    kitchen = f"In the kitchen: {row['in the kitchen']}. Keeping: {row['how it keeps']}."
    return [f"{sow} {patience}", ground, care, worry, diary, kitchen]


def _plural(name: str) -> str:
    if name in (
        "garlic",
        "spinach",
        "chard",
        "kale",
        "celery",
        "fennel",
        "asparagus",
        "rhubarb",
        "sweetcorn",
    ):
        return name
    if name in ("broccoli", "cauliflower", "celeriac", "salsify", "kohlrabi", "chicory", "endive"):
        return name
    return name + ("es" if name.endswith(("to", "sh", "ch")) else "s")


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
