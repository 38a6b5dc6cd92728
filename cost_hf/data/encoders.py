"""Text encoders: a linear model fitted on the catalog, pretrained encoders, and how a run stores either.

The linear one (latent semantic analysis: TF-IDF, then a truncated SVD) needs no download and is the default. It is
stored as JSON and safetensors, because a pickled scikit-learn object runs code when loaded and breaks with versions.
`ItemEncoder` is what a recommender saves, publishes and loads to encode new items: a fitted lsa is stored whole, a
pretrained encoder by name and commit with the digest of its weights. The weights are copied where a local directory
must travel with the recommender.
"""

import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import save_file

from cost_hf.data.errors import DataError
from cost_hf.data.item_texts import TemplateTexts
from cost_hf.data.options import ItemVectorOptions, VectorOptions
from cost_hf.files import (
    DamagedFileError,
    atomic_path,
    check_fields,
    content_digest,
    file_digest,
    link_out_of,
    read_json,
    read_object,
    read_tensors,
    write_json,
)

POOLINGS = ("mean", "cls")  # reproducible in a few lines of plain transformers
WEIGHT_FILES = (".json", ".safetensors", ".txt", ".model")  # of a local text encoder: they determine its vectors
DOCUMENTS = (".md", ".png", ".jpg", ".svg", ".pdf")  # of any pretrained model: files that never change its vectors
PICKLED = "pytorch_model.bin"
LSA_CHUNK = 2**14  # texts projected at once
logger = logging.getLogger(__name__)


class TextEncoder(Protocol):
    """Interface of a text encoder."""

    @property
    def digest(self) -> str:
        """Digest of everything that determines the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector per text, float32 `[n, E]`."""
        ...


class LsaEncoder:
    """Latent semantic analysis: TF-IDF with logarithmic counts, projected by a truncated SVD, scaled to length 1.

    Attributes:
        words: vocabulary, V words in column order.
        idf: inverse document frequencies `[V]` float64.
        components: projection `[E, V]` float32.
    """

    def __init__(self, words: Sequence[str], idf: np.ndarray, components: np.ndarray):
        self.words = tuple(words)
        # safetensors writes an array's memory as it is, so a column-major one would come back scrambled
        self.idf = np.ascontiguousarray(idf, dtype=np.float64)
        self.components = np.ascontiguousarray(components, dtype=np.float32)

    @classmethod
    def fit(cls, texts: Sequence[str], *, dim: int, seed: int = 0) -> "LsaEncoder":
        """Fit vocabulary, weights and projection to N texts.

        Args:
            texts: N strings.
            dim: width E of the vectors; reduced to the number of texts or words if these are fewer.
            seed: of the randomised SVD.

        Raises:
            DataError: if no text has a word of two or more letters.
        """
        from sklearn.decomposition import TruncatedSVD  # takes a second to import

        try:
            vectorizer = _vectorizer()
            counts = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError(
                f"lsa found no word of two or more letters in {len(texts)} texts (first: {texts[:1]!r}); "
                "name other columns in vectors.template or use a text encoder as vectors.model"
            ) from error
        width = min(dim, *counts.shape)
        if width < dim:
            logger.warning(
                "lsa vectors get %d dimensions instead of %d: there are only %d texts with %d distinct words",
                width,
                dim,
                *counts.shape,
            )
        svd = TruncatedSVD(width, random_state=seed).fit(counts)
        return cls(vectorizer.get_feature_names_out().tolist(), vectorizer.idf_, svd.components_)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors `[n, E]` float32; a text without a known word gets the zero vector, with a warning."""
        components = np.ascontiguousarray(self.components.T, dtype=np.float64)
        vectors = np.empty((len(texts), len(self.components)), dtype=np.float32)
        unknown = 0
        for start in range(0, len(texts), LSA_CHUNK):
            part = slice(start, start + LSA_CHUNK)
            projected = self._fitted.transform(texts[part]) @ components
            lengths = np.linalg.norm(projected, axis=1, keepdims=True)
            unknown += int((lengths == 0).sum())
            vectors[part] = projected / np.where(lengths > 0, lengths, 1)
        if unknown:
            logger.warning(
                "%d of %d texts have no word that lsa was fitted on; their vectors are 0", unknown, len(texts)
            )
        return vectors

    @cached_property
    def _fitted(self) -> Any:
        vectorizer = _vectorizer(vocabulary=list(self.words))
        vectorizer.idf_ = self.idf
        return vectorizer

    @cached_property
    def digest(self) -> str:
        """Sha256 of vocabulary, weights and projection."""
        return content_digest("lsa", list(self.words), self.idf, self.components)

    def save(self, directory: str | Path) -> None:
        """Write `vocabulary.json` and `lsa.safetensors`."""
        write_json(Path(directory) / "vocabulary.json", list(self.words))
        with atomic_path(Path(directory) / "lsa.safetensors") as temporary:
            save_file({"idf": self.idf, "components": self.components}, temporary)

    @classmethod
    def load(cls, directory: str | Path) -> "LsaEncoder":
        """Read what `save` wrote; raise OSError or `DamagedFileError` where a file is missing or damaged."""
        paths = [Path(directory) / name for name in ("vocabulary.json", "lsa.safetensors")]
        words = read_json(paths[0])
        tensors = read_tensors(paths[1])
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise DamagedFileError(f"{paths[0]} contains {str(words)[:80]}, expected a list of words; copy it again")
        idf = tensors.get("idf")
        components = tensors.get("components")
        if (
            idf is None
            or components is None
            or idf.shape != (len(words),)
            or components.shape[1:] != (len(words),)
            or not (np.isfinite(idf).all() and np.isfinite(components).all())
        ):
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            raise DamagedFileError(
                f"{paths[1]} contains {shapes}, expected finite idf [{len(words)}] and components [E, {len(words)}]; "
                "copy it again"
            )
        return cls(words, idf, components)


def _vectorizer(vocabulary: list[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, vocabulary=vocabulary)


class SentenceEncoder:
    """Any sentence-transformers or transformers text encoder, by Hub id or directory.

    A plain transformers model gets masked mean pooling. Only safetensors weights are loaded, never pickled ones.

    Args:
        model: Hub id or directory.
        revision: branch, tag or commit of a Hub id.
        max_length: longest text in tokens; by default that of the model.
        batch_size: texts encoded at a time.
        normalize: scale vectors to length 1.
        prompt: text before every text, if the model was trained with one.
        device: for example `cuda`; by default the choice of sentence-transformers.

    Raises:
        DataError: for a model that can't be loaded, or pickled weights.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        revision: str | None = None,
        max_length: int | None = None,
        batch_size: int = 64,
        normalize: bool = True,
        prompt: str | None = None,
        device: str | None = None,
    ):
        from sentence_transformers import SentenceTransformer  # takes several seconds to import

        from cost_hf.model_files import within_weights

        _refuse_pickled(Path(model))
        # what a Hub id refers to may not be here yet
        is_here = Path(model).is_dir()
        bounded = within_weights("the text encoder", model, files="**/*.safetensors") if is_here else nullcontext()
        try:
            with bounded:
                self.model = SentenceTransformer(
                    str(model),
                    revision=revision,
                    device=device,
                    trust_remote_code=False,
                    model_kwargs={"use_safetensors": True},
                )
        # damaged files raise various errors of the libraries
        except (OSError, ValueError, SafetensorError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise DataError(
                f"cannot load text encoder {str(model)!r} ({type(error).__name__}: {error}); expected vectors.model as "
                "lsa, a directory, or a Hub id with safetensors weights; check the name and the network"
            ) from error
        self.name = str(model)
        self.revision = revision
        self.batch_size = batch_size
        self.normalize = normalize
        self.prompt = prompt
        if max_length is not None:
            self.model.max_seq_length = max_length

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return vectors `[n, E]` float32, of length 1 where `normalize` is set."""
        vectors = self.model.encode(
            list(texts),
            batch_size=self.batch_size,
            prompt=self.prompt,
            normalize_embeddings=self.normalize,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def settings(self) -> dict[str, Any] | None:
        """Return what plain transformers needs to compute the same vectors, None if it can't.

        Returns:
            `model`, `revision` (commit of a Hub model), `pooling` (`mean` or `cls`), `normalize`, `max_length`,
            `prompt`.
        """
        names = [type(module).__name__ for module in self.model]
        if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            return None
        transformer = self.model[0]
        pooling = self.model[1]
        if not (_is_plain(transformer) and pooling.include_prompt and pooling.pooling_mode in POOLINGS):
            return None
        identity = _weights_identity(self.name, self.revision)
        own_prompt = self.model.prompts.get(self.model.default_prompt_name)
        return {
            "model": self.name if Path(self.name).is_dir() else identity[0],
            "revision": None if Path(self.name).is_dir() else identity[1],
            "pooling": pooling.pooling_mode,
            "normalize": self.normalize or "Normalize" in names,
            "max_length": self.model.max_seq_length,
            "prompt": own_prompt if self.prompt is None else self.prompt,
        }

    @cached_property
    def digest(self) -> str:
        """Sha256 of the weights' identity and of every setting that changes a vector."""
        identity = _weights_identity(self.name, self.revision)
        return content_digest("sentence", identity, self.model.max_seq_length, self.normalize, self.prompt)


def _refuse_pickled(directory: Path) -> None:
    """Raise DataError if a part of a local text encoder has only pickled weights."""
    for path in sorted(directory.rglob(PICKLED)) if directory.is_dir() else ():
        if not any(path.parent.glob("model*.safetensors")):
            raise DataError(
                f"{path} contains pickled weights, which are not loaded; save the text encoder again by its "
                "save_pretrained, which writes model.safetensors"
            )


def _is_plain(transformer: Any) -> bool:
    """Return whether `AutoModel` and `AutoTokenizer` load what a module of sentence-transformers contains.

    They do not if it lower-cases texts, passes options of its own, or keeps only the encoder of a T5.
    """
    from transformers import MODEL_MAPPING

    network = transformer.auto_model
    is_changed = transformer.do_lower_case or transformer.processing_kwargs
    return not is_changed and type(network) is MODEL_MAPPING.get(type(network.config), None)


def model_identity(name: str, revision: str | None = None) -> list[str]:
    """Return what the name of a pretrained model refers to now, as a part of digests.

    Args:
        name: Hub id or directory.
        revision: branch, tag or commit of a Hub id.

    Returns:
        The content digests of a directory's files; or id and commit of a Hub model, the commit empty if neither the
        network nor the cache has it (loading then fails with an error).
    """
    from huggingface_hub import hf_hub_download

    if Path(name).is_dir():
        return _content_of(Path(name), None)
    try:
        # .../snapshots/<commit>/config.json
        return [name, Path(hf_hub_download(name, "config.json", revision=revision)).parent.name]
    except (OSError, ValueError):  # no network and not in the cache, no such repository or file
        return [name, ""]


def encoder_identity(name: str, revision: str | None = None) -> list[str]:
    """Return `model_identity` of a text encoder; a name without an owner belongs to sentence-transformers."""
    is_short = "/" not in name and not Path(name).is_dir()
    return model_identity(f"sentence-transformers/{name}" if is_short else name, revision)


def _content_of(directory: Path, suffixes: Sequence[str] | None) -> list[str]:
    files = weight_files(directory, suffixes)
    return [f"{path.relative_to(directory).as_posix()}:{file_digest(path)}" for path in files]


def weight_files(directory: Path, suffixes: Sequence[str] | None = WEIGHT_FILES) -> list[Path]:
    """Return the files of a local text encoder that determine its vectors, sorted, without hidden files.

    Args:
        suffixes: of the files to return; None returns all but documents.

    Raises:
        DataError: for a link that leads out of the directory; links of the Hub's cache into its blobs are allowed.
    """
    files = [
        path
        for path in sorted(directory.rglob("*"))
        if (path.suffix not in DOCUMENTS if suffixes is None else path.suffix in suffixes)
        and path.is_file()
        and not _is_hidden(path.relative_to(directory))
    ]
    for path in files:
        found = link_out_of(path, directory)
        if found is not None:
            raise DataError(
                f"{path} is a link out of the directory of the text encoder, to {found}; replace it by the file "
                "itself, or remove it"
            )
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _weights_identity(name: str, revision: str | None = None) -> list[str]:
    """Return the content digests of a directory's files, or id and commit of a Hub model."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_dir():
        return _content_of(Path(name), WEIGHT_FILES)
    repository = name if "/" in name else f"sentence-transformers/{name}"
    for file in ("modules.json", "config.json"):
        cached = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(cached, str):
            # .../snapshots/<commit>/<file>
            return [repository, Path(cached).parent.name]
    raise DataError(f"no cached snapshot of text encoder {name!r}, so its commit is unknown; pass a directory instead")


FILE_NAME = "encoder.json"
WEIGHTS = "model"
OPTIONS = {
    "model": str,
    "revision": str | None,
    "template": str | None,
    "dim": int,
    "max_length": int | None,
    "batch_size": int,
    "normalize": bool,
    "prompt": str | None,
}


class ItemEncoder(ABC):
    """What a recommender saves, publishes and loads to give new items their vectors.

    An item is read as a text: `render` makes it of the item's columns, `encode` turns it into a vector.

    Attributes:
        options: the vectors section of the recipe.
        digest: of everything that determines the vectors; a catalog is bound to it.
        settings: what plain transformers needs to compute the same vectors, `{"model": "lsa"}`, or None if it can't.
    """

    options: ItemVectorOptions
    digest: str
    settings: dict[str, Any] | None

    @classmethod
    def of(cls, encoder: "LsaEncoder | SentenceEncoder", options: VectorOptions) -> "TextItemEncoder":
        """Wrap a text encoder that is in memory."""
        settings = {"model": "lsa"} if isinstance(encoder, LsaEncoder) else encoder.settings()
        return TextItemEncoder(options, encoder.digest, settings, encoder=encoder)

    @classmethod
    def load(cls, directory: str | Path) -> "ItemEncoder":
        """Read what `save` wrote, for any kind of vectors.

        Raises:
            OSError: for files that can't be read.
            DamagedFileError: for a damaged file, invalid options, or a kind that is not installed.
        """
        path = Path(directory) / FILE_NAME
        content = read_object(path)
        content.setdefault("kind", ItemVectorOptions.default_kind)  # earlier versions knew one kind and named none
        check_fields(content, {"kind": str, "options": dict, "digest": str}, source=path)
        ItemVectorOptions.load_kinds()
        kind = ItemVectorOptions.kinds.get(content["kind"])
        if kind is None:
            raise DamagedFileError(
                f"{path} is of vectors of kind {content['kind']!r:.80}, expected one of "
                f"{', '.join(sorted(ItemVectorOptions.kinds))}; install the package that has the kind"
            )
        encoder: ItemEncoder = kind.read_encoder(Path(directory), content)
        return encoder

    @abstractmethod
    def save(self, directory: str | Path, *, bundle_weights: bool = False) -> None:
        """Write `encoder.json` and what belongs to it.

        Args:
            bundle_weights: write weights that are otherwise known by the name of a local directory, too.

        Raises:
            ValueError: where that directory is not what the catalog was built with.
        """

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector per text, float32 `[n, E]`; ValueError for a single string."""

    def as_new(self) -> "ItemEncoder":
        """Return an encoder that gives items of the training the vectors that they would have as new ones.

        It is this one, unless it knows items by more than what `render` reads of them.
        """
        return self

    @abstractmethod
    def render(self, items: pd.DataFrame) -> list[str]:
        """Return the texts of items as the catalog was built with; DataError where a column is missing."""

    def check_texts(self, item_ids: Sequence[str], texts: Sequence[str]) -> None:
        """Raise `DataError` for a text that can't be that of its item; any text may be, by default.

        Args:
            item_ids: n ids.
            texts: n texts.
        """
        return

    @abstractmethod
    def text_columns(self, items: pd.DataFrame) -> list[str]:
        """Return the columns of a table that texts are made of, sorted; errors are those of `render`."""

    @property
    @abstractmethod
    def named_columns(self) -> set[str] | None:
        """Columns that texts are made of; None for all text columns."""

    @property
    @abstractmethod
    def made_of(self) -> str:
        """What the text of an item is made of, for messages."""

    @property
    @abstractmethod
    def bundled(self) -> bool:
        """Whether weights are stored next to `encoder.json`."""

    @property
    @abstractmethod
    def holds_item_values(self) -> bool:
        """Whether the files hold words or values of items, which need a licence of the data to be published."""

    @property
    def name(self) -> str:
        """The model that makes the vectors, by name or directory; the kind of vectors where it has no name."""
        return self.options.kind

    @property
    def missing_directory(self) -> Path | None:
        """The directory of weights that is needed and does not exist any more; None where there is none."""
        return None

    @abstractmethod
    def require(self) -> None:
        """Load what `encode` needs; raise ValueError where it is not what the catalog was built with."""


class TextItemEncoder(ItemEncoder):
    """The text encoder that a catalog was built with: item texts to vectors.

    Args:
        options: the vectors section of the recipe.
        digest: of the encoder; loading another one is refused.
        settings: as `SentenceEncoder.settings`, or that of an lsa.
        directory: of the encoder's files, for an encoder that is loaded with its first text.
        encoder: the encoder itself, if it is in memory.
    """

    options: VectorOptions

    def __init__(
        self,
        options: VectorOptions,
        digest: str,
        settings: dict[str, Any] | None,
        *,
        directory: Path | None = None,
        encoder: LsaEncoder | SentenceEncoder | None = None,
    ):
        self.options = options
        self.digest = digest
        self.settings = settings
        self.directory = directory
        self._encoder = encoder

    @classmethod
    def read(cls, directory: Path, content: dict[str, Any]) -> "TextItemEncoder":
        """Read what `save` wrote; the encoder itself is loaded with its first text.

        Raises:
            DamagedFileError: for a damaged file, or invalid options.
        """
        path = directory / FILE_NAME
        check_fields(content, {"settings": dict | None}, source=path)
        check_fields(content["options"], OPTIONS, source=f"{path}, options")
        if set(content["options"]) != set(OPTIONS):
            raise DamagedFileError(f"{path} has the options {sorted(content['options'])}, expected {sorted(OPTIONS)}")
        try:
            options = VectorOptions(**content["options"])
        except DataError as error:
            raise DamagedFileError(f"{path}: {error}") from error
        return cls(options, content["digest"], content["settings"], directory=directory)

    def __repr__(self) -> str:
        """Name the encoder."""
        return f"TextItemEncoder({self.options.model!r}, digest {self.digest[:12]})"

    def save(self, directory: str | Path, *, bundle_weights: bool = False) -> None:
        """Write `encoder.json`, and the fitted lsa or, with `bundle_weights`, the weights of a local directory.

        Raises:
            ValueError: if that directory contains another encoder than the catalog was built with, or a link that leads
                out of it: only files of the encoder may be copied.
        """
        target = Path(directory)
        options = self.options
        settings = self.settings
        if options.model == "lsa":
            encoder = self.encoder
            if isinstance(encoder, LsaEncoder):
                encoder.save(target)
        elif self._weights is not None and (bundle_weights or self.bundled):
            if not self.bundled:
                _ = self.encoder  # only the name of the directory is known: loading compares its digest
            _copy_weights(self._weights, target / WEIGHTS)
            # a path of this machine means nothing elsewhere
            options = replace(options, model=Path(options.model).name)
            settings = settings and settings | {"model": options.model}
        content = {"kind": options.kind, "options": asdict(options), "digest": self.digest, "settings": settings}
        write_json(target / FILE_NAME, content)

    @property
    def bundled(self) -> bool:
        """Whether the weights of a pretrained encoder are stored next to `encoder.json`."""
        return self.directory is not None and (self.directory / WEIGHTS).is_dir()

    @property
    def encoder(self) -> LsaEncoder | SentenceEncoder:
        """The encoder itself.

        Raises:
            DataError: if its model can't be loaded.
            ValueError: if it is not the one that the catalog was built with.
        """
        if self._encoder is None:
            encoder = self._load()
            if encoder.digest != self.digest:
                raise ValueError(
                    f"text encoder {self.options.model!r} has digest {encoder.digest}, the catalog was built with "
                    f"{self.digest}; restore the original encoder, or pass vectors"
                )
            self._encoder = encoder
        return self._encoder

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector per text, float32 `[n, E]`; raises as `encoder`, and ValueError for a single string."""
        if isinstance(texts, str):
            raise ValueError(f"expected a list of texts, got the string {texts!r:.80}; pass it in a list")
        return self.encoder.encode(list(texts))

    @property
    def _texts(self) -> TemplateTexts:
        return TemplateTexts(self.options.template)

    def render(self, items: pd.DataFrame) -> list[str]:
        """Return the texts of items by the template that the catalog was built with."""
        return self._texts.render(items)

    def text_columns(self, items: pd.DataFrame) -> list[str]:
        """Return the columns of a table that texts are made of, sorted."""
        return self._texts.text_columns(items)

    @property
    def named_columns(self) -> set[str] | None:
        """Columns that the template names; None without one."""
        return self._texts.named_columns

    @property
    def made_of(self) -> str:
        """What the text of an item is made of."""
        return self._texts.made_of

    @property
    def holds_item_values(self) -> bool:
        """Whether this is an lsa, which holds words of the texts."""
        return self.options.model == "lsa"

    @property
    def name(self) -> str:
        """`lsa`, or the id or directory of the text encoder."""
        return self.options.model

    @property
    def missing_directory(self) -> Path | None:
        """The directory of a pretrained encoder that does not exist any more."""
        directory = Path(self.options.model)
        return directory if directory.is_absolute() and not directory.is_dir() and not self.bundled else None

    def require(self) -> None:
        """Load the encoder and compare its digest."""
        _ = self.encoder

    def _load(self) -> LsaEncoder | SentenceEncoder:
        if self.options.model == "lsa" and self.directory is not None:
            return LsaEncoder.load(self.directory)
        if self._weights is not None:
            return sentence_encoder(replace(self.options, model=str(self._weights)))
        return sentence_encoder(replace(self.options, revision=(self.settings or {}).get("revision")))

    @property
    def _weights(self) -> Path | None:
        """The directory of a pretrained encoder's weights; None for a Hub id."""
        if self.directory is not None and self.bundled:
            return self.directory / WEIGHTS
        return Path(self.options.model) if Path(self.options.model).is_dir() else None


def sentence_encoder(options: VectorOptions) -> SentenceEncoder:
    """Load the text encoder that the options name."""
    return SentenceEncoder(
        options.model,
        revision=options.revision,
        max_length=options.max_length,
        batch_size=options.batch_size,
        normalize=options.normalize,
        prompt=options.prompt,
    )


def _copy_weights(source: Path, target: Path) -> None:
    """Copy the files that the digest covers; no pickled weights, no formats of other frameworks."""
    with atomic_path(target) as temporary:
        for path in weight_files(source):
            copy = temporary / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
