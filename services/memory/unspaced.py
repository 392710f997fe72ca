"""Scripts that write no spaces between words: runs of characters become pairs of characters.

A question's pairs are taken from the pieces between its function words, so that "what is", "my" or
a particle do not count as a topic. Korean has spaces, but glues particles to its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

# Chinese and Japanese, Korean; a single character of these can be a word.
_SYLLABIC: Final = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f"
# Thai, Lao, Burmese, Khmer; a single letter is not.
_ALPHABETIC: Final = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u104f\u1780-\u17d3"

LETTERS: Final = _SYLLABIC + _ALPHABETIC

_KANA_OR_KANJI: Final = "[\u30a1-\u30ff\u4e00-\u9fff]"


def _alternatives(words: str) -> str:
    # Longest first: a regular expression takes the first that fits.
    return "|".join(sorted(words.split(), key=len, reverse=True))


_FUNCTION: Final = """
    什么 什麼 怎么 怎麼 怎样 怎樣 为什么 為什麼 哪里 哪裡 哪个 哪個 哪些 哪儿 多少 几个 幾個 谁 誰 我们 我們
    你们 你們 他们 他們 她们 她們 咱们 我 你 您 他 她 它 的 了 吗 嗎 呢 吧 啊 是 在 和 与 與 也 都 就 没有 沒有
    有没有 这个 這個 那个 那個 这 這 那 请 請 告诉 告訴 讨论 討論 聊 谈 談 说 說 上次 之前 以前 还记得 還記得
    记得 記得 过 過 被 给 給 叫做 叫 最
    です ました ます でした ですか という って から まで これ それ あれ どこ どれ どの いつ なに なん だれ あなた
    ください ありますか している していた した する いる ある について 何 私 僕 俺 前回 覚えて 話した 話
    무엇 무슨 뭐야 뭐 어디 언제 누구 어떤 나의 나는 내가 제가 우리 당신 너의 얘기 이야기 지난번 입니까 인가요
    인가 이야 했지 했어 했나 기억
    ของ ฉัน ผม ดิฉัน คุณ อะไร ที่ไหน เมื่อไหร่ เมื่อไร ใคร ทำไม อย่างไร ยังไง คือ เป็น ที่ และ ใน ได้ ไหม ครับ
    ค่ะ คะ นี้ นั้น มี เรา คุยกัน คุย เกี่ยวกับ ก่อนหน้า ครั้งที่แล้ว
    """
# Between a word and whatever follows it.
_JAPANESE_PARTICLE: Final = rf"|(?<={_KANA_OR_KANJI})[はがをにのでともへか](?![\u3041-\u3096])"
_FUNCTION_WORDS: Final = re.compile(_alternatives(_FUNCTION) + _JAPANESE_PARTICLE)
# What a question about earlier talk has besides, and nothing else; elsewhere these may be the topic.
_OLD_TALK: Final = re.compile(
    _alternatives(
        _FUNCTION
        + """
    知道 了解 关于 關於 对 對 对话 對話 谈话 談話 聊天 内容 內容 话题 話題 上一次 最近 提醒 一下 的事 些 可以 能 想起 次 昨天 上周
    知って 知ってる 知っている 知っていますか ことを 会話 内容 前 以前 さっき 昨日 先週 最後 最近 私たち 私たちは 私のことを 僕たち 僕たちは 思い出させて 思い出して
    話し 話して 話していた 話しました 話しましたか 話したか 教えて
    알고 알아 아는 대해 대해서 뭘 무엇을 것 있어 있니 있나요 있습니까 있는지 대화 대화를 이전 전에 지난 마지막 최근 우리가 우리의 나에 나를 저에 내게
    했는지 나눈 나눴지 나눴는지 얘기를 이야기를 얘기했지 알려줘 알려 말해줘 해줘 줘 상기시켜
    รู้ บ้าง กับ ตัว การสนทนา สนทนา ครั้ง ล่าสุด สุดท้าย ก่อน เมื่อวาน เตือน ช่วย หน่อย กัน เรื่อง ว่า จำ พูด ถึง อะไร แล้ว ไว้
    """
    )
    + _JAPANESE_PARTICLE
)
# Korean particles at the end of a word of two syllables or more.
_KOREAN_PARTICLE: Final = re.compile(
    "(?<=[\uac00-\ud7a3]{2})(?:에서|으로|에게|까지|부터|이랑|은|는|이|가|을|를|의|에|와|과|도|로|랑)$"
)
_ALPHABETIC_RUN: Final = re.compile(f"[{_ALPHABETIC}]+")


def index_pieces(run: str) -> Iterator[str]:
    """What a remembered *run* of letters can be found by: each pair, and each syllable."""
    if not _ALPHABETIC_RUN.fullmatch(run):
        yield from run
    yield from _pairs(run)


def query_pieces(run: str) -> Iterator[str]:
    """What a *run* of letters in a question is searched by."""
    for part in _FUNCTION_WORDS.split(_KOREAN_PARTICLE.sub("", run)):
        if len(part) > 1:
            yield from _pairs(part)
        elif part and not _ALPHABETIC_RUN.fullmatch(part):
            yield part


def is_old_talk(run: str) -> bool:
    """Whether *run*, of a question, says nothing but "what did we talk about" or "what do you know"."""
    return not _OLD_TALK.sub("", run)


def _pairs(run: str) -> Iterator[str]:
    return (left + right for left, right in pairwise(run))
