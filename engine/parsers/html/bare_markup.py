"""HTML bared to its tags and text, in pieces: attributes, comments, scripts and styles never pile up."""

from __future__ import annotations

import re
import zlib
from typing import Final

from lxml.html import defs

#: Characters of a tag's name, or after a `&`, that are waited for where a piece ends: no element and no
#: entity has a longer one.
MAX_NAME = 64

#: Characters without a blank in a title and its like that are waited for.
MAX_WORD = 4096

#: Stands for every comment and declaration: without it, what it parts could become one reference.
COMMENT = "<!---->"

#: Names that tags HTML does not know are told apart by: libxml2 keeps every name for the process's life.
UNKNOWN_NAMES = 4096

# Elements whose content is no markup (WHATWG HTML, 13.2.6.2), up to their own end tag.
_RAW = frozenset({"iframe", "noembed", "noframes", "plaintext", "textarea", "title", "xmp"})
_UNREAD = frozenset({"script", "style"})
_KNOWN = defs.tags | _RAW | _UNREAD | {"bgsound", "frame", "main", "noframes", "template"}

# What may follow `<` (13.2.5.6): a tag, a comment or tag that is over already, a comment, a declaration.
_MARK = re.compile(r"<(?:(/?)([a-zA-Z][^\t\n\f\r />]*)|(!---?>|/>)|(!--)|[!?]|/(?=.))", re.S)
_COMMENT_END = re.compile("--!?>")
_DECLARATION_END = re.compile(">")
_SCRIPT_MARK = re.compile(r"<!(?=--)|-->|</?script(?=[\t\n\f\r />])", re.I)
_PLAIN_ATTRIBUTES = re.compile(
    r"""(?:[\t\n\f\r ]++[^\t\n\f\r />='"]++(?:=(?:"[^"]*+"|'[^']*+'|[^\t\n\f\r >'"][^\t\n\f\r >]*+))?+)*+"""
    r"[\t\n\f\r ]*+(/?)>"
)
# A reference to a character that may go on in the next piece.
_OPEN_ENTITY = re.compile(rf"&[^\s<&;]{{0,{MAX_NAME}}}\Z")

# The states of 13.2.5.32 to 39: what is passed over, what the characters behind it lead to, and any other.
_Way = tuple[re.Pattern[str], dict[str, str], str]
_ATTRIBUTES: Final[dict[str, _Way]] = {
    "between": (re.compile(r"[\t\n\f\r /]*"), {}, "name"),
    "name": (re.compile(r".[^\t\n\f\r />=]*", re.S), {"=": "value"}, "named"),
    "rest of name": (re.compile(r"[^\t\n\f\r />=]*"), {"=": "value"}, "named"),
    "named": (re.compile(r"[\t\n\f\r ]*"), {"=": "value"}, "between"),
    "value": (re.compile(r"[\t\n\f\r ]*"), {'"': '"', "'": "'"}, "unquoted"),
    "unquoted": (re.compile(r"[^\t\n\f\r >]*"), {}, "between"),
    '"': (re.compile(r'[^"]*'), {'"': "between"}, ""),
    "'": (re.compile(r"[^']*"), {"'": "between"}, ""),
}


class BareMarkup:
    """Brings markup to tags without attributes and the text between them, however it is cut into pieces.

    What is in comments, declarations, scripts and styles is left out; so are the end tags of `body`
    and `html`, because what follows them belongs to the page all the same (13.2.6.4.19). Takes the memory of
    a piece, whatever is in it.
    """

    def __init__(self) -> None:
        self._text, self._at, self._last = "", 0, False
        self._out: list[str] = []
        # Goes on where reading stands; False where more must be known.
        self._step = self._content
        self._tag = self._slash = self._way = self._raw = ""
        self._raw_end = _DECLARATION_END
        self._script_depth = 0

    @property
    def raw(self) -> bool:
        """Whether what came last stands in an element whose content is no markup."""
        return bool(self._raw)

    def feed(self, markup: str, last: bool = False) -> str:
        """What this piece adds; with `last`, all that was held back too."""
        self._text, self._at, self._last = self._text[self._at :] + markup, 0, last
        while self._at < len(self._text) and self._step():
            pass
        bare, self._out = "".join(self._out), []
        return bare

    def _content(self) -> bool:
        """Text and whole tags, as far as something else begins."""
        text, out = self._text, self._out
        while True:
            start = text.find("<", self._at)
            if start < 0:
                near = max(self._at, len(text) - MAX_NAME)
                open_entity = None if self._last else _OPEN_ENTITY.search(text, near)
                start = open_entity.start() if open_entity else len(text)
                out.append(text[self._at : start])
                self._at = start
                return False
            out.append(text[self._at : start])
            self._at = start
            if not self._last and len(text) - start <= MAX_NAME and ">" not in text[start:]:
                return False
            mark = _MARK.match(text, start)
            if mark is None:
                out.append("&lt;")
                self._at = start + 1
                continue
            end_tag, name, whole, comment = mark.groups()
            self._at = mark.end()
            if name:
                self._tag = f"{end_tag}{_known(name)}"
                attributes = _PLAIN_ATTRIBUTES.match(text, self._at)
                if attributes is None:
                    self._way, self._slash, self._step = "between", "", self._attributes
                    return True
                self._at = attributes.end()
                self._finish_tag(attributes.group(1))
                if self._raw:
                    return True
            elif whole:
                out.append(COMMENT)
            else:
                self._step = self._comment if comment else self._declaration
                return True

    def _finish_tag(self, slash: str) -> None:
        tag = self._tag
        if tag not in ("/body", "/html"):
            self._out.append(f"<{tag}{'' if tag.startswith('/') else slash}>")
        self._step = self._content
        if tag in _RAW | _UNREAD and not slash:
            self._raw, self._script_depth = tag, 0
            self._step = self._script if tag == "script" else self._raw_text
            self._raw_end = re.compile(rf"</{tag}(?=[\t\n\f\r />])", re.I)

    def _attributes(self) -> bool:
        text = self._text
        while self._at < len(text):
            passed_over, leads_to, other = _ATTRIBUTES[self._way]
            match = passed_over.match(text, self._at)
            at = match.end() if match else self._at
            if self._way == "between" and at > self._at:
                self._slash = "/" if text[at - 1] == "/" else ""
            if at == len(text):
                self._at = at
                self._way = "rest of name" if self._way == "name" else self._way
                return False
            found = text[at]
            if found == ">" and other:
                self._at = at + 1
                self._finish_tag(self._slash if self._way == "between" else "")
                return True
            self._at = at + (found in leads_to)
            self._way = leads_to.get(found, other)
        return False

    def _comment(self) -> bool:
        return self._skip(_COMMENT_END)

    def _declaration(self) -> bool:
        return self._skip(_DECLARATION_END)

    def _skip(self, ends: re.Pattern[str]) -> bool:
        end = ends.search(self._text, self._at)
        self._at = end.end() if end else max(self._at, len(self._text) - len("--!"))
        if end:
            self._out.append(COMMENT)
            self._step = self._content
        return end is not None

    def _raw_text(self) -> bool:
        end = self._raw_end.search(self._text, self._at) if self._raw != "plaintext" else None
        stop = end.start() if end else len(self._text) if self._last else self._sure_end()
        if self._raw not in _UNREAD:
            self._out.append(self._text[self._at : stop])
        self._at = stop
        return end is not None and self._leave_raw(end.end())

    def _sure_end(self) -> int:
        """How far raw text goes at least, cut behind a blank, and so in no end tag and no reference."""
        sure = max(self._at, len(self._text) - MAX_NAME)
        blank = max(self._text.rfind(" ", self._at, sure), self._text.rfind("\n", self._at, sure))
        return blank + 1 or (sure if sure - self._at > MAX_WORD else self._at)

    def _script(self) -> bool:
        """A script may hold its own end tag in a comment that holds its start tag (13.2.5.17 to 33)."""
        for mark in _SCRIPT_MARK.finditer(self._text, self._at):
            word, self._at = mark.group().lower(), mark.end()
            if word == "<!":
                self._script_depth = max(self._script_depth, 1)
            elif word == "-->":
                self._script_depth = 0
            elif word == "<script":
                self._script_depth = 2 if self._script_depth else 0
            elif self._script_depth == 2:
                self._script_depth = 1
            else:
                return self._leave_raw(mark.end())
        self._at = max(self._at, len(self._text) - MAX_NAME)
        return False

    def _leave_raw(self, name_end: int) -> bool:
        self._tag, self._raw, self._at = f"/{self._raw}", "", name_end
        self._way, self._slash, self._step = "between", "", self._attributes
        return True


def _known(name: str) -> str:
    name = name.lower()
    return name if name in _KNOWN else f"x{zlib.crc32(name.encode()) % UNKNOWN_NAMES}"
