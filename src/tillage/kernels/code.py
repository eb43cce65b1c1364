"""What language source code is in, and how much of it is comments: by rules, not by a parser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_EXTENSIONS = {
    extension: language
    for language, extensions in {
        "ada": "adb ads", "assembly": "asm s", "awk": "awk", "batch": "bat cmd", "c": "c h",
        "clojure": "clj cljs cljc", "cmake": "cmake", "cpp": "cc cpp cxx c++ hh hpp hxx cu cuh",
        "csharp": "cs", "css": "css scss sass less", "dart": "dart", "elixir": "ex exs",
        "erlang": "erl hrl", "fortran": "f f90 f95 f03 f08", "fsharp": "fs fsi fsx", "go": "go",
        "graphql": "graphql gql", "groovy": "groovy gradle", "haskell": "hs lhs",
        "html": "html htm xhtml", "java": "java", "javascript": "js jsx mjs cjs",
        "json": "json jsonl ndjson", "julia": "jl", "kotlin": "kt kts", "lisp": "lisp lsp el scm rkt",
        "lua": "lua", "makefile": "mk mak", "markdown": "md markdown", "ocaml": "ml mli",
        "objective_c": "mm", "pascal": "pas pp", "perl": "pl pm", "php": "php", "powershell": "ps1 psm1",
        "prolog": "pro", "protobuf": "proto", "python": "py pyi pyw pyx", "r": "r",
        "ruby": "rb rake gemspec", "rust": "rs", "scala": "scala sc", "shell": "sh bash zsh ksh fish",
        "solidity": "sol", "sql": "sql", "swift": "swift", "tcl": "tcl", "terraform": "tf tfvars",
        "tex": "tex sty cls bib", "toml": "toml", "typescript": "ts tsx mts cts", "vb": "vb vbs bas",
        "verilog": "v sv svh", "vhdl": "vhd vhdl", "vim": "vim", "xml": "xml xsd svg wsdl",
        "xslt": "xsl xslt", "yaml": "yaml yml", "zig": "zig",
    }.items()
    for extension in extensions.split()
}  # fmt: skip
_NAMES = {"makefile": "makefile", "gnumakefile": "makefile", "dockerfile": "dockerfile", "rakefile": "ruby",
          "gemfile": "ruby", "cmakelists.txt": "cmake", "jenkinsfile": "groovy"}  # fmt: skip
_PACKED = (".gz", ".zst", ".bz2", ".xz")
_SHEBANG = re.compile(
    r"#![^\n]*?\b(python|bash|zsh|ksh|fish|sh|perl|ruby|node|lua|php|Rscript|awk|tclsh)[0-9.]*\b"
)
_INTERPRETERS = {"python": "python", "perl": "perl", "ruby": "ruby", "node": "javascript", "lua": "lua",
                 "php": "php", "Rscript": "r", "awk": "awk", "tclsh": "tcl"}  # fmt: skip

# Lines that prose hardly ever has, by language; each pattern counts lines, and several kinds must be there.
_LINES: dict[str, tuple[re.Pattern[str], ...]] = {
    language: tuple(re.compile(pattern, re.MULTILINE) for pattern in patterns)
    for language, patterns in {
        "python": (
            r"^\s*(?:async )?def \w+\(.*",
            r"^\s*class \w+.*:\s*$",
            r"^(?:from [\w.]+ )?import [\w., *()]+$",
            r"^\s*(?:if|elif|for|while|with|try|except|else)\b.*:\s*$",
            r"^\s*return\b[^;]*$",
            r"^\s*@\w+",
        ),
        "c": (
            r"^\s*#\s*include\s*[<\"]",
            r"^\s*#\s*(?:define|ifn?def|endif)\b",
            r"^\s*typedef\s+(?:struct|enum)",
            r"^\s*(?:static\s+|const\s+|unsigned\s+)*(?:int|void|char|double|float|size_t)\s+\**\w+\s*[(;=\[]",
            r"->\w+[;)=,. ]",
            r"\b(?:printf|malloc|sizeof|free)\s*\(",
        ),
        "cpp": (
            r"^\s*#\s*include\s*<\w+>",
            r"\bstd::\w+",
            r"^\s*template\s*<",
            r"^\s*namespace \w+\s*\{?",
            r"^\s*(?:public|private|protected):\s*$",
            r"^\s*using namespace \w+;",
        ),
        "java": (
            r"^\s*(?:public|private|protected)\s+[\w<>\[\], ]+\(",
            r"^import [\w.]+(?:\.\*)?;",
            r"^package [\w.]+;",
            r"^\s*(?:public |final |abstract )*class \w+",
            r"^\s*@Override",
            r"\bnew \w+(?:<[^>]*>)?\(",
        ),
        "csharp": (
            r"^\s*using [\w.]+;",
            r"^\s*namespace [\w.]+",
            r"\b(?:get|set);",
            r"^\s*public (?:class|interface) \w+",
            r"\bConsole\.Write",
            r"^\s*(?:public|private|internal) [\w<>\[\]?]+ \w+\s*[({]",
        ),
        "javascript": (
            r"^\s*(?:const|let|var) [\w{}\[\], ]+ = ",
            r"\bfunction\s*\w*\s*\([^)]*\)\s*\{",
            r"=>\s*[{(]",
            r"^\s*(?:import .+ from|export (?:default|const|function)) ?",
            r"\brequire\(['\"]",
            r"\b(?:console\.log|document\.\w+|module\.exports)\b",
        ),
        "typescript": (
            r"^\s*(?:export )?interface \w+",
            r"\b(?:const|let) \w+: \w+",
            r"\(\w+\??: \w+",
            r"\): \w+(?:\[\])? (?:=>|\{)",
            r"^\s*(?:export )?type \w+ =",
            r"^\s*import .+ from ['\"]",
        ),
        "go": (
            r"^package \w+$",
            r"^func (?:\(\w+ \*?\w+\) )?\w+\(",
            r"\w+ := ",
            r"^import \($",
            r"^type \w+ (?:struct|interface) \{",
            r"^\s*if err != nil \{",
        ),
        "rust": (
            r"^\s*(?:pub(?:\(\w+\))? )?fn \w+",
            r"^\s*let (?:mut )?\w+",
            r"^\s*use [\w:]+(?:::\{[^}]*\})?;",
            r"^\s*impl\b.*\{",
            r"^\s*#\[\w+",
            r"\bmatch \w+[^\n]*\{",
        ),
        "php": (
            r"<\?php",
            r"^\s*\$\w+ = ",
            r"\bfunction \w+\(\$",
            r"->\w+\(",
            r"^\s*echo ",
            r"^\s*namespace [\w\\]+;",
        ),
        "ruby": (
            r"^\s*def \w+[?!]?(?:\(.*\))?$",
            r"^\s*end$",
            r"^\s*require ['\"]",
            r"\bdo \|\w+\|",
            r"^\s*class \w+(?: < \w+)?$",
            r"^\s*attr_\w+ :",
        ),
        "shell": (
            r"^\s*(?:if|elif|while) \[",
            r"^\s*(?:fi|done|esac)$",
            r"^\s*echo ",
            r"\$\{?\w+\}?",
            r"^\s*export \w+=",
            r"^\w+=[\"'$\w]",
        ),
        "sql": (
            r"(?i)^\s*select\b.+",
            r"(?i)^\s*(?:create|drop|alter) (?:table|index|view)\b",
            r"(?i)^\s*insert into \w+",
            r"(?i)^\s*(?:inner |left |outer )*join \w+",
            r"(?i)^\s*(?:where|group by|order by)\b",
            r"(?i)\b(?:varchar|primary key|not null)\b",
        ),
        "haskell": (
            r"^\w+ :: ",
            r"^module [\w.]+",
            r"^import (?:qualified )?[A-Z][\w.]+",
            r"^data \w+.* =",
            r"^\s*where$",
            r" <- ",
        ),
        "html": (
            r"(?i)<!doctype html",
            r"(?i)</(?:div|p|span|a|table|ul|li)>",
            r"(?i)<(?:head|body|html)[ >]",
            r"(?i)<(?:div|span|a) [\w-]+=",
        ),
        "css": (
            r"^\s*[.#]?[\w-]+(?:[ ,.:>#][\w.#:-]+)*\s*\{\s*$",
            r"^\s*[\w-]+:\s*[^;{}]+;\s*$",
            r"^\s*@media\b",
            r"^\s*\}\s*$",
        ),
    }.items()
}  # fmt: skip
_HEAD = 5000
_LEAST_SHARE, _LEAST_KINDS, _LEAST_LINES = 0.12, 3, 4
_NOT_CODE = frozenset({"markdown"})

_DOUBLE, _SINGLE = r'"(?:\\.|[^"\\\n])*"', r"'(?:\\.|[^'\\\n])*'"
_BLOCK = r"/\*(?:(?!\*/).)*(?:\*/)?"


def _syntax(*comments: str, strings: tuple[str, ...] = (_DOUBLE, _SINGLE)) -> re.Pattern[str]:
    """Strings, in which there are no comments, and comments, in a group."""
    return re.compile("|".join([*strings, f"({'|'.join(comments)})"]), re.DOTALL)


_HASH = _syntax(r"(?<![\w$&])#[^\n]*")
_C = _syntax(r"//[^\n]*", _BLOCK)
_SCRIPT = _syntax(r"//[^\n]*", _BLOCK, strings=(_DOUBLE, _SINGLE, r"`(?:\\.|[^`\\])*`"))
# What stands in triple quotes at the beginning of a line is documentation; elsewhere it is a string.
_PYTHON = re.compile(
    r"(#[^\n]*|^[ \t]*[rRuU]?\"\"\"(?:(?!\"\"\").)*\"\"\"|^[ \t]*[rRuU]?'''(?:(?!''').)*''')"
    r"|\"\"\"(?:(?!\"\"\").)*\"\"\"|'''(?:(?!''').)*'''|" + _DOUBLE + "|" + _SINGLE,
    re.DOTALL | re.MULTILINE,
)
_SYNTAXES: dict[str, re.Pattern[str]] = {
    "python": _PYTHON,
    **dict.fromkeys(
        ("c", "cpp", "csharp", "dart", "go", "groovy", "java", "kotlin", "objective_c", "protobuf", "scala",
         "solidity", "swift", "verilog", "zig"), _C,
    ),
    "rust": _syntax(r"//[^\n]*", _BLOCK, strings=(_DOUBLE,)),  # ' begins a lifetime
    **dict.fromkeys(("javascript", "typescript"), _SCRIPT),
    "php": _syntax(r"//[^\n]*", r"#[^\n]*", _BLOCK),
    "css": _syntax(_BLOCK, r"(?<!:)//[^\n]*"),
    **dict.fromkeys(
        ("awk", "cmake", "dockerfile", "elixir", "graphql", "julia", "makefile", "perl", "powershell", "r",
         "ruby", "shell", "tcl", "terraform", "toml", "yaml"), _HASH,
    ),
    "sql": _syntax(r"--[^\n]*", _BLOCK),
    **dict.fromkeys(("ada", "vhdl"), _syntax(r"--[^\n]*", strings=(_DOUBLE,))),
    "lua": _syntax(r"--\[\[(?:(?!\]\]).)*(?:\]\])?", r"--[^\n]*"),
    "haskell": _syntax(r"\{-(?:(?!-\}).)*(?:-\})?", r"--[^\n]*", strings=(_DOUBLE,)),
    **dict.fromkeys(("html", "xml", "xslt"), _syntax(r"<!--(?:(?!-->).)*(?:-->)?", strings=())),
    **dict.fromkeys(("clojure", "lisp", "assembly"), _syntax(r";[^\n]*", strings=(_DOUBLE,))),
    **dict.fromkeys(("tex", "erlang", "prolog"), _syntax(r"(?<!\\)%[^\n]*", strings=())),
    "ocaml": _syntax(r"\(\*(?:(?!\*\)).)*(?:\*\))?", strings=(_DOUBLE,)),
    "pascal": _syntax(r"\(\*(?:(?!\*\)).)*(?:\*\))?", r"\{[^}]*\}?", r"//[^\n]*", strings=(_SINGLE,)),
    "fortran": _syntax(r"![^\n]*"),
    "vim": _syntax(r'^\s*"[^\n]*', strings=()),
    "vb": _syntax(r"'[^\n]*", strings=(_DOUBLE,)),
}  # fmt: skip
_GENERATED = re.compile(
    r"\b(?:auto[- ]?generated|automatically generated|code generated by|machine[- ]generated)\b|@generated\b"
    r"|\bgenerated by\b[^\n]{0,120}\bdo not (?:edit|modify)\b"
    r"|\bdo not (?:edit|modify)\b[^\n]{0,60}\bgenerated\b",
    re.IGNORECASE,
)
_GENERATED_LINES = 10


def language(text: str, path: str | None = None) -> str | None:
    """The language of source code, by the name of its file, by its first line, or by how its lines look.

    None for prose, and for code that does not tell.
    """
    named = _by_name(path) if path else None
    if named is not None:
        return named
    shebang = _SHEBANG.match(text)
    if shebang is not None:
        return _INTERPRETERS.get(shebang[1], "shell")
    return _by_lines(text[:_HEAD])


def _by_name(path: str) -> str | None:
    name = path.replace("\\", "/").rpartition("/")[2].lower()
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    if name in _NAMES:
        return _NAMES[name]
    stem, dot, extension = name.rpartition(".")
    found = _EXTENSIONS.get(extension) if dot and stem else None
    # Files of records are named so too; they are told by what they hold.
    return None if found in _NOT_CODE or extension in ("jsonl", "ndjson") else found


def _by_lines(text: str) -> str | None:
    lines = sum(bool(line.strip()) for line in text.split("\n"))
    if lines < _LEAST_LINES:
        return None
    best, most = None, 0.0
    for name, patterns in _LINES.items():
        counts = [len(pattern.findall(text)) for pattern in patterns]
        kinds, share = sum(count > 0 for count in counts), sum(counts) / lines
        if kinds >= _LEAST_KINDS and share >= _LEAST_SHARE and share * kinds > most:
            best, most = name, share * kinds
    return best


def comment_share(text: str, language: str | None) -> float | None:
    """Characters of comments (and of Python's documentation) over all that are not white space.

    None where comments of the language are not known.
    """
    syntax = _SYNTAXES.get(language or "")
    if syntax is None:
        return None
    total = _dense(text)
    if not total:
        return None
    return sum(_dense(match[1]) for match in syntax.finditer(text) if match[1]) / total


def _dense(text: str) -> int:
    return len("".join(text.split()))


def generated(text: str) -> bool:
    """Whether one of the first ten lines says that a program wrote the file."""
    head = text[:4000].split("\n", _GENERATED_LINES)[:_GENERATED_LINES]
    return _GENERATED.search("\n".join(head)) is not None


class _Visible(HTMLParser):
    """Counts the characters of a page that a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 0
        self.count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= self.hidden > 0 and tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.count += len(data.strip())


def visible_characters(html: str) -> int:
    """Characters of a page's text, scripts, styles and the white space around pieces left out."""
    parser = _Visible()
    parser.feed(html)
    parser.close()
    return parser.count
