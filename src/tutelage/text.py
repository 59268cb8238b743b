"""Text from outside, made fit for a terminal."""

import unicodedata


def printable(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with whatever would steer a terminal, or cannot be encoded, spelled out.

    Control and format characters, unassigned ones and lone surrogates (from names of files that
    are no UTF-8) become escapes; so a text stays one line, unless ``keep`` has the line's end.

    >>> print(printable("\x1b[31mred\n[b]"))
    \x1b[31mred\n[b]
    """
    return "".join(
        char
        if char in keep or unicodedata.category(char)[0] != "C"
        else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
