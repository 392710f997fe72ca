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
        ihrer im in ist ja jede jedem jeden jeder jetzt kann kannst kein keine keinen konnen konnte konntest
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
        nada ni no nos nosotros nuestra nuestro o os otra otro para pero poco podrias por porque puede puedes pues que quien
        quienes se sea ser si sido siempre sin sobre solo son soy su sus tambien te tengo ti tiene
        tienen tienes todo todos tu tus tuve un una uno unos usted ustedes y ya yo"""),
    "fr": _words("""
        a ai ainsi alors apres as au aucun aussi autre aux avait avant avec avez avoir avons bien c ca
        car ce ceci cela celle celui ces cet cette chez comme comment d dans de depuis des donc du
        elle elles en encore entre es est et etaient etait etant ete etes etre eu eux fait faut ici il
        ils j je l la le les leur leurs lors lui m ma mais me meme mes moi mon n ne ni nos notre nous
        on ont ou par parce pas pendant peu peut peux plus pour pourquoi pouvez qu quand que quel quelle quelles
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
        isto ja lhe mais mas me mesmo meu meus mim minha minhas muito na nao nas nem no nos nossa nosso o
        onde os ou para pela pelas pelo pelos por porque qual quais quando que quem sao se seja sem ser
        seu seus so sobre sua suas tambem te tem tenho ter teu tua tudo um uma umas uns voce voces"""),
    "nl": _words("""
        aan af al alle als altijd ben bij dan dat de den deze die dit doen door dus een en er ge geen
        haar had heb hebben heeft het hij hoe hun iemand iets ik in is ja je jij jou jouw jullie kan
        kunnen maar me meer met mij mijn moet na naar niet niets nog nu of om omdat onder ons ook op
        over reeds te tegen toch toen tot u uit uw van veel voor waar waarom wanneer want waren was wat
        we weer wel welke werd wezen wie wij wil worden zal ze zei zelf zich zij zijn zo zonder zou"""),
}

# Stop words of other languages that are English words, names or abbreviations as well ("door", "car",
# "Ben"): they hardly tell a language, and may be what a text is about.
_ENGLISH_TOO: Final = _words("""
    ad al alla allen alto ami ante ate ben bin bis car chi ci com come comment con contra cosa da dan de
    dei del dem den die dies dit door dos dove du due durante e ed el ella elle em en entre er era es et
    eu fa fait fin fur ge ha hace hast hat hay hem hoe hun il im io j ja l la las le les lo los lui ma
    mal man mas mes met mi mia mine mir mis mit mon n na ne non nu nun o ob om op os ou pan par pas per
    plus poco pour sa sans sea si sin solo son sta su sue sur ta te tem ti ton tot tout tu tua u um una
    us va van vers vi via want war wen y ya yo""")

_ANYWHERE: Final = frozenset().union(*STOP_WORDS.values())
_ELSEWHERE: Final = frozenset().union(*(STOP_WORDS[code] for code in STOP_WORDS if code != "en"))
_TELLING: Final[Mapping[Language, frozenset[str]]] = {
    code: words - (_ELSEWHERE if code == "en" else STOP_WORDS["en"] | _ENGLISH_TOO)
    for code, words in STOP_WORDS.items()
}
# So many stop words do tell a language, where nothing else does: "Comment va mon chat".
_MANY: Final = 3

# Endings that any of these languages inflects with, the longest first.
_ENDINGS: Final = ("ern", "en", "em", "er", "es", "os", "as", "e", "n", "s", "x", "o", "a", "i")
_LEAST_STEM: Final = 3

# What a question about earlier talk is made of. These words never tell what it is about …
ASKING: Final = _words("""
    ago discuss discussed discussing earlier mention mentioned previously recall remember remind reminded
    reminds said say spoke spoken talk talked talking tell told
    besprochen daran erinnere erinnern erinnerst erwahnt gesagt gesprochen redeten sprachen vorher zuletzt
    anteriormente dije dijiste dijimos hablamos hablado hablaste recordarme recuerda recuerdame recuerdas
    avons discute disions parle parlions rappelle rappeler souviens
    conversamos falamos discutimos lembra lembrar parlato ricorda ricordami ricordarmi ricordi
    besproken gesproken herinner herinneren""")
# … and these only when the question has nothing else.
_OLD_TALK: Final = _words("""
    chat chats conversation conversations discussion discussions history knew know last month past previous
    recent recently session sessions summarise summarize summary thing things time times topic topics
    today week yesterday
    gestern gesprach gesprache letzte letzten letzter letztes letztem mal thema themen unterhaltung weisst
    wissen woche
    anteriores ayer anterior charla conversacion conversaciones pasada sabe saber sabes semana tema temas
    ultima ultimas ultimo ultimos vez
    conversation conversations derniere dernieres dernier derniers fois hier sais savez semaine sujet sujets
    conversazione conversazioni sai sapete ultima ultime volta conversa conversas gesprek gesprekken laatste
    keer vorige weet""")


def languages_of(words: Collection[str], *, least: int = 1) -> frozenset[Language]:
    """The languages whose stop words are most frequent among *words*: several, or none, if unclear.

    It takes *least* words that are of no other language to tell one from English, or three that are.
    """
    distinct = _ANYWHERE.intersection(words)
    found: dict[Language, tuple[int, int]] = {
        code: (len(distinct & _TELLING[code]), len(distinct & stop_words))
        for code, stop_words in STOP_WORDS.items()
    }
    most = max(found.values())
    needed = 1 if found["en"] == most else least
    if most[0] < needed and (most[1] < _MANY or found["en"][0]):
        return frozenset()
    return frozenset(code for code, number in found.items() if number == most)


def stop_words(languages: Collection[Language]) -> frozenset[str]:
    """The words that carry no topic in a question that is in one of *languages*, or in English."""
    if not languages:
        return STOP_WORDS["en"]
    stopped = frozenset().union(*(STOP_WORDS[code] for code in languages))
    return stopped - (_ENGLISH_TOO - STOP_WORDS["en"]) if len(languages) > 1 else stopped


def is_old_talk(topics: Collection[str], languages: Collection[Language]) -> bool:
    """Whether *topics*, the words of a question without those that carry none, ask for earlier talk."""
    animal = {"chat", "chats"} if "fr" in languages else ()
    said = _OLD_TALK.difference(animal).union(*(STOP_WORDS[code] for code in languages))
    return said.issuperset(topics)


def without_ending(word: str) -> str:
    """*word* without the longest ending that one of these languages inflects with, if enough is left."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return word[: -len(ending)]
    return word
