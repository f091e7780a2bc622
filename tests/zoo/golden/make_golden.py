"""Makes the files in this folder; README.md says when and how to run it."""

import json
import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer

HERE = Path(__file__).parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIGNS = list(".,!?'-+&#$0123")
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = ["the", "card", "arrive", "##d", "##ing", "cafe", "un", "##happy", "tower", "not"]
PIECES = [f"##{letter}" for letter in LETTERS if letter != "d"]
VOCABULARIES = {  # file -> tokens
    "uncased": [*SPECIAL, *SIGNS, *LETTERS, *WORDS, *PIECES],
    "cased": [*SPECIAL, *SIGNS, *LETTERS, *(letter.upper() for letter in LETTERS)]
    + [*WORDS, "The", "Card", "café", "Über", "é", "##é", "ü", *PIECES]
    + [f"##{letter.upper()}" for letter in LETTERS],
    "chinese": [
        *SPECIAL,
        *SIGNS,
        *LETTERS,
        *WORDS,
        *PIECES,
        *"我的卡还没有到东京。\uff0c\uff1f\uff01",
        "##京",
    ],
}
TEXTS = [
    "The card arrived.",
    "the  card\thas\nNOT arrived!?",
    "Un café à Über, naïve façade",
    "unhappy card-tower & #1 costs $3.20",
    "don't",
    "我的卡还没有到。",
    "card东京tower\uff0cnot?",
    "😀 card",
    "zero\u200bwidth\u00a0space\u0000 and \ufffd",
    "supercalifragilistic" * 6,
    "",
]
PAIRS = [
    ("The card", "not arrived"),
    ("the card is not arriving today", "no"),
    ("no", "the card is not arriving today"),
    ("the card is not arriving today", "the tower is not in the cafe today"),
]


def main(minilm: str | None) -> None:
    for name, tokens in VOCABULARIES.items():
        text = "".join(f"{token}\n" for token in tokens)
        (HERE / f"{name}.txt").write_text(text, "utf-8")
    write(HERE / "tokenizer_golden.json", tokenizer_golden())
    write(HERE / "golden.json", tiny_golden(HERE / "tiny_bert_hf"))
    if minilm:
        write(HERE / "minilm_golden.json", minilm_golden(minilm))


def tokenizer_golden() -> list[dict]:
    """What Hugging Face's tokenizer makes of texts: ids with [CLS] and [SEP], and segment ids."""
    cases = []
    for name, lowercase in (("uncased", True), ("cased", False), ("chinese", True)):
        tokenizer = BertTokenizer(
            vocab={token: id for id, token in enumerate(VOCABULARIES[name])},
            do_lower_case=lowercase,
        )
        for text, pair in [*((text, None) for text in TEXTS), *PAIRS]:
            for max_length in [None] if pair is None else [None, 13]:
                encoded = tokenizer(
                    text,
                    pair,
                    max_length=max_length,
                    truncation="longest_first" if max_length else False,
                    return_token_type_ids=True,
                )
                cases.append(
                    {
                        "vocabulary": name,
                        "lowercase": lowercase,
                        "max_length": max_length,
                        "text": text,
                        "text_pair": pair,
                        "token_ids": encoded["input_ids"],
                        "segment_ids": encoded["token_type_ids"],
                    }
                )
    return cases


def tiny_golden(folder: Path) -> dict:
    """Writes a random BERT into `folder`; returns inputs and what transformers computes of them."""
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(VOCABULARIES["uncased"]),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        hidden_dropout_prob=0.2,
        initializer_range=0.5,  # far from the linear part of GELU and softmax
    )
    model = BertModel(config).eval()
    for weight in model.parameters():  # no bias may be 0 and no scale 1, or a swap goes unseen
        weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((HERE / "uncased.txt").read_bytes())
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    tokenizer.save_pretrained(folder)

    token_ids = torch.randint(5, config.vocab_size, (3, 10))
    padding_mask = torch.ones_like(token_ids)
    padding_mask[1, 7:] = padding_mask[2, 4:] = 0
    token_ids *= padding_mask
    segment_ids = torch.zeros_like(token_ids)
    segment_ids[0, 5:] = segment_ids[1, 3:7] = 1
    with torch.no_grad():
        output = model(token_ids, attention_mask=padding_mask, token_type_ids=segment_ids)
    return {
        "token_ids": token_ids.tolist(),
        "segment_ids": segment_ids.tolist(),
        "padding_mask": padding_mask.tolist(),
        "last_hidden_state": rounded(output.last_hidden_state),
        "pooler_output": rounded(output.pooler_output),
    }


def minilm_golden(folder: str) -> list[dict]:
    """Sentence vectors, the mean over tokens, of the real all-MiniLM-L6-v2."""
    model, tokenizer = (
        BertModel.from_pretrained(folder).eval(),
        BertTokenizer.from_pretrained(folder),
    )
    tokenizer.backend_tokenizer.no_padding()
    sentences = []
    for text in ("My card still has not arrived.", "Où est le café?", "Is this 1 or 2 people?!"):
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            vector = model(**encoded).last_hidden_state.mean(1)[0]
        sentences.append(
            {
                "text": text,
                "token_ids": encoded["input_ids"][0].tolist(),
                "first": rounded(vector[:8]),
                "norm": rounded(vector.norm()),
            }
        )
    return sentences


def rounded(tensor: torch.Tensor) -> list | float:
    return json.loads(
        json.dumps(tensor.double().tolist()), parse_float=lambda x: round(float(x), 6)
    )


def write(path: Path, content: object) -> None:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text.replace("},{", "},\n{") + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2] or [None])
