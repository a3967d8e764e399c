"""Tables, and what comments say, as Markdown."""

import re


def table(*columns):
    """Its head."""
    return [row(*columns), "|---" * len(columns) + "|"]


def row(*cells):
    escaped = (str(cell).replace("|", "\\|") for cell in cells)
    return re.sub(r"\|  (?=\|)", "| ", f"| {' | '.join(escaped)} |")


class Words:
    """What a comment says, as Markdown: names are code, and those that the page explains are links."""

    def __init__(self, header):
        self._pages = {f"{function.name}()" for function in header.functions}
        self._pages |= {f"{name}_t" for name in header.structs} | {"llmpool_status_t"}

    def text(self, comment, linked=""):
        """linked: the page that explains them, where it is another."""
        quoted = comment.split("`")
        return "`".join(self._marked(part, linked) if index % 2 == 0 else part for index, part in enumerate(quoted))

    def _marked(self, text, linked):
        text = re.sub(r"\s+", " ", text)
        pattern = r'\*?(?:\w[\w-]*)?_[\w*-]*(?<!-)(?:(?:\.|->)\w+)?(?:\(\))?|"[^"` ]*[*<_\\][^"` ]*"|[*<>]'
        return re.sub(pattern, lambda match: self._word(match[0], linked), text)

    def _word(self, word, linked):
        base = word.partition(".")[0]
        if base in self._pages:
            return f"[`{word}`]({linked}#{base.rstrip('()')})"
        return f"\\{word}" if word in "*<>" else f"`{word}`"
