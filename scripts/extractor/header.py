"""include/llmpool.h as objects: what it declares, and what its comments say of each.

The header is regular enough for a few regular expressions. Whatever they do not recognise is an error here rather than
a wrong call, or a page that says nothing, later.
"""

import re
from dataclasses import dataclass, field
from typing import Dict, List, Tuple


FAST = "[fast]"


class HeaderError(Exception):
    """The header has something that is not understood."""


@dataclass
class Member:
    """A field of a struct, a constant of an enum or a status, or (without a name) words between them."""

    name: str = ""
    declared: str = ""  # the type of a field
    suffix: str = ""  # "*", the name of an array's length, or ""
    value: int = 0  # of a constant
    default: str = ""  # in brackets in the comment
    comment: str = ""

    @property
    def kind(self) -> str:
        """The type of a field."""
        pointer = " *" if self.suffix == "*" else ""
        return f"{self.declared}{pointer or (f'[LLMPOOL_{self.suffix}]' if self.suffix else '')}"

    @property
    def declaration(self) -> str:
        """Of a field."""
        declared, bracket, count = self.kind.partition("[")
        return f"{declared}{'' if self.suffix == '*' else ' '}{self.name}{bracket}{count}"


@dataclass
class Item:
    """Something that the header declares."""

    kind: str  # "function", "struct", "enum", "constant"
    name: str  # of an enum: the fields, "llmpool_event_t.kind", whose values it has, or ""
    comment: str = ""  # as it stands, without the marks of a comment
    members: List[Member] = field(default_factory=list)
    result: str = ""
    parameters: List[str] = field(default_factory=list)
    value: int = 0

    @property
    def fields(self) -> List[Member]:
        return [member for member in self.members if member.name]

    @property
    def is_fast(self) -> bool:
        """It never blocks."""
        return self.comment.startswith(FAST)

    @property
    def words(self) -> str:
        """What is said of it in sentences."""
        return self.comment[len(FAST) :].lstrip() if self.is_fast else self.comment

    @property
    def summary(self) -> str:
        """The first of them, or as much of it as makes one line."""
        text = re.sub(r"\s+", " ", self.words)
        end = re.search(r"[.:;] | \(|, (?=as |which |where |names )|\.?$", text)
        return text[: end.start()]

    @property
    def prototype(self) -> str:
        """Of a function, in lines of at most 78 columns."""
        start = f"{self.result}{'' if self.result.endswith('*') else ' '}{self.name}("
        lines, rest = [start], self.parameters or ["void"]
        for position, parameter in enumerate(rest):
            word = parameter + (", " if position < len(rest) - 1 else ");")
            if len(lines[-1]) + len(word.rstrip()) > 78 and lines[-1] != start:
                lines.append(" " * len(start))
            lines[-1] += word
        return "\n".join(line.rstrip() for line in lines)


@dataclass
class Section:
    title: str
    comment: str = ""  # of all of it
    items: List[Item] = field(default_factory=list)


@dataclass
class Header:
    text: str
    overview: str  # its first comment
    statuses: List[Member]
    sections: List[Section]
    unclear: List[str] = field(default_factory=list)  # what is declared well, but not said well

    def of_kind(self, kind: str) -> List[Item]:
        return [item for section in self.sections for item in section.items if item.kind == kind]

    @property
    def functions(self) -> List[Item]:
        return self.of_kind("function")

    @property
    def structs(self) -> Dict[str, Item]:
        return {item.name: item for item in self.of_kind("struct")}

    @property
    def constants(self) -> List[Tuple[str, int]]:
        """Each but the statuses, without its prefix; defines first."""
        found = [(item.name, item.value) for item in self.of_kind("constant")]
        return found + [(each.name, each.value) for item in self.of_kind("enum") for each in item.fields]

    def values_of(self, struct: str) -> List[Tuple[str, Item]]:
        """The enums whose constants are values of fields of a struct, each with the name of the field."""
        pairs = [(name, item) for item in self.of_kind("enum") for name in item.name.split(", ")]
        return [(name.partition(".")[2], item) for name, item in pairs if name.startswith(f"{struct}_t.")]

    def defined_for(self, item: Item) -> List[Item]:
        """The constants that stand before a struct or a function and are of no field."""
        (items,) = [section.items for section in self.sections if item in section.items]
        found: List[Item] = []
        for before in reversed(items[: items.index(item)]):
            if before.kind not in ("constant", "enum") or before.name.startswith("VERSION_"):
                break
            if before.kind == "constant" or not before.name:
                found.insert(0, before)
        return found

    @property
    def version(self) -> str:
        found = dict(self.constants)
        return ".".join(str(found[f"VERSION_{part}"]) for part in ("MAJOR", "MINOR", "PATCH"))


BLANK = re.compile(r"\s*\n\s*\n\s*")
TOKEN = re.compile(
    r"""/\*\ -{4}\ (?P<section>.+?)\ -+\ \*/
    | /\*(?P<comment>(?:(?!\*/).)*)\*/
    | \#define\ LLMPOOL_STATUS_MAP\(X\)(?P<statuses>(?:[^\n]*\\\n)*[^\n]*\n)
    | \#define\ LLMPOOL_(?P<define>\w+)\ (?P<defined>\w+)(?:\ */\*(?P<beside>[^\n]*)\*/)?
    | typedef\ struct\ (?P<struct>\w+)\ \{(?P<fields>.*?)\}\ (?P=struct)_t;
    | typedef\ (?:struct\ )?\w+\ \w+;
    | enum\s*\{(?P<enum>.*?)\};
    | (?P<result>(?:const\ )?\w+\ \*?)(?P<function>llmpool_\w+)\((?P<parameters>[^;{]*?)\);
    """,
    re.DOTALL | re.VERBOSE,
)
MEMBER = re.compile(r"(?P<blank>\s+)|/\*(?P<comment>(?:(?!\*/).)*)\*/|(?P<declared>[^;,/\s][^;,/]*)[;,]?", re.DOTALL)
FIELD = re.compile(r"((?:const )?\w+) (\*?)(\w+)(?:\[LLMPOOL_(\w+)\])?")
START = 'extern "C" {\n#endif\n'
END = "#ifdef __cplusplus\n}"


def read(text: str) -> Header:
    """Raises HeaderError."""
    overview, _, _ = text.partition("*/")
    before, start, rest = text.partition(START)
    body, end, _ = rest.partition(END)
    if not start or not end or "/*" not in overview:
        raise HeaderError("the header has not the frame of a header")
    header = Header(text, lines_of(overview.partition("/*")[2]), [], [Section("versions and errors")])
    position, comment = 0, ""
    while body[position:].strip():
        position += len(re.match(r"\s*", body[position:])[0])
        match = TOKEN.match(body, position)
        if not match:
            raise HeaderError(f"not understood: {body[position:].partition(chr(10))[0]}")
        position = match.end()
        if match["comment"] is not None:
            comment = lines_of(match["comment"])
            if BLANK.match(body, position):
                section = header.sections[-1]
                if section.items or section.comment:
                    header.unclear.append(f"a comment of nothing: {comment[:60]}")
                else:
                    section.comment = comment
                comment = ""
            continue
        if match["section"]:
            header.sections.append(Section(match["section"]))
        elif match["statuses"]:
            header.statuses = statuses(match["statuses"])
        else:
            header.sections[-1].items += items_of(match, comment)
        comment = ""
    header.unclear += [f"{each.name}() without a comment" for each in header.functions if not each.comment]
    header.unclear += [f"{each.name} without a comment" for each in header.structs.values() if not each.comment]
    declared = re.findall(r"\b(llmpool_\w+)\(", without_comments(body))
    if [item.name for item in header.functions] != declared:
        raise HeaderError(f"functions not understood: {set(declared) ^ {item.name for item in header.functions}}")
    return header


def items_of(match, comment):
    """The item that it is, if it is one that anybody looks up."""
    if match["define"]:
        words = comment or (match["beside"] or "").strip()
        return [Item("constant", match["define"], words, value=number(match["defined"]))]
    if match["struct"]:
        return [Item("struct", match["struct"], comment, struct_members(match["struct"], match["fields"]))]
    if match["enum"] is not None:
        if "#" in match["enum"]:
            return []  # the statuses, which come from their table
        members = enum_members(match["enum"])
        label = "" if members[0].name else members.pop(0).comment
        name, _, more = label.partition(";")
        of = re.match(r"llmpool_\w+_t\.\w+", name)
        words = " ".join(filter(None, (comment, more.strip() if of else label)))
        return [Item("enum", name if of else "", words, members)]
    if match["function"]:
        parameters = re.sub(r"\s+", " ", match["parameters"]).split(", ")
        none = parameters == ["void"]
        return [Item("function", match["function"], comment, [], match["result"].strip(), [] if none else parameters)]
    return []


def members_of(body):
    """(what is declared, what is said of it); the first is empty of words that stand by themselves."""
    position, found, beside = 0, [], False
    while position < len(body):
        match = MEMBER.match(body, position)
        if not match:
            raise HeaderError(f"not understood: {body[position:][:60]}")
        position = match.end()
        if match["blank"]:
            beside = beside and "\n" not in match["blank"]
        elif match["comment"] is not None:
            words = lines_of(match["comment"], joined=True)
            if beside:
                found[-1] = (found[-1][0], words)
            else:
                found.append(("", words))
            beside = False
        else:
            found.append((match["declared"].strip(), ""))
            beside = True
    return found


def struct_members(struct, body):
    members = []
    for declared, words in members_of(body):
        if not declared:
            members.append(Member(comment=words.replace(" Default in brackets.", "")))  # Member.default has it
            continue
        match = FIELD.fullmatch(declared)
        if not match:
            raise HeaderError(f"field of {struct} not understood: {declared}")
        kind, pointer, name, count = match.groups()
        default = re.match(r"\[([^\]]*)\] ?", words)
        members.append(
            Member(
                name, kind, pointer or count or "", default=default[1] if default else "",
                comment=words[default.end() :] if default else words,
            )
        )
    return members


def enum_members(body):
    members = []
    for declared, words in members_of(body):
        match = re.fullmatch(r"LLMPOOL_(\w+) = (.+)", declared)
        if declared and not match:
            raise HeaderError(f"enumerator not understood: {declared}")
        members.append(Member(match[1], value=number(match[2]), comment=words) if match else Member(comment=words))
    return members


def statuses(body):
    """Each with its value and, as its comment, its message; between them of what kind those are that follow."""
    found = []
    for match in re.finditer(r'X\((\w+), (-?\d+), "([^"]*)"\)|/\* (.*?) \*/', body):
        name, value, message, kind = match.groups()
        found.append(Member(comment=kind) if kind else Member(name, value=int(value), comment=message))
    if sum(bool(each.name) for each in found) != body.count("X("):
        raise HeaderError("an entry of LLMPOOL_STATUS_MAP is not understood")
    return found


def number(expression):
    expression = expression.strip()
    if expression == "UINT32_MAX":
        return 0xFFFFFFFF
    shift = re.fullmatch(r"(\d+) << (\d+)", expression)
    if shift:
        return int(shift.group(1)) << int(shift.group(2))
    try:
        return int(expression, 0)
    except ValueError as error:
        raise HeaderError(f"a number is not understood: {expression}") from error


def lines_of(comment, joined=False):
    """What a comment says, without the stars before its lines; joined: as one line."""
    text = "\n".join(re.sub(r"^\s*\*(?: |$)", "", line) for line in comment.strip("\n").splitlines())
    return re.sub(r"\s+", " ", text).strip() if joined else text.strip()


def without_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


# ---- what a comment says, in parts ------------------------------------------------------


@dataclass
class Part:
    """A paragraph; with a term it is an entry of a list."""

    text: str
    term: str = ""


def parts(comment: str) -> List[Part]:
    """Paragraphs end with an empty line. A list's entries are "term  what it is", with two blanks or more between, or
    begin with a number; its lines that follow are indented."""
    found: List[Part] = []
    fresh = True
    for line in comment.splitlines():
        entry = re.match(r"( *)(\d+\.|[\w-]+)( {2,}| (?<=\. ))(\S.*)", line)
        if entry and (entry[3].startswith("  ") or entry[1]):
            found.append(Part(entry[4], entry[2]))
            fresh = False
        elif not line.strip():
            fresh = True
        elif fresh or (found[-1].term and not line.startswith("  ")):
            found.append(Part(line.strip()))
            fresh = False
        else:
            found[-1].text += " " + line.strip()
    return found
