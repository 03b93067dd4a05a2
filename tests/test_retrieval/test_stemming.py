"""Stems: those of Snowball's English stemmer, written down once, and one ending for the others."""

import pytest

from retrieval.stemming import DERIVED, RESIDUAL, STEMMERS, WHOLE, english

# What PyStemmer 3.1 says of these words.
SNOWBALL = """
    as as, abilities abil, able abl, ably abli, accidentally accident, added add, adding add,
    addressed address, agreed agre, agreement agreement, agreeing agre, analogies analog, analogist
    analog, analytical analyt, andes andes, argue argu, arsenal arsenal, atlas atlas, available
    avail, bed bed, biologists biolog, blessedly bless, boundary boundari, boundaries boundari,
    buried buri, by by, cats cat, caresses caress, classes class, communism communism, communication
    communic, conditional condit, consistency consist, consolingly consol, controlled control,
    controlling control, cried cri, cries cri, decisively decis, denied deni, differentiability
    differenti, digitizer digit, dying die, early earli, eggs egg, emergency emergenc, enjoyed
    enjoy, equally equal, evening evening, exceed exceed, feed feed, flies fli, formalities formal,
    fulfilling fulfil, gas gas, gases gase, gently gentl, generalizations general, generously
    generous, generic generic, goodness good, happily happili, happy happi, hopefulness hope,
    hopping hop, hoping hope, importance import, inning inning, innings inning, international
    internat, interval interval, kiwis kiwi, knightly knight, lateral lateral, lessen lessen,
    luxuriated luxuri, lying lie, manly man, multiplicity multipl, national nation, nationally
    nation, news news, off off, only onli, operator oper, optional option, organization organiz,
    organs organ, ought ought, paste paste, pastes paste, ponies poni, proceeds proceed, rational
    ration, rationally ration, relational relat, replacement replac, rotational rotat, rubbing rub,
    running run, saying say, sensibilities sensibl, singing sing, sized size, skies sky, skis ski,
    sky sky, smallest smallest, snowed snow, stopped stop, succeeded succeed, technological
    technolog, ties tie, trouble troubl, troubled troubl, tying tie, university universiti,
    universal universal, usefully use, use use, used use, using use, vietnamization vietnam,
    viability viabil, voluntarily voluntarili, whiskey whiskey, witnesses wit, yellow yellow, yes
    yes, youth youth, enjoying enjoy, controll control, fizzed fizz, irritant irrit, adjustable
    adjust, effective effect, effectively effect, revival reviv, allowance allow, inference infer,
    airliner airlin, gyroscopic gyroscop, irradiate irradi, activate activ, adoption adopt,
    communion communion, angularities angular, homologous homolog, probate probat, rate rate, cease
    ceas, controller control, roll roll, digitization digit, feudalism feudal, decisiveness decis,
    formative format, triplicate triplic, electricity electr, electrical electr, lessly lessli,
    careless careless, carelessly careless, bulli bulli, possibly possibl, sensational sensat, 1960s
    1960s, b52 b52, x x, idly idl, ugly ugli, singly singl, pasted paste, pasting paste, howe howe,
    cosmos cosmos, bias bias, agreedly agre, educational educ, vacancy vacanc, capitalism capit,
    optimality optim, informativeness inform, inactivity inact, additionally addit, operationally
    oper, capitalized capit, certificate certif, iterative iter, eligible elig, disagreements
    disagr, document document, evident evid, activism activ, opinion opinion"""
PAIRS = [pair.split() for pair in SNOWBALL.split(",")]


@pytest.mark.parametrize(("word", "stem"), PAIRS, ids=[word for word, _ in PAIRS])
def test_english_stems_are_snowballs(word, stem):
    assert english(word) == stem


def test_every_ending_is_short_enough_to_be_looked_for():
    assert max(map(len, [*DERIVED, *RESIDUAL])) <= 7


@pytest.mark.parametrize("word", sorted(WHOLE))
def test_a_word_that_only_looks_inflected_stays_whole(word):
    assert english(word) == english(word + "s") == word


@pytest.mark.parametrize(
    "word", ["", "y", "yy", "e", "ll", "ss", "ing", "eed", "'", "naïve", "日本"]
)
@pytest.mark.parametrize("language", STEMMERS)
def test_any_word_has_a_stem(language, word):
    assert len(STEMMERS[language](word)) <= len(word)


@pytest.mark.parametrize(
    ("language", "forms", "stem"),
    [
        ("german", "kind kinder kindern kindes", "kind"),
        ("german", "frau frauen", "frau"),
        ("german", "katze katzen", "katz"),
        ("french", "mange manger mangee mangees mangez", "mang"),
        ("french", "bateau bateaux", "bateau"),
        ("spanish", "rapido rapida rapidos rapidamente", "rapid"),
        ("spanish", "flor flores", "flor"),
        ("german", "es tee see", "es tee see"),  # too short to lose anything
    ],
)
def test_inflections_share_a_stem(language, forms, stem):
    assert {STEMMERS[language](form) for form in forms.split()} == set(stem.split())
