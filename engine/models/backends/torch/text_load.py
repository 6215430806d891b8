"""Loads a sentence-transformers model and checks its vectors. Imports torch: for the inference process."""

from __future__ import annotations

from engine.errors import UsageError
from engine.models.backends.torch.device import choose_device, choose_dtype, faithful
from engine.models.backends.torch.memory import loading
from engine.models.backends.torch.text import TextModel
from engine.models.files.text_folder import NO_LIMIT
from engine.models.probes import PROBES, cosines, ids_of
from engine.models.quiet import quiet
from engine.models.spec import TextSpec
from engine.records import Vector


def load_text_model(spec: TextSpec, device: str, dtype: str = "auto") -> TextModel:
    """Load the model and check that its ids give its vectors; where they don't, it falls back to text mode.

    `device` is cpu, cuda, cuda:N or mps; `dtype` auto, float32, bfloat16 or float16. Raises
    `UsageError` for a device that isn't there and for a model that can't be loaded, doesn't fit in the
    device's memory or isn't what its specification says, and `DeviceLostError`.
    """
    place = choose_device(device)
    numbers = choose_dtype(dtype, place)
    with quiet():
        from sentence_transformers import SentenceTransformer
    # Once more, because progress bars can be turned off only where their library has been imported.
    with quiet(), loading(f"text model {spec.name}", spec.folder, place):
        model = SentenceTransformer(
            spec.folder,
            device=str(place),
            trust_remote_code=spec.trust_remote_code,
            local_files_only=True,
            model_kwargs={"dtype": numbers},
        )
        loaded = TextModel(spec, model.to(numbers).eval(), place, numbers)
        _check(loaded)
    return loaded


def _check(loaded: TextModel) -> None:
    spec = loaded.spec
    reference = loaded._encode(loaded._model.encode_document, list(PROBES), spec.document_prompt)
    if reference.shape[1] != spec.dimensions:
        raise UsageError(
            f"text model {spec.name} gives {reference.shape[1]} dimensions, its files say {spec.dimensions}"
        )
    limit = loaded._model.max_seq_length
    if limit is not None and limit < (spec.max_tokens or NO_LIMIT):
        raise UsageError(
            f"text model {spec.name} reads {limit} tokens at most, which its files don't say: state it as "
            f"max_seq_length in {spec.folder}/sentence_bert_config.json"
        )
    if spec.mode == "text":
        return
    if why := _unfaithful(loaded, reference):
        loaded.effective_mode = "text"
        loaded.notes = (f"text model {spec.name}: {why}, so its own tokenizer is used, which is slower",)


def _unfaithful(loaded: TextModel, reference: Vector) -> str | None:
    spec = loaded.spec
    texts = [spec.document_prompt + text for text in PROBES]
    ids = ids_of(spec, texts)
    with quiet():
        own = [loaded._model.tokenizer(text)["input_ids"] for text in texts]
    if any(mine.tolist() != list(theirs) for mine, theirs in zip(ids, own, strict=True)):
        return "its tokenizer.json gives other ids than its tokenizer"
    fitting = [index for index, each in enumerate(ids) if len(each) <= (spec.max_tokens or len(each))]
    vectors = loaded._forward([ids[index] for index in fitting]).cpu().numpy()
    if not (cosines(vectors, reference[fitting]) >= faithful(loaded.dtype)).all():
        return "its ids give other vectors than its encode"
    return None
