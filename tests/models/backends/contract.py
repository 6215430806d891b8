"""What every backend promises (`engine.models.backends.base`), as tests: subclass `BackendContract`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import pytest

from engine.errors import UsageError
from engine.models import backends
from engine.models.backends.base import DTYPES, Backend, BackendChoice, Spec, Work
from engine.models.load import load_caption, load_image, load_text
from engine.models.probes import FAITHFUL, FAITHFUL_IN_REDUCED_PRECISION, cosines
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec, to_json
from engine.records import Pixels, TokenIds, Vector
from tests.models.made import some_texts

LONG = "the land and the work " * 2_000

#: Loads the declaration alone, and says which of its packages that has imported.
DECLARED = """
import sys
from engine.models import backends
backend = backends.get(sys.argv[1])
backend.auto_dtypes("cpu"), backend.installed(), backends.leanest_first()
print(sorted({*backend.packages, "torch", "onnxruntime"} & set(sys.modules)))
"""

#: Loads a model in a process of its own and prints the vector of a query.
ELSEWHERE = """
import sys
from engine.models.load import load_text
from engine.models.spec import from_json
model = load_text(from_json(sys.argv[1]), "cpu", *sys.argv[2:])
print(*model.embed_query("the work of the land"))
"""


class BackendContract:
    """Subclassed as `Test…` by each backend; `name` is that in the registry."""

    name: ClassVar[str]

    @pytest.fixture
    def text(self, unit_bert: Path) -> TextSpec:
        """A text model that it runs, of unit length."""
        return resolve_text(str(unit_bert))

    @pytest.fixture
    def image(self, clip: Path) -> ImageSpec:
        """An image model that it runs, of unit length."""
        return resolve_image(str(clip))

    def expected_texts(self, spec: TextSpec, texts: list[str]) -> Vector:
        """What the reference library gives for documents: sentence-transformers, unless overridden."""
        from sentence_transformers import SentenceTransformer

        reference = SentenceTransformer(str(spec.folder), device="cpu", local_files_only=True)
        return np.asarray(reference.encode_document(texts), dtype=np.float32)

    def expected_pictures(self, spec: ImageSpec, pixels: Pixels) -> Vector:
        """What the reference library gives for pictures: open_clip's own preprocessing, unless overridden."""
        import open_clip
        import torch
        from PIL import Image

        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{spec.folder}")
        inputs = torch.stack([cast(torch.Tensor, preprocess(Image.fromarray(each))) for each in pixels])
        with torch.inference_mode():
            vectors: Vector = model.eval().encode_image(inputs, normalize=True).numpy()
        return vectors

    @pytest.fixture(autouse=True)
    def shared_cache(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a model is prepared to, such as an export, serves all tests."""
        if not self.backend.installed():
            pytest.skip(self.backend.not_installed)
        monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path_factory.getbasetemp() / "prepared"))

    @property
    def backend(self) -> Backend:
        return backends.get(self.name)

    def dtypes(self) -> list[str]:
        """The number formats that a model of floating-point numbers has on a CPU here."""
        return [dtype for dtype in self.backend.auto_dtypes("cpu") if dtype != "auto"]

    def ids(self, texts: list[str], spec: TextSpec) -> list[TokenIds]:
        from engine.models.probes import ids_of

        return ids_of(spec, [spec.document_prompt + text for text in texts])

    # What is declared

    def test_its_declarations_are_of_the_known_words(self) -> None:
        backend = self.backend
        assert backend.name == self.name
        assert backend.title
        assert backend.work
        assert backend.work <= {"text", "image", "caption"}
        assert set(backend.dtypes) <= set(DTYPES)
        assert set(backend.auto_dtypes("cpu")) <= {"auto", *backend.dtypes}
        assert set(backend.devices) <= {"cpu", "cuda", "mps"}
        assert backend.cost.memory >= 0
        assert backend.cost.growth >= 0

    def test_declaring_imports_no_library(self) -> None:
        command = [sys.executable, "-c", DECLARED, self.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout == "[]\n"

    def test_what_it_does_not_declare_it_refuses_with_the_reason(
        self, text: TextSpec, image: ImageSpec
    ) -> None:
        backend, some = self.backend, self.backend.dtypes[0]
        works: tuple[tuple[Work, Spec], ...] = (("text", text), ("image", image), ("caption", image))
        for work, spec in works:
            able = work in backend.work
            assert (backend.refusal(work, spec, backend.devices[0], some) is None) == able
            for device in {"cpu", "cuda:0", "mps"}:
                declared = able and device.partition(":")[0] in backend.devices
                assert (backend.refusal(work, spec, device, some) is None) == declared
            for dtype in DTYPES:
                declared = able and dtype in backend.dtypes
                assert (backend.refusal(work, spec, backend.devices[0], dtype) is None) == declared

    @pytest.mark.parametrize("option", ["device", "dtype"])
    def test_loading_what_it_does_not_declare_is_one_line_that_names_what_it_does(
        self, text: TextSpec, option: str
    ) -> None:
        accepted = self.backend.devices if option == "device" else self.backend.dtypes
        values = set(("cpu", "cuda", "mps") if option == "device" else DTYPES[:3]) - set(accepted)
        for value in values:
            device, dtype = (value, "auto") if option == "device" else ("auto", value)
            with pytest.raises(UsageError, match=rf"--{option} .*{accepted[0]}") as caught:
                load_text(text, device, dtype, self.name)
            assert "\n" not in str(caught.value)

    # Texts

    def test_vectors_are_the_references_in_order_of_one_type_and_of_length_one(self, text: TextSpec) -> None:
        texts = some_texts()
        expected = self.expected_texts(text, texts)
        for dtype in self.dtypes():
            model = load_text(text, "cpu", dtype, self.name)
            assert model.choice == BackendChoice(self.name, dtype) or self.backend.only_own
            enough = FAITHFUL if dtype == "float32" else FAITHFUL_IN_REDUCED_PRECISION
            for vectors in (model.embed_texts(texts), model.embed_ids(self.ids(texts, text))):
                assert_float32(vectors, len(texts), text.dimensions)
                np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
                assert cosines(vectors, expected).min() >= enough
            query = model.embed_query(texts[0])
            assert_float32(query, text.dimensions)

    def test_a_vector_depends_on_nothing_else_in_its_batch(self, text: TextSpec) -> None:
        ids = self.ids(some_texts(), text)
        model = load_text(text, "cpu", "float32", self.name)
        vectors, backwards = model.embed_ids(ids), model.embed_ids(ids[::-1])[::-1]
        np.testing.assert_allclose(backwards, vectors, atol=1e-5)
        for place in (0, 11, len(ids) - 1):
            np.testing.assert_allclose(model.embed_ids([ids[place]])[0], vectors[place], atol=1e-5)

    def test_equal_inputs_give_equal_vectors_in_every_process(self, text: TextSpec) -> None:
        expected = load_text(text, "cpu", "float32", self.name).embed_query("the work of the land")
        command = [sys.executable, "-c", ELSEWHERE, to_json(text), "float32", self.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        np.testing.assert_allclose(np.array(done.stdout.split(), dtype=np.float32), expected, atol=1e-5)

    def test_nothing_in_gives_nothing_out(self, text: TextSpec) -> None:
        model = load_text(text, "cpu", "float32", self.name)
        assert model.embed_ids([]).shape == model.embed_texts([]).shape == (0, text.dimensions)

    def test_the_longest_input_and_a_text_beyond_it_have_their_vectors(self, text: TextSpec) -> None:
        model = load_text(text, "cpu", "float32", self.name)
        longest = np.resize(self.ids([LONG], text)[0], text.max_tokens or 512)
        vectors = np.concatenate([model.embed_ids([longest, longest[:3]]), model.embed_texts([LONG, "x"])])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert cosines(vectors[2:3], self.expected_texts(text, [LONG])).min() >= FAITHFUL

    def test_half_of_a_pair_is_no_error_and_an_empty_text_has_a_vector(self, text: TextSpec) -> None:
        model = load_text(text, "cpu", "float32", self.name)
        vectors = model.embed_texts(["half \ud83d a pair", ""])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_the_caller_hears_of_batches(self, text: TextSpec) -> None:
        calls: list[int] = []
        model = load_text(text, "cpu", "float32", self.name)
        model.embed_ids(self.ids(some_texts(), text), lambda: calls.append(1))
        assert calls

    def test_it_prints_nothing(self, text: TextSpec, capfd: pytest.CaptureFixture[str]) -> None:
        load_text(text, "cpu", "float32", self.name).embed_texts(some_texts(3))
        assert capfd.readouterr() == ("", "")

    # Pictures

    def test_pictures_have_the_references_vectors_in_order_and_of_length_one(self, image: ImageSpec) -> None:
        if "image" not in self.backend.work:
            pytest.skip("it embeds no pictures")
        pixels = some_pictures(image)
        expected = self.expected_pictures(image, pixels)
        for dtype in self.dtypes():
            vectors = load_image(image, "cpu", dtype, self.name).embed_pixels(pixels)
            assert_float32(vectors, len(pixels), image.dimensions)
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
            enough = FAITHFUL if dtype == "float32" else FAITHFUL_IN_REDUCED_PRECISION
            assert cosines(vectors, expected).min() >= enough

    def test_a_pictures_vector_depends_on_nothing_else_in_its_batch(self, image: ImageSpec) -> None:
        if "image" not in self.backend.work:
            pytest.skip("it embeds no pictures")
        model, pixels, calls = load_image(image, "cpu", "float32", self.name), some_pictures(image), []
        vectors = model.embed_pixels(list(pixels), lambda: calls.append(1))
        assert calls
        np.testing.assert_allclose(model.embed_pixels(pixels[::-1])[::-1], vectors, atol=1e-5)
        np.testing.assert_allclose(model.embed_pixels(pixels[2:3])[0], vectors[2], atol=1e-5)
        assert model.embed_pixels(pixels[:0]).shape == (0, image.dimensions)

    def test_a_caption_has_a_vector_where_that_is_declared(self, image: ImageSpec) -> None:
        if "caption" not in self.backend.work:
            pytest.skip("it embeds no captions")
        vector = load_caption(image, "cpu", "float32").embed_query("a red \ud83d circle")
        assert_float32(vector, image.dimensions)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def assert_float32(vectors: Vector, *shape: int) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == shape


def some_pictures(spec: ImageSpec, count: int = 5) -> Pixels:
    """Noise of the model's own size, uint8 [n, height, width, 3]."""
    return np.random.default_rng(6).integers(0, 256, (count, *spec.size, 3), dtype=np.uint8)
