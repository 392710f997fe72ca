"""What is known of each language: words that carry no topic, endings that carry no meaning."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, TypeAlias

Language: TypeAlias = Literal["en", "de", "es", "fr", "it", "pt", "nl"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Without accents and case, as `terms.words` gives them. Pieces of contractions ("don't") included.
STOP_WORDS: Final[Mapping[Language, frozenset[str]]] = {
    "en": _words("""
        a about above after again against all also am an and any are aren as at be because been before
        being below between both but by can cannot could couldn d did didn do does doesn doing don
        down during each few for from further get got had hadn has hasn have haven having he her here
        hers herself him himself his how i if in into is isn it its itself just let ll m many me might
        more most much must my myself no nor not now of off on once only or other our ours ourselves out
        over own please re s same shall she should shouldn so some such t than that the their theirs
        them themselves then there these they this those through to too under until up us ve very was
        wasn we were weren what when where whether which while who whom whose why will with would
        wouldn yes you your yours yourself yourselves"""),
    "de": _words("""
        aber alle allem allen aller alles als also am an auch auf aus bei beim bin bis bist da dabei
        damit dann das dass dein deine deinem deinen deiner dem den denn der des dich die dies diese
        diesem diesen dieser dir doch dort du durch ein eine einem einen einer eines er es euch euer
        eure fur gerne habe haben hast hat hatte hatten heisst ich ihm ihn ihnen ihr ihre ihrem ihren
        ihrer im in ist ja jede jedem jeden jeder jetzt kann kannst kein keine keinen konnen konnte
        mal man mein meine meinem meinen meiner mich mir mit muss nach nicht noch nun nur ob oder ohne
        schon sehr sein seine seinem seinen seiner seit sich sie sind so soll sollte uber um und uns
        unser unsere unter vom von vor wann war waren warum was weil welche welchem welchen welcher
        welches wem wen wenn wer werde werden wie wieder will wir wird wo woher wohin wofur womit worden woruber worum wovon wurde
        wurden zu zum zur zwischen"""),
    "es": _words("""
        al algo algun alguna algunas alguno algunos ante antes como con contra cual cuales cuando
        cuanto de del desde donde dos durante e el ella ellas ellos en entre era eran eres es esa esas
        ese eso esos esta estaba estamos estan estar estas este esto estos estoy fue fueron ha habia
        hace hacia han has hasta hay he la las le les lo los mas me mi mia mio mis mucho muchos muy
        nada ni no nos nosotros nuestra nuestro o os otra otro para pero poco por porque pues que quien
        quienes se sea ser si sido siempre sin sobre solo son soy su sus tambien te tengo ti tiene
        tienen tienes todo todos tu tus tuve un una uno unos usted ustedes y ya yo"""),
    "fr": _words("""
        a ai ainsi alors apres as au aucun aussi autre aux avait avant avec avez avoir avons bien c ca
        car ce ceci cela celle celui ces cet cette chez comme comment d dans de depuis des donc du
        elle elles en encore entre es est et etaient etait etant ete etes etre eu eux fait faut ici il
        ils j je l la le les leur leurs lors lui m ma mais me meme mes moi mon n ne ni nos notre nous
        on ont ou par parce pas pendant peu peut plus pour pourquoi qu quand que quel quelle quelles
        quels qui quoi s sa sans se sera ses si soit sommes son sont sous suis sur t ta te tes toi ton
        toujours tous tout toute toutes tres tu un une va vers voici vos votre vous y"""),
    "it": _words("""
        a abbiamo ad agli ai al alla alle allo anche avere avete aveva c che chi ci ci come con cosa
        cui d da dagli dai dal dalla dalle del della delle dello dei degli di do dopo dove e ed era
        erano essere fa fatto fra gia gli ha hai hanno ho i il in io l la le lei li lo loro lui ma me
        mi mia mie miei mio molto ne negli nei nel nella nelle noi non nostra nostro o per perche piu
        poi puo qual quale quali quando quanto quella quelle quelli quello questa queste questi questo
        qui se sei si siamo sono sta stato su sua sue sugli sui sul sulla suo te ti tra tu tua tue tuo
        tutti tutto un una uno vi voi"""),
    "pt": _words("""
        a ao aos aquela aquele aqui as ate com como da das de dela dele depois do dos e ela elas ele
        eles em entre era eram essa esse esta estao estar estas estava este estou eu foi foram ha isso
        isto ja lhe mais mas me mesmo meu meus minha minhas muito na nao nas nem no nos nossa nosso o
        onde os ou para pela pelas pelo pelos por porque qual quais quando que quem sao se seja sem ser
        seu seus so sobre sua suas tambem te tem tenho ter teu tua tudo um uma umas uns voce voces"""),
    "nl": _words("""
        aan af al alle als altijd ben bij dan dat de den deze die dit doen door dus een en er ge geen
        haar had heb hebben heeft het hij hoe hun iemand iets ik in is ja je jij jou jouw jullie kan
        kunnen maar me meer met mij mijn moet na naar niet niets nog nu of om omdat onder ons ook op
        over reeds te tegen toch toen tot u uit uw van veel voor waar waarom wanneer want waren was wat
        we weer wel welke werd wezen wie wij wil worden zal ze zei zelf zich zij zijn zo zonder zou"""),
}

# Stop words of one language that are words of another, so that they tell nothing about which it is.
_SHARED: Final = _words("""
    a al alle also am an as at be been bin con d de den die do dos du e ed en er es era fa fait fin ha
    had has hat he hay i in is it la le les l m ma man mal mas me mes mi mia mit mine my n na ne no nu
    o of on or os pan per so son sin se sei sera si soy su sur t tea te tu u um un up us va van war
    was we wie will y ya""")

_TELLING: Final[Mapping[Language, frozenset[str]]] = {
    "en": STOP_WORDS["en"],
    **{
        code: words - _SHARED - STOP_WORDS["en"]
        for code, words in STOP_WORDS.items()
        if code != "en"
    },
}

_ENDINGS: Final[Mapping[Language, tuple[str, ...]]] = {
    "en": (),
    "de": ("ern", "en", "em", "er", "es", "e", "n", "s"),
    "es": ("es", "os", "as", "s", "o", "a", "e"),
    "fr": ("es", "s", "x", "e"),
    "it": ("a", "e", "i", "o"),
    "pt": ("os", "as", "es", "s", "o", "a", "e"),
    "nl": ("en", "e", "s"),
}
_LEAST_STEM: Final = 3

# What a question about earlier talk is made of. These words never tell what it is about …
ASKING: Final = _words("""
    ago discuss discussed discussing earlier mention mentioned previously recall remember said say
    spoke spoken talk talked talking tell told
    besprochen erinnerst erwahnt gesagt gesprochen redeten sprachen vorher zuletzt
    anteriormente dije dijiste dijimos hablamos hablado hablaste recuerdas
    avons discute disions parle parlions souviens
    conversamos falamos discutimos parlato ricordi besproken gesproken""")
# … and these only when the question has nothing else.
OLD_TALK: Final = _words("""
    chat chats conversation conversations discussion discussions history last month past previous
    recent recently session sessions summarise summarize summary thing things time times topic topics
    today week yesterday
    gestern gesprach gesprache letzte letzten letztes letztem mal thema themen unterhaltung woche
    ayer anterior charla conversacion pasada semana tema temas ultima ultimo vez
    conversation derniere dernier fois hier semaine sujet sujets
    ultima volta conversa gesprek laatste keer vorige""")


def language_of(words: Collection[str], *, least: int) -> Language:
    """The language whose stop words are most frequent among *words*; English if unclear.

    Another language than English needs at least *least* telling words, and more than English has.
    """
    best: Language = "en"
    most = max(least - 1, sum(word in _TELLING["en"] for word in words))
    for code, telling in _TELLING.items():
        if code != "en" and (found := sum(word in telling for word in words)) > most:
            best, most = code, found
    return best


def without_ending(word: str, language: Language) -> str:
    """*word* without the longest ending that *language* inflects with, if enough is left."""
    for ending in _ENDINGS[language]:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return word[: -len(ending)]
    return word
