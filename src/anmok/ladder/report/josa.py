"""Korean particles that depend on the sound before them: 은/는, 이/가, 을/를, 과/와, 으로/로, 이라/라.

Class names come from the user, so they end in anything. Hangul is exact. Digits are read the Korean way (3 is
삼). Latin letters are read as Koreans transcribe them, by rules for word endings ("cat" is 캣, "test" is
테스트); an abbreviation in capitals is spelled out (PCB is 피시비). Where nobody can know, both stand:
``은(는)``.
"""

from __future__ import annotations

import re
import unicodedata

# (after a consonant, after a vowel); 으로/로 alone treats a final ㄹ as a vowel
PARTICLES = {"은": "는", "이": "가", "을": "를", "과": "와", "으로": "로", "이라": "라", "이었": "였"}

_FIRST, _LAST, _FINALS, _RIEUL = 0xAC00, 0xD7A3, 28, 8
_DIGITS = {"0": "m", "1": "l", "2": "", "3": "m", "4": "", "5": "", "6": "k", "7": "l", "8": "l", "9": ""}
_LETTERS = {"L": "l", "R": "l", "M": "m", "N": "n"}  # 엘, 알, 엠, 엔; every other letter's name ends open
_STOPS = "ptkcb"  # written as a final consonant after a short vowel: 캣, 맵, 북, 랩
_VOWELS = "aeiouy"
_BRACKETS = re.compile(r"\s*[(\[（【][^()\[\]（）【】]*[)\]）】]\s*$")


def with_particle(word: str, particle: str) -> str:
    """``word`` with the form of ``particle`` that it takes.

    ``particle``: the form after a consonant, a key of `PARTICLES`. Quotes and a closing bracket are passed
    over: ``‘고양이’`` takes 는, ``제로샷(문장 틀)`` takes 은.
    """
    open_form = PARTICLES[particle]
    final = final_sound(word)
    if final is None:
        optional = particle.removesuffix(open_form)
        both = f"({optional}){open_form}" if optional != particle else f"{particle}({open_form})"
        return word + both
    is_open = not final or (particle == "으로" and final == "l")
    return word + (open_form if is_open else particle)


def final_sound(word: str) -> str | None:
    """The consonant that ``word`` ends in when read aloud.

    ``"l"`` for ㄹ, another letter for any other, ``""`` for none, ``None`` where it cannot be known (another
    script, no letter at all).
    """
    text = _BRACKETS.sub("", unicodedata.normalize("NFC", word)) or word
    while text and not text[-1].isalnum():
        if text[-1] in "%％":
            return ""  # 퍼센트
        text = text[:-1]
    if not text:
        return None
    last = text[-1]
    if _FIRST <= ord(last) <= _LAST:
        final = (ord(last) - _FIRST) % _FINALS
        return "" if final == 0 else "l" if final == _RIEUL else "k"
    if last in _DIGITS:
        return _DIGITS[last]
    match = re.search(r"[A-Za-z]+$", text)
    return _latin(match.group()) if match else None


def _latin(word: str) -> str:
    if word.isupper():
        return _LETTERS.get(word[-1], "")
    word = word.lower()
    if len(word) == 1:
        return _LETTERS.get(word.upper(), "")
    is_silent = len(word) > 2 and word[-1] == "e" and word[-2] not in _VOWELS
    last = word[-2] if is_silent else word[-1]
    if last == "l":
        return "l"
    if last in "mn" or word.endswith("ng"):
        return last
    if is_silent or last not in _STOPS:
        return ""
    return last if word.endswith(("ck", "ook", "oot")) or _is_short(word) else ""


def _is_short(word: str) -> bool:
    """Ends in one vowel and one consonant, as in "cat"; not as in "boat" or "test"."""
    return word[-2] in _VOWELS and (len(word) == 2 or word[-3] not in _VOWELS)
