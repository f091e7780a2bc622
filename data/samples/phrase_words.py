"""The words of the phrase book, in the forms that its phrases need: English, German, Chinese.

    key = Thing("key", "der Schlüssel", "钥匙", "keys", "Schlüssel", "把")
    f"Ich suche {key:einen}."       # "Ich suche einen Schlüssel."
    f"Ich suche {key:einen rot}."   # "Ich suche einen roten Schlüssel."
    f"两{key:measure}{key:zh}"      # "两把钥匙"

A form is named by what stands before the word. German articles, and what is joined with them, are
named by the masculine one, whatever the word's gender: `einen` of "Tasche" is "eine Tasche".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

# Before masculine, feminine and neuter nouns.
ARTICLES = {
    "der": ("der", "die", "das"),
    "dem": ("dem", "der", "dem"),
    "einen": ("einen", "eine", "ein"),
    "kein": ("kein", "keine", "kein"),
    "mein": ("mein", "meine", "mein"),
    "meinen": ("meinen", "meine", "mein"),
    "dieser": ("dieser", "diese", "dieses"),
    "diesem": ("diesem", "dieser", "diesem"),
    "am": ("am", "an der", "am"),
    "im": ("im", "in der", "im"),
    "vom": ("vom", "von der", "vom"),
    "zum": ("zum", "zur", "zum"),
}
ENDINGS = {  # of an adjective between the two
    "einen": ("en", "e", "es"),
    "meinen": ("en", "e", "es"),
    "dieser": ("e", "e", "e"),
}


@dataclass(frozen=True)
class Word:
    """A word, or some that go together, in three languages."""

    en: str
    de: str
    zh: str

    def __format__(self, form: str) -> str:
        return str(getattr(self, form))


@dataclass(frozen=True)
class Person(Word):
    """Somebody addressed by the last name."""

    herrn: str
    """In German, in any case but the nominative."""


@dataclass(frozen=True)
class Number(Word):
    """A number in words."""

    count: str
    """In Chinese, before a measure word."""


@dataclass(frozen=True)
class Date(Word):
    """A day of the year, in German as after "am": "dritten Mai"."""

    der: str
    """In German after "der": "dritte Mai"."""


@dataclass(frozen=True)
class Noun(Word):
    """A noun, whose German has its article: "der Kaffee"."""

    def __format__(self, form: str) -> str:
        form, _, adjective = form.partition(" ")
        if form == "a":
            words = f"{adjective} {self.en}".strip()
            return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
        if form not in ARTICLES:
            return super().__format__(form)
        article, noun = self.de.split(" ", 1)
        gender = ("der", "die", "das").index(article)
        ending = ENDINGS[form][gender] if adjective else ""
        return " ".join(filter(None, (ARTICLES[form][gender], adjective + ending, noun)))


@dataclass(frozen=True)
class Thing(Noun):
    """A noun that can be counted."""

    many: str
    """The plural in English."""

    viele: str
    """The plural in German."""

    measure: str
    """What the Chinese is counted in."""


def _words(*words: tuple[str, str, str]) -> list[Word]:
    return [Word(*word) for word in words]


def _nouns(*nouns: tuple[str, str, str]) -> list[Noun]:
    return [Noun(*noun) for noun in nouns]


def _things(*things: tuple[str, str, str, str, str]) -> list[Thing]:
    """Things from the English, its plural, the German, its plural, and the Chinese after the word
    that it is counted in."""
    return [
        Thing(en, de, zh.split()[1], many, viele, zh.split()[0])
        for en, many, de, viele, zh in things
    ]


def _people(*names: tuple[str, str]) -> list[Person]:
    return [
        Person(f"{mr} {name}", f"{herr} {name}", f"{chinese}{xiansheng}", f"{herrn} {name}")
        for mr, herr, herrn, xiansheng in (
            ("Mr", "Herr", "Herrn", "先生"),
            ("Mrs", "Frau", "Frau", "女士"),
        )
        for name, chinese in names
    ]


DRINKS = _things(
    ("coffee", "coffees", "der Kaffee", "Kaffee", "杯 咖啡"),
    ("tea", "teas", "der Tee", "Tee", "杯 茶"),
    ("beer", "beers", "das Bier", "Bier", "杯 啤酒"),
    ("orange juice", "orange juices", "der Orangensaft", "Orangensäfte", "杯 橙汁"),
    ("apple juice", "apple juices", "der Apfelsaft", "Apfelsäfte", "杯 苹果汁"),
    ("lemonade", "lemonades", "die Limonade", "Limonaden", "杯 柠檬水"),
    ("glass of water", "glasses of water", "das Glas Wasser", "Gläser Wasser", "杯 水"),
    ("glass of milk", "glasses of milk", "das Glas Milch", "Gläser Milch", "杯 牛奶"),
    ("bottle of wine", "bottles of wine", "die Flasche Wein", "Flaschen Wein", "瓶 葡萄酒"),
    ("espresso", "espressos", "der Espresso", "Espressos", "杯 浓缩咖啡"),
    ("cappuccino", "cappuccinos", "der Cappuccino", "Cappuccinos", "杯 卡布奇诺"),
)
DISHES = _things(
    ("soup", "soups", "die Suppe", "Suppen", "碗 汤"),
    ("salad", "salads", "der Salat", "Salate", "份 沙拉"),
    ("pizza", "pizzas", "die Pizza", "Pizzas", "个 披萨"),
    ("sandwich", "sandwiches", "das Sandwich", "Sandwiches", "个 三明治"),
    ("steak", "steaks", "das Steak", "Steaks", "份 牛排"),
    ("omelette", "omelettes", "das Omelett", "Omeletts", "份 煎蛋卷"),
    ("hamburger", "hamburgers", "der Hamburger", "Hamburger", "个 汉堡包"),
    ("bread roll", "bread rolls", "das Brötchen", "Brötchen", "个 小面包"),
    ("croissant", "croissants", "das Croissant", "Croissants", "个 羊角面包"),
    ("piece of cake", "pieces of cake", "das Stück Kuchen", "Stück Kuchen", "块 蛋糕"),
    ("apple", "apples", "der Apfel", "Äpfel", "个 苹果"),
    ("banana", "bananas", "die Banane", "Bananen", "根 香蕉"),
)
FOOD = DRINKS + DISHES
PERSONAL = _things(
    ("key", "keys", "der Schlüssel", "Schlüssel", "把 钥匙"),
    ("umbrella", "umbrellas", "der Regenschirm", "Regenschirme", "把 雨伞"),
    ("bag", "bags", "die Tasche", "Taschen", "个 包"),
    ("suitcase", "suitcases", "der Koffer", "Koffer", "个 行李箱"),
    ("backpack", "backpacks", "der Rucksack", "Rucksäcke", "个 背包"),
    ("watch", "watches", "die Armbanduhr", "Armbanduhren", "块 手表"),
    ("camera", "cameras", "die Kamera", "Kameras", "台 相机"),
    ("mobile phone", "mobile phones", "das Handy", "Handys", "部 手机"),
    ("hat", "hats", "der Hut", "Hüte", "顶 帽子"),
    ("coat", "coats", "der Mantel", "Mäntel", "件 大衣"),
    ("jacket", "jackets", "die Jacke", "Jacken", "件 夹克"),
    ("book", "books", "das Buch", "Bücher", "本 书"),
    ("bicycle", "bicycles", "das Fahrrad", "Fahrräder", "辆 自行车"),
)
FURNITURE = _things(
    ("chair", "chairs", "der Stuhl", "Stühle", "把 椅子"),
    ("table", "tables", "der Tisch", "Tische", "张 桌子"),
    ("lamp", "lamps", "die Lampe", "Lampen", "盏 灯"),
    ("towel", "towels", "das Handtuch", "Handtücher", "条 毛巾"),
    ("pillow", "pillows", "das Kissen", "Kissen", "个 枕头"),
    ("blanket", "blankets", "die Decke", "Decken", "条 毯子"),
    ("mirror", "mirrors", "der Spiegel", "Spiegel", "面 镜子"),
    ("bed", "beds", "das Bett", "Betten", "张 床"),
)
GOODS = PERSONAL + _things(
    ("newspaper", "newspapers", "die Zeitung", "Zeitungen", "份 报纸"),
    ("postcard", "postcards", "die Postkarte", "Postkarten", "张 明信片"),
    ("stamp", "stamps", "die Briefmarke", "Briefmarken", "张 邮票"),
    ("pen", "pens", "der Stift", "Stifte", "支 笔"),
    ("shirt", "shirts", "das Hemd", "Hemden", "件 衬衫"),
    ("dress", "dresses", "das Kleid", "Kleider", "条 连衣裙"),
    ("scarf", "scarves", "der Schal", "Schals", "条 围巾"),
    ("vase", "vases", "die Vase", "Vasen", "个 花瓶"),
)
ROOMS = _things(
    ("single room", "single rooms", "das Einzelzimmer", "Einzelzimmer", "间 单人间"),
    ("double room", "double rooms", "das Doppelzimmer", "Doppelzimmer", "间 双人间"),
    ("family room", "family rooms", "das Familienzimmer", "Familienzimmer", "间 家庭房"),
    ("suite", "suites", "die Suite", "Suiten", "间 套房"),
)
DEVICES = _nouns(
    ("lamp", "die Lampe", "灯"),
    ("heating", "die Heizung", "暖气"),
    ("shower", "die Dusche", "淋浴"),
    ("television", "der Fernseher", "电视"),
    ("air conditioning", "die Klimaanlage", "空调"),
    ("fridge", "der Kühlschrank", "冰箱"),
    ("telephone", "das Telefon", "电话"),
)
OPENING = _nouns(
    ("museum", "das Museum", "博物馆"),
    ("bank", "die Bank", "银行"),
    ("post office", "das Postamt", "邮局"),
    ("library", "die Bibliothek", "图书馆"),
    ("supermarket", "der Supermarkt", "超市"),
    ("restaurant", "das Restaurant", "餐厅"),
    ("pharmacy", "die Apotheke", "药店"),
    ("cinema", "das Kino", "电影院"),
    ("swimming pool", "das Schwimmbad", "游泳池"),
    ("town hall", "das Rathaus", "市政厅"),
    ("bakery", "die Bäckerei", "面包店"),
    ("zoo", "der Zoo", "动物园"),
    ("castle", "das Schloss", "城堡"),
    ("bookshop", "die Buchhandlung", "书店"),
)
PLACES = OPENING + _nouns(
    ("hotel", "das Hotel", "酒店"),
    ("hospital", "das Krankenhaus", "医院"),
    ("theatre", "das Theater", "剧院"),
    ("park", "der Park", "公园"),
    ("church", "die Kirche", "教堂"),
    ("school", "die Schule", "学校"),
    ("train station", "der Bahnhof", "火车站"),
    ("airport", "der Flughafen", "机场"),
)
RELATIVES = _nouns(
    ("mother", "die Mutter", "妈妈"),
    ("father", "der Vater", "爸爸"),
    ("wife", "die Frau", "妻子"),
    ("husband", "der Mann", "丈夫"),
    ("son", "der Sohn", "儿子"),
    ("daughter", "die Tochter", "女儿"),
)
EVENTS = _nouns(
    ("film", "der Film", "电影"),
    ("concert", "das Konzert", "音乐会"),
    ("meeting", "die Besprechung", "会议"),
    ("match", "das Spiel", "比赛"),
    ("party", "die Feier", "聚会"),
    ("exam", "die Prüfung", "考试"),
)
VEHICLES = _words(
    ("the bus", "den Bus", "公共汽车"),
    ("the tram", "die Straßenbahn", "有轨电车"),
    ("the underground", "die U-Bahn", "地铁"),
    ("a taxi", "ein Taxi", "出租车"),
)
SIDES = _words(("left", "links", "左"), ("right", "rechts", "右"))
RELATIONS = _words(  # all with the dative
    ("next to", "neben", "旁边"),
    ("behind", "hinter", "后面"),
    ("in front of", "vor", "前面"),
    ("opposite", "gegenüber", "对面"),
)
TASTES = _words(
    ("cold", "kalt", "凉"),
    ("hot", "heiß", "烫"),
    ("sweet", "süß", "甜"),
    ("expensive", "teuer", "贵"),
)
QUALITIES = _words(
    ("expensive", "teuer", "贵"),
    ("heavy", "schwer", "重"),
    ("small", "klein", "小"),
    ("big", "groß", "大"),
    ("old", "alt", "旧"),
)
COLOURS = _words(
    ("red", "rot", "红色"),
    ("blue", "blau", "蓝色"),
    ("green", "grün", "绿色"),
    ("black", "schwarz", "黑色"),
    ("white", "weiß", "白色"),
    ("yellow", "gelb", "黄色"),
    ("grey", "grau", "灰色"),
    ("brown", "braun", "棕色"),
)
WEATHER = _words(
    ("cold", "kalt", "冷"),
    ("warm", "warm", "暖和"),
    ("hot", "heiß", "热"),
    ("humid", "schwül", "闷热"),
)
CITIES = _words(
    ("Berlin", "Berlin", "柏林"),
    ("Hamburg", "Hamburg", "汉堡"),
    ("Munich", "München", "慕尼黑"),
    ("Cologne", "Köln", "科隆"),
    ("Dresden", "Dresden", "德累斯顿"),
    ("Leipzig", "Leipzig", "莱比锡"),
    ("Vienna", "Wien", "维也纳"),
    ("Zurich", "Zürich", "苏黎世"),
    ("Paris", "Paris", "巴黎"),
    ("London", "London", "伦敦"),
    ("Rome", "Rom", "罗马"),
    ("Milan", "Mailand", "米兰"),
    ("Prague", "Prag", "布拉格"),
    ("Warsaw", "Warschau", "华沙"),
    ("Brussels", "Brüssel", "布鲁塞尔"),
    ("Lisbon", "Lissabon", "里斯本"),
    ("Madrid", "Madrid", "马德里"),
    ("Copenhagen", "Kopenhagen", "哥本哈根"),
    ("Beijing", "Peking", "北京"),
    ("Shanghai", "Shanghai", "上海"),
)
NAMES = _words(
    ("Anna", "Anna", "安娜"),
    ("Peter", "Peter", "彼得"),
    ("Maria", "Maria", "玛丽亚"),
    ("Thomas", "Thomas", "托马斯"),
    ("Lisa", "Lisa", "丽莎"),
    ("David", "David", "大卫"),
    ("Julia", "Julia", "朱莉娅"),
    ("Paul", "Paul", "保罗"),
    ("Emma", "Emma", "艾玛"),
    ("Martin", "Martin", "马丁"),
)
PEOPLE = _people(
    ("Fischer", "费舍尔"),
    ("Weber", "韦伯"),
    ("Schmidt", "施密特"),
    ("Wagner", "瓦格纳"),
    ("Becker", "贝克尔"),
    ("Klein", "克莱因"),
    ("Wolf", "沃尔夫"),
    ("Hoffmann", "霍夫曼"),
)
LANGUAGES = _words(
    ("German", "Deutsch", "德语"),
    ("English", "Englisch", "英语"),
    ("Chinese", "Chinesisch", "中文"),
    ("French", "Französisch", "法语"),
    ("Spanish", "Spanisch", "西班牙语"),
    ("Italian", "Italienisch", "意大利语"),
    ("Japanese", "Japanisch", "日语"),
    ("Russian", "Russisch", "俄语"),
    ("Polish", "Polnisch", "波兰语"),
)
WEEKDAYS = _words(
    ("Monday", "Montag", "星期一"),
    ("Tuesday", "Dienstag", "星期二"),
    ("Wednesday", "Mittwoch", "星期三"),
    ("Thursday", "Donnerstag", "星期四"),
    ("Friday", "Freitag", "星期五"),
    ("Saturday", "Samstag", "星期六"),
    ("Sunday", "Sonntag", "星期日"),
)
MONTHS = _words(
    ("January", "Januar", "一月"),
    ("February", "Februar", "二月"),
    ("March", "März", "三月"),
    ("April", "April", "四月"),
    ("May", "Mai", "五月"),
    ("June", "Juni", "六月"),
    ("July", "Juli", "七月"),
    ("August", "August", "八月"),
    ("September", "September", "九月"),
    ("October", "Oktober", "十月"),
    ("November", "November", "十一月"),
    ("December", "Dezember", "十二月"),
)

ENGLISH_TO_19 = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
ENGLISH_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
GERMAN_TO_19 = (
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn "
    "fünfzehn sechzehn siebzehn achtzehn neunzehn"
).split()
GERMAN_TENS = "_ _ zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
CHINESE_DIGITS = "零一二三四五六七八九"
ENGLISH_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}
GERMAN_ORDINALS = {1: "erste", 3: "dritte", 7: "siebte", 8: "achte"}


def number(value: int) -> Number:
    """A whole number from 0 to 999 in words."""
    chinese = chinese_number(value)
    count = "两" if value == 2 else chinese
    return Number(english_number(value), german_number(value), chinese, count)


def numbers(values: Iterable[int]) -> list[Number]:
    """Numbers in words."""
    return [number(value) for value in values]


def digits(values: Iterable[int]) -> list[Word]:
    """Numbers in digits."""
    return [Word(*[str(value)] * 3) for value in values]


def english_number(value: int) -> str:
    """A number from 0 to 999: "one hundred and twenty-one"."""
    hundreds, rest = divmod(value, 100)
    tens, ones = divmod(rest, 10)
    if rest < 20:
        words = ENGLISH_TO_19[rest]
    else:
        words = "-".join([ENGLISH_TENS[tens], *([ENGLISH_TO_19[ones]] if ones else [])])
    if not hundreds:
        return words
    return f"{ENGLISH_TO_19[hundreds]} hundred" + (f" and {words}" if rest else "")


def german_number(value: int) -> str:
    """A number from 0 to 999 that stands alone: "einhunderteinundzwanzig", but "eins"."""
    hundreds, rest = divmod(value, 100)
    tens, ones = divmod(rest, 10)
    if rest < 20:
        word = GERMAN_TO_19[rest]
    else:
        word = (f"{_joining(ones)}und" if ones else "") + GERMAN_TENS[tens]
    if not hundreds:
        return word
    return f"{_joining(hundreds)}hundert" + (word if rest else "")


def chinese_number(value: int) -> str:
    """A number from 0 to 999 that counts nothing: "一百二十一", "十二", "一百零二"."""
    hundreds, rest = divmod(value, 100)
    tens, ones = divmod(rest, 10)
    last = CHINESE_DIGITS[ones] if ones else ""
    if not hundreds:
        first = CHINESE_DIGITS[tens] if tens > 1 else ""
        return f"{first}十{last}" if tens else CHINESE_DIGITS[ones]
    middle = f"{CHINESE_DIGITS[tens]}十" if tens else "零" if ones else ""
    return f"{CHINESE_DIGITS[hundreds]}百{middle}{last}"


def sums() -> list[Word]:
    """Sums, differences and products of small numbers: "three plus four is seven"."""
    small = range(2, 13)
    return [
        Word(
            f"{a:en} {en} {b:en} is {c:en}",
            f"{a:de} {de} {b:de} ist {c:de}",
            f"{a:zh}{zh}{b:zh}等于{c:zh}",
        )
        for en, de, zh, calculate in (
            ("plus", "plus", "加", int.__add__),
            ("minus", "minus", "减", int.__sub__),
            ("times", "mal", "乘", int.__mul__),
        )
        for one, other in product(small, small)
        if calculate(one, other) >= 0
        for a, b, c in [numbers((one, other, calculate(one, other)))]
    ]


def times(hours: Iterable[int] = range(1, 13)) -> list[Word]:
    """Times of day to five minutes, as they are spoken: "half past seven" is "halb acht"."""
    return [time(hour, minute) for hour in hours for minute in range(0, 60, 5)]


def time(hour: int, minute: int) -> Word:
    """A time on a clock with twelve hours; the minute is a multiple of 5."""
    following = hour % 12 + 1
    return Word(
        _english_time(hour, following, minute),
        _german_time(hour, following, minute),
        _chinese_time(hour, minute),
    )


def clock_times() -> list[Word]:
    """Times of day in digits, with 24 hours: "14:35"."""
    texts = [f"{hour}:{minute:02}" for hour in range(5, 24) for minute in range(2, 60, 7)]
    return [Word(text, f"{text} Uhr", text) for text in texts]


def hour_spans() -> list[Word]:
    """From an hour in the morning to a later one."""
    return [
        Word(
            f"from {first:en} to {last:en} o'clock",
            f"von {first:de} bis {last:de} Uhr",
            f"{first:zh}点到{last:zh}点",
        )
        for first in numbers(range(5, 9))
        for last in numbers(range(9, 13))
    ]


def prices() -> list[Word]:
    """Prices in euros and cents, in digits."""
    return [
        Word(f"{euros}.{cents} euros", f"{euros},{cents} Euro", f"{euros}.{cents}欧元")
        for euros in range(1, 60)
        for cents in (20, 50, 80, 90, 95)
    ]


def dates() -> list[Date]:
    """The days of a leap year."""
    lengths = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return [
        Date(
            f"the {_english_ordinal(day)} of {month:en}",
            f"{_german_ordinal(day)}n {month:de}",
            f"{month:zh}{chinese_number(day)}日",
            f"{_german_ordinal(day)} {month:de}",
        )
        for month, length in zip(MONTHS, lengths, strict=True)
        for day in range(1, length + 1)
    ]


def _joining(value: int) -> str:
    """A digit inside a German number: "ein", not "eins"."""
    return "ein" if value == 1 else GERMAN_TO_19[value]


def _english_ordinal(value: int) -> str:
    *first, last = english_number(value).split("-")
    return "-".join([*first, ENGLISH_ORDINALS.get(last, f"{last}th")])


def _german_ordinal(value: int) -> str:
    return GERMAN_ORDINALS.get(value) or german_number(value) + ("te" if value < 20 else "ste")


def _english_time(hour: int, following: int, minute: int) -> str:
    if minute == 0:
        return f"{english_number(hour)} o'clock"
    if minute == 30:
        return f"half past {english_number(hour)}"
    past = minute < 30
    away = minute if past else 60 - minute
    words = "a quarter" if away == 15 else english_number(away)
    return (
        f"{words} past {english_number(hour)}"
        if past
        else f"{words} to {english_number(following)}"
    )


def _german_time(hour: int, following: int, minute: int) -> str:
    if minute == 0:
        return f"{_joining(hour)} Uhr"
    half = f"halb {german_number(following)}"
    near_half = {25: f"fünf vor {half}", 30: half, 35: f"fünf nach {half}"}
    if minute in near_half:
        return near_half[minute]
    past = minute < 30
    away = minute if past else 60 - minute
    words = "Viertel" if away == 15 else german_number(away)
    return (
        f"{words} nach {german_number(hour)}" if past else f"{words} vor {german_number(following)}"
    )


def _chinese_time(hour: int, minute: int) -> str:
    spoken = {0: "", 5: "零五分", 15: "一刻", 30: "半", 45: "三刻"}
    return f"{number(hour).count}点" + spoken.get(minute, f"{chinese_number(minute)}分")
