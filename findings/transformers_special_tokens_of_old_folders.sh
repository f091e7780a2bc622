#!/usr/bin/env bash
# transformers 5.24.0: special tokens of a folder that version 4.33 saved are no longer special.
# Expected: what the version that saved the folder does: "[E1]", which add_special_tokens has added,
#   is left out by decode(skip_special_tokens=True), and "[e1]" in a text is [, e, ##1, ].
# Seen: all_special_tokens has "[E1]", but it is added with special=False and normalized=True:
#   "[e1]" is taken for it, and decode(skip_special_tokens=True) keeps it.
# Why it matters: the same folder gives other ids, and anyone's text may hold a marker.
# Here: zoo/tokenizers.py reads which added tokens are special from all files that say so
#   (`_added_special`).
set -euo pipefail
. "$(dirname "$0")/environment" transformers==5.24.0 tokenizers==0.23.3

# As 4.33.3's BertTokenizer saves itself after
# add_special_tokens({"additional_special_tokens": ["[E1]"]}), but for model_max_length.
mkdir saved
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' '[' ']' e '##1' a > saved/vocab.txt
echo '{"[E1]": 10}' > saved/added_tokens.json
cat > saved/special_tokens_map.json <<'JSON'
{"additional_special_tokens": ["[E1]"], "cls_token": "[CLS]", "mask_token": "[MASK]",
 "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
JSON
cat > saved/tokenizer_config.json <<'JSON'
{"clean_up_tokenization_spaces": true, "cls_token": "[CLS]",
 "do_basic_tokenize": true, "do_lower_case": true, "mask_token": "[MASK]", "never_split": null,
 "pad_token": "[PAD]", "sep_token": "[SEP]", "strip_accents": null, "tokenize_chinese_chars": true,
 "tokenizer_class": "BertTokenizer", "unk_token": "[UNK]"}
JSON
TRANSFORMERS_VERBOSITY=error "$PYTHON" - <<'PY'
import sys

from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("saved")
token = tokenizer.added_tokens_decoder[10]
kept = tokenizer.decode(tokenizer.encode("[E1] a"), skip_special_tokens=True)
ids = {text: tokenizer.encode(text, add_special_tokens=False) for text in ("[E1] a", "[e1] a")}
listed = "[E1]" in tokenizer.all_special_tokens
print(f"[E1] among all_special_tokens: {listed}")
print(f"added as {token!r}")
print(f"ids: {ids}, of 4.33.3: {{'[E1] a': [10, 9], '[e1] a': [5, 7, 8, 6, 9]}}")
print(f"decoded without special tokens: {kept!r}, of 4.33.3: 'a'")
holds = listed and ids == dict.fromkeys(ids, [10, 9]) and kept == "[e1] a"
print("as noted" if holds else "the behaviour has changed")
sys.exit(not holds)
PY
