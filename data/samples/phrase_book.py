# ruff: noqa: RUF001 (the punctuation of Chinese is meant)
"""A phrase book for travellers, English to German or Chinese, to try translation out on.

    python -m data.samples.phrase_book de   # the training part as lines of English, tab, German
    python -m data.samples.phrase_book zh test

No corpus: a grammar of patterns with slots writes the phrases, so that they are all correct, but
far simpler than what people say. What is learned from them is the patterns, the words in their
forms, numbers, times and prices. A combination of a pattern and words is in one part only, but
whatever is in the validation and test parts in this way has its words and its pattern in the
training part too: those parts ask whether a model can put together what it has learned.
"""

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from math import prod
from typing import Literal, get_args

from data.samples import phrase_words as words
from data.samples.phrase_words import digits, numbers

Target = Literal["de", "zh"]

LIMIT = 85  # phrases of a pattern at most
SHARE = 21
HELD_OUT = {0: "test", 1: "validation"}  # of `SHARE` equal parts


@dataclass(frozen=True)
class Pattern:
    """A phrase in three languages with named slots: "{x:einen}" is a word in one of its forms."""

    en: str
    de: str
    zh: str
    slots: dict[str, Sequence[words.Word]]


@dataclass(frozen=True)
class Phrase:
    """A phrase in three languages, and what it is made of."""

    en: str
    de: str
    zh: str
    parts: frozenset[str]
    """The pattern, and the English words."""


def phrases(target: Target, split: str) -> list[tuple[str, str]]:
    """The pairs of English phrases and their translations, always the same ones.

    Args:
        target: the language to translate into.
        split: "train" (about 6,000), "validation" or "test" (about 300 each).
    """
    return [(phrase.en, getattr(phrase, target)) for phrase in _split()[split]]


@cache
def _split() -> dict[str, list[Phrase]]:
    """All phrases by their part, which is a hash's to say."""
    parts: dict[str, list[Phrase]] = {"train": [], "validation": [], "test": []}
    everything = [phrase for pattern in patterns() for phrase in _phrases(pattern)]
    for phrase in sorted(everything, key=lambda phrase: _hash(phrase.en)):
        parts[HELD_OUT.get(_hash(phrase.en) % SHARE, "train")].append(phrase)
    learned = frozenset[str]().union(*(phrase.parts for phrase in parts["train"]))
    for name in HELD_OUT.values():
        for phrase in parts[name]:
            if not phrase.parts <= learned:
                parts["train"].append(phrase)
                learned |= phrase.parts
    known = set(parts["train"])
    return {
        name: phrases if name == "train" else [p for p in phrases if p not in known]
        for name, phrases in parts.items()
    }


def _phrases(pattern: Pattern) -> Iterator[Phrase]:
    """Some of the phrases of a pattern, or all if they are few; no word is twice in a phrase."""
    for chosen in _chosen(pattern):
        if len(set(chosen)) == len(chosen):
            slots = dict(zip(pattern.slots, chosen, strict=True))
            en, de, zh = (text.format(**slots) for text in (pattern.en, pattern.de, pattern.zh))
            parts = frozenset([pattern.en, *re.findall(r"[^\W\d]+|\d", en)])
            yield Phrase(en[0].upper() + en[1:], de[0].upper() + de[1:], zh, parts)


def _chosen(pattern: Pattern) -> Iterator[tuple[words.Word, ...]]:
    sizes = [len(slot) for slot in pattern.slots.values()]
    total = prod(sizes)
    indices: Iterable[int] = range(total)
    if total > LIMIT:
        drawn = (_hash(f"{pattern.en} {draw}") % total for draw in range(4 * LIMIT))
        indices = list(dict.fromkeys(drawn))[:LIMIT]
    for index in indices:
        chosen = []
        for slot in pattern.slots.values():
            index, position = divmod(index, len(slot))
            chosen.append(slot[position])
        yield tuple(chosen)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _pattern(en: str, de: str, zh: str, **slots: Sequence[words.Word]) -> Pattern:
    return Pattern(en, de, zh, slots)


def patterns() -> list[Pattern]:
    """All patterns of the book."""
    return [
        *_greetings(),
        *_directions(),
        *_meals(),
        *_shopping(),
        *_hotel(),
        *_trains(),
        *_times(),
        *_figures(),
        *_life(),
    ]


def _greetings() -> list[Pattern]:
    person, name, city = words.PEOPLE, words.NAMES, words.CITIES
    return [
        _pattern("Good morning, {p:en}.", "Guten Morgen, {p:de}.", "早上好，{p:zh}。", p=person),
        _pattern("Good evening, {p:en}.", "Guten Abend, {p:de}.", "晚上好，{p:zh}。", p=person),
        _pattern("Goodbye, {p:en}.", "Auf Wiedersehen, {p:de}.", "再见，{p:zh}。", p=person),
        _pattern("Thank you, {p:en}.", "Vielen Dank, {p:de}.", "谢谢您，{p:zh}。", p=person),
        _pattern(
            "How are you, {p:en}?", "Wie geht es Ihnen, {p:de}?", "您好吗，{p:zh}？", p=person
        ),
        _pattern("My name is {x:en}.", "Ich heiße {x:de}.", "我叫{x:zh}。", x=name),
        _pattern("Do you know {p:en}?", "Kennen Sie {p:herrn}?", "您认识{p:zh}吗？", p=person),
        _pattern(
            "I would like to speak to {p:en}.",
            "Ich möchte mit {p:herrn} sprechen.",
            "我想和{p:zh}谈谈。",
            p=person,
        ),
        _pattern(
            "This is {p:en} from {c:en}.",
            "Das ist {p:de} aus {c:de}.",
            "这是来自{c:zh}的{p:zh}。",
            p=person,
            c=city,
        ),
        _pattern(
            "{x:en} comes from {c:en} and lives in {d:en}.",
            "{x:de} kommt aus {c:de} und wohnt in {d:de}.",
            "{x:zh}来自{c:zh}，住在{d:zh}。",
            x=name,
            c=city,
            d=city,
        ),
        _pattern("Hello!", "Hallo!", "你好！"),
        _pattern("Welcome!", "Herzlich willkommen!", "欢迎！"),
        _pattern("See you tomorrow.", "Bis morgen.", "明天见。"),
        _pattern("Good night.", "Gute Nacht.", "晚安。"),
        _pattern("I am sorry.", "Es tut mir leid.", "对不起。"),
        _pattern("You are welcome.", "Gern geschehen.", "不客气。"),
        _pattern("Have a good trip!", "Gute Reise!", "一路平安！"),
        _pattern("What is your name?", "Wie heißen Sie?", "您叫什么名字？"),
        _pattern("Where do you live?", "Wo wohnen Sie?", "您住在哪里？"),
        _pattern("Where do you come from?", "Woher kommen Sie?", "您从哪里来？"),
        _pattern("I do not understand.", "Ich verstehe nicht.", "我不明白。"),
        _pattern("Can you help me?", "Können Sie mir helfen?", "您能帮我吗？"),
    ]


def _directions() -> list[Pattern]:
    place = words.PLACES
    return [
        _pattern("Where is the {x:en}?", "Wo ist {x:der}?", "{x:zh}在哪里？", x=place),
        _pattern(
            "Excuse me, how do I get to the {x:en}?",
            "Entschuldigung, wie komme ich {x:zum}?",
            "请问，去{x:zh}怎么走？",
            x=place,
        ),
        _pattern(
            "Is the {x:en} far from here?",
            "Ist {x:der} weit von hier?",
            "{x:zh}离这里远吗？",
            x=place,
        ),
        _pattern(
            "Is there {x:a} near here?",
            "Gibt es hier in der Nähe {x:einen}?",
            "这附近有{x:zh}吗？",
            x=place,
        ),
        _pattern(
            "The {x:en} is {r:en} the {y:en}.",
            "{x:der} ist {r:de} {y:dem}.",
            "{x:zh}在{y:zh}{r:zh}。",
            x=place,
            r=words.RELATIONS,
            y=place,
        ),
        _pattern(
            "Is the {x:en} {r:en} the {y:en}?",
            "Ist {x:der} {r:de} {y:dem}?",
            "{x:zh}在{y:zh}{r:zh}吗？",
            x=place,
            r=words.RELATIONS,
            y=place,
        ),
        _pattern(
            "Turn {s:en} at the {x:en}.",
            "Biegen Sie {x:am} {s:de} ab.",
            "请在{x:zh}向{s:zh}转。",
            s=words.SIDES,
            x=place,
        ),
        _pattern(
            "It is {n:en} metres to the {x:en}.",
            "Es sind {n:de} Meter {x:zum}.",
            "到{x:zh}有{n:zh}米。",
            n=digits(range(50, 1000, 50)),
            x=place,
        ),
        _pattern(
            "The walk to the {x:en} takes {n:en} minutes.",
            "Der Fußweg {x:zum} dauert {n:de} Minuten.",
            "走到{x:zh}要{n:count}分钟。",
            x=place,
            n=numbers(range(2, 60)),
        ),
        _pattern(
            "Take {v:en} to the {x:en}.",
            "Nehmen Sie {v:de} {x:zum}.",
            "请坐{v:zh}去{x:zh}。",
            v=words.VEHICLES,
            x=place,
        ),
        _pattern(
            "I am going from the {x:en} to the {y:en}.",
            "Ich gehe {x:vom} {y:zum}.",
            "我从{x:zh}走到{y:zh}。",
            x=place,
            y=place,
        ),
        _pattern(
            "I left my {y:en} in the {x:en}.",
            "Ich habe {y:meinen} {x:im} vergessen.",
            "我把{y:zh}忘在{x:zh}了。",
            x=words.OPENING,
            y=words.PERSONAL,
        ),
        _pattern("I am lost.", "Ich habe mich verlaufen.", "我迷路了。"),
        _pattern("Go straight ahead.", "Gehen Sie geradeaus.", "请一直走。"),
    ]


def _meals() -> list[Pattern]:
    drink, dish, food = words.DRINKS, words.DISHES, words.FOOD
    few = numbers(range(2, 13))
    return [
        _pattern(
            "I would like {x:a}, please.",
            "Ich hätte gern {x:einen}, bitte.",
            "请给我一{x:measure}{x:zh}。",
            x=food,
        ),
        _pattern(
            "I would like {x:a} and {y:a}.",
            "Ich hätte gern {x:einen} und {y:einen}.",
            "我想要一{x:measure}{x:zh}和一{y:measure}{y:zh}。",
            x=dish,
            y=drink,
        ),
        _pattern(
            "{n:en} {x:many}, please.",
            "{n:de} {x:viele}, bitte.",
            "请来{n:count}{x:measure}{x:zh}。",
            n=few,
            x=food,
        ),
        _pattern(
            "We would like {n:en} {x:many} and {m:en} {y:many}.",
            "Wir hätten gern {n:de} {x:viele} und {m:de} {y:viele}.",
            "我们想要{n:count}{x:measure}{x:zh}和{m:count}{y:measure}{y:zh}。",
            n=few,
            x=dish,
            m=few,
            y=drink,
        ),
        _pattern(
            "Would you like {x:a}?",
            "Möchten Sie {x:einen}?",
            "您想要一{x:measure}{x:zh}吗？",
            x=food,
        ),
        _pattern(
            "{p:en} has ordered {x:a}.",
            "{p:de} hat {x:einen} bestellt.",
            "{p:zh}点了一{x:measure}{x:zh}。",
            p=[*words.NAMES, *words.PEOPLE],
            x=food,
        ),
        _pattern(
            "This {x:en} is too {q:en}.",
            "{x:dieser} ist zu {q:de}.",
            "这{x:measure}{x:zh}太{q:zh}了。",
            x=food,
            q=words.TASTES,
        ),
        _pattern(
            "This {x:en} tastes very good.",
            "{x:dieser} schmeckt sehr gut.",
            "这{x:measure}{x:zh}味道很好。",
            x=food,
        ),
        _pattern(
            "A table for {n:en} people, please.",
            "Einen Tisch für {n:de} Personen, bitte.",
            "请给我们一张{n:count}个人的桌子。",
            n=numbers(range(2, 21)),
        ),
        _pattern(
            "I would like to book a table for {n:en} people at {t:en}.",
            "Ich möchte um {t:de} einen Tisch für {n:de} Personen reservieren.",
            "我想订一张{n:count}个人的桌子，时间是{t:zh}。",
            n=few,
            t=words.times(),
        ),
        _pattern("The menu, please.", "Die Speisekarte, bitte.", "请给我菜单。"),
        _pattern("The bill, please.", "Die Rechnung, bitte.", "请结账。"),
        _pattern("Enjoy your meal!", "Guten Appetit!", "请慢用！"),
        _pattern("Cheers!", "Prost!", "干杯！"),
        _pattern("I am hungry.", "Ich habe Hunger.", "我饿了。"),
        _pattern("I am thirsty.", "Ich habe Durst.", "我渴了。"),
    ]


def _shopping() -> list[Pattern]:
    goods, personal, colour = words.GOODS, words.PERSONAL, words.COLOURS
    return [
        _pattern(
            "How much does this {x:en} cost?",
            "Wie viel kostet {x:dieser}?",
            "这{x:measure}{x:zh}多少钱？",
            x=goods + words.FOOD,
        ),
        _pattern(
            "This {x:en} costs {p:en}.",
            "{x:dieser} kostet {p:de}.",
            "这{x:measure}{x:zh}要{p:zh}。",
            x=goods + words.FOOD,
            p=words.prices(),
        ),
        _pattern(
            "This {c:en} {x:en} costs {n:en} euros.",
            "{x:dieser {c:de}} kostet {n:de} Euro.",
            "这{x:measure}{c:zh}的{x:zh}要{n:count}欧元。",
            c=colour,
            x=personal,
            n=numbers(range(2, 100)),
        ),
        _pattern(
            "This {x:en} costs {n:en} yuan.",
            "{x:dieser} kostet {n:de} Yuan.",
            "这{x:measure}{x:zh}要{n:count}块钱。",
            x=goods,
            n=numbers(range(2, 200)),
        ),
        _pattern(
            "{n:en} {x:many} cost {p:en}.",
            "{n:de} {x:viele} kosten {p:de}.",
            "{n:count}{x:measure}{x:zh}要{p:zh}。",
            n=numbers(range(2, 21)),
            x=goods,
            p=words.prices(),
        ),
        _pattern("That comes to {p:en}.", "Das macht {p:de}.", "一共{p:zh}。", p=words.prices()),
        _pattern(
            "That comes to {n:en} yuan.",
            "Das macht {n:de} Yuan.",
            "一共{n:count}元。",
            n=numbers(range(2, 200)),
        ),
        _pattern("Do you have {x:many}?", "Haben Sie {x:viele}?", "你们有{x:zh}吗？", x=goods),
        _pattern(
            "Where can I buy {x:a}?",
            "Wo kann ich {x:einen} kaufen?",
            "在哪里可以买到{x:zh}？",
            x=goods,
        ),
        _pattern(
            "I am looking for {x:a}.",
            "Ich suche {x:einen}.",
            "我在找一{x:measure}{x:zh}。",
            x=goods,
        ),
        _pattern(
            "I am looking for {x:a {c:en}}.",
            "Ich suche {x:einen {c:de}}.",
            "我在找一{x:measure}{c:zh}的{x:zh}。",
            x=personal,
            c=colour,
        ),
        _pattern(
            "{p:en} has bought {x:a {c:en}}.",
            "{p:de} hat {x:einen {c:de}} gekauft.",
            "{p:zh}买了一{x:measure}{c:zh}的{x:zh}。",
            p=words.NAMES,
            x=personal,
            c=colour,
        ),
        _pattern(
            "I have lost my {x:en}.",
            "Ich habe {x:meinen} verloren.",
            "我的{x:zh}丢了。",
            x=personal,
        ),
        _pattern(
            "I have lost my {c:en} {x:en}.",
            "Ich habe {x:meinen {c:de}} verloren.",
            "我的{c:zh}{x:zh}丢了。",
            c=colour,
            x=personal,
        ),
        _pattern(
            "Whose {x:en} is this?",
            "Wem gehört {x:dieser}?",
            "这{x:measure}{x:zh}是谁的？",
            x=goods,
        ),
        _pattern(
            "This {x:en} is too {q:en}.",
            "{x:dieser} ist zu {q:de}.",
            "这{x:measure}{x:zh}太{q:zh}了。",
            x=personal,
            q=words.QUALITIES,
        ),
        _pattern("I will take it.", "Ich nehme es.", "我要了。"),
        _pattern("Can I pay by card?", "Kann ich mit Karte zahlen?", "可以刷卡吗？"),
    ]


def _hotel() -> list[Pattern]:
    return [
        _pattern(
            "I have a reservation for {n:en} nights.",
            "Ich habe eine Reservierung für {n:de} Nächte.",
            "我预订了{n:count}个晚上。",
            n=numbers(range(2, 22)),
        ),
        _pattern(
            "I would like {x:a} for {n:en} nights.",
            "Ich hätte gern {x:einen} für {n:de} Nächte.",
            "我想要一{x:measure}{x:zh}，住{n:count}个晚上。",
            x=words.ROOMS,
            n=numbers(range(2, 15)),
        ),
        _pattern(
            "This {x:en} costs {n:en} euros a night.",
            "{x:dieser} kostet {n:de} Euro pro Nacht.",
            "这{x:measure}{x:zh}每晚{n:zh}欧元。",
            x=words.ROOMS,
            n=digits(range(45, 250, 5)),
        ),
        _pattern(
            "My room number is {n:en}.",
            "Meine Zimmernummer ist {n:de}.",
            "我的房间号是{n:zh}。",
            n=digits(range(101, 650, 7)),
        ),
        _pattern(
            "Breakfast is {t:en}.",
            "Frühstück gibt es {t:de}.",
            "早餐时间是{t:zh}。",
            t=words.hour_spans(),
        ),
        _pattern(
            "Please wake me at {t:en}.",
            "Bitte wecken Sie mich um {t:de}.",
            "请{t:zh}叫醒我。",
            t=words.times(),
        ),
        _pattern(
            "There is no {x:en} in my room.",
            "In meinem Zimmer ist {x:kein}.",
            "我的房间里没有{x:zh}。",
            x=words.FURNITURE,
        ),
        _pattern(
            "Please bring me {x:a}.",
            "Bringen Sie mir bitte {x:einen}.",
            "请给我拿一{x:measure}{x:zh}来。",
            x=words.FURNITURE + words.DRINKS,
        ),
        _pattern(
            "We need {n:en} {x:many}.",
            "Wir brauchen {n:de} {x:viele}.",
            "我们需要{n:count}{x:measure}{x:zh}。",
            n=numbers(range(2, 21)),
            x=words.FURNITURE,
        ),
        _pattern(
            "The {x:en} in my room is broken.",
            "{x:der} in meinem Zimmer ist kaputt.",
            "我房间里的{x:zh}坏了。",
            x=words.DEVICES,
        ),
        _pattern(
            "The {x:en} in room {n:en} does not work.",
            "{x:der} in Zimmer {n:de} funktioniert nicht.",
            "{n:zh}号房间的{x:zh}不能用。",
            x=words.DEVICES,
            n=digits(range(101, 650, 11)),
        ),
        _pattern("Is breakfast included?", "Ist das Frühstück inbegriffen?", "包括早餐吗？"),
        _pattern("The room is very quiet.", "Das Zimmer ist sehr ruhig.", "房间很安静。"),
    ]


def _trains() -> list[Pattern]:
    city, time, few = words.CITIES, words.times(), numbers(range(2, 21))
    return [
        _pattern(
            "When does the train to {c:en} leave?",
            "Wann fährt der Zug nach {c:de} ab?",
            "去{c:zh}的火车什么时候开？",
            c=city,
        ),
        _pattern(
            "The train to {c:en} leaves at {t:en}.",
            "Der Zug nach {c:de} fährt um {t:de} ab.",
            "去{c:zh}的火车{t:zh}开。",
            c=city,
            t=[*time, *words.clock_times()],
        ),
        _pattern(
            "The train from {c:en} arrives at {t:en}.",
            "Der Zug aus {c:de} kommt um {t:de} an.",
            "从{c:zh}来的火车{t:zh}到。",
            c=city,
            t=[*time, *words.clock_times()],
        ),
        _pattern(
            "The train to {c:en} leaves from platform {n:en}.",
            "Der Zug nach {c:de} fährt von Gleis {n:de} ab.",
            "去{c:zh}的火车从{n:zh}号站台出发。",
            c=city,
            n=digits(range(1, 25)),
        ),
        _pattern(
            "The train from {c:en} is {n:en} minutes late.",
            "Der Zug aus {c:de} hat {n:de} Minuten Verspätung.",
            "从{c:zh}来的火车晚点{n:count}分钟。",
            c=city,
            n=numbers(range(2, 100)),
        ),
        _pattern(
            "A ticket to {c:en}, please.",
            "Eine Fahrkarte nach {c:de}, bitte.",
            "请给我一张去{c:zh}的票。",
            c=city,
        ),
        _pattern(
            "{n:en} tickets to {c:en}, please.",
            "{n:de} Fahrkarten nach {c:de}, bitte.",
            "请给我{n:count}张去{c:zh}的票。",
            n=few,
            c=city,
        ),
        _pattern(
            "A ticket to {c:en} costs {p:en}.",
            "Eine Fahrkarte nach {c:de} kostet {p:de}.",
            "一张去{c:zh}的票要{p:zh}。",
            c=city,
            p=words.prices(),
        ),
        _pattern(
            "The journey from {c:en} to {d:en} takes {n:en} hours.",
            "Die Fahrt von {c:de} nach {d:de} dauert {n:de} Stunden.",
            "从{c:zh}到{d:zh}要{n:count}个小时。",
            c=city,
            d=city,
            n=few,
        ),
        _pattern(
            "Do I have to change trains in {c:en}?",
            "Muss ich in {c:de} umsteigen?",
            "我要在{c:zh}换车吗？",
            c=city,
        ),
        _pattern(
            "We arrive in {c:en} at {t:en}.",
            "Wir kommen um {t:de} in {c:de} an.",
            "我们{t:zh}到{c:zh}。",
            c=city,
            t=time,
        ),
        _pattern(
            "On {w:en} we are travelling to {c:en}.",
            "Am {w:de} fahren wir nach {c:de}.",
            "{w:zh}我们去{c:zh}。",
            w=words.WEEKDAYS,
            c=city,
        ),
        _pattern(
            "In {m:en} {x:en} is flying to {c:en}.",
            "Im {m:de} fliegt {x:de} nach {c:de}.",
            "{m:zh}{x:zh}飞往{c:zh}。",
            m=words.MONTHS,
            x=words.NAMES,
            c=city,
        ),
        _pattern(
            "I will be in {c:en} on {d:en}.",
            "Ich bin am {d:de} in {c:de}.",
            "我{d:zh}在{c:zh}。",
            c=city,
            d=words.dates(),
        ),
        _pattern("Is this seat free?", "Ist dieser Platz frei?", "这个座位是空的吗？"),
        _pattern("Have a safe journey!", "Kommen Sie gut an!", "祝您旅途平安！"),
    ]


def _times() -> list[Pattern]:
    time, place, weekday = words.times(), words.OPENING, words.WEEKDAYS
    return [
        _pattern("What time is it?", "Wie spät ist es?", "现在几点？"),
        _pattern("It is {t:en}.", "Es ist {t:de}.", "现在{t:zh}。", t=time),
        _pattern("It is already {t:en}.", "Es ist schon {t:de}.", "已经{t:zh}了。", t=time),
        _pattern(
            "The {x:en} opens at {t:en}.",
            "{x:der} öffnet um {t:de}.",
            "{x:zh}{t:zh}开门。",
            x=place,
            t=time,
        ),
        _pattern(
            "On {w:en} the {x:en} closes at {t:en}.",
            "Am {w:de} schließt {x:der} um {t:de}.",
            "{w:zh}{x:zh}{t:zh}关门。",
            w=weekday,
            x=place,
            t=time,
        ),
        _pattern(
            "Is the {x:en} open on {w:en}?",
            "Ist {x:der} am {w:de} geöffnet?",
            "{x:zh}{w:zh}开门吗？",
            x=place,
            w=weekday,
        ),
        _pattern(
            "The {x:en} is closed on {d:en}.",
            "{x:der} ist am {d:de} geschlossen.",
            "{x:zh}{d:zh}不开门。",
            x=place,
            d=words.dates(),
        ),
        _pattern(
            "The {x:en} starts at {t:en}.",
            "{x:der} beginnt um {t:de}.",
            "{x:zh}{t:zh}开始。",
            x=words.EVENTS,
            t=time,
        ),
        _pattern(
            "The {x:en} starts on {w:en} at {t:en}.",
            "{x:der} beginnt am {w:de} um {t:de}.",
            "{x:zh}{w:zh}{t:zh}开始。",
            x=words.EVENTS,
            w=weekday,
            t=[*time, *words.clock_times()],
        ),
        _pattern(
            "Let us meet at {t:en} in front of the {x:en}.",
            "Treffen wir uns um {t:de} vor {x:dem}.",
            "我们{t:zh}在{x:zh}前面见吧。",
            t=time,
            x=words.PLACES,
        ),
        _pattern(
            "{x:en} gets up at {t:en} in the morning.",
            "{x:de} steht morgens um {t:de} auf.",
            "{x:zh}早上{t:zh}起床。",
            x=words.NAMES,
            t=words.times(range(5, 10)),
        ),
        _pattern(
            "{p:en} has an appointment on {w:en} at {t:en}.",
            "{p:de} hat am {w:de} um {t:de} einen Termin.",
            "{p:zh}{w:zh}{t:zh}有预约。",
            p=words.PEOPLE,
            w=weekday,
            t=time,
        ),
        _pattern(
            "I will be back in {n:en} minutes.",
            "Ich bin in {n:de} Minuten zurück.",
            "我{n:count}分钟后回来。",
            n=numbers(range(2, 60)),
        ),
        _pattern(
            "Today is {w:en}, {d:en}.",
            "Heute ist {w:de}, der {d:der}.",
            "今天是{d:zh}，{w:zh}。",
            w=weekday,
            d=words.dates(),
        ),
        _pattern(
            "My birthday is on {d:en}.",
            "Ich habe am {d:de} Geburtstag.",
            "我的生日是{d:zh}。",
            d=words.dates(),
        ),
    ]


def _figures() -> list[Pattern]:
    many = numbers(range(2, 100))
    return [
        _pattern(
            "The number is {n:en}.",
            "Die Zahl ist {n:de}.",
            "这个数字是{n:zh}。",
            n=numbers(range(1000)),
        ),
        _pattern(
            "Please write down the number {n:en}.",
            "Schreiben Sie bitte die Zahl {n:de} auf.",
            "请写下数字{n:zh}。",
            n=numbers(range(1000)),
        ),
        _pattern("{s:en}.", "{s:de}.", "{s:zh}。", s=words.sums()),
        _pattern(
            "How much is {n:en} plus {m:en}?",
            "Wie viel ist {n:de} plus {m:de}?",
            "{n:zh}加{m:zh}等于多少？",
            n=numbers(range(1, 100)),
            m=numbers(range(1, 100)),
        ),
        _pattern(
            "I have {n:en} {x:many}.",
            "Ich habe {n:de} {x:viele}.",
            "我有{n:count}{x:measure}{x:zh}。",
            n=many,
            x=words.GOODS,
        ),
        _pattern(
            "{p:en} has bought {n:en} {x:many}.",
            "{p:de} hat {n:de} {x:viele} gekauft.",
            "{p:zh}买了{n:count}{x:measure}{x:zh}。",
            p=[*words.NAMES, *words.PEOPLE],
            n=numbers(range(2, 21)),
            x=words.GOODS + words.DISHES,
        ),
        _pattern(
            "There are {n:en} {x:many} in the {y:en}.",
            "{y:im} gibt es {n:de} {x:viele}.",
            "{y:zh}里有{n:count}{x:measure}{x:zh}。",
            n=many,
            x=words.FURNITURE,
            y=words.PLACES,
        ),
        _pattern(
            "How many {x:many} do you have?",
            "Wie viele {x:viele} haben Sie?",
            "您有多少{x:measure}{x:zh}？",
            x=words.GOODS,
        ),
        _pattern(
            "{x:en} is {n:en} years old.",
            "{x:de} ist {n:de} Jahre alt.",
            "{x:zh}{n:count}岁。",
            x=words.NAMES,
            n=numbers(range(2, 100)),
        ),
    ]


def _life() -> list[Pattern]:
    name, relative, city, language = words.NAMES, words.RELATIVES, words.CITIES, words.LANGUAGES
    years = numbers(range(2, 31))
    return [
        _pattern("Do you speak {l:en}?", "Sprechen Sie {l:de}?", "您会说{l:zh}吗？", l=language),
        _pattern("I am learning {l:en}.", "Ich lerne {l:de}.", "我在学{l:zh}。", l=language),
        _pattern(
            "{x:en} speaks {l:en} and {k:en}.",
            "{x:de} spricht {l:de} und {k:de}.",
            "{x:zh}会说{l:zh}和{k:zh}。",
            x=name,
            l=language,
            k=language,
        ),
        _pattern(
            "My {x:en} is learning {l:en} in {c:en}.",
            "{x:mein} lernt in {c:de} {l:de}.",
            "我{x:zh}在{c:zh}学{l:zh}。",
            x=relative,
            l=language,
            c=city,
        ),
        _pattern(
            "I have been learning {l:en} for {n:en} years.",
            "Ich lerne seit {n:de} Jahren {l:de}.",
            "我学{l:zh}学了{n:count}年了。",
            l=language,
            n=years,
        ),
        _pattern(
            "I have been living in {c:en} for {n:en} years.",
            "Ich wohne seit {n:de} Jahren in {c:de}.",
            "我在{c:zh}住了{n:count}年了。",
            c=city,
            n=years,
        ),
        _pattern(
            "My {x:en} lives in {c:en}.",
            "{x:mein} wohnt in {c:de}.",
            "我{x:zh}住在{c:zh}。",
            x=relative,
            c=city,
        ),
        _pattern(
            "My {x:en} works in the {y:en}.",
            "{x:mein} arbeitet {y:im}.",
            "我{x:zh}在{y:zh}工作。",
            x=relative,
            y=words.PLACES,
        ),
        _pattern(
            "My {x:en} has bought {y:a}.",
            "{x:mein} hat {y:einen} gekauft.",
            "我{x:zh}买了一{y:measure}{y:zh}。",
            x=relative,
            y=words.GOODS,
        ),
        _pattern(
            "Today it is {q:en} in {c:en}.",
            "Heute ist es in {c:de} {q:de}.",
            "今天{c:zh}很{q:zh}。",
            q=words.WEATHER,
            c=city,
        ),
        _pattern(
            "Tomorrow it will be {q:en} in {c:en}.",
            "Morgen wird es in {c:de} {q:de}.",
            "明天{c:zh}会很{q:zh}。",
            q=words.WEATHER,
            c=city,
        ),
        _pattern("I am tired.", "Ich bin müde.", "我累了。"),
        _pattern("It is raining.", "Es regnet.", "下雨了。"),
    ]


if __name__ == "__main__":
    parser = ArgumentParser(description="Prints a part of the phrase book.")
    parser.add_argument("target", choices=get_args(Target))
    parser.add_argument("split", nargs="?", default="train", choices=["train", *HELD_OUT.values()])
    arguments = parser.parse_args()
    for pair in phrases(arguments.target, arguments.split):
        print("\t".join(pair))
