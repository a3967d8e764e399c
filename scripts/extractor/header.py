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

    kind: str  # "function", "struct", "enum", "constant", "handle"
    name: str
    comment: str = ""  # as it stands, without the marks of a comment
    members: List[Member] = field(default_factory=list)
    result: str = ""
    parameters: List[str] = field(default_factory=list)
    value: int = 0
    of: List[str] = field(default_factory=list)  # whose values an enum has: llmpool_event_t.kind, llmpool_watch()

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
    def said(self) -> str:
        """All that is said of it and of its parts."""
        return "\n".join([self.comment, *(member.comment for member in self.members)])

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
    overview: str  # its first comment
    statuses: Item
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
        pairs = [(name, item) for item in self.of_kind("enum") for name in item.of]
        return [(name.partition(".")[2], item) for name, item in pairs if name.startswith(f"{struct}_t.")]

    def told_at(self, function: str) -> List[str]:
        """The fields whose values a function takes, too."""
        enums = [item for item in self.of_kind("enum") if f"{function}()" in item.of]
        return [name for item in enums for name in item.of if "." in name]

    def defined_for(self, item: Item) -> List[Item]:
        """The constants that stand before a struct or a function and are of no field."""
        (items,) = [section.items for section in self.sections if item in section.items]
        found: List[Item] = []
        for before in reversed(items[: items.index(item)]):
            if before.kind not in ("constant", "enum"):
                break
            if not before.of:
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
    | typedef\ struct\ (?P<handle>\w+)\ (?P=handle)_t;
    | typedef\ int32_t\ llmpool_status_t;
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
    _, start, rest = text.partition(START)
    body, end, _ = rest.partition(END)
    if not start or not end or "/*" not in overview:
        raise HeaderError("the header has not the frame of a header")
    header = Header(lines_of(overview.partition("/*")[2]), Item("statuses", ""), [Section("versions and errors")])
    position, comment = 0, ""
    while body[position:].strip():
        position += len(re.match(r"\s*", body[position:])[0])
        match = TOKEN.match(body, position)
        if not match:
            raise HeaderError(f"not understood: {body[position:].partition(chr(10))[0]}")
        position = match.end()
        if match["comment"] is None:
            if not declare(header, match, comment) and comment:
                header.unclear.append(of_nothing(comment))
            comment = ""
            continue
        if comment:
            header.unclear.append(of_nothing(comment))
        comment = lines_of(match["comment"])
        section = header.sections[-1]
        if body[: match.start()].rpartition("\n")[2].strip():
            header.unclear.append(f"a comment beside something: {comment[:60]}")
            comment = ""
        elif BLANK.match(body, position):
            if section.items or section.comment:
                header.unclear.append(of_nothing(comment))
            else:
                section.comment = comment
            comment = ""
    check(header, re.findall(r"\b(llmpool_\w+)\(", without_comments(body)))
    return header


def of_nothing(comment):
    return f"a comment of nothing: {comment[:60]}"


def declare(header, match, comment):
    """Takes in what stands there; whether its comment says something of it."""
    if match["section"]:
        header.sections.append(Section(match["section"]))
        return False
    if match["statuses"]:
        header.statuses = Item("statuses", "", comment, statuses(match["statuses"]))
        return True
    items = items_of(match, comment)
    header.sections[-1].items += items
    return bool(items)


def check(header, declared):
    """That everything is there, and that somebody who looks for it finds it."""
    if [item.name for item in header.functions] != declared:
        raise HeaderError(f"functions not understood: {set(declared) ^ {item.name for item in header.functions}}")
    values = [status.value for status in header.statuses.fields]
    if len(set(values)) != len(values):
        raise HeaderError("two statuses have one value")
    for item in (*header.functions, *header.structs.values(), *header.of_kind("handle")):
        if not item.comment:
            header.unclear.append(f"{item.name} without a comment")
        if re.search(r"^\s*- ", item.comment, re.M):
            header.unclear.append(f"{item.name}: of lists there are those with numbers and those with terms")
    known = {f"{struct.name}_t.{field.name}" for struct in header.structs.values() for field in struct.fields}
    known |= {f"{name}()" for name in declared}
    placed = [id(each) for item in header.functions for each in header.defined_for(item)]
    for item in header.of_kind("enum"):
        header.unclear += [f"values of {name}, which there is not" for name in item.of if name not in known]
        if not item.of and id(item) not in placed:
            header.unclear.append(f"{item.members[0].name} and more: whose values are they?")


def items_of(match, comment):
    """The item that it is, if it is one that anybody looks up."""
    if match["define"]:
        words = comment or (match["beside"] or "").strip()
        return [Item("constant", match["define"], words, value=number(match["defined"]))]
    if match["handle"]:
        return [Item("handle", f"{match['handle']}_t", comment)]
    if match["struct"]:
        return [Item("struct", match["struct"], comment, struct_members(match["struct"], match["fields"]))]
    if match["enum"] is not None:
        return [] if "#" in match["enum"] else [enum(match["enum"], comment)]  # statuses come from their table
    if match["function"]:
        parameters = re.sub(r"\s+", " ", match["parameters"]).split(", ")
        none = parameters == ["void"]
        return [Item("function", match["function"], comment, [], match["result"].strip(), [] if none else parameters)]
    return []


def enum(body, comment):
    members = enum_members(body)
    label = "" if members[0].name else members.pop(0).comment
    names, _, more = label.partition(";")
    of = re.findall(r"llmpool_\w+(?:_t\.\w+|\(\))", names)
    words = " ".join(filter(None, (comment, more.strip() if of else label)))
    return Item("enum", "", words, members, of=of)


def members_of(body):
    """(what is declared, what is said of it); the first is empty of words that stand by themselves, both of an empty
    line, up to which they hold."""
    position, found, beside = 0, [], False
    while position < len(body):
        match = MEMBER.match(body, position)
        if not match:
            raise HeaderError(f"not understood: {body[position:][:60]}")
        position = match.end()
        if match["blank"]:
            beside = beside and "\n" not in match["blank"]
            if match["blank"].count("\n") > 1 and found and position < len(body):
                found.append(("", ""))
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
    """Each with its value and, as its comment, its message; before them of what kind those are that follow."""
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
