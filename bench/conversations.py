"""Conversations to evaluate memory on: LoCoMo's format, read from a file or made up here."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something one of the two said; `id` is what questions name as evidence."""

    id: str
    session_id: str
    said_at: datetime
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question, what kind it is (LoCoMo's number), and which utterances answer it."""

    text: str
    category: int
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Two people over many sessions, and questions about what they said."""

    id: str
    utterances: Sequence[Utterance]
    questions: Sequence[Question]


def read(path: Path, categories: frozenset[int]) -> list[Conversation]:
    """The conversations in a LoCoMo-format file, with the questions of *categories*.

    Questions whose evidence is missing, or names nothing that was said, are left out.
    """
    samples = json.loads(path.read_text("utf-8"))
    if isinstance(samples, dict):
        samples = [samples]
    return [_conversation(sample, n, categories) for n, sample in enumerate(samples, 1)]


def _conversation(sample: dict[str, Any], number: int, categories: frozenset[int]) -> Conversation:
    utterances = list(_utterances(sample["conversation"]))
    known = {utterance.id for utterance in utterances}
    questions = []
    for qa in sample.get("qa", ()):
        category = int(qa["category"])
        evidence = frozenset(_named(qa.get("evidence"))) & known
        if category in categories and evidence:
            questions.append(Question(qa["question"], category, evidence))
    return Conversation(sample.get("sample_id") or f"sample-{number}", utterances, questions)


def _utterances(conversation: dict[str, Any]) -> Iterator[Utterance]:
    # Some sessions have a date and nothing else, and numbers may be missing.
    numbers = sorted(
        int(key.removeprefix("session_")) for key in conversation if _SESSION.fullmatch(key)
    )
    for number in numbers:
        session_id = f"session_{number}"
        at = _moment(conversation.get(f"{session_id}_date_time") or "")
        for said in conversation[session_id] or ():
            # A picture without a word has only what is seen in it.
            text = said.get("text") or said.get("blip_caption") or ""
            for id_ in _named(said["dia_id"]):
                yield Utterance(id_, session_id, at, said["speaker"], text)
            at += timedelta(seconds=20)


def _named(evidence: object) -> Iterator[str]:
    """The ids in *evidence*, however they are written: `D8:6; D9:17`, `D9:1 D4:4`, `D:11:26`, `D30:05`."""
    for session, number in _ID.findall(json.dumps(evidence)):
        yield f"D{int(session)}:{int(number)}"


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text.strip(), "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
    except ValueError:
        return datetime(2023, 1, 1, tzinfo=UTC)


_SESSION: Final = re.compile(r"session_\d+")
_ID: Final = re.compile(r"D:?\s*(\d+)\s*:\s*(\d+)")


# What is asked in the conversation, how it is answered, what is asked later, and fillings. An
# answer seldom repeats the words of its question, and both speakers talk of the same things.
_TOPICS: Final = (
    ("How is your {pet} doing?", "{name} chewed up another pair of slippers, the rascal.",
     "What did {speaker}'s {pet} destroy?", {"pet": ["dog", "cat", "puppy"], "name": ["Biscuit", "Pepper", "Mochi"]}),
    ("Where did you end up travelling in {month}?", "We drove along the coast of {place} for ten days.",
     "Where did {speaker} travel in {month}?", {"month": ["May", "June", "October"], "place": ["Portugal", "Norway", "Croatia"]}),
    ("Did you find a new job yet?", "Yes! I start at the {work} on Monday, I am so nervous.",
     "Where did {speaker} find a new job?", {"work": ["botanical garden", "city library", "harbour museum"]}),
    ("What are you reading these days?", "{book}, and it keeps me awake until two.",
     "Which book has {speaker} been reading?", {"book": ["Middlemarch", "The Left Hand of Darkness", "Beloved"]}),
    ("How did the {race} go?", "Four hours and {n} minutes, and my knees still hurt.",
     "How long did the {race} take {speaker}?", {"race": ["marathon", "triathlon"], "n": ["six", "twelve", "forty"]}),
    ("Have you been cooking lately?", "I finally made {dish} from my grandmother's recipe.",
     "What did {speaker} cook from the grandmother's recipe?", {"dish": ["gnocchi", "pierogi", "mole"]}),
    ("What does your sister play again?", "The {instrument}, ever since she was seven.",
     "Which instrument does {speaker}'s sister play?", {"instrument": ["cello", "oboe", "accordion"]}),
    ("Any plans for the kids this summer?", "They signed up for {camp} camp, both of them.",
     "What camp did {speaker}'s kids sign up for?", {"camp": ["sailing", "robotics", "theatre"]}),
    ("Is your allergy better?", "The doctor says it was the {food} all along.",
     "What is {speaker} allergic to?", {"food": ["hazelnuts", "shellfish", "pollen of birches"]}),
    ("How is the painting class?", "We are doing {subject} in watercolours now.",
     "What does {speaker} paint in the class?", {"subject": ["lighthouses", "horses", "old bridges"]}),
    ("What did you get for your anniversary?", "A {gift} that used to belong to his aunt.",
     "What gift did {speaker} receive for the anniversary?", {"gift": ["silver watch", "typewriter", "record player"]}),
    ("Did the support group help?", "Listening to {who} there gave me so much courage.",
     "Who inspired {speaker} in the support group?", {"who": ["a retired nurse", "two young fathers", "an old sailor"]}),
)  # fmt: skip
_FILLINGS: Final = (
    "Hey {other}! Good to hear from you.", "That sounds wonderful, tell me more!", "Oh no, really?",
    "Work has been keeping me busy this week.", "Wow, I am happy for you.", "Thanks, that means a lot.",
    "The weather here has been awful, rain every single day.", "I need more coffee before anything else.",
    "How are you feeling about all of it?", "Take care, talk to you soon!", "Same here, to be honest.",
    "I was thinking about what you said the other day.", "My phone nearly died, sorry for the late reply.",
)  # fmt: skip
_NAMES: Final = ("Nadia", "Oscar", "Priya", "Quentin", "Rosa", "Stefan", "Tamar", "Ulrich")


def made_up(*, seed: int = 1, conversations: int = 4, sessions: int = 18) -> list[Conversation]:
    """Conversations in LoCoMo's manner, always the same for the same *seed*."""
    chance = random.Random(seed)
    return [_made_up(chance, number, sessions) for number in range(conversations)]


def _made_up(chance: random.Random, number: int, sessions: int) -> Conversation:
    pair = chance.sample(_NAMES, 2)
    told = [(speaker, topic) for speaker in pair for topic in _TOPICS]
    chance.shuffle(told)
    utterances: list[Utterance] = []
    questions: list[Question] = []
    at = datetime(2023, 1, 8, 13, 30, tzinfo=UTC)
    for session in range(1, sessions + 1):
        lines: list[tuple[str, str]] = []

        def say(speaker: str, text: str, session: int = session, lines: Any = lines) -> str:
            lines.append((speaker, text))
            return f"D{session}:{len(lines)}"

        for speaker, (opening, answer, question, choices) in told[session - 1 :: sessions]:
            other = pair[1 - pair.index(speaker)]
            words = {name: chance.choice(values) for name, values in choices.items()}
            for turn in range(chance.randint(6, 14)):
                filling = chance.choice(_FILLINGS).format(other=pair[1 - turn % 2])
                say(pair[turn % 2], filling)
            say(other, opening.format(**words))
            evidence = say(speaker, answer.format(**words))
            say(other, chance.choice(_FILLINGS).format(other=speaker))
            asked = question.format(speaker=speaker, **words)
            questions.append(Question(asked, 4, frozenset([evidence])))
        for turn, (speaker, text) in enumerate(lines, 1):
            moment = at + timedelta(seconds=20 * turn)
            utterances.append(
                Utterance(f"D{session}:{turn}", f"session_{session}", moment, speaker, text)
            )
        at += timedelta(days=chance.randint(2, 12))
    return Conversation(f"made-up-{number}", utterances, questions)
