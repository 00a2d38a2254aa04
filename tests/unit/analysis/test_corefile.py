"""The grammar of a Corefile: what is read, and which line is told to be wrong."""

import pytest

from analysis.corefile import Address, Position, parse

ROOT = """\
.:53 {
    errors  # a comment { with a brace
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        fallthrough in-addr.arpa
    }
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
}
"""
WEST = """\
westus.svc.cluster.local:53 {
    cache 10
    forward . 10.2.1.4:31941
}
"""
NORTH = """\
northeurope.svc.cluster.local:53 {
    forward . 10.3.1.4:30320
}
"""


def read(text, **others):
    return parse([("coredns/Corefile", text), *((name.replace("__", "/"), piece) for name, piece in others.items())])


def told(text, *others):
    """Line and words of every problem."""
    problems = parse([("coredns/Corefile", text), *others]).problems
    return [(problem.position.line, problem.text) for problem in problems]


def test_blocks_are_read_with_zones_directives_options_and_lines():
    corefile = read(ROOT + WEST)
    assert not corefile.problems
    root, west = corefile.blocks
    assert root.zones == (".",)
    assert [directive.name for directive in root.directives] == ["errors", "kubernetes", "forward"]
    kubernetes = root.first("kubernetes")
    assert kubernetes.arguments == ("cluster.local", "in-addr.arpa")
    assert kubernetes.option("fallthrough").arguments == ("in-addr.arpa",)
    assert west.position == Position("coredns/Corefile", 11)
    assert str(west.first("forward").position) == "coredns/Corefile:13"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("Example.ORG.", [("dns", "example.org", 53)]),
        (".", [("dns", ".", 53)]),
        (".:1053", [("dns", ".", 1053)]),
        ("tls://example.org", [("tls", "example.org", 853)]),
        ("a.org, b.org:54", [("dns", "a.org", 53), ("dns", "b.org", 54)]),
        ("a.org,\nb.org", [("dns", "a.org", 53), ("dns", "b.org", 53)]),
        ("10.0.0.0/16", [("dns", "0.10.in-addr.arpa", 53)]),
        ("10.0.2.0/23", [("dns", "2.0.10.in-addr.arpa", 53), ("dns", "3.0.10.in-addr.arpa", 53)]),
    ],
)
def test_an_address_is_a_scheme_a_zone_and_a_port(address, expected):
    (block,) = read(f"{address} {{\n    whoami\n}}\n").blocks
    assert [(each.scheme, each.zone, each.port) for each in block.addresses] == expected


def test_quoted_words_are_words_whatever_is_in_them():
    (block,) = read('. {\n    template IN A {\n        answer "{{ .Name }} 60 IN A \\"1\\" }"\n    }\n}\n').blocks
    assert block.first("template").option("answer").arguments == ('{{ .Name }} 60 IN A "1" }',)


def test_a_file_of_one_block_may_do_without_braces():
    (block,) = read("example.org\n\nwhoami\nlog\n").blocks
    assert block.addresses == (Address("dns", "example.org", 53, Position("coredns/Corefile", 1)),)
    assert [directive.name for directive in block.directives] == ["whoami", "log"]


def test_substitutions_stay_as_they_are_written():
    corefile = read("{$ZONE}:53 {\n    {%PLUGIN%} here\n    forward . {$UPSTREAM}\n}\n")
    assert not corefile.problems
    assert corefile.blocks[0].first("forward").arguments == (".", "{$UPSTREAM}")


def test_an_empty_file_says_nothing():
    assert read("").blocks == () == read("# nothing\n").blocks


# --- what is wrong ------------------------------------------------------------------------------------------------


def test_the_extra_brace_of_the_guide_is_told_by_its_line_and_the_rest_is_read():
    corefile = read(ROOT + WEST + "}\n" + NORTH)
    assert [str(problem) for problem in corefile.errors] == [
        "coredns/Corefile:15: a closing brace too many: no block is open here"
    ]
    assert [block.zones[0] for block in corefile.blocks] == [
        ".",
        "westus.svc.cluster.local",
        "northeurope.svc.cluster.local",
    ]


def test_a_brace_that_closes_a_block_too_early_is_the_culprit_and_not_what_comes_after_it():
    text = ".:53 {\n    errors\n    }\n    forward . /etc/resolv.conf\n    cache 30\n}\n" + WEST
    assert told(text) == [
        (4, "'forward' stands outside of every server block: the brace at coredns/Corefile:3 closes it too early")
    ]


def test_an_unclosed_block_is_told_where_it_opens():
    assert told(WEST.removesuffix("}\n") + NORTH) == [
        (1, "the block that opens here is not closed before the next one, at coredns/Corefile:4")
    ]
    assert told(NORTH.removesuffix("}\n")) == [(1, "the block that opens here is never closed")]


def test_an_unclosed_block_of_a_directive_is_told_where_it_opens():
    text = ".:53 {\n    kubernetes cluster.local {\n        pods insecure\n}\n" + NORTH
    assert told(text)[0] == (1, "the block that opens here is not closed before the next one, at coredns/Corefile:5")
    text = ".:53 {\n    kubernetes cluster.local {\n        pods insecure\n" + NORTH
    assert [line for line, _ in told(text)] == [1, 2]


def test_a_zone_that_is_there_twice_is_told_with_both_lines():
    assert told(WEST + WEST.replace("westus", "WestUS")) == [
        (5, "the zone westus.svc.cluster.local:53 has a server block already, at coredns/Corefile:1")
    ]
    assert not told(WEST + WEST.replace(":53", ":1053", 1))


def test_an_unknown_directive_is_told_with_the_one_that_was_meant():
    assert told(".:53 {\n    forwards . 10.0.0.1\n}\n") == [
        (2, "unknown directive 'forwards', did you mean 'forward'?")
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (".:53{\n    errors\n}\n", 1, "'.:53{' is part of the word"),
        (".:53 {\n    cache 10}\n", 2, "'10}' is part of the word"),
        (".:53 {\n    cache 10 }\n", 2, "the closing brace must stand on a line of its own"),
        (".:53 {\n    health {\n        lameduck 5s }\n}\n", 3, "the closing brace must stand on a line of its own"),
        (".:53 {\n    errors\n}\nexample.org\n", 4, "'example.org' stands outside of every server block"),
        ("forward . 10.0.0.1\n", 1, "'forward' stands outside of every server block"),
        ("{\n    errors\n}\n", 1, "a block without an address"),
        ("dsn://example.org {\n    errors\n}\n", 1, "unknown scheme 'dsn', did you mean 'dns'?"),
        ("example.org:dns {\n    errors\n}\n", 1, "'dns' is no port"),
        ("a.org, {\n    errors\n}\n", 1, "another address is expected"),
        ('. {\n    template IN A {\n        answer "x\n    }\n}\n', 3, "the quote that opens here is never closed"),
        (". {\n    import\n}\n", 2, "import names neither a snippet nor a file"),
        (". {\n    import nothing\n}\n", 2, "'nothing' is neither a snippet nor a file that is there"),
    ],
)
def test_what_the_server_refuses_is_told_by_its_line(text, line, words):
    errors = read(text).errors
    assert any(error.position.line == line and words in error.text for error in errors), errors


@pytest.mark.parametrize("cut", range(0, len(ROOT + WEST + "}\n" + NORTH), 3))
def test_no_torn_file_is_ever_an_exception(cut):
    text = ROOT + WEST + "}\n" + NORTH
    read(text[:cut])
    read(text[cut:])


# --- imports ------------------------------------------------------------------------------------------------------

IMPORTING = """\
.:53 {
    import /etc/coredns/custom/*.override
    forward . /etc/resolv.conf
}
import custom/*.server
"""


def test_imports_bring_in_the_keys_of_the_custom_config_map_in_their_order():
    corefile = parse(
        [
            ("coredns/Corefile", IMPORTING),
            ("coredns-custom/b.server", WEST),
            ("coredns-custom/log.override", "log\n"),
            ("coredns-custom/a.server", NORTH),
            ("coredns-custom/readme.txt", "}"),
        ]
    )
    assert not corefile.problems
    assert [block.zones[0].partition(".")[0] for block in corefile.blocks] == ["", "northeurope", "westus"]
    assert [directive.name for directive in corefile.blocks[0].directives] == ["log", "forward"]
    assert str(corefile.blocks[2].position) == "coredns-custom/b.server:1"


def test_a_mistake_in_an_imported_piece_is_told_there():
    others = (("coredns-custom/a.server", WEST + "}\n"), ("coredns-custom/x.override", "lgo\n"))
    problems = parse([("coredns/Corefile", IMPORTING), *others]).problems
    assert [str(problem.position) for problem in problems] == [
        "coredns-custom/a.server:5",
        "coredns-custom/x.override:1",
    ]


def test_an_import_that_matches_nothing_is_only_a_remark():
    problems = read(IMPORTING).problems
    assert [(problem.position.line, problem.fatal) for problem in problems] == [(2, False), (5, False)]


def test_snippets_are_put_where_they_are_imported():
    corefile = read(
        "(common) {\n    errors\n    cache 10\n}\na.org {\n    import common\n}\nb.org {\n    import common\n}\n"
    )
    assert not corefile.problems
    assert [[directive.name for directive in block.directives] for block in corefile.blocks] == [
        ["errors", "cache"]
    ] * 2


def test_a_snippet_that_imports_itself_ends_with_a_remark():
    errors = read("(a) {\n    import a\n}\n. {\n    import a\n}\n").errors
    assert "go round in a circle" in errors[0].text
