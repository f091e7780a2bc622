#!/usr/bin/env bash
# tensorflow-text 2.21.1 and sentencepiece 0.2.3: the same model, the same ids, other texts.
# Expected: "The same tokenization/detokenization is obtained as long as the same model file is
#   used" (SentencePiece's README).
# Seen: with remove_extra_whitespaces=false, sentencepiece takes away the one leading blank that
#   add_dummy_prefix=true has put there, tensorflow-text's detokenize all of them.
# Why it matters: a model that is trained with one and served with the other loses indentation.
# Here: data/text/subwords.py writes a blank before each text itself, for models without a rule of
#   normalization, and takes that one away (`RuledTokenizer`).
set -euo pipefail
. "$(dirname "$0")/environment" tensorflow-text==2.21.1 tensorflow==2.21.0 sentencepiece==0.2.3

"$PYTHON" - <<'PY'
import io
import sys

import sentencepiece
import tensorflow_text as tf_text

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a b c"] * 9),
    model_writer=model,
    vocab_size=10,
    hard_vocab_limit=False,
    normalization_rule_name="identity",
    add_dummy_prefix=True,
    remove_extra_whitespaces=False,
    minloglevel=2,
)
own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
bundled = tf_text.SentencepieceTokenizer(model.getvalue())
seen = {}
for text in ["  a", " a  b"]:
    ids, same = own.encode(text), bundled.tokenize([text])
    if ids != same.to_list()[0]:
        sys.exit("the behaviour has changed: the ids differ")
    seen[text] = (own.decode(ids), bundled.detokenize(same).numpy()[0].decode())
    print(f"{text!r}: sentencepiece {seen[text][0]!r}, tensorflow-text {seen[text][1]!r}")
noted = {"  a": ("  a", "a"), " a  b": (" a  b", "a  b")}
holds = seen == noted
print("as noted" if holds else "the behaviour has changed")
sys.exit(not holds)
PY
