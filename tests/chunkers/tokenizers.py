"""Small tokenizers of every family, trained here, and texts that are hard to cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer

from engine.models.spec import TextSpec

Family: TypeAlias = Callable[[], Tokenizer]

ENGLISH = (
    "The harbour froze in January, and nobody crossed it until spring. “Why should we?” asked the ferryman. "
    "He kept three boats, two nets and a dog called Internationalisation; the dog slept! All of them waited. "
)
CHINESE = "港口在一月结冰了。直到春天，没有人穿过它！“我们为什么要穿过？”船夫问道。他有三条船和一只狗。"
JAPANESE = "港は一月に凍った。春まで誰も渡らなかった！「なぜ渡るのか？」と渡し守は尋ねた。カタカナ、ﾊﾞｽ。"
THAI = "ท่าเรือแข็งตัวในเดือนมกราคม และไม่มีใครข้ามไปจนถึงฤดูใบไม้ผลิ คนพายเรือมีเรือสามลำและสุนัขน้ำ"
HINDI = "जनवरी में बंदरगाह जम गया। वसंत तक किसी ने उसे पार नहीं किया। क्यों करते? मल्लाह ने पूछा।"
ARABIC = "تجمّد الميناء في يناير، ولم يعبره أحد حتى الربيع. لماذا نعبر؟ سأل المراكبي. ﷺ"
KOREAN = "항구는 일월에 얼었다. 봄까지 아무도 건너지 않았다. 한글"
EMOJI = "👩‍👩‍👧‍👦👍🏽🏴󠁧󠁢󠁷󠁬󠁳󠁿🇫🇷🇩🇪❤️‍🔥👩🏿‍🚀"
MARKS = "a\u0301\u0323e\u0308\u0304\u0301 \u1f82Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d"
CORPUS = [ENGLISH, CHINESE, JAPANESE, THAI, HINDI, ARABIC, KOREAN, EMOJI, MARKS] * 3

PROMPTS = ("", "passage: ", "Represent this", "  \n")

#: Pieces that a text is put together from; some are awkward alone, some at the border to another.
PIECES = (
    *(ENGLISH, ENGLISH[:70], CHINESE, JAPANESE, THAI, HINDI, ARABIC, KOREAN, EMOJI, MARKS),
    *(" ", "\n", "\r\n", "\n\n", "\r\n \r\n", "\t", "\u00a0", "\u3000", "\u2028", "\f", " " * 40, "\n" * 30),
    *("\0", "\0" * 50, "\x85", "\u200b", "\ufeff", "\u200d", "\ud800", "\udfff\ud83d", "\ufffd"),
    *(
        "ﬃ½㍿",
        "\ufdfa" * 3,
        "[SEP]",
        "</s>",
        "<s> [MASK]",
        "e\u0301" * 30,
        "👨‍👩‍👧" * 9,
        "🇪🇺" * 15,
        "\u0301" * 90,
    ),
    *(
        "x" * 300,
        "9" * 120,
        "!?" * 40,
        "...",
        "https://example.org/a/b?c=d&e=f#g",
        "क्ष" * 20,
        "\u1100\u1161\u11a8" * 20,
    ),
)

#: Halves of pairs, marks, joiners and signs of direction, digits and letters of any script, without a space.
_odd = st.characters(categories=("Cs", "Mn", "Mc", "Me", "Cf", "Lo", "Nd"))

#: A few characters of any kind over and over: a run that offers no place to cut.
_runs = st.builds(
    lambda text, times: text * times, st.text(_odd, min_size=1, max_size=4), st.integers(1, 400)
)

_pieces = st.sampled_from(PIECES) | st.text(max_size=30) | st.text(_odd, max_size=30) | _runs

#: Texts of up to 30 pieces, long ones as likely as short ones.
texts = st.integers(0, 30).flatmap(lambda n: st.lists(_pieces, min_size=n, max_size=n)).map("".join)


def wordpiece_lower() -> Tokenizer:
    """As BERT's uncased: lower case, accents stripped, words over 100 characters unknown."""
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS, WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def wordpiece_decomposed() -> Tokenizer:
    """Cased, decomposed but with its accents, so that a cut can part a letter from its accent's token."""
    tokenizer = wordpiece_lower()
    tokenizer.normalizer = normalizers.NFD()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def byte_level_bpe() -> Tokenizer:
    """As RoBERTa's and GPT-2's: every byte is a token, a word takes the space before it along."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_level_bpe_composed() -> Tokenizer:
    """Byte-level after NFKC, with a space put in front: one character can make 33 tokens."""
    tokenizer = byte_level_bpe()
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def whole_text_bpe() -> Tokenizer:
    """As Llama's: no pre-tokenizer, so that merges cross words and prompt; unknown characters as bytes."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [text[start : start + 14] for text in CORPUS for start in range(0, len(text), 11)]
    tokenizer.train_from_iterator(
        words, BpeTrainer(vocab_size=800, special_tokens=special, limit_alphabet=80, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-R's and T5's: NFKC, spaces as ▁, runs of unknown characters one token."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS, ENGLISH.lower()], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


FAMILIES: tuple[Family, ...] = (
    wordpiece_lower,
    wordpiece_decomposed,
    byte_level_bpe,
    byte_level_bpe_composed,
    whole_text_bpe,
    unigram,
)


def saved(folder: Path, make: Family) -> str:
    """The tokenizer's file, with the truncation and padding that published ones often come with."""
    tokenizer = make()
    tokenizer.enable_truncation(12)
    tokenizer.enable_padding(length=40)
    path = folder / f"{make.__name__}.json"
    tokenizer.save(str(path))
    return str(path)


def spec(
    tokenizer_file: str | None, prompt: str = "", max_tokens: int | None = 256, mode: str = "ids"
) -> TextSpec:
    """A text model with this tokenizer."""
    return TextSpec(
        name="small",
        folder=None,
        digest="0" * 8,
        dimensions=8,
        normalized=True,
        max_tokens=max_tokens,
        mode="ids" if mode == "ids" else "text",
        tokenizer_file=tokenizer_file,
        document_prompt=prompt,
    )
