#!/usr/bin/env bash
# tokenizers 0.23.3: Precompiled normalizes other than SentencePiece with the same rules.
# Expected: "used internally for full compatibility with SentencePiece-based tokenizers" (docstring
#   of Precompiled).
# Seen: Korean in decomposed form, as some file systems write names, is not composed; of a ligature
#   or a letter with two accents the last accent is lost; before the Thai vowel U+0E33 none is
#   composed.
# Why it matters: T5's, XLM-R's and other tokenizers give other ids by Hugging Face than by
#   SentencePiece, with which their vocabularies were learned.
# Here: zoo/tokenizers.py takes the rules out of tokenizer.json and leaves them to SentencePiece
#   (`_charsmap`); README.md says that Hugging Face's answers differ.
set -euo pipefail
. "$(dirname "$0")/environment" tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2

"$PYTHON" - <<'PY'
import io
import sys

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers.normalizers import Precompiled

trained = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a b c"] * 5),
    model_writer=trained,
    vocab_size=10,
    hard_vocab_limit=False,
    normalization_rule_name="nmt_nfkc",
    add_dummy_prefix=False,
    minloglevel=2,
)
model = sentencepiece_model_pb2.ModelProto.FromString(trained.getvalue())
own = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
other = Precompiled(model.normalizer_spec.precompiled_charsmap)
texts = {
    "Latin, an accent": "e\u0301",
    "Korean, decomposed": "\u1100\u1161\u11a8",
    "a ligature, an accent": "\ufb01\u0301",
    "a letter, two accents": "a\u0301\u0301",
    "an accent before U+0E33": "e\u0301\u0e33",
}
seen = {}
for name, text in texts.items():
    seen[name] = (ascii(own.normalize(text)), ascii(other.normalize_str(text)))
    print(f"{name}, {ascii(text)}: SentencePiece {seen[name][0]}, tokenizers {seen[name][1]}")
noted = {
    "Latin, an accent": (r"'\xe9'", r"'\xe9'"),
    "Korean, decomposed": (r"'\uac01'", r"'\u1100\u1161\u11a8'"),
    "a ligature, an accent": (r"'fi\u0301'", "'fi'"),
    "a letter, two accents": (r"'\xe1\u0301'", r"'\xe1'"),
    "an accent before U+0E33": (r"'\xe9\u0e4d\u0e32'", r"'e\u0301\u0e4d\u0e32'"),
}
holds = seen == noted
print("as noted" if holds else "the behaviour has changed")
sys.exit(not holds)
PY
