"""A tiny text encoder with its tokenizer, and sentences that it can tell apart."""

import random
from pathlib import Path

TOPICS = {
    "sea": ["wave", "ship", "salt", "harbour", "tide", "sail"],
    "wood": ["oak", "leaf", "moss", "trail", "bark", "fern"],
    "town": ["street", "tram", "market", "lamp", "bridge", "square"],
}
LENGTH = 32


def sentences(each: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Texts with their topics."""
    dice = random.Random(seed)
    return [
        (" ".join(dice.choice(words) for _ in range(dice.randint(3, 12))) + f" {number}", topic)
        for topic, words in TOPICS.items()
        for number in range(each)
    ]


def tiny_encoder(folder: Path) -> Path:
    """A random BERT of two layers, as transformers saves one."""
    import torch

    from zoo.libraries import transformers

    library = transformers()

    folder.mkdir(parents=True)
    words = [word for topic in TOPICS.values() for word in topic]
    digits = [str(n) for n in range(10)] + [f"##{n}" for n in range(10)]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *digits]) + "\n")
    tokenizer = library.BertTokenizerFast(vocab=str(vocabulary), model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = library.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LENGTH,
    )
    library.BertModel(config).save_pretrained(folder)
    return folder
