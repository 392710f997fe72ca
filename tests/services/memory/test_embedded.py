"""What the embedded memory does beyond the contract, the same on both databases."""

from __future__ import annotations

import asyncio
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from databases import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from said import MAY, turn

from services.memory.embedded import EmbeddedMemory
from services.memory.scoring import CANDIDATES
from services.storage.database import open_database


async def _texts(memory: EmbeddedMemory, question: str, *, limit: int = 10) -> list[str]:
    return [passage.text for passage in await memory.search("alice", question, limit=limit)]


async def test_inflected_words_are_found(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("We were hiking in the mountains"), "")

    assert await _texts(embedded, "When did she hike on a mountain?") == [
        "We were hiking in the mountains"
    ]


async def test_the_answer_is_found_by_the_words_of_its_question(embedded: EmbeddedMemory) -> None:
    """An answer seldom repeats the words of what it answers."""
    await embedded.add(turn("Alice: What instrument does your sister play?"), "Bob: The cello.")
    await embedded.add(turn("Alice: And your brother?"), "Bob: He paints.")

    assert "Bob: The cello." in await _texts(embedded, "Which instrument does she play?", limit=2)


async def test_neighbours_are_of_the_same_session(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("My passport expires", session="a"), "")
    await embedded.add(turn("unrelated", session="b"), "")
    await embedded.add(turn("In March", session="a"), "")

    [best, *_] = await embedded.search("alice", "passport expires", limit=5)

    assert [near.text for near in best.around] == ["In March"]


async def test_a_named_speaker_counts_more(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("Caroline: pottery is fun", session="a"), "")
    await embedded.add(turn("Melanie: pottery is fun", session="b"), "")

    [best, *_] = await _texts(embedded, "What does Melanie say of pottery?")

    assert best == "Melanie: pottery is fun"


async def test_a_question_counts_less_than_a_statement(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("Is the bakery open?", session="a"), "")
    await embedded.add(turn("So the bakery opened", session="b"), "")

    assert (await _texts(embedded, "bakery"))[0] == "So the bakery opened"


async def test_nothing_is_found_if_nothing_is_wanted(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("pancakes"), "")

    assert await _texts(embedded, "pancakes", limit=0) == []
    assert await _texts(embedded, "What did we discuss?", limit=0) == []


async def test_a_date_in_a_question_is_when_it_was_said(embedded: EmbeddedMemory) -> None:
    for day in (0, 40, 80):
        at = MAY + timedelta(days=day)
        await embedded.add(turn(f"We baked bread, {day}", session=str(day), at=at), "")

    assert (await _texts(embedded, "What did we bake in June?"))[0] == "We baked bread, 40"
    assert (await _texts(embedded, "What did we bake on May 8, 2026?"))[0] == "We baked bread, 0"


async def test_of_equal_messages_the_newest_comes_first(embedded: EmbeddedMemory) -> None:
    for number in range(3):
        await embedded.add(turn("pancakes", session=str(number), at=MAY), "")

    found = await embedded.search("alice", "pancakes", limit=3)

    assert [passage.session_id for passage in found] == ["2", "1", "0"]


async def test_asking_what_was_discussed_before_gives_the_previous_session(
    embedded: EmbeddedMemory,
) -> None:
    await embedded.add(turn("taxes", session="old", at=MAY), "due in June")
    await embedded.add(turn("a birthday cake", session="previous", at=MAY + timedelta(days=1)), "")
    await embedded.add(turn("hello", session="now", at=MAY + timedelta(days=2)), "hi")

    found = await embedded.search("alice", "What did we discuss before?", limit=3, session_id="now")

    assert [p.text for p in found] == ["a birthday cake", "due in June", "taxes"]
    assert [p.relevance for p in found] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("我的猫叫咪咪，它喜欢吃鱼", "我的猫叫什么名字？"),
        ("私の犬の名前はポチです", "犬の名前は何ですか"),
        ("제 고양이 이름은 나비예요", "고양이 이름이 뭐야?"),
        ("แมวของฉันชื่อส้ม", "แมวชื่ออะไร"),
        ("Meine Katze heißt Minka und schläft viel", "Wie heißen meine Katzen?"),
        ("Mis hermanas viven en Sevilla desde hace años", "¿Dónde vive mi hermana?"),
        ("Ma voiture est chez le garagiste depuis lundi", "Où sont mes voitures ?"),
        ("Моя собака любит снег", "собака снег"),
        ("मेरी बिल्ली का नाम मोती है", "बिल्ली नाम"),
        ("The Universität in Bremen", "universitat bremen"),
    ],
)
async def test_each_language_is_found(embedded: EmbeddedMemory, said: str, asked: str) -> None:
    await embedded.add(turn("Something else entirely", session="other"), "Certainly.")
    await embedded.add(turn(said), "")

    [best, *_] = await embedded.search("alice", asked, limit=3)

    assert best.text == said
    assert best.relevance >= 0.7


async def test_english_endings_are_not_taken_from_other_languages(
    embedded: EmbeddedMemory,
) -> None:
    """Porter's stem of both words is "organ"."""
    await embedded.add(turn("Die Organe sind nicht von hier", session="a"), "")
    await embedded.add(turn("Die Organisation ist nicht von hier", session="b"), "")

    assert await _texts(embedded, "Was ist mit der Organisation?") == [
        "Die Organisation ist nicht von hier"
    ]


async def test_an_unrelated_question_is_below_the_threshold(embedded: EmbeddedMemory) -> None:
    for number in range(20):
        await embedded.add(turn(f"We talked about garden bed {number} and tomatoes"), "Nice.")

    found = await embedded.search("alice", "How do tides follow the garden moon?", limit=10)

    assert all(passage.relevance < 0.7 for passage in found)


async def test_a_memory_of_one_message_already_works_at_the_threshold(
    embedded: EmbeddedMemory,
) -> None:
    await embedded.add(turn("My dog is called Biscuit"), "What a lovely dog!")

    [best, *_] = await embedded.search("alice", "What is the name of my dog?", limit=1)

    assert best.relevance >= 0.7


async def test_a_frequent_word_still_counts_in_an_old_message(embedded: EmbeddedMemory) -> None:
    """More messages have it than are looked at closely, and all of them are newer."""
    await embedded.add(turn("the orchid needs water", session="old"), "")
    await embedded.add(turn("the orchid is white", session="later"), "")
    await embedded.add_all(
        [(turn(f"water {n}", session=str(n)), "") for n in range(2 * CANDIDATES)]
    )

    found = await _texts(embedded, "Water for an orchid?", limit=2)

    assert found == ["the orchid needs water", "the orchid is white"]


async def test_a_frequent_word_takes_no_more_memory_the_more_messages_have_it(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """The ids of all of them made the process grow with what a single user had said.

    On Postgres they are still read.
    """
    async with open_database(f"sqlite:///{tmp_path}/chat.db") as database:
        memory = EmbeddedMemory(database)
        for user, number in (("some", 600), ("many", 3_600)):
            said = [
                (turn("waffle", user=user, session=None, request=f"req_{n}"), "")
                for n in range(number)
            ]
            await memory.add_all(said)

        few, many = await _peak(memory, "some"), await _peak(memory, "many")

    assert many < 1.5 * few


async def _peak(memory: EmbeddedMemory, user: str) -> int:
    """The most bytes that Python holds at once while it searches."""
    await memory.search(user, "waffle", limit=10)  # fills what is filled once
    tracemalloc.start()
    try:
        await memory.search(user, "waffle", limit=10)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_postgres_does_not_compile_a_search(postgres_url: str) -> None:
    """Its `jit` goes by estimates, which grow with what everybody said; compiling takes longer."""
    async with open_database(postgres_url) as database:
        setting = await database.fetch_val(
            "SELECT array_to_string(proconfig, ',') FROM pg_proc WHERE proname = 'memory_postings'"
        )

    assert setting == "jit=off"


async def test_postgres_reads_only_the_messages_it_is_asked_for(postgres_url: str) -> None:
    """It took each owner for one of few words, and read all that one had said to pick some by id."""
    async with open_database(postgres_url) as database:
        memory = EmbeddedMemory(database)
        for number in range(50):
            await memory.add(turn("waffle", user=f"other-{number}"), "")
        said = [(turn("waffle", session=None, request=f"req_{n}"), "") for n in range(600)]
        await memory.add_all(said)
        await database.execute("ANALYZE")
        before = await _read_by_owner(database)

        await memory.search("alice", "waffle", limit=10)

        assert await _read_by_owner(database) == before


async def _read_by_owner(database: Database) -> int:
    await database.execute("SELECT pg_stat_force_next_flush()")
    entries: int = await database.fetch_val(
        "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'memory_said_at'"
    )
    return entries


async def test_a_question_of_many_words_is_answered(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("quicksilver"), "")
    long = " ".join(f"w{number}" for number in range(600)) + " quicksilver"

    assert await _texts(embedded, long) == ["quicksilver"]


async def test_operators_in_a_question_are_words(embedded: EmbeddedMemory) -> None:
    await embedded.add(turn("salt and vinegar"), "")

    assert await _texts(embedded, "\"salt* NEAR(vinegar) -content:x OR 'y' & !z | (") == [
        "salt and vinegar"
    ]


NASTY_IDS = [
    "alice", "alice ", "Alice", "al", "alice:bob", "alice bob", '"alice"', "alice*", "' OR 1=1 --",
    "uid:alice", "NEAR", "AND", "%", "_", "", "a\0b", "a\ud800", "a\ufffd", "alice@example.com", "алиса",
]  # fmt: skip


async def test_users_with_ids_like_one_another_see_only_their_own(
    embedded: EmbeddedMemory,
) -> None:
    for number, user in enumerate(NASTY_IDS):
        await embedded.add(turn(f"my secret is number {number}", user=user), "")

    for number, user in enumerate(NASTY_IDS):
        found = await embedded.search(user, "What is my secret number?", limit=50)
        assert [passage.text for passage in found] == [f"my secret is number {number}"]


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    return loop


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(one=st.text(max_size=20), other=st.text(max_size=20), word=st.text(min_size=1, max_size=20))
def test_no_user_id_reaches_another_users_text(
    run: asyncio.AbstractEventLoop, embedded: EmbeddedMemory, one: str, other: str, word: str
) -> None:
    async def told_and_asked() -> None:
        await embedded.forget(one)
        await embedded.add(turn(f"{word} secret", user=other, session=word), word)

        for question in (word, "secret", one, other, "what did we discuss"):
            found = await embedded.search(one, question, limit=10)
            assert found == [] or one == other

    run.run_until_complete(told_and_asked())


async def test_both_databases_give_the_same_results(
    embedded: EmbeddedMemory,
) -> None:
    """The literal is what SQLite gave; Postgres must give it too."""
    story = [
        ("Caroline: I joined a support group on Monday", "Melanie: How was it?"),
        ("Caroline: So powerful, the stories were inspiring", "Melanie: That is great"),
        ("Caroline: I am thinking of counselling as a career", "Melanie: You would be good at it"),
        ("Caroline: Thanks! How are the kids?", "Melanie: We painted a sunrise last week"),
    ]
    for said, answer in story:
        await embedded.add(turn(said), answer)

    found = await embedded.search("alice", "What career does Caroline think of?", limit=4)

    assert [(p.text, round(p.relevance, 4)) for p in found] == [
        ("Caroline: I am thinking of counselling as a career", 0.9767),
        ("Caroline: So powerful, the stories were inspiring", 0.8935),
        ("Melanie: You would be good at it", 0.8889),
        ("Caroline: Thanks! How are the kids?", 0.8569),
    ]
