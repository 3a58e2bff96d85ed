"""A generator of news queries: a small grammar and its word lists.

A query has these parts, each with its label: an opening ("can you show me", O), a kind of news (NEWSTYPE), a topic
(KEYWORDS), a part of a newspaper (SECTION) and the newspaper or station (PROVIDER). Many words are in several lists on
purpose: the label of "news", "star", "world", "lincoln", "section", "in" or a number depends on the words around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .._checks import size
from .sentences import TaggedSentence


def _list(text: str) -> list[str]:
    return [" ".join(item.split()) for item in text.split(",")]


CITIES = _list("""
    harlow, lincoln, hamilton, florence, victoria, jackson, salem, dover, bristol, kestrel bay, cedar
    falls, eagle pass, star valley, sun city, mount vernon, springfield, north ridge, lake omer, new
    harbor, san tomas, port ellis, ashford, bellmont, carrow, denby, eastwick, fairhaven, granby,
    holloway, irving, juniper hill, kingsley, larkspur, milton, newbury, oakdale, pemberton, quarry bank,
    redwater, stillwater, thornton, union grove, vale, westbrook, york, zeeland, santa rosa, el paso, fort
    mason, grand rapids, little rock, twin lakes, white plains, cape north, paris, madison, charlotte,
    austin, preston, troy, marion, beaumont, clifton, dalton, elmira, franklin
""")
REGIONS = _list("""
    kenya, norway, peru, japan, chile, iceland, bolivia, portugal, malta, fiji, nepal, oman, ghana,
    latvia, uruguay, west africa, central asia, eastern europe, the baltic, the south pacific, northern
    ireland, new zealand, south korea, the alps, the gulf of mexico, the middle east, costa rica, papua
    new guinea, the north sea, georgia, jordan, turkey, panama, quebec, tasmania, the canary islands
""")
FIRST_NAMES = _list("""
    ada, boris, charlotte, daniel, elena, franklin, grace, hugo, irene, jackson, karim, lena, madison,
    nadia, oscar, paris, quentin, rosa, samuel, tara, umar, victoria, walter, ximena, yusuf, zoe, austin,
    preston, florence, jordan
""")
LAST_NAMES = _list("""
    abbott, barros, castellan, doyle, eriksen, fontaine, galloway, haddad, ivanov, jensen, kowalski,
    lincoln, hamilton, moreau, novak, okafor, petrov, quinn, rossi, santos, tanaka, ueda, vasquez,
    whitfield, yilmaz, zeller, irving, thornton, milton, kingsley, de la cruz, van houten
""")
COMPANIES = _list("""
    northwind, bluepeak, corvida, datalume, everstone, fennec, gridworks, halcyon, ionex, jetstream,
    kiteworks, lumora, meridian, nimbus, orchard, pinnacle, quantiva, redwood, solaris, tessera, umbra,
    vantage, wavelet, xylo, yonder, zephyr, star energy, sun systems, pioneer motors, standard bank,
    herald pharma, mountain software, globe stores, express freight, sentinel security, apex 9, studio 54,
    orbit 360, daily bread bakery, world telecom, mirror labs
""")
OFFICES = _list("""
    president, prime minister, foreign minister, finance minister, king, queen, crown prince, head of
    state, mayor, governor, health minister, chief justice
""")
EVENTS = _list("""
    flood, wildfire, storm, earthquake, landslide, blackout, train crash, bridge collapse, heat wave, bus
    strike, gas leak, school fire, oil spill, bank robbery, factory explosion, ferry accident, forest
    fire, hail storm, record snowfall, record heat, post office robbery, power failure, teachers strike,
    football final, mail train derailment, tornado, drought, election, referendum, census
""")
DISEASES = _list("""
    measles, cholera, malaria, influenza, dengue, tuberculosis, rabies, typhoid, polio, swine flu,
    whooping cough
""")
# Topics whose words also occur in the other lists.
TOPICS = _list("""
    world cup, health insurance, home prices, fashion week, video games, weather satellites, travel ban,
    science fair, technology stocks, business taxes, style awards, sports betting, food prices, arts
    funding, sun spots, star clusters, press freedom, fake news, news anchors, war stories, top schools,
    breaking waves, feature films, spotlight theatre, mail fraud, post office closures, opinion polls,
    real madrid, real wages, local elections, finance bill, morning sickness, evening classes, daily
    vitamins, weekly wages, free trade, county fair, community gardens, leader of the opposition, speed of
    light, voice of america, coverage of dental insurance, national park service, trending hashtags,
    headlines theatre, garden flowers, politics of water, record prices, world record, solar storm,
    letters from prison, independent films, banner ads, classified documents, section 8 housing, section
    230
""")
NUMBERED = _list("""
    flight, route, highway, apollo, formula, squadron, bus, area, windows, galaxy, channel, unit
""")
AFTER_YEAR = _list("elections, olympics, budget, census, world cup, film festival")
POSSESSIONS = _list("""
    new film, feature debut, resignation, speech, world tour, memoir, trial, latest book, opinion of the
    press, top ten record, recent feature, health, travel plans
""")

PAPERS = _list("""
    herald, times, news, tribune, post, journal, star, sun, record, sentinel, gazette, courier, chronicle,
    standard, mail, pioneer, globe, echo, mirror, monitor, observer, express, leader, press, register,
    review, dispatch, examiner, independent, banner, bulletin, world, advocate, eagle
""")
PAPER_KINDS = _list("""
    daily, daily, weekly, evening, morning, sunday, free, business, county, valley, community, sports
""")
FOREIGN_PAPERS = _list("el sol de, el diario de, la voz de, la prensa de, el mundo de")

SECTIONS = _list("""
    sports, world, business, health, science, travel, technology, weather, opinion, politics, arts, style,
    fashion, finance, video, comics, obituaries, classifieds, editorial, entertainment, local, food, home,
    health and wellness, home and garden, real estate, classified ads, world affairs, arts and culture,
    food and drink, letters to the editor
""")

NEWS_ADJECTIVES = _list("breaking, top, trending, feature, spotlight, latest")
NEWS_NOUNS = _list("news, news, news, stories, story, news stories, headlines")
PLAIN_NEWS = _list("news stories, headlines, coverage")

COMMANDS = _list("""
    find, display, open, open up, bring up, look up, search for, check, check out, view, pull up, take a
    look at, post, mail, feature, review, star, record, register
""")
COMMANDS_FOR_ME = _list("show me, get me, give me, mail me, bring me, find me")
WISHES = _list("""
    i want to, i would like to, i d like to, i d love to, i would really like to, i need to, i have to, i
    ve got to, i wanna, i gotta, let me, help me
""")
REQUESTS = _list("can you, can you please, could you, please, would you please, i want you to, you need to")
READ_ABOUT = _list("""
    read about, know more about, hear about, find out about, catch up on, learn about, follow, look into
""")
ABOUT = _list("""
    about, on, concerning, regarding, covering, mentioning, relating to, related to, focused on, centered
    on, dealing with, connected to, linked to, to do with, that deal with, that deals with, that concern,
    that concerns, that mention, that focus on, that speak about, that is about, that has to do with, that
    are linked to, with a focus on
""")
PERIODS = _list("days, weeks, hours, months, years")
ENDINGS = _list("""
    today, this week, please, right now, on a daily basis, for the weekly meeting, for my morning read,
    from this morning, if there is any news, again, in the evening, for the record, before the press
    arrives, as the story develops
""")
QUESTIONS = _list("""
    what is in the news, what s in the news, who is in the news, what s new in the world, what happened in
    the world, is there any news in the mail, what are people in the city saying
""")

# Halves of invented names. Few of these names occur twice in a data set. So the test part, like that of real data, has
# words that aren't in the training part, and only their neighbours tell what they are.
TOWN_STEMS = _list("""
    ald, brack, cald, dray, elder, fen, glen, hazel, inver, kirk, lang, mor, nether, oxen, pine, quell,
    raven, silver, tarn, under, wal, winter, yarrow
""")
TOWN_ENDINGS = _list("""
    borough, bury, by, cliff, dale, field, ford, gate, ham, hurst, mere, mouth, stead, ton, wick, worth
""")
NAME_STEMS = _list("""
    abra, bala, cori, dema, eska, fari, golu, hara, ilma, jova, kemi, lori, mari, neva, ostra, pavli,
    roma, sade, tori, ulva, vere, zami
""")
NAME_ENDINGS = _list("""
    bek, dze, ghan, kis, lund, mann, nen, nez, poulos, quist, rath, sson, tti, vic, wen, yan
""")
FIRM_STEMS = _list("""
    aero, bio, cyber, data, eco, fin, geo, hydro, info, kilo, macro, nano, omni, petro, robo, tele, ultra,
    vita
""")
FIRM_ENDINGS = _list("""
    cast, core, dyne, flow, gen, link, mart, path, scale, sphere, sys, tech, tron, ware, works
""")

Fragment = list[tuple[str, str]]


def _other(text: str) -> Fragment:
    return [(word, "O") for word in text.split()]


def _entity(kind: str, text: str) -> Fragment:
    return [(word, ("I-" if k else "B-") + kind) for k, word in enumerate(text.split())]


def _keywords(text: str) -> Fragment:
    """Label keywords; an article before them is not one of them."""
    first, _, rest = text.partition(" ")
    if first in ("the", "a", "this"):
        return _other(first) + _entity("KEYWORDS", rest)
    return _entity("KEYWORDS", text)


class _Grammar:
    """The rules; each method makes one part of a query, at random."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.queries: list[Callable[[], Fragment]] = [
            *[self.news_about] * 3,
            *[self.read_about] * 2,
            *[self.topic_first] * 2,
            *[self.section_of] * 2,
            self.news_from,
            self.section_news,
            self.provider_first,
            self.provider_alone,
            self.source_first,
            self.question,
            self.numbered_news,
            self.topic_alone,
        ]

    def pick(self, items: Sequence[str]) -> str:
        return items[int(self.rng.integers(len(items)))]

    def chance(self, share: float) -> bool:
        return float(self.rng.random()) < share

    def number(self, digits: int = 4) -> str:
        return str(int(self.rng.integers(1, 10 ** int(self.rng.integers(1, digits + 1)))))

    # Names

    def city(self) -> str:
        return self.pick(TOWN_STEMS) + self.pick(TOWN_ENDINGS) if self.chance(0.4) else self.pick(CITIES)

    def place(self) -> str:
        return self.city() if self.chance(0.5) else self.pick(REGIONS)

    def company(self) -> str:
        return self.pick(FIRM_STEMS) + self.pick(FIRM_ENDINGS) if self.chance(0.5) else self.pick(COMPANIES)

    def person(self) -> str:
        if self.chance(0.3):
            return f"{self.pick(OFFICES)} of {self.place()}"
        invented = self.pick(NAME_STEMS) + self.pick(NAME_ENDINGS)
        last = invented if self.chance(0.5) else self.pick(LAST_NAMES)
        return last if self.chance(0.2) else f"{self.pick(FIRST_NAMES)} {last}"

    def company_topic(self) -> str:
        one, two = self.company(), self.company()
        rules = [
            one,
            f"{one} {two} merger",
            f"{one} acquisition of {two}",
            f"{one} takeover by {two}",
            f"{one} s new office in {self.place()}",
            f"{self.number()} layoffs at {one}",
            f"{one} s record profits",
        ]
        return self.pick(rules)

    def person_topic(self) -> str:
        one = self.person()
        travel = f"{one} s {self.pick(['visit', 'trip'])} to {self.place()}"
        return self.pick([one, travel, travel, f"{one} s {self.pick(POSSESSIONS)}"])

    def other_topic(self) -> str:
        rules = [
            self.pick(DISEASES),
            f"{self.pick(DISEASES)} outbreak in {self.place()}",
            self.place(),
            f"{self.pick(NUMBERED)} {self.number()}",
            f"{self.number()} {self.pick(AFTER_YEAR)}",
        ]
        return self.pick(rules)

    # Labelled parts

    def keywords(self) -> Fragment:
        kind = int(self.rng.integers(6))
        if kind == 0:
            return _keywords(self.company_topic())
        if kind == 1:
            return _keywords(self.person_topic())
        if kind == 2:
            return _keywords(self.other_topic())
        if kind == 3:
            return _keywords(f"{self.pick(['the', 'a', 'this'])} {self.pick(EVENTS)}")
        if kind == 4:
            return _keywords(f"the {self.pick(EVENTS)} in {self.place()}")
        return _keywords(self.pick(TOPICS))

    def news_type(self, after_name: bool = False) -> Fragment:
        """Make a kind of news. After a name it is never "news" alone, which would read as a part of the name."""
        if self.chance(0.3):
            return _entity("NEWSTYPE", self.pick(PLAIN_NEWS if after_name else [*PLAIN_NEWS, "news", "news"]))
        number = f"{self.number(2)} " if self.chance(0.08) else ""
        return _entity("NEWSTYPE", f"{self.pick(NEWS_ADJECTIVES)} {number}{self.pick(NEWS_NOUNS)}")

    def provider(self) -> Fragment:
        """Make a newspaper or station, always after "the" if its name has no place in it, sometimes if it has."""
        city, paper = self.city(), self.pick(PAPERS)
        second = self.pick([other for other in PAPERS if other != paper])
        kind = int(self.rng.integers(10))
        if kind == 0:
            return _other("the") + _entity("PROVIDER", f"{paper} {second}")
        if kind == 1:
            return _other("the") + _entity("PROVIDER", f"{self.pick(PAPER_KINDS)} {paper}")
        if kind == 2:
            # "In the news" and "in the world" are not papers.
            alone = [one for one in PAPERS if one not in ("news", "world")]
            return _other("the") + _entity("PROVIDER", self.pick(alone))
        if kind == 3:
            names = [f"channel {self.number()} news", f"{city} daily", f"voice of {city}"]
            return _entity("PROVIDER", self.pick([*names, f"{self.pick(FOREIGN_PAPERS)} {city}"]))
        article = _other("the") if self.chance(0.4) else []
        if kind <= 5:
            return article + _entity("PROVIDER", f"{city} {paper} {second}")
        if kind <= 7:
            return article + _entity("PROVIDER", f"{city} {self.pick(PAPER_KINDS)} {paper}")
        return article + _entity("PROVIDER", f"{city} {paper}")

    def source(self) -> Fragment:
        return _other(self.pick(["from", "from", "in", "in", "of", "by"])) + self.provider()

    def section(self, article: bool = True) -> Fragment:
        """Make a section; the word "section" belongs to "sports section", but not to "the sports section"."""
        name = self.pick(SECTIONS)
        kind = int(self.rng.integers(4))
        if kind == 0:
            return _entity("SECTION", name)
        if kind == 1 and article:
            return _other("the") + _entity("SECTION", name) + _other("section")
        doubled = _other("section") if kind == 2 else []
        return _entity("SECTION", f"{name} section") + doubled

    def opening(self) -> Fragment:
        if self.chance(0.4):
            return _other(f"{self.pick(WISHES)} {self.pick(COMMANDS)}")
        command = self.pick(COMMANDS_FOR_ME if self.chance(0.4) else COMMANDS)
        return _other(f"{self.pick(REQUESTS)} {command}" if self.chance(0.5) else command)

    def ending(self) -> Fragment:
        if self.chance(0.05):
            return _other(f"from the last {self.number(2)} {self.pick(PERIODS)}")
        return _other(self.pick(ENDINGS)) if self.chance(0.12) else []

    def about(self) -> Fragment:
        return _other(self.pick(ABOUT)) + self.keywords()

    def maybe(self, share: float, part: Callable[[], Fragment]) -> Fragment:
        return part() if self.chance(share) else []

    # Whole queries

    def news_about(self) -> Fragment:
        query = self.maybe(0.75, self.opening) + self.news_type() + self.about()
        query += self.maybe(0.1, lambda: _other("and") + self.keywords())
        return query + self.maybe(0.4, self.source)

    def read_about(self) -> Fragment:
        query = _other(f"{self.pick(WISHES)} {self.pick(READ_ABOUT)}") + self.keywords()
        if self.chance(0.4):
            query += _other("in") + self.section()
        return query + self.maybe(0.45, self.source)

    def news_from(self) -> Fragment:
        return self.maybe(0.7, self.opening) + self.news_type() + self.source()

    def topic_first(self) -> Fragment:
        query = self.maybe(0.5, self.opening) + self.keywords() + self.news_type(after_name=True)
        return query + self.maybe(0.5, self.source)

    def topic_alone(self) -> Fragment:
        return self.keywords() + self.maybe(0.6, self.source)

    def section_of(self) -> Fragment:
        return self.maybe(0.6, self.opening) + self.section() + self.maybe(0.8, self.source)

    def section_news(self) -> Fragment:
        query = self.maybe(0.5, self.opening) + self.section() + self.news_type(after_name=True)
        return query + self.maybe(0.5, self.source)

    def provider_first(self) -> Fragment:
        query = self.maybe(0.5, self.opening) + self.provider()
        if self.chance(0.5):
            return query + _other("s") + self.section(article=False)
        return query + self.news_type(after_name=True) + self.maybe(0.4, self.about)

    def provider_alone(self) -> Fragment:
        if self.chance(0.3):
            query = self.opening() + self.provider() + _other("and bring up")
            return query + self.news_type() + self.maybe(0.6, self.about)
        return self.maybe(0.6, self.opening) + self.provider()

    def source_first(self) -> Fragment:
        return self.source() + self.opening() + self.news_type() + self.about()

    def question(self) -> Fragment:
        return _other(self.pick(QUESTIONS)) + self.maybe(0.6, lambda: _other("about") + self.keywords())

    def numbered_news(self) -> Fragment:
        query = self.opening() + _other(self.number(2)) + self.news_type()
        return query + self.maybe(0.6, self.about) + self.maybe(0.4, self.source)

    def query(self) -> Fragment:
        rule = self.queries[int(self.rng.integers(len(self.queries)))]
        return rule() + self.ending()


def generate_news(n: int = 1000, seed: int = 0) -> list[TaggedSentence]:
    """Generate news queries from a grammar, with the labels of the original's data.

    The words are lower case without punctuation, as a speech recogniser gives them: "can you show me top
    stories on the flood in lincoln from the evening star". The labels are O and B-, I- of NEWSTYPE ("top
    stories"), KEYWORDS ("flood in lincoln"), SECTION ("home and garden section") and PROVIDER ("evening
    star").

    The label of many words depends on their neighbours to the left and to the right: "news" is a kind of
    news, the end or the start of a newspaper's name, a keyword ("fake news") or none of these ("what is in
    the news"); a city is where a flood is or where a paper is printed; "in" belongs to "flood in lincoln" but
    not to "flood in lincoln herald"; a number can have five labels. A tagger that knows the words but not
    their context gets about eight in ten right (`baseline_accuracy`). The test part of 1000 queries has words
    that are not in its training part: some places, names and companies are put together from halves.

    Parameters
    ----------
    n : int
        Number of queries, at least 1. A larger n begins with the same queries.
    seed : int
        The same seed gives the same queries.

    Returns
    -------
    list of TaggedSentence

    Raises
    ------
    ValueError
        If n < 1 or seed < 0.
    TypeError
        If they are not ints.
    """
    n = size("n", n)
    grammar = _Grammar(np.random.default_rng(size("seed", seed, least=0)))
    queries = []
    for _ in range(n):
        words, labels = zip(*grammar.query(), strict=True)
        queries.append(TaggedSentence(list(words), list(labels)))
    return queries
