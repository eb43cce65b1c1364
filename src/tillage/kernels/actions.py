"""What an instruction asks to be done: its leading verb and what that is about, by word lists, for English.

An approximation, without a parser, of the root verb and its direct noun object of Wang et al. 2023
(Self-Instruct, arXiv 2212.10560, section 3.1). A verb counts where it begins a clause; what it is about is
the last word of the run of content words after it. Questions have their question word and nothing else.
Where only a scene is set, as by "imagine", that is the verb.
"""

from __future__ import annotations

import re

_HEAD = 2000
"""Characters that are looked at: what is asked for further on is material."""
_CLAUSE = re.compile(r"[.!?](?=\s|$)|[:;,\n\r()\[\]\"“”>|]+|(?<!\w)#+|[-–—]{2,}| [-–—] ")
_END = re.compile(r"[.!?](?=\s|$)|[:;\n\r]|$")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_HAVE = re.compile(r"['’](?:s|re|d)?$")
_LATIN = re.compile(r"[a-z]+(?:['’-][a-z]+)*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERBS = _words(
    """
    adapt add address advise allocate analyse analyze answer apply argue arrange ask assess brainstorm break
    build calculate categorise categorize change check choose cite clarify classify combine come compare
    compile complete compose compute conduct connect consider construct contrast convert convince copy
    correct count craft create critique debug decide decode deduce define demonstrate derive describe design
    detail detect determine develop devise diagnose discuss display distinguish divide draft draw edit
    elaborate eliminate encode estimate evaluate examine expand explain explore expound express extend
    extract fetch fill filter find finish fix follow form format formulate generate get give guess help
    highlight identify illustrate implement improve include infer insert inspect instruct interpret
    interview introduce invent iterate judge justify label let list locate make match mention merge modify
    name narrate offer optimise optimize order organise organize outline paraphrase parse perform persuade
    pick plan play point predict prepare present print produce propose prove provide punctuate rank rate
    read rearrange recall recite recommend reconstruct recount recreate rectify reduce refactor reflect
    relay remove reorder rephrase replace reply report research resolve respond restate return reverse
    review revise reword rewrite rhyme rule say score search select share shorten show simplify simulate
    sketch solve sort specify spell split start state structure suggest sum summarise summarize support swap
    take teach tell think trace transcribe transform translate try turn use validate verify visualise
    visualize write
    """
)
_QUESTIONS = _words("what which who whom whose when where why how")
# Sets the scene in which something else is asked for.
_SCENES = _words("imagine assume pretend suppose act roleplay role-play")
_SPELT = {"analyze": "analyse"} | {word: word.replace("ize", "ise") for word in VERBS if word.endswith("ize")}
# Before the verb of a request: said again and again, so "please could you kindly write" begins with "write".
_POLITE = re.compile(
    r"(?:(?:please|(?!(?:ap|re)ply)[a-z]+ly|now|then|first|next|also|and|so|ok|okay|hi|hello|hey|again|just"
    r"|try to|help me(?: to)?|let's|let us|go ahead and|(?:can|could|would|will) you"
    r"|i(?: would|['’]d)? (?:want|need|like|ask) you to|i(?: would|['’]d) like to"
    r"|(?:your|the) (?:task|job|goal|role) (?:here )?is(?: to)?"
    r"|you (?:are asked to|have to|need to|must|should|will|are (?:required|expected) to))\s+)+"
)
# Between a verb and what it is about.
_SKIPPED = _words(
    """
    a an the this that these those some any each every all both another other such own more most many much
    few several following given below above me us you him her them it its my your our his their one's one
    two three four five six seven eight nine ten dozen couple very new different same first second last next
    also up out down only least exactly approximately about around
    """
)
# Ends what it is about; ahead of any noun there is none.
_ENDS = _words(
    """
    of to in on at by for from with without within into onto over under between among through during before
    after since until against as than like via per off across and or but nor so if whether because while
    when where which who whom whose what why how that is are was were be been being am do does did has have
    had can could should would will may might must not i he she we they there here then using containing
    describing explaining discussing including involving showing regarding concerning consisting about
    around given based called named used made found written taken seen known such please them him me us a an
    the this these those its my your our his her their you it
    """
)
_UNCHANGED = _words("news series species lens gas physics mathematics")


def action(prompt: str) -> tuple[str, str | None] | None:
    """The verb, and what it is about if that is told, of the first clause that asks for something; or None.

    None where no verb of the list begins a clause, so for most of what is not English. British spelling,
    lower case, nouns in the singular.
    """
    text = prompt[:_HEAD].lower().replace("*", "")  # emphasis, and marks of lists
    scene: str | None = None
    start = 0
    while start < len(text):
        end = _CLAUSE.search(text, start)
        stop = end.start() if end else len(text)
        clause = text[start:stop].strip()
        begun = _POLITE.match(clause)
        rest = clause[begun.end() :] if begun else clause
        word = _WORD.match(rest)
        first = _HAVE.sub("", word.group()) if word else ""
        # A verb before a colon is a heading, as in "Answer:".
        heading = word is not None and word.end() == len(rest) and end is not None and ":" in end.group()
        if word is not None and first in VERBS and not heading:
            return _SPELT.get(first, first), _about(rest[word.end() :])
        if first in _QUESTIONS and _asks(text, start):
            return first, None
        if first in _SCENES:
            scene = scene or first
        start = end.end() if end else len(text)
    return (scene, None) if scene else None


def named(found: tuple[str, str | None]) -> str:
    """Verb and noun, or the verb alone."""
    return " ".join(part for part in found if part is not None)


def _asks(text: str, start: int) -> bool:
    """Whether the sentence that goes on at `start` ends as a question, or introduces what it asks about."""
    end = _END.search(text, start)
    return end is not None and end.group() in ("?", ":")


def _about(rest: str) -> str | None:
    held: list[str] = []
    for match in _WORD.finditer(rest):
        word = _HAVE.sub("", match.group())
        if not held and (word in _SKIPPED or word[0].isdigit()):
            continue
        if word in _ENDS or _LATIN.fullmatch(word) is None or word.endswith("ly"):
            break
        held.append(word)
    if len(held) > 1 and held[-1].endswith("ed") and not held[-1].endswith("eed"):
        held.pop()  # as in "species discovered in"
    return _singular(held[-1]) if held else None


def _singular(word: str) -> str:
    if word in _UNCHANGED or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "xes", "ches", "shes")) else word[:-1]
