"""CLIP's text tower in NumPy: pictures are searched by one caption, for which no large library is imported.

It reads what open_clip's files say, and runs the plain tower that most models of open_clip have (a causal
transformer, the vector of the last token); every other one is left to torch.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.models.backends.base import (
    Backend,
    BackendChoice,
    CannotRunError,
    CaptionEmbedder,
    Cost,
    Say,
    Spec,
)
from engine.models.files.image_folder import CONFIG, architecture_config
from engine.models.files.text_files import read_json
from engine.models.probes import whole_characters
from engine.models.quiet import one_line
from engine.models.spec import ImageSpec
from engine.records import Vector

#: What a text tower may be configured with, and what each is where nothing is said (`CLIPTextCfg`).
KNOWN: dict[str, Any] = {
    "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0,
    "hf_tokenizer_name": None,
}  # fmt: skip

#: Settings of a whole model that leave its text tower as it is.
HARMLESS = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"}

#: Lines of open_clip's list of merges that count: the vocabulary without bytes and special tokens.
MERGES = slice(1, 49152 - 256 - 2 + 1)

START, END = "<start_of_text>", "<end_of_text>"

#: What open_clip's own tokenizer takes for a word, whatever the case.
WORD = rf"{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"

#: Of each value the error function; NumPy has none.
_erf: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = np.frompyfunc(math.erf, 1, 1)


class ClipTextBackend(Backend):
    """Captions alone."""

    name = "numpy"
    title = "NumPy"
    work = frozenset(("caption",))
    packages = ("safetensors", "tokenizers")
    cost = Cost(memory=20 << 20, start_s=0.3)

    def prepare(self, spec: Spec, memory_limit: int | None = None, say: Say | None = None) -> None:
        if not isinstance(spec, ImageSpec) or not str(spec.weights_file).endswith(".safetensors"):
            raise CannotRunError("its weights are no safetensors")
        model = _config(spec)
        text = model.get("text_cfg") or {}
        unknown = sorted(set(model) - HARMLESS) + sorted(set(text) - set(KNOWN))
        if unknown:
            raise CannotRunError(f"its text tower has {', '.join(unknown)}")
        if text.get("hf_tokenizer_name") and not (Path(str(spec.folder)) / "tokenizer.json").is_file():
            raise CannotRunError("its tokenizer is not in its folder")
        _check_weights(spec, int(model.get("embed_dim") or 0), KNOWN | text)

    def load_caption(self, spec: ImageSpec, device: str, dtype: str) -> CaptionEmbedder:
        return ClipText(spec)


class ClipText(CaptionEmbedder):
    """A loaded text tower, float32 throughout."""

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self.choice = BackendChoice("numpy", "float32")
        model = _config(spec)
        self._text = KNOWN | model["text_cfg"]
        self._quick = bool(model.get("quick_gelu"))
        self._weights = dict(_weights(Path(str(spec.folder)) / str(spec.weights_file)))
        self._ids = _hub_ids(spec) if self._text["hf_tokenizer_name"] else _own_ids()

    def embed_query(self, text: str) -> Vector:
        """A caption to float32 [dimensions] of length one."""
        ids = self._ids(whole_characters(text), self._text["context_length"])
        # open_clip reads the vector at the largest id, which is the end's. What follows it changes nothing,
        # since each token sees only those before.
        ids = ids[: int(np.argmax(ids)) + 1]
        weight = self._weights
        x = weight["token_embedding.weight"][ids] + weight["positional_embedding"][: len(ids)]
        for layer in range(self._text["layers"]):
            x = self._block(f"transformer.resblocks.{layer}.", x)
        vector = self._normed("ln_final", x[-1:])[0] @ weight["text_projection"]
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), dtype=np.float32)

    def _block(self, name: str, x: Vector) -> Vector:
        """A residual block: attention, then the two layers of the perceptron; [tokens, width]."""
        heads, tokens = self._text["heads"], len(x)
        projected = self._linear(f"{name}attn.in_proj_", self._normed(f"{name}ln_1", x))
        q, k, v = projected.reshape(tokens, 3, heads, -1).transpose(1, 2, 0, 3)
        scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(q.shape[-1]))
        scores += np.triu(np.full((tokens, tokens), -np.inf, dtype=np.float32), 1)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        x = x + self._linear(f"{name}attn.out_proj.", (scores @ v).transpose(1, 0, 2).reshape(tokens, -1))
        inner = self._linear(f"{name}mlp.c_fc.", self._normed(f"{name}ln_2", x))
        if self._quick:
            inner = inner / (1 + np.exp(-1.702 * inner))
        else:
            inner = inner * (1 + _erf(inner / math.sqrt(2)).astype(np.float32)) / np.float32(2)
        return x + self._linear(f"{name}mlp.c_proj.", inner)

    def _linear(self, name: str, x: Vector) -> Vector:
        found: Vector = x @ self._weights[f"{name}weight"].T + self._weights[f"{name}bias"]
        return found

    def _normed(self, name: str, x: Vector) -> Vector:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        found: Vector = centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return found


def _config(spec: ImageSpec) -> dict[str, Any]:
    if spec.architecture is not None:
        return architecture_config(spec.architecture)
    return dict(read_json(Path(str(spec.folder)) / CONFIG).get("model_cfg") or {})


def _check_weights(spec: ImageSpec, dimensions: int, text: Mapping[str, Any]) -> None:
    """Raises `CannotRunError` where a tensor is missing, has another shape (open_clip interpolates positions)
    or numbers that NumPy lacks (bfloat16)."""
    from safetensors import SafetensorError, safe_open

    width, inner = text["width"], int(text["width"] * text["mlp_ratio"])
    expected = {
        "token_embedding.weight": [text["vocab_size"], width],
        "positional_embedding": [text["context_length"], width],
        "text_projection": [width, dimensions],
        "ln_final.weight": [width],
        "ln_final.bias": [width],
    }
    for layer in range(text["layers"]):
        block = f"transformer.resblocks.{layer}."
        for name, shape in (
            ("ln_1.", [width]), ("attn.in_proj_", [3 * width, width]), ("attn.out_proj.", [width, width]),
            ("ln_2.", [width]), ("mlp.c_fc.", [inner, width]), ("mlp.c_proj.", [width, inner]),
        ):  # fmt: skip
            expected[f"{block}{name}weight"], expected[f"{block}{name}bias"] = shape, shape[:1]
    try:
        with safe_open(Path(str(spec.folder)) / str(spec.weights_file), framework="numpy") as file:
            there = set(file.keys())
            for name, shape in expected.items():
                found = file.get_slice(name) if name in there else None
                if found is None or found.get_shape() != shape or found.get_dtype() not in ("F32", "F16"):
                    raise CannotRunError(f"its weights have another {name}")
    except (OSError, SafetensorError) as error:
        raise CannotRunError(f"its weights can't be read: {one_line(error)}") from error


def _weights(path: Path) -> Iterator[tuple[str, Vector]]:
    """The text tower's tensors by name; the others are not read."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - no dictionary
            if name.partition(".")[0] not in ("visual", "logit_scale", "logit_bias"):
                yield name, file.get_tensor(name).astype(np.float32)


def _hub_ids(spec: ImageSpec) -> Callable[[str, int], list[int]]:
    """By the tokenizer in the model's folder, as open_clip's `HFTokenizer` uses it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(str(spec.folder)) / "tokenizer.json"))
    tokenizer.no_padding()

    def ids(text: str, most: int) -> list[int]:
        tokenizer.enable_truncation(most)
        found: list[int] = tokenizer.encode(_cleaned(text)).ids
        return found

    return ids


def _own_ids() -> Callable[[str, int], list[int]]:
    """By open_clip's own vocabulary, as its `SimpleTokenizer` uses it."""
    import regex
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    package = importlib.util.find_spec("open_clip")
    folder = (package.submodule_search_locations or [""])[0] if package else ""
    text = gzip.decompress((Path(folder) / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in text.split("\n")[MERGES])]
    letters = _letters()
    names = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    tokenizer.add_special_tokens([AddedToken(START), AddedToken(END)])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # By the library that open_clip uses: others know other letters, of other versions of Unicode.
    words = regex.compile(WORD, regex.IGNORECASE)
    start, end = vocabulary[START], vocabulary[END]

    def ids(text: str, most: int) -> list[int]:
        found = tokenizer.encode(words.findall(_cleaned(text).lower()), is_pretokenized=True).ids
        return [start, *found[: most - 2], end]

    return ids


def _letters() -> list[str]:
    """A character for each byte, in the order of the vocabulary: those that can be printed first."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, printed), *(chr(256 + number) for number in range(256 - len(printed)))]


def _cleaned(text: str) -> str:
    """As open_clip cleans it: broken encodings mended, entities replaced, white space made single spaces."""
    if not (text.isascii() and text.isprintable()) or "&" in text:
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())
