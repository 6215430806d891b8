"""What is declared of a kind of database, known before its client library is imported."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from adapters.base import Adapter, AdapterOptions, Capabilities
from engine.errors import UsageError

#: The words that a boolean option takes.
BOOLEANS = {"true": True, "false": False}

#: Columns of the help text.
HELP_COLUMNS = 100


@dataclass(frozen=True, slots=True)
class Option:
    """An option in the query of a database's URL: `NAME=VALUE`.

    `accepts` is the tuple of its words, or `bool`, `int` (a whole number from 0 on) or `str`; `help` says
    what it does, and what holds where it is left out and `default` is None.
    """

    name: str
    help: str
    accepts: tuple[str, ...] | type[bool] | type[int] | type[str] = str
    default: str | int | bool | None = None

    @property
    def accepted(self) -> str:
        """What it accepts, in words."""
        if isinstance(self.accepts, tuple):
            return ", ".join(self.accepts)
        words = {bool: "true, false", int: "a whole number", str: "a text that is not empty"}
        return words[self.accepts]

    def parse(self, text: str) -> str | int | bool:
        """The value that a text stands for. Raises `ValueError` for a text that is not accepted."""
        if isinstance(self.accepts, tuple):
            if text in self.accepts:
                return text
        elif self.accepts is bool:
            if text in BOOLEANS:
                return BOOLEANS[text]
        elif self.accepts is int:
            if re.fullmatch(r"\d{1,18}", text):
                return int(text)
        elif text:
            return text
        raise ValueError(text)


#: Opens an index: the URL without its query, what a run asks of every database, and the database's own
#: options by name, each with its value, or its default, which may be None.
Connect: TypeAlias = Callable[[str, AdapterOptions, Mapping[str, Any]], Adapter]

#: Whether a local path (and whether it is a folder) is an index of a database, or a part of one.
IsIndex: TypeAlias = Callable[[str, bool], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A kind of database: what a line of the registry, or an entry point, names.

    Its module is imported by every command that is given such a URL; the client library only by `connect`,
    which may raise `ModuleNotFoundError` where it is missing: `install` then says what to do. `form` is the
    URL as one writes it, `about` one line on the database, `packages` the distributions on which its speed
    and its answers depend, `secrets` the environment variables from which it takes credentials.

    A database that keeps an index in local files says which, and no run ever lists them: `files` are the
    absolute paths of what the index behind a URL takes, there or not yet; `is_index` knows any index that a
    walk meets, and looks at the name first, because it is asked of each file and folder. `left_as` gives, of
    the URL of an index, a word that changes with every change of it, at once and without the client; None
    where there is no such word.
    """

    form: str
    about: str
    install: str
    capabilities: Capabilities
    connect: Connect
    options: tuple[Option, ...] = ()
    packages: tuple[str, ...] = ()
    secrets: str = ""
    files: Callable[[str], tuple[str, ...]] = lambda url: ()
    is_index: IsIndex | None = None
    left_as: Callable[[str], str | None] = lambda url: None

    def parse(self, url: str, query: str) -> dict[str, Any]:
        """The options in a URL's query, defaults filled in; `url`, without the query, is for the errors.

        Raises `UsageError` that names the option, its value and what is accepted. The value of an unknown
        option is not repeated: it may be a password.
        """
        known = {option.name: option for option in self.options}
        values: dict[str, Any] = {option.name: option.default for option in self.options}
        given: set[str] = set()
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise UsageError(f"--adapter {url}: after ? there must be NAME=VALUE, several by &") from None
        for name, text in pairs:
            if name not in known:
                accepted = f"accepted are {', '.join(known)}" if known else "this database has none"
                raise UsageError(f"--adapter {url}: unknown option {name!r}; {accepted}")
            if name in given:
                raise UsageError(f"--adapter {url}: option {name} is given twice")
            given.add(name)
            try:
                values[name] = known[name].parse(text)
            except ValueError:
                raise UsageError(
                    f"--adapter {url}: option {name}={text!r} is not accepted; accepted are"
                    f" {known[name].accepted}"
                ) from None
        return values

    def help_text(self) -> str:
        """All that is declared, for a person, in lines of at most `HELP_COLUMNS`."""
        able = self.capabilities
        yes_no = {
            "counts exactly": able.exact_count,
            "searches by words (--hybrid)": able.words,
            "filters": able.filters,
            "compares all vectors on request (--exact)": able.exact_search,
            "takes several writers at once": not able.single_writer,
            "loads a new generation beside the old one (--full)": able.generations,
        }
        lines = [
            ("", f"{self.form}: {self.about}"),
            ("install: ", self.install),
            *([("secrets: ", f"{self.secrets}, in the environment")] if self.secrets else []),
            ("", ""),
            ("", "options, in the URL's query:" if self.options else "no options"),
            *(("  ", _option_line(option)) for option in self.options),
            ("", ""),
            ("vectors come back: ", {"none": "not at all"}.get(able.vectors, able.vectors)),
            *(("", f"{what}: {'yes' if can else 'no'}") for what, can in yes_no.items()),
            (
                "",
                f"changes are seen by all {f'within {able.settles_s:g} s' if able.settles_s else 'at once'}",
            ),
        ]
        return "\n".join(
            textwrap.fill(start + text, HELP_COLUMNS, subsequent_indent="    ") for start, text in lines
        )


def _option_line(option: Option) -> str:
    default = option.default
    shown = "" if default is None else f" (default {str(default).lower()})"
    return f"{option.name}={option.accepted.replace(', ', '|')}: {option.help}{shown}"
