"""The phrase book: correct in small things, and split so that its test part asks for what was
learned, put together anew."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.samples.phrase_book import phrases
from data.samples.phrase_words import (
    PERSONAL,
    PLACES,
    chinese_number,
    dates,
    english_number,
    german_number,
    number,
    prices,
    time,
)

SPLITS = ("train", "validation", "test")


def thing(english: str, things=PERSONAL):
    return next(word for word in things if word.en == english)


# How it is split


@pytest.mark.parametrize("target", ["de", "zh"])
def test_a_phrase_is_in_one_part_only_and_has_one_translation(target):
    sources = [source for split in SPLITS for source, _ in phrases(target, split)]
    assert len(set(sources)) == len(sources)
    assert [len(phrases(target, split)) // 100 for split in SPLITS] == [60, 3, 3]


def test_held_out_phrases_are_made_of_words_that_were_learned():
    learned = words(source for source, _ in phrases("de", "train"))
    characters = {c for _, target in phrases("zh", "train") for c in target}
    for split in ("validation", "test"):
        assert words(source for source, _ in phrases("de", split)) <= learned
        assert {c for _, target in phrases("zh", split) for c in target} <= characters


def words(texts) -> set[str]:
    return {word for text in texts for word in re.findall(r"[^\W\d]+|\d", text)}


def test_another_process_writes_the_same_phrases():
    command = [sys.executable, "-m", "data.samples.phrase_book", "de", "test"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "".join(f"{one}\t{other}\n" for one, other in phrases("de", "test"))


def test_no_slot_is_left_open_and_each_sentence_ends():
    for split in SPLITS:
        for target, ends in (("de", ".?!"), ("zh", "。？！")):  # noqa: RUF001
            for source, translation in phrases(target, split):
                assert not set("{}:") & set(re.sub(r"\d:\d", "", source + translation))
                assert source[-1] in ".?!" and translation[-1] in ends
                assert source[0].isupper() or source[0].isdigit()


# What it says


@pytest.mark.parametrize(
    ("value", "english", "german", "chinese"),
    [
        (0, "zero", "null", "零"),
        (1, "one", "eins", "一"),
        (10, "ten", "zehn", "十"),
        (12, "twelve", "zwölf", "十二"),
        (16, "sixteen", "sechzehn", "十六"),
        (17, "seventeen", "siebzehn", "十七"),
        (20, "twenty", "zwanzig", "二十"),
        (21, "twenty-one", "einundzwanzig", "二十一"),
        (30, "thirty", "dreißig", "三十"),
        (67, "sixty-seven", "siebenundsechzig", "六十七"),
        (70, "seventy", "siebzig", "七十"),
        (100, "one hundred", "einhundert", "一百"),
        (101, "one hundred and one", "einhunderteins", "一百零一"),
        (110, "one hundred and ten", "einhundertzehn", "一百一十"),
        (212, "two hundred and twelve", "zweihundertzwölf", "二百一十二"),
        (999, "nine hundred and ninety-nine", "neunhundertneunundneunzig", "九百九十九"),
    ],
)
def test_numbers_are_written_as_people_write_them(value, english, german, chinese):
    assert english_number(value) == english
    assert german_number(value) == german
    assert chinese_number(value) == chinese


@given(st.integers(0, 999), st.integers(0, 999))
def test_no_two_numbers_are_written_alike(one, other):
    for write in (english_number, german_number, chinese_number):
        assert (write(one) == write(other)) == (one == other)


@given(st.integers(0, 999))
def test_chinese_numbers_can_be_counted_back(value):
    total = digit = 0
    for character in chinese_number(value):
        if character in "十百":
            total += (digit or 1) * {"十": 10, "百": 100}[character]
            digit = 0
        else:
            digit = "零一二三四五六七八九".index(character)
    assert total + digit == value


def test_two_of_something_is_another_word_in_chinese():
    assert [number(value).count for value in (2, 12, 22)] == ["两", "十二", "二十二"]


@pytest.mark.parametrize(
    ("hour", "minute", "english", "german", "chinese"),
    [
        (1, 0, "one o'clock", "ein Uhr", "一点"),
        (2, 5, "five past two", "fünf nach zwei", "两点零五分"),
        (3, 15, "a quarter past three", "Viertel nach drei", "三点一刻"),
        (6, 25, "twenty-five past six", "fünf vor halb sieben", "六点二十五分"),
        (7, 30, "half past seven", "halb acht", "七点半"),
        (12, 30, "half past twelve", "halb eins", "十二点半"),
        (7, 35, "twenty-five to eight", "fünf nach halb acht", "七点三十五分"),
        (12, 45, "a quarter to one", "Viertel vor eins", "十二点三刻"),
        (9, 50, "ten to ten", "zehn vor zehn", "九点五十分"),
    ],
)
def test_times_are_told_as_people_tell_them(hour, minute, english, german, chinese):
    told = time(hour, minute)
    assert (told.en, told.de, told.zh) == (english, german, chinese)


def test_articles_and_adjectives_agree_with_their_nouns():
    hat, bag, book = map(thing, ("hat", "bag", "book"))
    assert [f"{x:einen rot}" for x in (hat, bag, book)] == [
        "einen roten Hut",
        "eine rote Tasche",
        "ein rotes Buch",
    ]
    assert [f"{x:dieser}" for x in (hat, bag, book)] == [
        "dieser Hut",
        "diese Tasche",
        "dieses Buch",
    ]
    places = [thing(place, PLACES) for place in ("park", "bank", "museum")]
    assert [f"{x:zum}" for x in places] == ["zum Park", "zur Bank", "zum Museum"]
    assert [f"{x:im}" for x in places] == ["im Park", "in der Bank", "im Museum"]
    assert [f"{thing('umbrella'):{form}}" for form in ("a", "a red")] == [
        "an umbrella",
        "a red umbrella",
    ]
    assert f"两{hat:measure}{hat:zh}" == "两顶帽子"


def test_dates_and_prices_are_written_in_each_language():
    by_english = {word.en: (word.de, word.zh) for word in [*dates(), *prices()]}
    assert by_english["the first of March"] == ("ersten März", "三月一日")
    assert by_english["the third of May"] == ("dritten Mai", "五月三日")
    assert by_english["the twelfth of July"] == ("zwölften Juli", "七月十二日")
    assert by_english["the twenty-first of June"] == ("einundzwanzigsten Juni", "六月二十一日")
    assert by_english["4.50 euros"] == ("4,50 Euro", "4.50欧元")
