"""Text from outside, made fit for a terminal, and what it names; numbers as text."""

import os
import unicodedata
from pathlib import PurePath


def printable(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with whatever would steer a terminal, or cannot be encoded, spelled out.

    Control and format characters, unassigned ones and lone surrogates (from names of files that
    are no UTF-8) become escapes; so a text stays one line, unless ``keep`` has the line's end.

    >>> print(printable("\x1b[31mred\n[b]"))
    \x1b[31mred\n[b]
    """

    def steers(char: str) -> bool:
        return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")

    return "".join(
        char.encode("unicode_escape").decode() if steers(char) and char not in keep else char
        for char in text
    )


def alike(*numbers: float) -> list[str]:
    """Return numbers of one measure, each with as many decimals: fewer where they are large.

    >>> alike(20.189, 20.0, 20.37), alike(-119.702, 135.714, 8.0)
    (['20.19', '20.00', '20.37'], ['-119.7', '135.7', '8.0'])
    """
    largest = max(map(abs, numbers))
    decimals = 2 if largest < 100 else 1 if largest < 1_000 else 0
    return [f"{number:,.{decimals}f}" for number in numbers]


def extremes(low: float, high: float) -> str:
    """Return the least and the largest of numbers; whole ones as such.

    >>> extremes(19.0, 21.0), extremes(203.323, 243.457)
    ('19 … 21', '203.3 … 243.5')
    """
    whole = low == round(low) and high == round(high)
    return " … ".join([f"{low:,.0f}", f"{high:,.0f}"] if whole else alike(low, high))


def words_of(text: str) -> list[str]:
    """Return the model and the words behind it that ``text`` names, as ``a.zip+noise:1`` does.

    A plus may be part of a file's own name, of the model's or behind a word's colon: the longest
    stretch that is the name of a file or folder is one word, and what has a dot but no colon is the
    rest of a file's name, whether it is there or not.

    >>> words_of("a.zip+vecnormalize:stats.pkl+noise:1"), words_of("a+b.zip+negate")
    (['a.zip', 'vecnormalize:stats.pkl', 'noise:1'], ['a+b.zip', 'negate'])
    """
    parts, words = text.split("+"), list[str]()
    while parts:
        ends = range(len(parts), 1, -1)
        end = next((end for end in ends if _names_a_file("+".join(parts[:end]))), 1)
        while end < len(parts) and "." in parts[end] and ":" not in parts[end]:
            end += 1
        words.append("+".join(parts[:end]))
        del parts[:end]
    return words


def _names_a_file(word: str) -> bool:
    """Return whether a word, but for ``NAME:`` or ``MODULE:NAME:`` before it, names what is there.

    A plus before the colon would be the end of another word.
    """
    before, *_ = word.partition("+")
    starts = [0, *(at + 1 for at, char in enumerate(before) if char == ":")]
    return any(os.path.exists(word[start:]) for start in starts)


def without_folders(name: str) -> str:
    """Return a policy's name with its files' names alone, wrappers and options as they are.

    >>> without_folders("runs/a.zip+vecnormalize:runs/stats.pkl+noise:1")
    'a.zip+vecnormalize:stats.pkl+noise:1'
    """
    return "+".join(
        option + colon + PurePath(file).name if colon else PurePath(option).name
        for option, colon, file in (word.partition(":") for word in words_of(name))
    )
