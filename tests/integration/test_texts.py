"""Text encoders and datasets of texts, from the file to the ranking, with a real tiny encoder and no network."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from service.models.errors import BadModelCard
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, cli, running, settings_for
from tests.helpers.texts import LENGTH, sentences, tiny_encoder
from tests.helpers.zoo import TinyZoo
from zoo.catalog import ModelCard, WeightsRef
from zoo.errors import BadCard, HashMismatch, HubUnreachable, UnknownArchitecture, UnsafeCheckpoint, WeightsNotFound
from zoo.libraries import open_clip
from zoo.memory import forward_bytes
from zoo.snippet import snippet
from zoo.sources import import_open_clip_text
from zoo.text import TextExtractor, load_text, together
from zoo.text_config import TextConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def card(folder: Path, **text: object) -> ModelCard:
    return ModelCard(
        name="tiny",
        library="transformers",
        architecture="bert",
        tag="own",
        weights=WeightsRef(uri=f"file:{folder}"),
        text=TextConfig(**text),
    )


def loaded(card: ModelCard, cache: Path) -> TextExtractor:
    return load_text(card, device="cpu", cache_dir=cache)


def as_csv(rows: list[tuple[str, ...]], *, header: tuple[str, ...] = ("text", "label"), delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([header, *rows])
    return out.getvalue().encode()


def test_features_are_those_of_transformers_itself(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    texts = ["wave ship salt", "oak", "street tram market lamp bridge"]
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        for layer in (0, 1, 2):
            for pooling in ("mean", "cls"):
                rows = []
                for text in texts:  # one at a time, so that nothing is padded
                    hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
                    rows.append(hidden[layer][0].mean(0) if pooling == "mean" else hidden[layer][0, 0])
                found = loaded(card(folder, pooling=pooling, layer=layer), tmp_path).forward(texts)
                torch.testing.assert_close(found, torch.stack(rows), atol=1e-5, rtol=1e-4)


def test_layer_pooling_length_and_files_are_the_identity_and_one_pass_serves_all_layers(
    folder: Path, tmp_path: Path
) -> None:
    last = loaded(card(folder), tmp_path)
    assert (last.card.text.layer, last.card.text.max_length, last.feature_dim) == (2, LENGTH, 16)
    assert {"config.json", "tokenizer.json"} <= last.card.text.files.keys()
    assert ModelCard.from_json(json.loads(json.dumps(last.card.to_json()))) == last.card
    others = [loaded(card(folder, **given), tmp_path) for given in ({"layer": 1}, {"pooling": "cls"})]
    shorter = loaded(card(folder, max_length=8), tmp_path)
    assert len({e.extractor_id for e in (last, *others, shorter)}) == 4
    assert loaded(card(folder, layer=2, max_length=LENGTH), tmp_path).extractor_id == last.extractor_id
    assert {e.same_pass for e in others} == {last.same_pass} != {shorter.same_pass}
    tokens, _ = last.tokenize(["wave ship", "oak moss fern"])
    for one, made in zip((last, *others), together([last, *others], tokens), strict=True):
        torch.testing.assert_close(made, one.forward(["wave ship", "oak moss fern"]))

    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    tokenizer = json.loads((changed / "tokenizer.json").read_text())
    tokenizer["model"]["unk_token"] = "[MASK]"
    (changed / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert loaded(card(changed), tmp_path).extractor_id != last.extractor_id
    with pytest.raises(HashMismatch, match="tokenizer"):
        loaded(replace(last.card, weights=WeightsRef(uri=f"file:{changed}")), tmp_path)


def test_what_a_text_of_full_length_takes(folder: Path, tmp_path: Path) -> None:
    short, long = (loaded(card(folder, max_length=length), tmp_path) for length in (8, 16))
    assert short.weight_bytes < forward_bytes(short) < forward_bytes(long)


def test_a_long_text_is_cut_and_counted(folder: Path, tmp_path: Path) -> None:
    extractor = loaded(card(folder), tmp_path)
    tokens, cut = extractor.tokenize(["wave " * (LENGTH - 2), "wave " * (LENGTH - 1), "oak"])
    assert ([len(each) for each in tokens], cut) == ([LENGTH, LENGTH, 3], 1)


def test_what_cannot_be_loaded_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadCard, match="says bert, the card roberta"):
        loaded(replace(card(folder), architecture="roberta"), tmp_path)
    with pytest.raises(BadCard, match="has 2 layers"):
        loaded(card(folder, layer=3), tmp_path)
    with pytest.raises(UnknownArchitecture):
        loaded(replace(card(folder), architecture="no-such-model"), tmp_path)
    with pytest.raises(WeightsNotFound, match=r"model\.safetensors"):
        loaded(card(tmp_path), tmp_path)
    with pytest.raises(BadCard, match="text settings go with transformers"):
        ModelCard(
            name="a", library="timm", architecture="a", tag="b", weights=WeightsRef(uri="timm:a.b"), text=TextConfig()
        )
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    torch.save({"a": torch.zeros(1)}, pickled / "model.safetensors")
    with pytest.raises(UnsafeCheckpoint, match="safetensors"):
        loaded(card(pickled), tmp_path)
    # Code beside the weights is not run, whatever the configuration asks for.
    foreign = tmp_path / "foreign"
    shutil.copytree(folder, foreign)
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModel": "own.Model", "AutoConfig": "own.C"}})
    )
    (foreign / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert loaded(card(foreign), tmp_path).feature_dim == 16
    assert not (tmp_path / "ran").exists()


def test_the_snippet_gives_the_same_features(folder: Path, tmp_path: Path) -> None:
    for given in ({}, {"pooling": "cls", "layer": 1}):
        extractor = loaded(card(folder, **given), tmp_path)
        texts = ["wave ship", "oak moss fern trail"]
        names = {"texts": texts}
        with torch.inference_mode():
            exec(snippet(extractor.card), names)  # noqa: S102
        np.testing.assert_allclose(names["features"], extractor.forward(texts), atol=1e-5)


def test_layers_are_averaged_over_tokens_and_layers(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    texts = ["wave ship salt", "oak"]
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    both = loaded(card(folder, pooling="layer_mean"), tmp_path)
    for text, found in zip(texts, both.forward(texts), strict=True):
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        torch.testing.assert_close(found, (hidden[1][0].mean(0) + hidden[2][0].mean(0)) / 2, atol=1e-5, rtol=1e-4)
    first = loaded(card(folder, pooling="layer_mean", layer=1), tmp_path)
    torch.testing.assert_close(first.forward(texts), loaded(card(folder, layer=1), tmp_path).forward(texts))
    assert first.same_pass == both.same_pass
    with pytest.raises(BadCard, match="layer 0 is none"):
        card(folder, pooling="layer_mean", layer=0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a real architecture of open_clip, both towers, with weights of chance."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "open_clip_model.safetensors"
    save_file(open_clip().create_model("ViT-S-32-alt", pretrained_image=False).state_dict(), path)
    return path


def test_a_text_tower_of_open_clip_gives_what_the_library_gives(clip: Path, tmp_path: Path) -> None:
    from service.models.schemas import ModelCreate
    from service.models.service import card_from_request

    request = {"name": "tower", "library": "open_clip_text", "architecture": "ViT-S-32-alt", "weights": f"file:{clip}"}
    extractor = loaded(card_from_request(ModelCreate(**request)), tmp_path)
    texts = ["a photo of a ship", "oak", "wave " * 200]
    model = open_clip().create_model("ViT-S-32-alt", pretrained=str(clip)).eval()
    with torch.inference_mode():
        wanted = model.encode_text(open_clip().get_tokenizer("ViT-S-32-alt")(texts))
        names = {"texts": texts}
        exec(snippet(extractor.card), names)  # noqa: S102
    torch.testing.assert_close(extractor.forward(texts), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(names["features"], wanted, atol=1e-5, rtol=1e-4)
    assert extractor.tokenize(texts)[1] == 1
    assert (extractor.feature_dim, extractor.max_length, extractor.params) == (256, 77, towerless(model))
    assert ModelCard.from_json(json.loads(json.dumps(extractor.card.to_json()))) == extractor.card
    gelu = loaded(card_from_request(ModelCreate(**request, arch_kwargs={"force_quick_gelu": True})), tmp_path)
    assert gelu.extractor_id != extractor.extractor_id
    assert loaded(card_from_request(ModelCreate(**request, max_length=16)), tmp_path).tokenize(texts)[1] == 1
    for more, said in (
        ({"max_length": 78}, "takes 77 tokens"),
        ({"architecture": "xlm-roberta-base-ViT-B-32"}, "tokenizer"),
    ):
        with pytest.raises(BadCard, match=said):
            loaded(card_from_request(ModelCreate(**request | more)), tmp_path)
    for more in ({"pooling": "mean"}, {"layer": 2}):
        with pytest.raises(BadModelCard):
            card_from_request(ModelCreate(**request, **more))


def towerless(model: torch.nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("visual."))


def test_an_import_has_the_text_towers_whose_tokenizers_are_at_hand() -> None:
    found = {card.name: card for card in import_open_clip_text("ViT-B-32*")}
    assert found["ViT-B-32.openai.text"].weights.uri == "open_clip:ViT-B-32.openai"
    assert found["ViT-B-32.openai.text"].arch_kwargs == {"force_quick_gelu": True}
    assert not any("SigLIP" in name for name in found)
    assert not list(import_open_clip_text("xlm-roberta*"))


def test_an_encoder_of_the_hub_is_read_from_its_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--ours--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    for subfolder in ("", "inner"):
        snapshot = repository / "snapshots" / commit / subfolder
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            blob = repository / "blobs" / path.name
            shutil.copy(path, blob)
            (snapshot / path.name).symlink_to(blob)
    there = loaded(card(folder), tmp_path)
    for place in ("ours/tiny", f"ours/tiny@{commit}", "ours/tiny/inner/model.safetensors"):
        from_hub = replace(card(folder), weights=WeightsRef(uri=f"hf-hub:{place}"))
        found = load_text(from_hub, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path / "hub")
        assert found.extractor_id == there.extractor_id, "the place of the weights is no part of the identity"
    nowhere = replace(card(folder), weights=WeightsRef(uri="hf-hub:ours/other"))
    with pytest.raises(HubUnreachable):
        load_text(nowhere, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path / "hub")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Service]:
    """A service with a dataset of texts and three candidates: an encoder, its first token, its first layer."""
    with running(settings_for(tmp_path_factory.mktemp("texts") / "data", None)) as service:
        for name, more in (("last", {}), ("token", {"pooling": "cls"}), ("first", {"layer": 1})):
            body = {"name": name, "library": "transformers", "architecture": "bert", "weights": f"file:{folder}"}
            service.call("POST", "/v1/models", 201, json=body | more)
        rows = [(text, topic, "train") for text, topic in sentences(12)]
        rows += [('wave\nship, "salt" — été', "sea", "test"), ("", "sea", "train"), ("oak", "", "train")]
        rows += [("tide " * 40, "sea", "train"), ("tide tide", "sea", "elsewhere")]
        made = service.call(
            "POST",
            "/v1/datasets",
            202,
            params={"name": "topics", "text_column": "said", "label_column": "about"},
            content=as_csv(rows, header=("said", "about", "split"), delimiter=";"),
        )
        service.work()
        assert made["modality"] == "text"
        yield service


def test_a_table_of_texts_is_sealed_with_what_was_left_out(texts: Service) -> None:
    view = texts.call("GET", "/v1/datasets/topics")
    assert (view["state"], view["n_images"], view["classes"]) == ("sealed", 38, ["sea", "town", "wood"]), view
    report = view["report"]
    assert report["splits"] == {"train": 37, "test": 1}
    assert (report["layout"], report["width"], report["characters"]["largest"]) == ("texts", None, 200)
    reasons = {each["name"]: each["reason"] for each in report["unreadable"]["shown"]}
    assert reasons == {"row 38": "is an empty text", "row 41": "names no split: 'elsewhere'"}
    assert report["unlabelled"]["shown"] == ["row 39"]


def test_encoders_are_ranked_and_embedded_once(texts: Service) -> None:
    request = {"name": "*"}
    ranking = texts.ranked("topics", request, estimators=["logme", "knn"])
    assert ranking["state"] == "done", ranking
    assert {e["model"]: e["state"] for e in ranking["entries"]} == dict.fromkeys(("last", "token", "first"), "done")
    values = {e["model"]: e["scores"]["logme"]["value"] for e in ranking["entries"]}
    assert len(set(values.values())) == 3
    assert ranking["dataset"]["modality"] == "text"
    seen = {e["model"]: (e["text"]["pooling"], e["text"]["layer"], e["text"]["texts_cut"]) for e in ranking["entries"]}
    assert seen == {"last": ("mean", 2, 1), "token": ("cls", 2, 1), "first": ("mean", 1, 1)}
    shown = cli(texts.settings, "rankings", "show", ranking["id"]).stdout
    by_layer = shown.partition("Layer by layer")[2]
    assert [line.split()[:2] for line in by_layer.splitlines() if "±" in line] == [["1", "first"], ["2", "last"]]
    assert "1 text is cut at 32 tokens by" in shown
    assert "texts/s" in shown
    page = texts.client.get(f"/rankings/{ranking['id']}").text
    assert "Layer by layer" in page
    assert "Texts/s" in page
    assert "mages" not in page.partition("<main")[2].replace("images_per_second", "")
    segments = texts.files("segments") or texts.files("store", "embeddings")
    again = texts.ranked("topics", request, estimators=["logme", "knn"])
    assert {e["model"]: e["scores"]["logme"]["value"] for e in again["entries"]} == values
    assert (texts.files("segments") or texts.files("store", "embeddings")) == segments


def test_images_and_texts_are_kept_apart(texts: Service, tiny_zoo: TinyZoo) -> None:
    texts.add_models(tiny_zoo.good[:1])
    name = tiny_zoo.names[0]
    listed = {m["name"]: m["modality"] for m in texts.call("GET", "/v1/models?modality=image")["items"]}
    assert listed == {name: "image"}
    body = {"dataset": "topics", "models": ["last", name]}
    refused = texts.call("POST", "/v1/rankings", 422, json=body)
    assert f"The dataset holds texts, which {name} cannot read" in refused["detail"]
    pictures = texts.sealed(zipped(class_folders(each=4)), name="pictures")
    refused = texts.call("POST", "/v1/rankings", 422, json={"dataset": "pictures", "models": ["last"]})
    assert "The dataset holds images, which last cannot read" in refused["detail"]
    ranking = texts.ranked("pictures", {"name": "*"}, estimators=["logme"])
    assert [entry["model"] for entry in ranking["entries"]] == [name]
    texts.call("POST", f"/v1/datasets/{pictures['id']}/inspections", 422, json={"model": "last"})
    texts.call("PUT", "/v1/reference", 409, json={"dataset": "topics"})
    texts.call("POST", "/v1/datasets/topics/versions", 409, content=zipped(class_folders(each=4)))
    texts.call("POST", "/v1/datasets/topics/versions", 409, json={"add": "pictures"})
    for dataset, readers in (("topics", {"last", "token", "first"}), ("pictures", {name})):
        texts.call("POST", f"/v1/datasets/{dataset}/signature", 202)
        texts.work()
        found = texts.call("GET", f"/v1/datasets/{dataset}/signature")
        assert (found["state"], found["model"] in readers) == ("done", True), found
    asked = texts.call("POST", "/v1/prescore", 202, json={})
    texts.work()
    done = texts.call("GET", f"/v1/prescore/{asked['id']}")
    assert (done["state"], done["pairs"]["failed"], done["pairs"]["waiting"]) == ("done", 0, 0), done
    foretold = texts.call("GET", f"/v1/datasets/{pictures['id']}/recommendations")
    assert {entry["model"] for entry in foretold["entries"]} == {name}


def test_pages_show_texts_as_texts_and_a_version_stays_one_of_texts(texts: Service) -> None:
    dataset = texts.call("GET", "/v1/datasets/topics")
    page = texts.client.get(f"/datasets/{dataset['id']}").text
    assert sentences(12)[0][0] in page
    assert "<img" not in page
    assert "38 texts" in page
    version = texts.call("POST", "/v1/datasets/topics/versions", 202, json={"remove": ["row 1"]})
    made = texts.call("POST", f"/v1/datasets/{dataset['id']}/inspections", 202, json={"model": "last"})
    texts.work()
    version = texts.call("GET", f"/v1/datasets/{version['id']}")
    assert (version["modality"], version["n_images"], version["report"]["characters"]["largest"]) == ("text", 37, 200)
    assert texts.call("GET", f"/v1/inspections/{made['id']}")["state"] == "done"
    near = texts.client.get(f"/datasets/{dataset['id']}/neighbours", params={"image": "row 1", "model": "last"}).text
    assert 'class="text"' in near
    assert "<img" not in near
    assert texts.client.get("/models?modality=text").text.count("transformers</td>") == 3


def test_tables_that_are_none_are_refused_with_what_to_do(texts: Service) -> None:
    def refusal(content: bytes, **params: str) -> str:
        given = {"name": "bad", "text_column": "text"} | params
        answer = texts.client.post("/v1/datasets", params=given, content=content)
        assert 400 <= answer.status_code < 500, answer.text
        return str(answer.json()["detail"])

    good = as_csv(sentences(3))
    assert "its columns are 'text', 'label'" in refusal(good, text_column="body")
    assert "no single column 'topic'" in refusal(good, label_column="topic")
    assert "not in an archive" in refusal(zipped(class_folders(each=2)))
    assert "same column" in refusal(good, label_column="text")
    assert "no bytes" in refusal(b" ").lower() or "columns are" in refusal(b" ")
    torn = texts.call("POST", "/v1/datasets", 202, params={"text_column": "text"}, content=good + b"only one cell\n")
    assert "UTF-8 rows" in refusal(good + b"\xff\xfe,sea\n")
    texts.work()
    view = texts.call("GET", f"/v1/datasets/{torn['id']}")
    assert view["state"] == "refused"
    assert "UTF-8 rows of equal columns" in view["problem"]["detail"]


def test_parquet_with_the_hubs_class_names_from_the_command_line(texts: Service, tmp_path: Path) -> None:
    names = ["sea", "wood", "town"]
    rows = sentences(6, seed=3)
    features = {"label": {"_type": "ClassLabel", "names": names}, "text": {"_type": "Value", "dtype": "string"}}
    table = pa.table({"text": [t for t, _ in rows], "label": [names.index(topic) for _, topic in rows]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "topics.parquet")
    done = cli(
        texts.settings, "rank", str(tmp_path / "topics.parquet"), "--text-column", "text", "-m", "*", "-e", "logme",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["dataset"]["n_images"], found["dataset"]["n_classes"]) == (18, 3)
    assert {entry["model"] for entry in found["entries"]} == {"last", "token", "first"}
